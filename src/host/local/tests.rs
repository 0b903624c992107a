//! A worker does not outlive whoever holds it.

use super::*;
use crate::model::artifact::ArtifactRef;
use crate::model::engine_name::EngineName;
use crate::workload::jobs::PredictJob;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_worker_that_is_dropped_is_gone() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/workers/deaf.sh");
    let (interrupt, _raise) = Interrupt::new();
    let mut host = LocalHost::with_program(program, Build::default(), interrupt);
    let job = Job::PredictMemory(PredictJob {
        engine: EngineName::default(),
        model: ArtifactRef::here(Path::new("m")),
        questions: Vec::new(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pid = runtime.block_on(async {
        let worker = host.start(&job).await.unwrap();
        worker.child.id().unwrap()
    });
    let deadline = Instant::now() + PATIENCE;
    while is_running(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that ended but was not waited for counts as gone.
fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
