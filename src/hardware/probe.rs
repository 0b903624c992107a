//! The probe: what this machine is, once, before anything is measured.

use crate::hardware::cgroup::Limits;
use crate::hardware::disk::Disk;
use crate::hardware::energy::{EnergyZone, energy_zones};
use crate::hardware::finding::Finding;
use crate::hardware::gpu::Gpus;
use crate::hardware::memory::Memory;
use crate::hardware::power::{PowerSupply, power_supplies};
use crate::hardware::processor::Processor;
use crate::hardware::root::SystemRoot;
use crate::hardware::sensors::{Thermometer, heat_events, thermometers};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a machine is. Whatever it does not tell carries the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Operating system and kernel: `Debian GNU/Linux 12 (bookworm), Linux 6.1.0`.
    pub operating_system: String,
    /// What kind of virtual machine this is; `Missing`: no sign of one.
    pub virtualization: Finding<String>,
    /// The processor.
    pub processor: Processor,
    /// The memory.
    pub memory: Memory,
    /// Graphics processors.
    pub gpus: Gpus,
    /// Energy counters of processor and memory (RAPL).
    pub energy: Finding<Vec<EnergyZone>>,
    /// Battery and mains.
    pub power: Finding<Vec<PowerSupply>>,
    /// Thermometers of the processor.
    pub thermometers: Finding<Vec<Thermometer>>,
    /// How often the processor has slowed itself down because it was hot, since the machine started.
    pub heat_events: Finding<u64>,
    /// What this process may use.
    pub limits: Limits,
    /// The disk under the current folder.
    pub disk: Disk,
}

impl Machine {
    /// Looks at this machine. Takes a few milliseconds, and up to a second where NVIDIA's library
    /// has to be loaded.
    pub fn probe() -> Self {
        Self::probe_below(&SystemRoot::default())
    }

    /// Looks at the machine whose `/proc` and `/sys` lie below `root`; graphics processors are
    /// always this machine's.
    pub fn probe_below(root: &SystemRoot) -> Self {
        Self {
            operating_system: operating_system(root),
            virtualization: virtualization(root),
            processor: Processor::read(root),
            memory: Memory::read(root),
            gpus: Gpus::read(root),
            energy: energy_zones(root),
            power: power_supplies(root),
            thermometers: thermometers(root),
            heat_events: heat_events(root),
            limits: Limits::read(root),
            disk: Disk::of(Path::new("."), root),
        }
    }
}

fn operating_system(root: &SystemRoot) -> String {
    let release = root.text("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.map(|name| name.trim_matches(['"', '\'']).to_owned());
    let kernel = root.text("/proc/sys/kernel/osrelease").map(|kernel| format!("Linux {kernel}"));
    let parts: Vec<String> = name.into_iter().chain(kernel.ok()).collect();
    let unnamed = if cfg!(target_os = "linux") { "Linux" } else { std::env::consts::OS };
    if parts.is_empty() { unnamed.to_owned() } else { parts.join(", ") }
}

fn virtualization(root: &SystemRoot) -> Finding<String> {
    const MAKERS: [&str; 7] =
        ["QEMU", "KVM", "VMware", "VirtualBox", "Xen", "Google Compute", "Virtual Machine"];
    let product = ["sys_vendor", "product_name"]
        .map(|file| root.text(format!("/sys/class/dmi/id/{file}")).unwrap_or_default())
        .join(" ");
    let product = product.trim();
    let information = root.text("/proc/cpuinfo").unwrap_or_default();
    let flags = information.lines().find(|line| line.starts_with("flags"));
    let virtual_machine = match flags {
        Some(flags) => flags.split_whitespace().any(|flag| flag == "hypervisor"),
        // ARM has no such flag; there the maker's name is the only sign.
        None => MAKERS.iter().any(|maker| product.contains(maker)),
    };
    if !virtual_machine {
        return Finding::Missing("no sign of a hypervisor".to_owned());
    }
    let hypervisor = root.text("/sys/hypervisor/type").ok();
    let name = hypervisor.or_else(|| (!product.is_empty()).then(|| product.to_owned()));
    Finding::Known(name.unwrap_or_else(|| "a hypervisor that does not give its name".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::root::fixture::Tree;

    #[test]
    fn this_machine_can_be_probed() {
        let machine = Machine::probe();
        assert!(machine.processor.logical_cpus > 0);
        assert!(machine.memory.total_bytes.known().is_some_and(|&bytes| bytes > 1 << 20));
        assert!(!machine.operating_system.is_empty());
    }

    #[test]
    fn the_system_is_named_as_far_as_it_tells() {
        let tree = Tree::new(&[]);
        assert_eq!(operating_system(&tree.root()), "Linux");
        tree.write("/proc/sys/kernel/osrelease", "6.1.0\n");
        assert_eq!(operating_system(&tree.root()), "Linux 6.1.0");
        tree.write("/etc/os-release", "NAME=x\nPRETTY_NAME='Example Linux 1'\n");
        assert_eq!(operating_system(&tree.root()), "Example Linux 1, Linux 6.1.0");
    }

    #[test]
    fn a_virtual_machine_is_known_by_the_processors_flag() {
        let tree = Tree::new(&[
            ("/proc/cpuinfo", "flags : fpu hypervisor\n"),
            ("/sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("/sys/class/dmi/id/product_name", "Standard PC\n"),
        ]);
        assert_eq!(virtualization(&tree.root()), Finding::Known("QEMU Standard PC".into()));
        // A rented machine without hypervisor has a cloud's name too.
        tree.write("/proc/cpuinfo", "flags : fpu\n");
        assert_eq!(virtualization(&tree.root()).known(), None);
        // ARM has no flag.
        tree.write("/proc/cpuinfo", "Features : fp asimd\n");
        assert_eq!(virtualization(&tree.root()), Finding::Known("QEMU Standard PC".into()));
        let silent = Tree::new(&[("/proc/cpuinfo", "flags : hypervisor\n")]);
        assert!(virtualization(&silent.root()).known().unwrap().contains("does not give its name"));
    }
}
