//! What the hardware monitor costs: its processor time as a share of one core, at its default
//! interval, while it watches this process.
//!
//! `cargo run --release --example monitor_cost [SECONDS]`
//!
//! The process does nothing but wait, so all processor time it uses is the monitor's. It is read
//! from the scheduler (`/proc/self/task/*/schedstat`, nanoseconds), as the usual clock of 10 ms is
//! coarser than the figure. Linux only.

use quantbench::hardware::monitor::Monitor;
use quantbench::hardware::probe::Machine;
use std::fs;
use std::time::{Duration, Instant};

/// How often workers are looked at.
const INTERVAL: Duration = Duration::from_millis(100);

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(30);
    // Loads NVIDIA's library, where there is one: that is done once per run, not once per worker.
    let machine = Machine::probe();
    let gpus = machine.gpus.nvidia.known().map_or(0, Vec::len);
    for interval in [INTERVAL, INTERVAL / 10] {
        let monitor = Monitor::start(std::process::id(), interval);
        std::thread::sleep(Duration::from_millis(500));
        monitor.begin("measured");
        let (begun, before) = (Instant::now(), cpu_seconds());
        std::thread::sleep(Duration::from_secs(seconds));
        let (wall, used) = (begun.elapsed().as_secs_f64(), cpu_seconds() - before);
        let usage = monitor.finish();
        let samples = usage.phases.first().map_or(0, |(_, usage)| usage.samples);
        println!(
            "every {interval:?}, {gpus} GPUs: {:.3} % of one core ({samples} looks in {wall:.0} s, {:.0} µs each)",
            100.0 * used / wall,
            1e6 * used / f64::from(samples.max(1)),
        );
    }
}

/// Processor time of all threads of this process, seconds.
fn cpu_seconds() -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("this example needs Linux");
    let times = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    times.sum::<f64>() / 1e9
}
