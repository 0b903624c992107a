//! Memory of this process, as the system counts it.

/// Memory of this process; `None` where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ProcessMemory {
    /// Peak resident memory over the whole life, bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Proportional share of resident memory now, bytes.
    pub pss_bytes: Option<u64>,
}

/// Reads `VmHWM` and, from the roll-up of all mappings, `Pss`.
pub(super) fn read() -> ProcessMemory {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        kilobytes(&text, name)
    };
    ProcessMemory {
        peak_rss_bytes: field("/proc/self/status", "VmHWM:"),
        pss_bytes: field("/proc/self/smaps_rollup", "Pss:"),
    }
}

/// The value of a line such as `VmHWM:    1234 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_kilobytes_become_bytes() {
        let text = "VmPeak:\t  900 kB\nVmHWM:\t  12 kB\n";
        assert_eq!(kilobytes(text, "VmHWM:"), Some(12 * 1024));
        assert_eq!(kilobytes(text, "Pss:"), None);
        assert_eq!(kilobytes("VmHWM: many kB", "VmHWM:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        assert!(read().peak_rss_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
