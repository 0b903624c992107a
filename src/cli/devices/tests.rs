//! Whole pages of made-up machines.

use super::*;
use crate::hardware::bandwidth::ReadRate;
use crate::hardware::disk::Disk;
use crate::hardware::gpu::{BusDevice, Gpus, Unreadable};
use crate::hardware::root::fixture::Tree;
use unicode_width::UnicodeWidthStr;

const GIB: u64 = 1 << 30;

fn without_gpu() -> Gpus {
    let reason = || "NVIDIA's library libnvidia-ml.so.1 is not installed; no graphics processor is on the PCI bus";
    Gpus {
        nvidia: Finding::Missing(reason().to_owned()),
        driver: Finding::Missing(reason().to_owned()),
        cuda: Finding::Missing(reason().to_owned()),
        on_bus: Vec::new(),
    }
}

/// Probes a tree; what cannot come from a tree is replaced.
fn probe(tree: &Tree, gpus: Gpus) -> Machine {
    let disk = Disk {
        path: ".".into(),
        total_bytes: Finding::Known(500 * GIB),
        free_bytes: Finding::Known(200 * GIB),
        file_system: Finding::Known("ext4 on /dev/nvme0n1p2".to_owned()),
        rotating: Finding::Known(false),
    };
    Machine { gpus, disk, ..Machine::probe_below(&tree.root()) }
}

fn measured() -> Profile {
    let rate = |threads, gigabytes: f64| ReadRate {
        threads,
        bytes_per_second: gigabytes * 1e9,
        lower_quartile: gigabytes * 0.9e9,
        upper_quartile: gigabytes * 1.1e9,
    };
    let read_rates = vec![rate(1, 13.456), rate(2, 24.0), rate(16, 61.25)];
    Profile { measured: time::OffsetDateTime::UNIX_EPOCH, read_rates, compute_rates: Vec::new() }
}

fn workstation() -> Machine {
    let zone = |name: &str| format!("/sys/class/powercap/intel-rapl:0/{name}");
    let cpufreq = |name: &str| format!("/sys/devices/system/cpu/cpufreq/policy0/{name}");
    let tree = Tree::new(&[
        ("/etc/os-release", "PRETTY_NAME=\"Example Linux 1\"\n"),
        ("/proc/sys/kernel/osrelease", "6.1.0\n"),
        (
            "/proc/cpuinfo",
            "processor : 0\nmodel name : Example 9000\nphysical id : 0\ncore id : 0\nflags : pni avx avx2\n",
        ),
        (
            "/proc/meminfo",
            "MemTotal: 67108864 kB\nMemAvailable: 33554432 kB\nSwapTotal: 1048576 kB\n",
        ),
        ("/proc/self/status", "Cpus_allowed_list: 0\n"),
        ("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"),
        ("/proc/self/cgroup", "0::/job\n"),
        ("/sys/fs/cgroup/job/cpu.max", "50000 100000\n"),
        ("/sys/fs/cgroup/job/memory.max", "8589934592\n"),
        ("/sys/class/power_supply/AC/type", "Mains\n"),
        ("/sys/class/power_supply/AC/online", "1\n"),
        ("/sys/class/hwmon/hwmon0/name", "k10temp\n"),
        ("/sys/class/hwmon/hwmon0/temp1_label", "Tctl\n"),
        ("/sys/class/hwmon/hwmon0/temp1_input", "48250\n"),
        ("/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "4\n"),
    ]);
    tree.write(&zone("name"), "package-0\n");
    tree.write(&zone("energy_uj"), "123\n");
    tree.write(&cpufreq("scaling_governor"), "powersave\n");
    tree.write(&cpufreq("cpuinfo_max_freq"), "5000000\n");
    let gpu = Gpu {
        index: 0,
        name: "NVIDIA H200".to_owned(),
        bus_id: Some("00000000:01:00.0".to_owned()),
        memory_bytes: Some(140 * GIB),
        free_bytes: Some(139 * GIB),
        compute_capability: Some("9.0".to_owned()),
        power_limit_watts: Some(700.0),
        maximum_mhz: Some(1980),
        link: Some("gen 5 x16".to_owned()),
        unreadable: vec![Unreadable {
            what: "processes".to_owned(),
            reason: "NVML: the current user does not have permission to perform this operation"
                .to_owned(),
        }],
    };
    let gpus = Gpus {
        nvidia: Finding::Known(vec![gpu]),
        driver: Finding::Known("570.10".to_owned()),
        cuda: Finding::Known("12.8".to_owned()),
        on_bus: vec![BusDevice { address: "0000:c1:00.0".to_owned(), maker: "AMD".to_owned() }],
    };
    probe(&tree, gpus)
}

fn backends() -> Vec<Device> {
    vec![Device {
        name: "CPU".to_owned(),
        description: "Example 9000".to_owned(),
        kind: "CPU".to_owned(),
        backend: "CPU".to_owned(),
        total_bytes: 64 * GIB,
        free_bytes: 32 * GIB,
    }]
}

fn wheel() -> OnnxRuntime {
    let path = PathBuf::from("/venv/onnxruntime/capi/libonnxruntime.so.1.32.0");
    OnnxRuntime(Ok((
        Library { path, place: library::Place::Wheel },
        "1.32.0".to_owned(),
        vec!["cpu".to_owned()],
    )))
}

fn nothing() -> OnnxRuntime {
    OnnxRuntime(Err(library::LibraryError::None.to_string()))
}

#[test]
fn a_well_equipped_machine_fills_the_page() {
    insta::assert_snapshot!(table(&workstation(), &backends(), &wheel(), Some(&measured()), WIDTH));
}

#[test]
fn a_machine_that_tells_nothing_says_why_for_everything() {
    let mut machine = probe(&Tree::new(&[]), without_gpu());
    // Without any source, the number of processors is this machine's.
    machine.processor.logical_cpus = 2;
    machine.processor.architecture = "x86_64".to_owned();
    insta::assert_snapshot!(table(&machine, &[], &nothing(), None, WIDTH));
}

#[test]
fn no_line_is_wider_than_asked() {
    let mut machine = workstation();
    let long = "word ".repeat(60) + &"unbroken".repeat(30);
    machine.processor.name = Finding::Known(long.clone());
    machine.memory.modules = Finding::Missing(long.clone());
    machine.operating_system = long;
    for width in [100, 60] {
        let text = table(&machine, &backends(), &wheel(), None, width);
        let widest = text.lines().map(UnicodeWidthStr::width).max();
        assert!(widest <= Some(width), "{widest:?} columns instead of {width}:\n{text}");
    }
}

#[test]
fn json_has_a_version_and_gives_the_same_machine_back() {
    let machine = workstation();
    let document: serde_json::Value =
        serde_json::from_str(&json(&machine, &backends(), &wheel(), None).unwrap()).unwrap();
    assert_eq!(
        (&document["format"], &document["version"]),
        (&"quantbench.devices".into(), &1.into())
    );
    assert_eq!(document["backends"][0]["total_bytes"], 64 * GIB);
    assert_eq!(document["machine"]["gpus"]["nvidia"]["known"][0]["name"], "NVIDIA H200");
    let machine_again: Machine = serde_json::from_value(document["machine"].clone()).unwrap();
    assert_eq!(machine_again, machine);
}
