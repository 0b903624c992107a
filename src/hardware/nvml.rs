//! NVIDIA's management library (NVML), loaded at run time; its absence is normal.

use crate::hardware::finding::Finding;
use crate::hardware::gpu::{Gpu, GpuProcess, GpuReading, GpuSource, Unreadable};
use crate::units::to_f64;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};
use std::ffi::OsStr;
use std::sync::OnceLock;

/// Where the library lies when it is not in the loader's path: NixOS, and Windows' Linux.
const OTHER_PLACES: [&str; 2] =
    ["/run/opengl-driver/lib/libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"];

/// The library, or why it cannot be used. It is loaded once and stays for the life of the process,
/// since loading it takes up to a second.
pub(super) fn library() -> Result<&'static Nvml, &'static str> {
    static LIBRARY: OnceLock<Result<Nvml, String>> = OnceLock::new();
    LIBRARY.get_or_init(load).as_ref().map_err(String::as_str)
}

fn load() -> Result<Nvml, String> {
    let elsewhere = |place: &str| Nvml::builder().lib_path(OsStr::new(place)).init().ok();
    Nvml::init().or_else(|error| {
        OTHER_PLACES.iter().find_map(|place| elsewhere(place)).ok_or_else(|| unusable(&error))
    })
}

/// Newest CUDA version that the driver supports.
pub(super) fn cuda(nvml: &Nvml) -> Finding<String> {
    let version = nvml.sys_cuda_driver_version();
    Finding::from(version.map(|version| format!("{}.{}", version / 1000, version % 1000 / 10)))
}

/// What the GPUs are.
pub(super) fn gpus(nvml: &Nvml) -> Finding<Vec<Gpu>> {
    match devices(nvml) {
        Err(error) => Finding::Missing(format!("NVML does not list its devices: {error}")),
        Ok(devices) => {
            let gpus = devices.iter().enumerate();
            let gpus = gpus.map(|(index, device)| describe(index, device)).collect();
            Finding::from_list(gpus, || "NVML is there, but lists no device".to_owned())
        }
    }
}

fn devices(nvml: &Nvml) -> Result<Vec<Device<'_>>, NvmlError> {
    (0..nvml.device_count()?).map(|index| nvml.device_by_index(index)).collect()
}

/// Why the library cannot be used, in words.
fn unusable(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(_) => {
            "NVIDIA's library libnvidia-ml.so.1 is not installed".to_owned()
        }
        other => format!("NVIDIA's library libnvidia-ml.so.1 does not start: {other}"),
    }
}

fn describe(index: usize, device: &Device<'_>) -> Gpu {
    let memory = device.memory_info().ok();
    let link = device.max_pcie_link_gen().ok().zip(device.max_pcie_link_width().ok());
    let capability = device.cuda_compute_capability().ok();
    Gpu {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        name: device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned()),
        bus_id: device.pci_info().ok().map(|pci| pci.bus_id),
        memory_bytes: memory.as_ref().map(|memory| memory.total),
        free_bytes: memory.as_ref().map(|memory| memory.free),
        compute_capability: capability
            .map(|version| format!("{}.{}", version.major, version.minor)),
        power_limit_watts: device.enforced_power_limit().ok().map(watts),
        maximum_mhz: device.max_clock_info(Clock::SM).ok(),
        link: link.map(|(generation, width)| format!("gen {generation} x{width}")),
        unreadable: unreadable(device),
    }
}

/// What the monitor will not get from a device.
fn unreadable(device: &Device<'_>) -> Vec<Unreadable> {
    let failures = [
        ("utilization", device.utilization_rates().err()),
        ("processes", device.running_compute_processes().err()),
        ("power", device.power_usage().err()),
        ("energy counter", device.total_energy_consumption().err()),
        ("temperature", device.temperature(TemperatureSensor::Gpu).err()),
        ("throttle reasons", device.current_throttle_reasons().err()),
    ];
    let failures = failures.into_iter().filter_map(|(what, error)| Some((what, error?)));
    let unreadable = |(what, error): (&str, NvmlError)| Unreadable {
        what: what.to_owned(),
        reason: format!("NVML: {error}"),
    };
    failures.map(unreadable).collect()
}

/// All devices, read again and again.
pub(super) struct NvmlSource {
    devices: Vec<Device<'static>>,
    names: Vec<String>,
}

