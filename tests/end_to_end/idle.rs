//! While a worker measures, the orchestrator and its monitor take less than 1 % of one core.

use crate::world::{World, children, is_running, processor_time, wait_until, worker};
use std::process::Stdio;
use std::time::Duration;

#[test]
fn the_orchestrator_takes_less_than_one_percent_of_a_core_while_a_worker_works() {
    let world = World::new();
    let mut command = world.process(&["bench", "tiny-F16.gguf"]);
    command.env("QUANTBENCH_WORKER", worker("steady.sh"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("a worker", || !children(child.id()).is_empty());
    std::thread::sleep(Duration::from_millis(500));
    let before = processor_time(child.id());
    std::thread::sleep(Duration::from_secs(5));
    let used = processor_time(child.id()).saturating_sub(before);
    // A process that has ended uses nothing either.
    assert!(is_running(child.id()), "the orchestrator has ended");
    let workers = children(child.id());
    assert!(workers.iter().any(|&worker| is_running(worker)), "no worker is left: {workers:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    // The system counts in steps of 10 ms.
    assert!(used <= Duration::from_millis(50), "{used:?} in 5 s");
}
