//! `quantbench devices`: what this machine has to run models with and to measure them by, and what
//! is missing and why.

use super::output::{self, Format};
use super::{native, profile};
use crate::engine::Device;
use crate::engine::error::EngineError;
use crate::engine::onnxruntime::library::{self, Library};
use crate::error::{Error, Outcome};
use crate::hardware::finding::Finding;
use crate::hardware::gpu::Gpu;
use crate::hardware::power::PowerSupply;
use crate::hardware::probe::Machine;
use crate::hardware::processor::{Cache, Processor};
use crate::hardware::rates::TypeRate;
use crate::host::profile::Profile;
use crate::model::engine_name::EngineName;
use crate::report::table::Align::Left;
use crate::report::table::Table;
use crate::report::terminal::{self, Look};
use crate::units::{count, format_bytes, parse_within, significant};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Widest line of the table.
const WIDTH: usize = 100;

/// Flags of `quantbench devices`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Measure how fast this machine reads memory and computes, in 20 seconds while nothing else runs, and keep it
    #[arg(long)]
    pub measure: bool,
    /// Threads to compute with [as llama-bench chooses]; what was measured with others is kept
    #[arg(long, value_name = "N", requires = "measure", value_parser = parse_within(1_u32..=512))]
    pub threads: Option<u32>,
    /// The library of ONNX Runtime; left out: `ORT_DYLIB_PATH`, else an installed wheel's, else the system's
    #[arg(long, value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// The library of ONNX Runtime that is found, with its version and execution providers, or why none can be used.
struct OnnxRuntime(Result<(Library, String, Vec<String>), String>);

impl OnnxRuntime {
    fn find() -> Self {
        if !cfg!(feature = "onnx") {
            return Self(Err(EngineError::NotBuilt(EngineName::OnnxRuntime).to_string()));
        }
        let found = library::find();
        let found = found.and_then(|library| library.version().map(|version| (library, version)));
        let found = found.map_err(|error| error.to_string()).and_then(|(library, version)| {
            // Loading it runs it, which is for a worker to bear.
            let providers = native::devices_of(EngineName::OnnxRuntime).map_err(|reason| {
                let path = library.path.display().to_string();
                let names_it = reason.contains(&path);
                if names_it { reason } else { format!("{path} cannot be loaded: {reason}") }
            })?;
            Ok((library, version, providers.into_iter().map(|it| it.name).collect()))
        });
        Self(found)
    }

    fn json(&self) -> Value {
        match &self.0 {
            Ok((Library { path, place }, version, providers)) => {
                json!({ "version": version, "path": path, "named_by": place.to_string(), "providers": providers })
            }
            Err(reason) => json!({ "reason": reason }),
        }
    }

    fn rows(&self, sheet: &mut Sheet) {
        match &self.0 {
            Ok((Library { path, place }, version, providers)) => {
                sheet.section("ONNX Runtime");
                sheet.row("library", format!("{version}, {} ({place})", path.display()));
                sheet.row("execution providers", providers.join(", "));
            }
            Err(reason) => sheet.missing("ONNX Runtime", reason),
        }
    }
}