impl NvmlSource {
    /// The devices of this machine; `None` without library or device.
    pub(super) fn open() -> Option<Self> {
        let devices = devices(library().ok()?).ok().filter(|devices| !devices.is_empty())?;
        let name = |(index, device): (usize, &Device<'_>)| {
            format!("{index}: {}", device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned()))
        };
        let names = devices.iter().enumerate().map(name).collect();
        Some(Self { devices, names })
    }
}

impl GpuSource for NvmlSource {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn read(&mut self) -> Vec<GpuReading> {
        self.devices.iter().map(read_device).collect()
    }
}

fn read_device(device: &Device<'_>) -> GpuReading {
    let joules = |millijoules: u64| to_f64(millijoules) / 1e3;
    let compute = device.running_compute_processes().ok();
    // Back ends that draw (Vulkan) are listed apart; a failure there leaves the compute list.
    let graphics = device.running_graphics_processes().unwrap_or_default();
    let processes = compute.map(|compute| compute.iter().chain(&graphics).map(process).collect());
    GpuReading {
        utilization: device
            .utilization_rates()
            .ok()
            .map(|rates| f64::from(rates.gpu.min(100)) / 100.0),
        memory_bytes: device.memory_info().ok().map(|memory| memory.used),
        processes,
        power_watts: device.power_usage().ok().map(watts),
        energy_joules: device.total_energy_consumption().ok().map(joules),
        celsius: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
        mhz: device.clock_info(Clock::SM).ok().map(f64::from),
        throttling: device.current_throttle_reasons().map(throttling).unwrap_or_default(),
    }
}

fn process(information: &ProcessInfo) -> GpuProcess {
    let memory_bytes = match information.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    GpuProcess { pid: information.pid, memory_bytes }
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) / 1e3
}

/// The reasons that make a figure lower than the device could reach; an idle device and clocks that
/// the user set are none.
fn throttling(reasons: ThrottleReasons) -> Vec<&'static str> {
    const SIGNS: [(ThrottleReasons, &str); 6] = [
        (ThrottleReasons::SW_POWER_CAP, "held at its power limit"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "slowed because it is hot (driver)"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "slowed because it is hot (hardware)"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "slowed by its power supply"),
        (ThrottleReasons::HW_SLOWDOWN, "slowed by its hardware"),
        (ThrottleReasons::SYNC_BOOST, "held at the clock of a slower GPU in its group"),
    ];
    let specific = ThrottleReasons::HW_THERMAL_SLOWDOWN | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN;
    let signs = SIGNS.into_iter().filter(|(sign, _)| reasons.contains(*sign));
    // The general flag is set along with a specific one.
    let signs = signs
        .filter(|(sign, _)| *sign != ThrottleReasons::HW_SLOWDOWN || !reasons.intersects(specific));
    signs.map(|(_, words)| words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_clocks_set_by_the_user_are_no_throttling() {
        let harmless = ThrottleReasons::GPU_IDLE
            | ThrottleReasons::APPLICATIONS_CLOCKS_SETTING
            | ThrottleReasons::DISPLAY_CLOCK_SETTING;
        assert!(throttling(harmless).is_empty());
    }

    #[test]
    fn a_specific_reason_stands_for_the_general_one() {
        let hot = ThrottleReasons::HW_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN;
        assert_eq!(throttling(hot), ["slowed because it is hot (hardware)"]);
        assert_eq!(throttling(ThrottleReasons::HW_SLOWDOWN), ["slowed by its hardware"]);
        let both = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::SW_THERMAL_SLOWDOWN;
        assert_eq!(throttling(both).len(), 2);
    }

    #[test]
    fn a_library_that_cannot_be_used_has_a_reason() {
        let missing = Nvml::builder().lib_path(OsStr::new("nowhere/libnvidia-ml.so.1")).init();
        let reason = unusable(&missing.err().unwrap());
        assert!(reason.starts_with("NVIDIA's library"), "{reason}");
        assert!(reason.ends_with("is not installed"), "{reason}");
        let reason = unusable(&NvmlError::DriverNotLoaded);
        assert!(reason.contains("does not start: "), "{reason}");
    }

    #[test]
    fn what_can_be_read_are_the_devices_that_the_library_lists() {
        let listed = library().map_or(0, |nvml| devices(nvml).map_or(0, |it| it.len()));
        assert_eq!(NvmlSource::open().map_or(0, |source| source.names().len()), listed);
    }
}
