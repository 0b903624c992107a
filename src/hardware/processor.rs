//! The processor: its name, the instructions that ggml makes use of, cores, caches and clock.

use super::elsewhere;
use crate::hardware::finding::Finding;
use crate::hardware::root::{SystemRoot, parse_list};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where the kernel describes processors.
const CPU_FOLDER: &str = "/sys/devices/system/cpu";

/// What is known about the processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Processor {
    /// The maker's name for it.
    pub name: Finding<String>,
    /// Instruction set, in Rust's words: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Physical cores.
    pub physical_cores: Finding<u32>,
    /// Logical processors that are online.
    pub logical_cpus: u32,
    /// Instructions that ggml has faster code for, and whether they are there.
    pub features: Finding<Vec<Feature>>,
    /// Caches from the innermost level on.
    pub caches: Finding<Vec<Cache>>,
    /// Frequency governor: `performance`, `powersave`, `schedutil`, …
    pub governor: Finding<String>,
    /// What the clock can do.
    pub clock: Finding<Clock>,
    /// Whether the clock may rise above its base frequency.
    pub boost: Finding<bool>,
}

/// An instruction set extension under ggml's name for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// ggml's name, such as `AVX2` or `DOTPROD`.
    pub name: String,
    /// Whether this processor has it.
    pub present: bool,
}

/// All caches of one level and kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Level, from 1.
    pub level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// Bytes of one of them.
    pub bytes: u64,
    /// How many of them there are.
    pub instances: u32,
}

/// The range of the clock, MHz.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// Lowest.
    pub minimum_mhz: Option<f64>,
    /// Highest of the fastest core, boost included.
    pub maximum_mhz: Option<f64>,
    /// Guaranteed under load, where the driver tells.
    pub base_mhz: Option<f64>,
    /// The kernel driver that sets it.
    pub driver: Option<String>,
}

impl Processor {
    /// Reads what the kernel tells about the processor.
    pub fn read(root: &SystemRoot) -> Self {
        let blocks = information_blocks(root);
        let no_information = || match root.text("/proc/cpuinfo") {
            Ok(_) => "/proc/cpuinfo does not tell it".to_owned(),
            Err(failure) => failure.to_string(),
        };
        let logical_cpus = logical_cpus(root, &blocks);
        Self {
            name: Finding::from_option(name(root, &blocks), no_information),
            architecture: std::env::consts::ARCH.to_owned(),
            physical_cores: Finding::from_option(physical_cores(root, &blocks), || {
                "neither sysfs nor /proc/cpuinfo tells which processors share a core".to_owned()
            }),
            logical_cpus,
            features: Finding::from_option(features(&blocks), no_information),
            caches: caches(root),
            governor: governor(root),
            clock: clock(root),
            boost: boost(root),
        }
    }
}

/// `/proc/cpuinfo`: one block of keys and values for each logical processor.
type Block = BTreeMap<String, String>;

fn information_blocks(root: &SystemRoot) -> Vec<Block> {
    let text = root.text("/proc/cpuinfo").unwrap_or_default();
    let blocks = text.split("\n\n").map(|block| {
        let pairs = block.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
    });
    blocks.filter(|block: &Block| !block.is_empty()).collect()
}

/// The first value under one of these keys.
fn first<'block>(blocks: &'block [Block], keys: &[&str]) -> Option<&'block str> {
    let values = keys.iter().flat_map(|key| blocks.iter().filter_map(|block| block.get(*key)));
    values.map(String::as_str).find(|value| !value.is_empty())
}

