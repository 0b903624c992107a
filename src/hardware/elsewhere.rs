//! What the crate `sysinfo` tells of systems without `/proc`, such as macOS.
//!
//! It is compiled on Linux too, and tested there, so that it cannot rot.

use super::finding::Finding;
use super::process::ProcessReading;
use crate::units::to_f64;
use sysinfo::{CpuRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// A number of bytes that `take` reads from refreshed figures of memory.
pub(super) fn memory(take: fn(&System) -> u64) -> Finding<u64> {
    Finding::from(System::new().map(|mut system| {
        system.refresh_memory();
        take(&system)
    }))
}

pub(super) fn operating_system() -> String {
    let system = System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.into());
    let kernel = System::kernel_version();
    kernel.map_or(system.clone(), |kernel| format!("{system}, kernel {kernel}"))
}

pub(super) fn processor_name() -> Option<String> {
    let mut system = System::new().ok()?;
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    system.cpus().first().map(|cpu| cpu.brand().trim().to_owned())
}

pub(super) fn physical_cores() -> Option<u32> {
    System::physical_core_count().ok().and_then(|count| u32::try_from(count).ok())
}

/// ggml's names of the processor's features, and whether the standard library finds them; `None` for processors that
/// are neither x86-64 nor ARM.
pub(super) fn features() -> Option<Vec<(&'static str, bool)>> {
    #[cfg(target_arch = "x86_64")]
    let found = Some(vec![
        ("SSE3", std::is_x86_feature_detected!("sse3")),
        ("SSSE3", std::is_x86_feature_detected!("ssse3")),
        ("AVX", std::is_x86_feature_detected!("avx")),
        ("AVX2", std::is_x86_feature_detected!("avx2")),
        ("F16C", std::is_x86_feature_detected!("f16c")),
        ("FMA", std::is_x86_feature_detected!("fma")),
        ("BMI2", std::is_x86_feature_detected!("bmi2")),
        ("AVX512", std::is_x86_feature_detected!("avx512f")),
        ("AVX512_VBMI", std::is_x86_feature_detected!("avx512vbmi")),
        ("AVX512_VNNI", std::is_x86_feature_detected!("avx512vnni")),
    ]);
    #[cfg(target_arch = "aarch64")]
    let found = Some(vec![
        ("NEON", std::arch::is_aarch64_feature_detected!("neon")),
        ("FP16_VA", std::arch::is_aarch64_feature_detected!("fp16")),
        ("DOTPROD", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("MATMUL_INT8", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("SVE", std::arch::is_aarch64_feature_detected!("sve")),
    ]);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = None;
    found
}

/// A process, whether it exists or not.
#[derive(Debug)]
pub(super) struct Process {
    system: Option<System>,
    pid: Pid,
    peak_rss_bytes: Option<u64>,
}

impl Process {
    pub(super) fn new(pid: u32) -> Self {
        Self { system: System::new().ok(), pid: Pid::from_u32(pid), peak_rss_bytes: None }
    }

    /// Looks at the process; `None` if it is gone.
    pub(super) fn read(&mut self) -> Option<ProcessReading> {
        let wanted = ProcessRefreshKind::nothing().with_cpu().with_memory();
        let pids = [self.pid];
        let system = self.system.as_mut()?;
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, wanted);
        let process = system.process(self.pid)?;
        let rss_bytes = process.memory();
        self.peak_rss_bytes = self.peak_rss_bytes.max(Some(rss_bytes));
        let cpu_seconds = to_f64(process.accumulated_cpu_time()) / 1e3;
        Some(ProcessReading {
            cpu_seconds,
            rss_bytes: Some(rss_bytes),
            peak_rss_bytes: self.peak_rss_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::memory::Memory;
    use crate::hardware::process::ProcessFiles;
    use crate::hardware::root::SystemRoot;

    #[test]
    fn it_says_of_this_machine_and_process_what_proc_says() {
        let root = SystemRoot::default();
        let own = std::process::id();
        let here = ProcessFiles::open(&root, own).read().unwrap();
        let there = Process::new(own).read().unwrap();
        let near = |a: u64, b: u64| a.abs_diff(b) < (a / 2).max(64 << 20);
        assert!(near(here.rss_bytes.unwrap(), there.rss_bytes.unwrap()), "{here:?} {there:?}");
        assert_eq!(Process::new(u32::MAX - 1).read(), None);
        let total = Memory::read(&root).total_bytes;
        assert_eq!(memory(System::total_memory).known(), total.known());
        assert!(operating_system().contains("Linux"), "{}", operating_system());
        assert!(physical_cores().is_some_and(|count| count > 0));
        assert!(processor_name().is_some());
        assert!(features().is_none_or(|features| !features.is_empty()));
    }
}
