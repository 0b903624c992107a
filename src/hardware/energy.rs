//! Energy counters of processor and memory: RAPL, through the kernel's powercap folder.
//!
//! Intel and AMD processors both appear there as `intel-rapl`. Each zone has a counter in
//! microjoules that starts again at 0 after `max_energy_range_uj`: after a few minutes of full load
//! on large processors, so a meter must look more often than that.

use crate::hardware::finding::Finding;
use crate::hardware::root::{ReadFailure, SystemRoot};
use crate::units::to_f64;
use serde::{Deserialize, Serialize};

const ZONE_FOLDER: &str = "/sys/class/powercap";

/// A part of the machine with an energy counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyZone {
    /// The kernel's folder: `intel-rapl:0:1`.
    pub folder: String,
    /// What it covers: `package-0`, `core`, `dram`, `psys`, …
    pub name: String,
    /// Whether its energy is part of what quantbench adds up; the others are part of, or contain,
    /// one that is.
    pub counted: bool,
    /// The counter at the time of probing, microjoules, or why it cannot be read.
    pub counter_microjoules: Finding<u64>,
}

/// Lists the energy counters of processor and memory.
pub fn energy_zones(root: &SystemRoot) -> Finding<Vec<EnergyZone>> {
    let mut folders = root.names(ZONE_FOLDER);
    // `intel-rapl` alone is the control type, and `intel-rapl-mmio:0` is the package counted twice.
    folders.retain(|folder| folder.starts_with("intel-rapl:"));
    let zones = folders.into_iter().filter_map(|folder| zone(root, folder)).collect();
    Finding::from_list(zones, || {
        if root.exists(ZONE_FOLDER) {
            format!(
                "no intel-rapl zone in {ZONE_FOLDER}: the processor has no energy counters, or the kernel \
                 module for them is not loaded (`modprobe intel_rapl_msr`; it serves AMD too)"
            )
        } else {
            format!(
                "{ZONE_FOLDER} does not exist: this kernel has no energy counters (usual in virtual \
                 machines, whose host keeps them)"
            )
        }
    })
}

fn zone(root: &SystemRoot, folder: String) -> Option<EnergyZone> {
    let name = root.text(format!("{ZONE_FOLDER}/{folder}/name")).ok()?;
    let counter = counter(root, &folder).map_err(|failure| why_unreadable(&failure));
    let counted = name.starts_with("package") || name.starts_with("dram");
    Some(EnergyZone { folder, counted, counter_microjoules: Finding::from(counter), name })
}

fn why_unreadable(failure: &ReadFailure) -> String {
    if !failure.is_permission() {
        return failure.to_string();
    }
    format!(
        "only root may read the counters; `sudo chmod a+r {ZONE_FOLDER}/intel-rapl:*/energy_uj` lets \
         all users, until the machine starts again"
    )
}

fn counter(root: &SystemRoot, folder: &str) -> Result<u64, ReadFailure> {
    root.number(format!("{ZONE_FOLDER}/{folder}/energy_uj"))
}

/// Adds up the energy of processor packages and memory while it is read again and again.
#[derive(Debug)]
pub(super) struct EnergyMeter {
    root: SystemRoot,
    zones: Vec<MeteredZone>,
    microjoules: u64,
    gaps: u32,
}

#[derive(Debug)]
struct MeteredZone {
    folder: String,
    /// Where the counter starts again; `None` if the kernel does not say.
    range: Option<u64>,
    /// The last value; `None` after a reading that failed.
    last: Option<u64>,
}

/// What a meter has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EnergyReading {
    /// Since the meter was made, microjoules.
    pub(super) microjoules: u64,
    /// Number of readings whose amount is unknown: one failed, or a counter went backwards.
    pub(super) gaps: u32,
}

impl EnergyReading {
    /// Joules since an earlier reading; `None` if an amount in between is unknown.
    pub(super) fn joules_since(self, earlier: Self) -> Option<f64> {
        let microjoules = self.microjoules.checked_sub(earlier.microjoules)?;
        (self.gaps == earlier.gaps).then(|| to_f64(microjoules) / 1e6)
    }
}

impl EnergyMeter {
    /// A meter of all counted zones that can be read; `None` if there is none, or if one of them
    /// cannot be read, as the rest would pass for the whole.
    pub(super) fn open(root: &SystemRoot) -> Option<Self> {
        let zones = energy_zones(root);
        let counted = zones.known()?.iter().filter(|zone| zone.counted);
        let zones = counted.map(|zone| {
            let range = root.number(format!("{ZONE_FOLDER}/{}/max_energy_range_uj", zone.folder));
            let last = *zone.counter_microjoules.known()?;
            Some(MeteredZone { folder: zone.folder.clone(), range: range.ok(), last: Some(last) })
        });
        let zones = zones.collect::<Option<Vec<_>>>()?;
        let meter = Self { root: root.clone(), zones, microjoules: 0, gaps: 0 };
        (!meter.zones.is_empty()).then_some(meter)
    }

    /// Reads all counters. Between two readings no counter may start again twice.
    pub(super) fn read(&mut self) -> EnergyReading {
        for zone in &mut self.zones {
            let now = counter(&self.root, &zone.folder).ok();
            match now.zip(zone.last).and_then(|(now, last)| increase(last, now, zone.range)) {
                Some(increase) => self.microjoules = self.microjoules.saturating_add(increase),
                None => self.gaps += 1,
            }
            zone.last = now;
        }
        EnergyReading { microjoules: self.microjoules, gaps: self.gaps }
    }
}

