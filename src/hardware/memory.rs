//! Memory: how much there is, how fast it is, and how it is spread over NUMA nodes.

use crate::hardware::finding::Finding;
use crate::hardware::root::SystemRoot;
use serde::{Deserialize, Serialize};
use sysinfo::System;

/// Where the firmware's description of the memory modules lies; readable by root only.
const FIRMWARE_TABLE: &str = "/sys/firmware/dmi/tables/DMI";

/// Where the kernel describes NUMA nodes.
const NODE_FOLDER: &str = "/sys/devices/system/node";

/// The machine's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it that the kernel manages, bytes.
    pub total_bytes: Finding<u64>,
    /// What could be used without swapping at the time of probing, bytes.
    pub available_bytes: Finding<u64>,
    /// Swap space, bytes.
    pub swap_bytes: Finding<u64>,
    /// The modules.
    pub modules: Finding<Modules>,
    /// NUMA nodes; one on ordinary machines.
    pub nodes: Finding<Vec<NumaNode>>,
}

/// The memory modules, as the firmware describes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// How many are fitted.
    pub count: u32,
    /// Their kind, such as `DDR5`.
    pub kind: Option<String>,
    /// Lowest configured speed, million transfers per second.
    pub megatransfers_per_second: Option<u32>,
}

/// A group of processors and the memory near them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// The kernel's name: `node0`.
    pub name: String,
    /// Its processors, as a list such as `0-31,64-95`; empty for a node of memory alone.
    pub cpus: String,
    /// Its memory, bytes.
    pub memory_bytes: Option<u64>,
}

impl Memory {
    /// Reads what kernel and firmware tell about memory.
    pub fn read(root: &SystemRoot) -> Self {
        Self {
            total_bytes: meminfo(root, "MemTotal", System::total_memory),
            available_bytes: meminfo(root, "MemAvailable", System::available_memory),
            swap_bytes: meminfo(root, "SwapTotal", System::total_swap),
            modules: modules(root),
            nodes: nodes(root),
        }
    }
}

/// A line of `/proc/meminfo` in bytes; on systems without one, what `elsewhere` takes.
fn meminfo(root: &SystemRoot, key: &str, elsewhere: fn(&System) -> u64) -> Finding<u64> {
    if !cfg!(target_os = "linux") {
        return super::elsewhere::memory(elsewhere);
    }
    let text = match root.text("/proc/meminfo") {
        Ok(text) => text,
        Err(failure) => return Finding::Missing(failure.to_string()),
    };
    Finding::from_option(kibibytes_line(&text, key), || {
        format!("/proc/meminfo has no line '{key}: … kB'")
    })
}

/// Bytes from the line `key: 123 kB`, which may have words before the key.
pub(crate) fn kibibytes_line(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| {
        let (words, value) = line.split_once(':')?;
        (words.split_whitespace().last() == Some(key)).then_some(value)
    })?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn nodes(root: &SystemRoot) -> Finding<Vec<NumaNode>> {
    let nodes = root.numbered(NODE_FOLDER, "node").into_iter().map(|name| {
        let folder = format!("{NODE_FOLDER}/{name}");
        let meminfo = root.text(format!("{folder}/meminfo")).unwrap_or_default();
        NumaNode {
            cpus: root.text(format!("{folder}/cpulist")).unwrap_or_default(),
            memory_bytes: kibibytes_line(&meminfo, "MemTotal"),
            name,
        }
    });
    Finding::from_list(nodes.collect(), || {
        format!("no node in {NODE_FOLDER}: the kernel has no NUMA support")
    })
}

fn modules(root: &SystemRoot) -> Finding<Modules> {
    let table = match root.bytes(FIRMWARE_TABLE) {
        Ok(table) => table,
        Err(failure) if failure.is_permission() => {
            return Finding::Missing(format!("{failure}; only root may read it"));
        }
        Err(failure) => return Finding::Missing(failure.to_string()),
    };
    Finding::from_option(parse_modules(&table), || {
        format!("{FIRMWARE_TABLE} describes no memory module")
    })
}

/// Reads the memory devices (type 17) of an SMBIOS structure table.
///
/// Source: SMBIOS specification 3.7 (DMTF DSP0134) §6.1.2 for the layout and §7.18 for the fields.
fn parse_modules(mut table: &[u8]) -> Option<Modules> {
    const MEMORY_DEVICE: u8 = 17;
    const END_OF_TABLE: u8 = 127;
    let mut modules = Modules::default();
    while let [kind, length, ..] = *table {
        let Some(fields) = table.get(..usize::from(length)).filter(|fields| fields.len() >= 4)
        else {
            break;
        };
        if kind == END_OF_TABLE {
            break;
        }
        if kind == MEMORY_DEVICE {
            add_module(&mut modules, fields);
        }
        // Two zero bytes end the strings that follow the fields.
        let strings = &table[usize::from(length)..];
        let Some(end) = strings.windows(2).position(|pair| pair == [0, 0]) else { break };
        table = &strings[end + 2..];
    }
    (modules.count > 0).then_some(modules)
}

