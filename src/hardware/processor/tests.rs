//! Made-up processors, well described, badly described and not at all.

use super::*;
use crate::hardware::root::fixture::Tree;

const INTEL: &str = "\
processor\t: 0
model name\t: Intel(R)   Xeon(R) CPU
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu pni ssse3 avx avx2 f16c fma bmi2 avx512f avx512_vnni hypervisor

processor\t: 1
model name\t: Intel(R)   Xeon(R) CPU
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu pni
";

fn cpu(file: &str) -> String {
    format!("{CPU_FOLDER}/{file}")
}

#[test]
fn two_threads_of_one_core_are_one_core() {
    let processor = Processor::read(&Tree::new(&[("/proc/cpuinfo", INTEL)]).root());
    assert_eq!(processor.name, Finding::Known("Intel(R) Xeon(R) CPU".into()));
    assert_eq!((processor.physical_cores, processor.logical_cpus), (Finding::Known(1), 2));
}

#[test]
fn topology_tells_cores_where_it_is_there() {
    let tree = Tree::new(&[("/proc/cpuinfo", INTEL)]);
    for (number, siblings) in ["0,2", "1,3", "0,2", "1,3"].iter().enumerate() {
        tree.write(&cpu(&format!("cpu{number}/topology/core_cpus_list")), siblings);
    }
    tree.write(&cpu("online"), "0-3\n");
    let processor = Processor::read(&tree.root());
    assert_eq!((processor.physical_cores, processor.logical_cpus), (Finding::Known(2), 4));
}

#[test]
fn features_have_ggmls_names_on_every_architecture() {
    let present = |text: &str| {
        let processor = Processor::read(&Tree::new(&[("/proc/cpuinfo", text)]).root());
        let features = processor.features.known().unwrap().iter().filter(|it| it.present);
        features.map(|feature| feature.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(present(INTEL), "SSE3 SSSE3 AVX AVX2 F16C FMA BMI2 AVX512 AVX512_VNNI");
    assert_eq!(
        present("Features : fp asimd asimdhp asimddp i8mm"),
        "NEON FP16_VA DOTPROD MATMUL_INT8"
    );
    assert_eq!(present("isa : rv64imafdcv_zvfh"), "RISCV_V");
    assert_eq!(present("isa : rv64imafdc_zve32v"), "");
}

#[test]
fn an_arm_board_is_named_by_core_and_board() {
    let tree = Tree::new(&[
        ("/proc/cpuinfo", "processor : 0\nCPU part : 0xd08\n"),
        ("/sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B\0"),
    ]);
    let name = Processor::read(&tree.root()).name;
    assert_eq!(name, Finding::Known("Cortex-A72 (Raspberry Pi 4 Model B)".into()));
    tree.write("/proc/cpuinfo", "CPU part : 0xabc\n");
    let name = Processor::read(&tree.root()).name;
    assert_eq!(name, Finding::Known("ARM part 0xabc (Raspberry Pi 4 Model B)".into()));
}

#[test]
fn a_cache_shared_by_two_processors_is_one_cache() {
    let tree = Tree::new(&[]);
    for number in 0..2 {
        for (index, level, kind, size, sharers) in
            [(0, 1, "Data", "32K", format!("{number}")), (3, 3, "Unified", "16M", "0-1".into())]
        {
            let file = |name: &str| cpu(&format!("cpu{number}/cache/index{index}/{name}"));
            tree.write(&file("level"), level.to_string());
            tree.write(&file("type"), kind);
            tree.write(&file("size"), size);
            tree.write(&file("shared_cpu_list"), sharers);
        }
    }
    let cache = |level, kind: &str, bytes, instances| Cache {
        level,
        kind: kind.to_owned(),
        bytes,
        instances,
    };
    let expected = vec![cache(1, "Data", 32 << 10, 2), cache(3, "Unified", 16 << 20, 1)];
    assert_eq!(Processor::read(&tree.root()).caches, Finding::Known(expected));
}

#[test]
fn clocks_and_governors_of_all_policies_are_summed_up() {
    let tree = Tree::new(&[]);
    for (policy, lowest, highest, governor) in
        [(0, "400000", "4900000", "powersave"), (4, "400000", "3600000", "performance")]
    {
        let file = |name: &str| cpu(&format!("cpufreq/policy{policy}/{name}"));
        tree.write(&file("cpuinfo_min_freq"), lowest);
        tree.write(&file("cpuinfo_max_freq"), highest);
        tree.write(&file("scaling_governor"), governor);
        tree.write(&file("scaling_driver"), "intel_pstate\n");
    }
    tree.write(&cpu("intel_pstate/no_turbo"), "1\n");
    let processor = Processor::read(&tree.root());
    let expected = Clock {
        minimum_mhz: Some(400.0),
        maximum_mhz: Some(4900.0),
        base_mhz: None,
        driver: Some("intel_pstate".into()),
    };
    assert_eq!(processor.clock, Finding::Known(expected));
    assert_eq!(processor.governor, Finding::Known("performance, powersave".into()));
    assert_eq!(processor.boost, Finding::Known(false));
}

#[test]
fn an_empty_machine_gives_reasons() {
    let processor = Processor::read(&Tree::new(&[]).root());
    let reason = "/proc/cpuinfo cannot be read: it does not exist";
    assert_eq!(processor.name.reason(), Some(reason));
    assert_eq!(processor.features.reason(), Some(reason));
    assert!(processor.governor.reason().unwrap().contains("virtual machines"));
    assert!(processor.caches.reason().is_some() && processor.physical_cores.reason().is_some());
}

#[test]
fn hostile_files_give_reasons_and_never_panic() {
    for garbage in [
        "",
        ":",
        "flags\n\n\n:::\n",
        "processor : -1\nflags :\n",
        "K",
        "-1K",
        "99999999999999999999G",
    ] {
        let tree = Tree::new(&[("/proc/cpuinfo", garbage)]);
        for file in ["cpu0/cache/index0/size", "cpu0/cache/index0/level", "online"] {
            tree.write(&cpu(file), garbage);
        }
        tree.write(&cpu("cpufreq/policy0/cpuinfo_max_freq"), garbage);
        let processor = Processor::read(&tree.root());
        assert!(processor.caches.reason().is_some(), "{garbage}");
        assert!(processor.features.reason().is_some(), "{garbage}");
        assert_eq!(processor.clock.known().unwrap().maximum_mhz, None, "{garbage}");
    }
    assert_eq!(kernel_size("99999999999G"), None);
    assert_eq!(kernel_size("é"), None);
}