/// How much a counter rose from `last` to `now`, given that it starts again at 0 after `range`;
/// `None` if it went backwards without having been near that.
fn increase(last: u64, now: u64, range: Option<u64>) -> Option<u64> {
    if let Some(increase) = now.checked_sub(last) {
        return Some(increase);
    }
    let range = range.filter(|&range| last <= range)?;
    // A reset (a machine that slept, a driver loaded anew) looks like a counter that started again
    // from far below its end; no phase between two looks uses half of the range.
    let increase = (range - last).checked_add(now)?;
    (increase <= range / 2).then_some(increase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::root::fixture::Tree;

    fn machine(package: &str) -> Tree {
        Tree::new(&[
            ("/sys/class/powercap/intel-rapl/enabled", "1"),
            ("/sys/class/powercap/intel-rapl:0/name", "package-0\n"),
            ("/sys/class/powercap/intel-rapl:0/energy_uj", package),
            ("/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "1000000\n"),
            ("/sys/class/powercap/intel-rapl:0:0/name", "core\n"),
            ("/sys/class/powercap/intel-rapl:0:0/energy_uj", "5\n"),
            ("/sys/class/powercap/intel-rapl:0:1/name", "dram\n"),
            ("/sys/class/powercap/intel-rapl:0:1/energy_uj", "100\n"),
            ("/sys/class/powercap/intel-rapl:0:1/max_energy_range_uj", "1000000\n"),
            ("/sys/class/powercap/intel-rapl:1/name", "psys\n"),
            ("/sys/class/powercap/intel-rapl:1/energy_uj", "900\n"),
            ("/sys/class/powercap/intel-rapl-mmio:0/name", "package-0\n"),
            ("/sys/class/powercap/intel-rapl-mmio:0/energy_uj", "7\n"),
        ])
    }

    const PACKAGE: &str = "/sys/class/powercap/intel-rapl:0/energy_uj";
    const DRAM: &str = "/sys/class/powercap/intel-rapl:0:1/energy_uj";

    #[test]
    fn packages_and_memory_are_counted_and_their_parts_are_not() {
        let zones = energy_zones(&machine("10").root());
        let zones = zones.known().unwrap();
        let counted: Vec<&str> =
            zones.iter().filter(|zone| zone.counted).map(|zone| zone.name.as_str()).collect();
        assert_eq!(counted, ["package-0", "dram"]);
        assert_eq!(zones.len(), 4);
    }

    #[test]
    fn energy_is_the_sum_of_increases() {
        let tree = machine("10");
        let mut meter = EnergyMeter::open(&tree.root()).unwrap();
        let first = meter.read();
        tree.write(PACKAGE, "500010\n");
        tree.write(DRAM, "250100\n");
        assert_eq!(meter.read().joules_since(first), Some(0.75));
    }

    #[test]
    fn a_counter_that_starts_again_goes_on_counting() {
        let tree = machine("900000");
        let mut meter = EnergyMeter::open(&tree.root()).unwrap();
        let first = meter.read();
        tree.write(PACKAGE, "150000\n");
        assert_eq!(meter.read().joules_since(first), Some(0.25));
    }

    #[test]
    fn a_counter_that_goes_backwards_makes_its_phase_unknown_and_no_other() {
        let tree = machine("100000");
        let mut meter = EnergyMeter::open(&tree.root()).unwrap();
        let first = meter.read();
        tree.write(PACKAGE, "50\n");
        let second = meter.read();
        assert_eq!(second.joules_since(first), None);
        tree.write(PACKAGE, "1000050\n");
        assert_eq!(meter.read().joules_since(second), Some(1.0));
    }

    #[test]
    fn garbage_in_a_counter_makes_its_phase_unknown() {
        for garbage in ["", "-5\n", "many\n", "18446744073709551616\n"] {
            let tree = machine("100");
            let mut meter = EnergyMeter::open(&tree.root()).unwrap();
            let first = meter.read();
            tree.write(PACKAGE, garbage);
            assert_eq!(meter.read().joules_since(first), None, "{garbage}");
        }
    }

    #[test]
    fn a_zone_that_cannot_be_read_says_why_and_nothing_is_metered() {
        let tree = machine("");
        let zones = energy_zones(&tree.root());
        let reason = zones.known().unwrap()[0].counter_microjoules.reason().unwrap().to_owned();
        assert!(reason.contains("intel-rapl:0/energy_uj"), "{reason}");
        assert!(EnergyMeter::open(&tree.root()).is_none());
    }

    #[test]
    fn counters_that_only_root_may_read_come_with_the_remedy() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let failure = ReadFailure::unreadable(PACKAGE.as_ref(), &denied);
        assert!(why_unreadable(&failure).contains("sudo chmod a+r"));
    }

    #[test]
    fn a_machine_without_counters_says_what_would_help() {
        let nothing = energy_zones(&Tree::new(&[]).root());
        assert!(nothing.reason().unwrap().contains("virtual machines"));
        let empty = Tree::new(&[]);
        empty.folder("/sys/class/powercap");
        assert!(energy_zones(&empty.root()).reason().unwrap().contains("modprobe"));
    }

    #[test]
    fn increases_never_overflow() {
        assert_eq!(increase(u64::MAX, 0, Some(u64::MAX)), Some(0));
        assert_eq!(increase(u64::MAX, u64::MAX - 1, Some(u64::MAX)), None);
        assert_eq!(increase(5, 3, Some(4)), None);
        assert_eq!(increase(5, 3, None), None);
    }
}