fn name(root: &SystemRoot, blocks: &[Block]) -> Option<String> {
    if let Some(name) = first(blocks, &["model name", "cpu model", "cpu", "uarch"]) {
        return Some(name.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    // ARM kernels give numbers instead of a name; the board says more than nothing.
    let part = first(blocks, &["CPU part"]).map(arm_part);
    let board = root.text("/sys/firmware/devicetree/base/model").ok();
    match (part, board) {
        (Some(part), Some(board)) => Some(format!("{part} ({board})")),
        (part, board) => part.or(board).or_else(|| on_other_systems(elsewhere::processor_name)),
    }
}

/// The name of an ARM core by the number in its identification register.
///
/// Source: the "part number" field of `MIDR_EL1` in the reference manual of each core.
fn arm_part(number: &str) -> String {
    const PARTS: [(&str, &str); 14] = [
        ("0xd03", "Cortex-A53"),
        ("0xd04", "Cortex-A35"),
        ("0xd05", "Cortex-A55"),
        ("0xd07", "Cortex-A57"),
        ("0xd08", "Cortex-A72"),
        ("0xd0b", "Cortex-A76"),
        ("0xd0c", "Neoverse N1"),
        ("0xd40", "Neoverse V1"),
        ("0xd41", "Cortex-A78"),
        ("0xd42", "Cortex-A78AE"),
        ("0xd44", "Cortex-X1"),
        ("0xd49", "Neoverse N2"),
        ("0xd4f", "Neoverse V2"),
        ("0xd83", "Neoverse V3"),
    ];
    let known = PARTS.iter().find(|(part, _)| *part == number);
    known.map_or_else(|| format!("ARM part {number}"), |(_, name)| (*name).to_owned())
}

fn logical_cpus(root: &SystemRoot, blocks: &[Block]) -> u32 {
    let online = root.text(format!("{CPU_FOLDER}/online")).ok();
    let online = online.and_then(|list| parse_list(&list)).map(|numbers| numbers.len());
    let listed = blocks.iter().filter(|block| block.contains_key("processor")).count();
    let count = online.or((listed > 0).then_some(listed));
    let count = count.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

fn physical_cores(root: &SystemRoot, blocks: &[Block]) -> Option<u32> {
    let mut cores = BTreeSet::new();
    for cpu in root.numbered(CPU_FOLDER, "cpu") {
        let topology = format!("{CPU_FOLDER}/{cpu}/topology");
        // The second name is the older kernel's for the same list.
        let siblings = root
            .text(format!("{topology}/core_cpus_list"))
            .or_else(|_| root.text(format!("{topology}/thread_siblings_list")));
        cores.extend(siblings.ok());
    }
    if cores.is_empty() {
        cores.extend(blocks.iter().filter_map(|block| {
            Some(format!("{} {}", block.get("physical id")?, block.get("core id")?))
        }));
    }
    let count = u32::try_from(cores.len()).ok().filter(|&count| count > 0);
    count.or_else(|| on_other_systems(elsewhere::physical_cores))
}

/// ggml's name of a feature and the kernel's, by the key under which the kernel lists them.
///
/// Source: `ggml_backend_cpu_get_features` in ggml/src/ggml-cpu/ggml-cpu.cpp of llama.cpp 0.6.0.
const FEATURES: [(&str, &[(&str, &str)]); 3] = [
    (
        "flags",
        &[
            ("SSE3", "pni"),
            ("SSSE3", "ssse3"),
            ("AVX", "avx"),
            ("AVX2", "avx2"),
            ("F16C", "f16c"),
            ("FMA", "fma"),
            ("BMI2", "bmi2"),
            ("AVX_VNNI", "avx_vnni"),
            ("AVX512", "avx512f"),
            ("AVX512_VBMI", "avx512vbmi"),
            ("AVX512_VNNI", "avx512_vnni"),
            ("AVX512_BF16", "avx512_bf16"),
            ("AMX_INT8", "amx_int8"),
        ],
    ),
    (
        "Features",
        &[
            ("NEON", "asimd"),
            ("FP16_VA", "asimdhp"),
            ("DOTPROD", "asimddp"),
            ("MATMUL_INT8", "i8mm"),
            ("SVE", "sve"),
            ("SME", "sme"),
        ],
    ),
    ("isa", &[("RISCV_V", "v")]),
];

fn features(blocks: &[Block]) -> Option<Vec<Feature>> {
    for (key, names) in FEATURES {
        let Some(listed) = first(blocks, &[key]) else { continue };
        let listed = if key == "isa" { single_letters(listed) } else { words(listed) };
        let features = names.iter().map(|(ggml, kernel)| Feature {
            name: (*ggml).to_owned(),
            present: listed.contains(*kernel),
        });
        return Some(features.collect());
    }
    let found = on_other_systems(elsewhere::features)?.into_iter();
    Some(found.map(|(name, present)| Feature { name: name.to_owned(), present }).collect())
}

/// What is known without `/proc`. On Linux that is the only source, so that tests do not see the machine they run on.
fn on_other_systems<T>(take: fn() -> Option<T>) -> Option<T> {
    if cfg!(target_os = "linux") { None } else { take() }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// RISC-V's single-letter extensions in a string such as `rv64imafdcv_zicsr`.
fn single_letters(isa: &str) -> BTreeSet<String> {
    let base = isa.split('_').next().unwrap_or_default();
    base.trim_start_matches("rv64").trim_start_matches("rv32").chars().map(String::from).collect()
}

fn caches(root: &SystemRoot) -> Finding<Vec<Cache>> {
    // Caches shared by several processors are listed under each: the list of sharers is the identity.
    let mut found: BTreeMap<(u32, String, u64), BTreeSet<String>> = BTreeMap::new();
    for cpu in root.numbered(CPU_FOLDER, "cpu") {
        let folder = format!("{CPU_FOLDER}/{cpu}/cache");
        for index in root.numbered(&folder, "index") {
            let file = |name: &str| root.text(format!("{folder}/{index}/{name}")).ok();
            let Some(level) = file("level").and_then(|level| level.parse().ok()) else { continue };
            let Some(bytes) = file("size").as_deref().and_then(kernel_size) else { continue };
            let kind = file("type").unwrap_or_else(|| "Unified".to_owned());
            let sharers = file("shared_cpu_list").unwrap_or_else(|| cpu.clone());
            found.entry((level, kind, bytes)).or_default().insert(sharers);
        }
    }
    let caches = found.into_iter().map(|((level, kind, bytes), sharers)| Cache {
        level,
        kind,
        bytes,
        instances: u32::try_from(sharers.len()).unwrap_or(u32::MAX),
    });
    Finding::from_list(caches.collect(), || {
        format!("no readable cache below {CPU_FOLDER}/cpu*/cache")
    })
}

/// Bytes of a size as the kernel writes cache sizes: `32K`, `16M`.
fn kernel_size(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|&bytes| bytes > 0)
}

pub(super) fn frequency_folders(root: &SystemRoot) -> Vec<String> {
    let folder = format!("{CPU_FOLDER}/cpufreq");
    let policies = root.numbered(&folder, "policy");
    policies.into_iter().map(|policy| format!("{folder}/{policy}")).collect()
}

fn no_frequency_control() -> String {
    format!(
        "no policy in {CPU_FOLDER}/cpufreq: this kernel does not control the clock (usual in virtual \
         machines, where the host does)"
    )
}

fn governor(root: &SystemRoot) -> Finding<String> {
    let folders = frequency_folders(root);
    let governors = folders.iter().map(|folder| root.text(format!("{folder}/scaling_governor")));
    let mut names = BTreeSet::new();
    let mut failure = None;
    for governor in governors {
        match governor {
            Ok(name) => _ = names.insert(name),
            Err(error) => failure = Some(error.to_string()),
        }
    }
    let names = Finding::from_list(names.into_iter().collect::<Vec<_>>(), || {
        failure.unwrap_or_else(no_frequency_control)
    });
    names.map(|names| names.join(", "))
}

fn clock(root: &SystemRoot) -> Finding<Clock> {
    let folders = frequency_folders(root);
    if folders.is_empty() {
        return Finding::Missing(no_frequency_control());
    }
    let values = |name: &str| {
        let kilohertz =
            folders.iter().filter_map(|folder| root.number(format!("{folder}/{name}")).ok());
        kilohertz.map(|value: f64| value / 1e3).filter(|&value| value > 0.0).collect::<Vec<_>>()
    };
    Finding::Known(Clock {
        minimum_mhz: values("cpuinfo_min_freq").into_iter().reduce(f64::min),
        maximum_mhz: values("cpuinfo_max_freq").into_iter().reduce(f64::max),
        base_mhz: values("base_frequency").into_iter().reduce(f64::max),
        driver: folders
            .first()
            .and_then(|folder| root.text(format!("{folder}/scaling_driver")).ok()),
    })
}

fn boost(root: &SystemRoot) -> Finding<bool> {
    let flag = |path: &str| root.number::<u8>(format!("{CPU_FOLDER}/{path}")).ok();
    let boost = flag("cpufreq/boost").map(|value| value != 0);
    let boost = boost.or_else(|| flag("intel_pstate/no_turbo").map(|value| value == 0));
    Finding::from_option(boost, || {
        if frequency_folders(root).is_empty() {
            return no_frequency_control();
        }
        format!(
            "neither {CPU_FOLDER}/cpufreq/boost nor {CPU_FOLDER}/intel_pstate/no_turbo is there"
        )
    })
}

#[cfg(test)]
mod tests;