fn add_module(modules: &mut Modules, fields: &[u8]) {
    let word = |offset: usize| {
        let bytes = fields.get(offset..offset + 2)?;
        Some(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    };
    // A size of 0 is an empty socket.
    if word(0x0c).is_none_or(|size| size == 0) {
        return;
    }
    modules.count += 1;
    // 0 and 0xffff mean unknown, or a value in a field of later versions that no module needs yet.
    let real = |speed: &u32| (1..0xffff).contains(speed);
    let speed = word(0x20).filter(real).or_else(|| word(0x15).filter(real));
    modules.megatransfers_per_second = match (modules.megatransfers_per_second, speed) {
        (Some(lowest), Some(speed)) => Some(lowest.min(speed)),
        (lowest, speed) => lowest.or(speed),
    };
    let kind = match fields.get(0x12) {
        Some(0x18) => "DDR3",
        Some(0x1a) => "DDR4",
        Some(0x1b) => "LPDDR",
        Some(0x1c) => "LPDDR2",
        Some(0x1d) => "LPDDR3",
        Some(0x1e) => "LPDDR4",
        Some(0x20) => "HBM",
        Some(0x21) => "HBM2",
        Some(0x22) => "DDR5",
        Some(0x23) => "LPDDR5",
        Some(0x24) => "HBM3",
        _ => return,
    };
    modules.kind = Some(kind.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::root::fixture::Tree;
    use proptest::prelude::*;

    fn memory_device(size: u16, kind: u8, speed: u16, configured: u16) -> Vec<u8> {
        let mut fields = vec![0_u8; 0x28];
        (fields[0], fields[1], fields[0x12]) = (17, 0x28, kind);
        fields[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
        fields[0x15..0x17].copy_from_slice(&speed.to_le_bytes());
        fields[0x20..0x22].copy_from_slice(&configured.to_le_bytes());
        fields.extend(b"DIMM A\0\0");
        fields
    }

    #[test]
    fn meminfo_is_read_in_bytes() {
        let tree = Tree::new(&[(
            "/proc/meminfo",
            "MemTotal:       24682416 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\nSwapTotal: 0 kB\n",
        )]);
        let memory = Memory::read(&tree.root());
        assert_eq!(memory.total_bytes, Finding::Known(24_682_416 * 1024));
        assert_eq!(memory.available_bytes, Finding::Known(1 << 20));
        assert_eq!(memory.swap_bytes, Finding::Known(0));
    }

    #[test]
    fn hostile_meminfo_is_a_reason() {
        for content in
            ["", "MemTotal: -5 kB", "MemTotal: 99999999999999999999 kB", "MemTotal:", "\0"]
        {
            let tree = Tree::new(&[("/proc/meminfo", content)]);
            let memory = Memory::read(&tree.root());
            assert!(memory.total_bytes.reason().unwrap().contains("/proc/meminfo"), "{content}");
        }
    }

    #[test]
    fn numa_nodes_have_processors_and_memory() {
        let tree = Tree::new(&[
            ("/sys/devices/system/node/node0/cpulist", "0-3\n"),
            ("/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       2048 kB\n"),
            ("/sys/devices/system/node/node1/cpulist", "\n"),
            ("/sys/devices/system/node/online", "0-1\n"),
        ]);
        let nodes = Memory::read(&tree.root()).nodes;
        let expected = vec![
            NumaNode { name: "node0".into(), cpus: "0-3".into(), memory_bytes: Some(2 << 20) },
            NumaNode { name: "node1".into(), cpus: String::new(), memory_bytes: None },
        ];
        assert_eq!(nodes, Finding::Known(expected));
    }

    #[test]
    fn modules_are_counted_and_empty_sockets_are_not() {
        let mut table = vec![0, 4, 1, 0, b'x', 0, 0];
        table.extend(memory_device(0x4000, 0x22, 5600, 4800));
        table.extend(memory_device(0, 0x22, 5600, 4800));
        table.extend(memory_device(0x4000, 0x22, 5600, 0));
        table.extend([127, 4, 2, 0, 0, 0]);
        let expected =
            Modules { count: 2, kind: Some("DDR5".into()), megatransfers_per_second: Some(4800) };
        assert_eq!(parse_modules(&table), Some(expected));
    }

    proptest! {
        #[test]
        fn no_firmware_table_makes_the_parser_panic(table in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_modules(&table);
            let mut device = memory_device(1, 0x1a, 3200, 3200);
            device.extend(table);
            prop_assert!(parse_modules(&device).is_some());
        }
    }
}
