//! Graphics processors: what they are, and what one look at them tells.
//!
//! The look is behind a small trait, `GpuSource`, with NVML as its one real implementation
//! (`nvml.rs`) and a script in tests.

use crate::hardware::finding::Finding;
use crate::hardware::nvml;
use crate::hardware::root::SystemRoot;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is known about the machine's graphics processors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpus {
    /// Those that NVML can read, or why there are none.
    pub nvidia: Finding<Vec<Gpu>>,
    /// Version of NVIDIA's driver.
    pub driver: Finding<String>,
    /// Newest CUDA version that the driver supports.
    pub cuda: Finding<String>,
    /// Every graphics processor on the PCI bus, by maker; includes those of `nvidia`.
    pub on_bus: Vec<BusDevice>,
}

/// A GPU that NVML can read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Position in NVML's order, which is that of the PCI bus.
    pub index: u32,
    /// The maker's name.
    pub name: String,
    /// Address on the PCI bus.
    pub bus_id: Option<String>,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Memory free at the time of probing, bytes.
    pub free_bytes: Option<u64>,
    /// CUDA compute capability: `9.0`.
    pub compute_capability: Option<String>,
    /// Power limit in force, watts.
    pub power_limit_watts: Option<f64>,
    /// Highest clock of the compute units, MHz.
    pub maximum_mhz: Option<u32>,
    /// PCI Express link at most: `gen 5 x16`.
    pub link: Option<String>,
    /// What the monitor will not be able to read of it, and why.
    pub unreadable: Vec<Unreadable>,
}

/// A reading that a GPU does not give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// What cannot be read, such as `energy counter`.
    pub what: String,
    /// NVML's reason.
    pub reason: String,
}

/// A graphics processor on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusDevice {
    /// Address on the bus.
    pub address: String,
    /// The maker: `NVIDIA`, `AMD`, `Intel`, or the vendor's number.
    pub maker: String,
}

impl Gpus {
    /// Finds the machine's graphics processors.
    pub fn read(root: &SystemRoot) -> Self {
        let on_bus = bus_devices(root);
        let (nvidia, driver, cuda) = match nvml::library() {
            Ok(nvml) => {
                (nvml::gpus(nvml), Finding::from(nvml.sys_driver_version()), nvml::cuda(nvml))
            }
            Err(reason) => {
                let why = absence(reason, &on_bus);
                (
                    Finding::Missing(why.clone()),
                    Finding::Missing(why.clone()),
                    Finding::Missing(why),
                )
            }
        };
        Self { nvidia, driver, cuda, on_bus }
    }

    /// One line per GPU with its driver, as runs are stored with them.
    pub fn descriptions(&self) -> Vec<String> {
        let driver = self.driver.known().map(|driver| format!(" (driver {driver})"));
        let driver = driver.unwrap_or_default();
        let gpus = self.nvidia.known().map(Vec::as_slice).unwrap_or_default();
        gpus.iter().map(|gpu| format!("{}{driver}", gpu.name)).collect()
    }
}

/// Memory of a process on each NVIDIA GPU where it has some, bytes; empty where the driver does not tell.
#[must_use]
pub fn memory_of(pid: u32) -> Vec<u64> {
    let readings = nvml::NvmlSource::open().map(|mut source| source.read()).unwrap_or_default();
    let processes = readings.into_iter().flat_map(|it| it.processes.unwrap_or_default());
    processes.filter(|it| it.pid == pid).filter_map(|it| it.memory_bytes).collect()
}

/// Why NVML is not there, in the light of what is on the bus.
fn absence(reason: &str, on_bus: &[BusDevice]) -> String {
    if on_bus.iter().any(|device| device.maker == "NVIDIA") {
        return format!(
            "{reason}, although an NVIDIA device is on the PCI bus: install its driver, or pass it \
             into the container (`--gpus all`)"
        );
    }
    if let Some(other) = on_bus.first() {
        let maker = &other.maker;
        return format!("{reason}; the machine's GPU is from {maker}, whose use is not monitored");
    }
    format!("{reason}; no graphics processor is on the PCI bus")
}

fn bus_devices(root: &SystemRoot) -> Vec<BusDevice> {
    const FOLDER: &str = "/sys/bus/pci/devices";
    // PCI class 03 is display controllers, 12 processing accelerators.
    let graphics = |address: &String| {
        let class = root.text(format!("{FOLDER}/{address}/class")).unwrap_or_default();
        class.starts_with("0x03") || class.starts_with("0x12")
    };
    let devices = root.names(FOLDER).into_iter().filter(graphics).filter_map(|address| {
        let vendor = root.text(format!("{FOLDER}/{address}/vendor")).ok()?;
        let maker = match vendor.as_str() {
            "0x10de" => "NVIDIA".to_owned(),
            "0x1002" => "AMD".to_owned(),
            "0x8086" => "Intel".to_owned(),
            // Screens of servers' management controllers and of virtual machines compute nothing.
            "0x1a03" | "0x102b" | "0x1234" | "0x1b36" | "0x1af4" | "0x15ad" | "0x1414" => {
                return None;
            }
            other => format!("vendor {other}"),
        };
        Some(BusDevice { address, maker })
    });
    devices.collect()
}

/// Reads graphics processors while a worker runs.
pub(super) trait GpuSource: Send {
    /// Position and name of each GPU, in the order of the readings.
    fn names(&self) -> Vec<String>;

    /// One look at every GPU.
    fn read(&mut self) -> Vec<GpuReading>;
}