/// Probes this machine and prints what it found.
///
/// # Errors
/// Standard output does not take it.
pub fn run(arguments: &Arguments, backends: &[Device]) -> Result<Outcome, Error> {
    if let Some(path) = &arguments.onnxruntime {
        library::choose(path);
    }
    let onnxruntime = OnnxRuntime::find();
    let machine = Machine::probe();
    let profile = if arguments.measure {
        let threads = arguments.threads.unwrap_or_else(native::default_threads);
        let Some(profile) = profile::measure(&machine, threads)? else {
            output::tell("interrupted; nothing was kept");
            return Ok(Outcome::Interrupted);
        };
        Some(profile)
    } else {
        profile::kept(&machine)
    };
    let terminal = console::Term::stdout().size_checked();
    let width = terminal.map_or(WIDTH, |(_, columns)| usize::from(columns).min(WIDTH));
    let text = match arguments.format {
        Format::Table => table(&machine, backends, &onnxruntime, profile.as_ref(), width),
        Format::Json => json(&machine, backends, &onnxruntime, profile.as_ref())?,
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn json(
    machine: &Machine,
    backends: &[Device],
    onnxruntime: &OnnxRuntime,
    profile: Option<&Profile>,
) -> Result<String, Error> {
    let found = json!({ "machine": machine, "backends": backends, "onnxruntime": onnxruntime.json(), "measured": profile });
    output::json("quantbench.devices", found)
}

/// Rows of the table, and what goes below it as missing.
#[derive(Default)]
struct Sheet {
    rows: Vec<[String; 3]>,
    missing: Vec<[String; 2]>,
    section: &'static str,
}

impl Sheet {
    fn section(&mut self, name: &'static str) {
        self.section = name;
    }

    fn row(&mut self, what: &str, value: impl Into<String>) {
        // The section is named in its first row only.
        let named = self.rows.iter().any(|row| row[0] == self.section);
        let section = if named { String::new() } else { self.section.to_owned() };
        self.rows.push([section, what.to_owned(), value.into()]);
    }

    /// A row for what is known, and the reason for what is not.
    fn finding<T>(&mut self, what: &str, finding: &Finding<T>, show: impl FnOnce(&T) -> String) {
        match finding {
            Finding::Known(value) => self.row(what, show(value)),
            Finding::Missing(reason) => {
                self.missing(&format!("{} {what}", self.section.to_lowercase()), reason);
            }
        }
    }

    /// Notes what is missing; things with one reason share its row.
    fn missing(&mut self, what: &str, reason: &str) {
        if let Some([names, _]) = self.missing.iter_mut().find(|[_, known]| known == reason) {
            names.push_str(",\n");
            names.push_str(what);
            return;
        }
        self.missing.push([what.to_owned(), reason.to_owned()]);
    }

    fn render(self, width: usize) -> String {
        let mut text = layout(self.rows, width);
        if !self.missing.is_empty() {
            text.push_str("\nMissing on this machine, and why:\n");
            text.push_str(&layout(self.missing, width));
        }
        text
    }
}

fn layout<const N: usize>(rows: Vec<[String; N]>, width: usize) -> String {
    let look = Look { columns: Some(width), ..Look::default() };
    terminal::text(&Table::of_words([("", Left); N], rows), &look)
}

/// Shows a machine and llama.cpp's devices as a table of at most `width` columns, followed by what
/// is missing and why.
fn table(
    machine: &Machine,
    backends: &[Device],
    onnxruntime: &OnnxRuntime,
    profile: Option<&Profile>,
    width: usize,
) -> String {
    let mut sheet = Sheet::default();
    sheet.section("System");
    sheet.row("software", &machine.operating_system);
    if let Some(virtualization) = machine.virtualization.known() {
        sheet.row("virtual machine", virtualization);
    }
    processor_rows(&mut sheet, &machine.processor);
    memory_rows(&mut sheet, machine);
    profile_rows(&mut sheet, profile);
    gpu_rows(&mut sheet, machine);
    backend_rows(&mut sheet, backends);
    onnxruntime.rows(&mut sheet);
    power_rows(&mut sheet, machine);
    limit_rows(&mut sheet, machine);
    disk_rows(&mut sheet, machine);
    sheet.render(width)
}

fn processor_rows(sheet: &mut Sheet, processor: &Processor) {
    sheet.section("Processor");
    sheet.finding("name", &processor.name, |name| format!("{name} ({})", processor.architecture));
    let logical = processor.logical_cpus;
    match processor.physical_cores.known() {
        Some(cores) => sheet.row("cores", format!("{cores} physical, {logical} logical")),
        None => sheet.row("cores", format!("{logical} logical")),
    }
    if let Some(reason) = processor.physical_cores.reason() {
        sheet.missing("processor's physical cores", reason);
    }
    sheet.finding("instructions", &processor.features, |features| {
        let names = |present: bool| {
            let chosen = features.iter().filter(|feature| feature.present == present);
            chosen.map(|feature| feature.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        match names(false) {
            lacking if lacking.is_empty() => names(true),
            lacking => format!("{}\nlacks {lacking}", names(true)),
        }
    });
    sheet.finding("caches", &processor.caches, |caches| {
        caches.iter().map(cache_text).collect::<Vec<_>>().join(", ")
    });
    sheet.finding("clock", &processor.clock, |clock| {
        let lowest = clock.minimum_mhz.map(|mhz| format!("{mhz:.0} MHz ")).unwrap_or_default();
        let highest = clock.maximum_mhz.map_or("?".to_owned(), |mhz| format!("{mhz:.0}"));
        let base = clock.base_mhz.map(|base| format!(", base {base:.0} MHz")).unwrap_or_default();
        let driver = clock.driver.as_ref().map(|driver| format!(" ({driver})")).unwrap_or_default();
        format!("{lowest}up to {highest} MHz{base}{driver}")
    });
    sheet.finding("governor", &processor.governor, Clone::clone);
    sheet.finding("boost", &processor.boost, |boost| if *boost { "on" } else { "off" }.to_owned());
}

fn cache_text(cache: &Cache) -> String {
    let kind = match cache.kind.as_str() {
        "Data" => "d",
        "Instruction" => "i",
        _ => "",
    };
    let size = format_bytes(cache.bytes);
    format!("L{}{kind} {} × {size}", cache.level, cache.instances)
}

fn memory_rows(sheet: &mut Sheet, machine: &Machine) {
    let memory = &machine.memory;
    sheet.section("Memory");
    sheet.finding("total", &memory.total_bytes, |&bytes| format_bytes(bytes));
    sheet.finding("available", &memory.available_bytes, |&bytes| format_bytes(bytes));
    sheet.finding("swap", &memory.swap_bytes, |&bytes| match bytes {
        0 => "none".to_owned(),
        bytes => format_bytes(bytes),
    });
    sheet.finding("modules", &memory.modules, |modules| {
        let kind = modules.kind.as_deref().unwrap_or("of unknown kind");
        let speed = modules.megatransfers_per_second.map(|speed| format!(" at {speed} MT/s"));
        format!("{} × {kind}{}", modules.count, speed.unwrap_or_default())
    });
    sheet.finding("NUMA nodes", &memory.nodes, |nodes| {
        let nodes = nodes.iter().map(|node| {
            let memory = node.memory_bytes.map(|bytes| format!(", {}", format_bytes(bytes)));
            format!("{}: processors {}{}", node.name, node.cpus, memory.unwrap_or_default())
        });
        nodes.collect::<Vec<_>>().join("\n")
    });
}

/// How fast memory is read and weights are computed with, below what they are.
fn profile_rows(sheet: &mut Sheet, profile: Option<&Profile>) {
    let Some(profile) = profile else {
        return sheet.missing(
            "memory's and arithmetic's speed",
            "not measured yet: 'quantbench devices --measure'",
        );
    };
    let rates = profile.read_rates.iter().map(|rate| {
        let speed = significant(rate.bytes_per_second / 1e9, 3);
        format!("{speed} GB/s with {}", count(rate.threads, "thread"))
    });
    let rates: Vec<String> = rates.collect();
    sheet.row("reads", format!("{} (measured {})", rates.join(", "), profile.measured.date()));
    sheet.section("Arithmetic");
    for rates in &profile.compute_rates {
        let of = |(name, rate): (&String, &TypeRate)| {
            let [generation, prompt] = [rate.generation, rate.prompt].map(|it| it.value / 1e9);
            format!("{name} {} GB/s {} GFLOP/s", significant(generation, 3), significant(prompt, 3))
        };
        let all: Vec<String> = rates.types.iter().map(of).collect();
        sheet.row(&count(rates.threads, "thread"), all.join(", "));
    }
    if profile.compute_rates.is_empty() {
        sheet.missing("arithmetic's speed", "not measured yet: 'quantbench devices --measure'");
    }
}

fn gpu_rows(sheet: &mut Sheet, machine: &Machine) {
    sheet.section("GPU");
    match &machine.gpus.nvidia {
        Finding::Missing(reason) => sheet.missing("GPU monitoring (NVML)", reason),
        Finding::Known(gpus) => {
            for gpu in gpus {
                sheet.row(&gpu.index.to_string(), gpu_text(gpu));
                for reading in &gpu.unreadable {
                    sheet.missing(&format!("GPU {} {}", gpu.index, reading.what), &reading.reason);
                }
            }
            sheet.finding("driver", &machine.gpus.driver, Clone::clone);
            sheet.finding("CUDA", &machine.gpus.cuda, |cuda| format!("up to {cuda}"));
        }
    }
    let others = machine.gpus.on_bus.iter().filter(|device| device.maker != "NVIDIA");
    for device in others {
        sheet.row("not monitored", format!("{} at {}", device.maker, device.address));
    }
}

fn gpu_text(gpu: &Gpu) -> String {
    let mut parts = vec![gpu.name.clone()];
    parts.extend(gpu.memory_bytes.map(|total| match gpu.free_bytes {
        Some(free) => format!("{} ({} free)", format_bytes(total), format_bytes(free)),
        None => format_bytes(total),
    }));
    parts.extend(gpu.compute_capability.as_ref().map(|version| format!("compute {version}")));
    parts.extend(gpu.power_limit_watts.map(|watts| format!("limit {} W", significant(watts, 3))));
    parts.extend(gpu.maximum_mhz.map(|mhz| format!("up to {mhz} MHz")));
    parts.extend(gpu.link.as_ref().map(|link| format!("PCIe {link}")));
    parts.join(", ")
}

fn backend_rows(sheet: &mut Sheet, backends: &[Device]) {
    sheet.section("llama.cpp");
    for device in backends {
        let memory = match device.total_bytes {
            0 => String::new(),
            total => {
                format!(", {} ({} free)", format_bytes(total), format_bytes(device.free_bytes))
            }
        };
        let Device { name, description, kind, backend, .. } = device;
        sheet.row(name, format!("{description} ({kind}, back end {backend}){memory}"));
    }
}

fn power_rows(sheet: &mut Sheet, machine: &Machine) {
    sheet.section("Power");
    sheet.row(
        "supply",
        known_or_reason(&machine.power, |supplies| {
            supplies.iter().map(supply_text).collect::<Vec<_>>().join(", ")
        }),
    );
    match &machine.energy {
        Finding::Missing(reason) => sheet.missing("processor energy (RAPL)", reason),
        Finding::Known(zones) => {
            let readable = zones.iter().filter(|zone| zone.counter_microjoules.known().is_some());
            let names = readable.map(|zone| {
                let remark = if zone.counted { "" } else { " (not added up)" };
                format!("{}{remark}", zone.name)
            });
            let names: Vec<String> = names.collect();
            if !names.is_empty() {
                sheet.row("energy counters", names.join(", "));
            }
            for zone in zones {
                if let Some(reason) = zone.counter_microjoules.reason() {
                    sheet.missing(&format!("energy of {}", zone.name), reason);
                }
            }
        }
    }
    sheet.section("Heat");
    match &machine.thermometers {
        Finding::Missing(reason) => sheet.missing("processor temperature", reason),
        Finding::Known(thermometers) => {
            for thermometer in thermometers {
                sheet.finding(&thermometer.name, &thermometer.celsius, |celsius| {
                    format!("{celsius:.0} °C")
                });
            }
        }
    }
    match &machine.heat_events {
        Finding::Missing(reason) => sheet.missing("count of heat slowdowns", reason),
        Finding::Known(events) => {
            sheet.row("slowdowns", format!("{events} since the machine started"));
        }
    }
}

fn limit_rows(sheet: &mut Sheet, machine: &Machine) {
    let limits = &machine.limits;
    sheet.section("Limits");
    sheet.finding("processors usable", &limits.usable_cpus, |&cpus| {
        let all = machine.processor.logical_cpus;
        if cpus == all { "all".to_owned() } else { format!("{cpus} of {all}") }
    });
    sheet.row(
        "processor time",
        known_or_reason(&limits.cpu_quota_cores, |&cores| {
            format!("{} cores, set by the control group", significant(cores, 3))
        }),
    );
    sheet.row(
        "memory",
        known_or_reason(&limits.memory_bytes, |&bytes| {
            format!("{}, set by the control group", format_bytes(bytes))
        }),
    );
}

fn supply_text(supply: &PowerSupply) -> String {
    let charge = supply.charge_percent.map(|charge| format!(", {charge} %")).unwrap_or_default();
    let in_use = match supply.in_use {
        Some(true) => ", in use",
        Some(false) => ", not in use",
        None => "",
    };
    format!("{} ({}{in_use}{charge})", supply.name, supply.kind)
}

/// For what is an answer rather than missing when it is absent: a limit, a battery.
fn known_or_reason<T>(finding: &Finding<T>, show: impl FnOnce(&T) -> String) -> String {
    match finding {
        Finding::Known(value) => show(value),
        Finding::Missing(reason) => reason.clone(),
    }
}

fn disk_rows(sheet: &mut Sheet, machine: &Machine) {
    let disk = &machine.disk;
    sheet.section("Disk");
    sheet.finding("current folder", &disk.file_system, Clone::clone);
    sheet.finding("free", &disk.free_bytes, |&free| {
        let total = disk.total_bytes.known().map(|&total| format!(" of {}", format_bytes(total)));
        format!("{}{}", format_bytes(free), total.unwrap_or_default())
    });
    let virtual_disk = machine.virtualization.known().is_some();
    sheet.finding("kind", &disk.rotating, |&rotating| {
        match (rotating, virtual_disk) {
            (_, true) => "of a virtual machine, which does not tell what it is made of",
            (true, false) => "rotating disk",
            (false, false) => "solid state",
        }
        .to_owned()
    });
}

#[cfg(test)]
mod tests;
