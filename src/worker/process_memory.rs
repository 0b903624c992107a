//! Memory of this process, as the system counts it.

use super::protocol::Event;
use crate::engine::Engine;
use crate::experiment::settings::{Settings, SplitMode};
use crate::hardware::gpu;
use crate::hardware::memory::kibibytes_line;

/// The event of a job that is done, with what the system tells: `VmHWM` and, from the roll-up of all mappings,
/// `Pss`.
pub(super) fn done() -> Event {
    Event::Done {
        peak_rss_bytes: field("/proc/self/status", "VmHWM"),
        pss_bytes: field("/proc/self/smaps_rollup", "Pss"),
    }
}

/// Resident memory of this process now, bytes.
pub(super) fn resident() -> Option<u64> {
    field("/proc/self/status", "VmRSS")
}

/// What is added on each GPU when CUDA first computes: kernels, and the workspace of its matrix library. Two models of 1
/// and 8 billion weights took 82 to 85 MiB on an H200 (docs/gpu.md).
const FIRST_COMPUTING: u64 = 84 << 20;

/// The same where tensors are divided, sums between GPUs included: models of 8 and 70 billion weights took 706 to 735
/// MiB on each of two H200.
const FIRST_DIVIDED: u64 = 710 << 20;

/// Memory that this process will have on GPUs besides buffers, bytes. A process that uses none does not load the driver's
/// library.
pub(super) fn on_gpus(engine: &dyn Engine, settings: &Settings) -> Option<u64> {
    if !engine.uses_gpu(settings) {
        return None;
    }
    let each = match settings.split_mode {
        SplitMode::Tensor => FIRST_DIVIDED,
        SplitMode::None | SplitMode::Layer | SplitMode::Row => FIRST_COMPUTING,
    };
    let now = gpu::memory_of(std::process::id());
    now.into_iter().map(|bytes| bytes.saturating_add(each)).reduce(u64::saturating_add)
}

fn field(file: &str, name: &str) -> Option<u64> {
    kibibytes_line(&std::fs::read_to_string(file).ok()?, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_kilobytes_become_bytes() {
        let text = "VmPeak:\t  900 kB\nVmHWM:\t  12 kB\n";
        assert_eq!(kibibytes_line(text, "VmHWM"), Some(12 * 1024));
        assert_eq!(kibibytes_line(text, "Pss"), None);
        assert_eq!(kibibytes_line("VmHWM: many kB", "VmHWM"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        let Event::Done { peak_rss_bytes, .. } = done() else { panic!("it is done") };
        assert!(peak_rss_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