/// What one look at a GPU told; `None`: it does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct GpuReading {
    /// Use of the compute units, 0 to 1.
    pub(super) utilization: Option<f64>,
    /// Memory in use by anyone, bytes.
    pub(super) memory_bytes: Option<u64>,
    /// Processes with memory on it; `None` if the list cannot be read.
    pub(super) processes: Option<Vec<GpuProcess>>,
    /// Power, watts.
    pub(super) power_watts: Option<f64>,
    /// The device's energy counter, joules since its driver was loaded.
    pub(super) energy_joules: Option<f64>,
    /// Temperature, °C.
    pub(super) celsius: Option<f64>,
    /// Clock of its compute units, MHz.
    pub(super) mhz: Option<f64>,
    /// Why its clock is held down, in words.
    pub(super) throttling: Vec<&'static str>,
}

/// A process with memory on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GpuProcess {
    /// Process id; in a container this may be the host's.
    pub(super) pid: u32,
    /// Its memory on the GPU, bytes; `None` where the driver does not tell.
    pub(super) memory_bytes: Option<u64>,
}

/// What a GPU looked like before the worker used it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct GpuBaseline {
    pids: BTreeSet<u32>,
    memory_bytes: Option<u64>,
}

impl GpuBaseline {
    /// Remembers a look at a GPU.
    pub(super) fn of(reading: &GpuReading) -> Self {
        let processes = reading.processes.iter().flatten();
        Self {
            pids: processes.map(|process| process.pid).collect(),
            memory_bytes: reading.memory_bytes,
        }
    }

    /// Memory of the worker `pid` on the GPU, bytes.
    ///
    /// NVML names processes by the host's ids, which in a container are not the ids seen there. So
    /// if the worker is not listed, the one process that came after the baseline is taken for it;
    /// with none, and no memory taken since, the worker uses 0 bytes; anything else is `None`.
    pub(super) fn worker_memory(&self, reading: &GpuReading, pid: u32) -> Option<u64> {
        /// Contexts of other programs come and go within this, bytes.
        const UNREMARKABLE: u64 = 64 << 20;
        let processes = reading.processes.as_ref()?;
        let own: Vec<&GpuProcess> = processes.iter().filter(|process| process.pid == pid).collect();
        if !own.is_empty() {
            // A process with both compute and graphics contexts is listed under each with the same total.
            return own.iter().map(|process| process.memory_bytes).max().flatten();
        }
        let new: BTreeSet<u32> = processes
            .iter()
            .map(|process| process.pid)
            .filter(|pid| !self.pids.contains(pid))
            .collect();
        match new.len() {
            0 => {
                let growth = reading.memory_bytes?.saturating_sub(self.memory_bytes?);
                (growth < UNREMARKABLE).then_some(0)
            }
            1 => processes.iter().find(|process| new.contains(&process.pid))?.memory_bytes,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::root::fixture::Tree;

    fn reading(memory: u64, processes: &[(u32, Option<u64>)]) -> GpuReading {
        let processes =
            processes.iter().map(|&(pid, memory_bytes)| GpuProcess { pid, memory_bytes });
        GpuReading {
            memory_bytes: Some(memory),
            processes: Some(processes.collect()),
            ..GpuReading::default()
        }
    }

    #[test]
    fn the_worker_is_found_by_its_id() {
        let baseline = GpuBaseline::of(&reading(100, &[(5, Some(100))]));
        let now = reading(900, &[(5, Some(100)), (7, Some(800)), (8, Some(1))]);
        assert_eq!(baseline.worker_memory(&now, 7), Some(800));
        let untold = reading(900, &[(7, None)]);
        assert_eq!(baseline.worker_memory(&untold, 7), None);
    }

    #[test]
    fn in_a_container_the_one_new_process_is_the_worker() {
        let baseline = GpuBaseline::of(&reading(100, &[(5, Some(100))]));
        let now = reading(900, &[(5, Some(100)), (40_123, Some(800))]);
        assert_eq!(baseline.worker_memory(&now, 7), Some(800));
        let two = reading(900, &[(40_123, Some(800)), (40_124, Some(9))]);
        assert_eq!(baseline.worker_memory(&two, 7), None);
    }

    #[test]
    fn nothing_is_claimed_when_memory_grew_and_nobody_is_listed() {
        let baseline = GpuBaseline::of(&reading(0, &[]));
        assert_eq!(baseline.worker_memory(&reading(1 << 20, &[]), 7), Some(0));
        assert_eq!(baseline.worker_memory(&reading(1 << 30, &[]), 7), None);
        assert_eq!(baseline.worker_memory(&GpuReading::default(), 7), None);
    }

    #[test]
    fn graphics_processors_on_the_bus_are_told_from_other_devices() {
        let tree = Tree::new(&[
            ("/sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n"),
            ("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n"),
            ("/sys/bus/pci/devices/0000:02:00.0/class", "0x020000\n"),
            ("/sys/bus/pci/devices/0000:02:00.0/vendor", "0x10de\n"),
            ("/sys/bus/pci/devices/0000:03:00.0/class", "0x030000\n"),
            ("/sys/bus/pci/devices/0000:03:00.0/vendor", "0x1a03\n"),
            ("/sys/bus/pci/devices/0000:04:00.0/class", ""),
        ]);
        let expected = BusDevice { address: "0000:01:00.0".into(), maker: "NVIDIA".into() };
        assert_eq!(bus_devices(&tree.root()), [expected]);
    }

    #[test]
    fn the_reason_for_missing_nvml_depends_on_what_is_on_the_bus() {
        let device = |maker: &str| BusDevice { address: String::new(), maker: maker.to_owned() };
        assert!(absence("no library", &[device("NVIDIA")]).contains("install its driver"));
        assert!(absence("no library", &[device("AMD")]).contains("from AMD"));
        assert!(absence("no library", &[]).contains("no graphics processor"));
    }
}
