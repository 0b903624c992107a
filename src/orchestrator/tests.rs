//! Real processes that misbehave: what the orchestrator makes of them, and that none survives.

use super::event::{BenchmarkEvent, Listener};
use super::worker_run::{Ending, Limits, WorkerRun, run_worker};
use crate::causes::Problem;
use crate::host::environment::Build;
use crate::host::interrupt::{Interrupt, Raise};
use crate::host::local::LocalHost;
use crate::model::artifact::ArtifactRef;
use crate::model::file_type::FileType;
use crate::model::quantization::Method;
use crate::quantize::jobs::QuantizeJob;
use crate::worker::protocol::Job;
use std::path::Path;
use std::time::{Duration, Instant};

/// Hears nothing.
struct Nobody;

impl Listener for Nobody {
    fn on_event(&mut self, _event: &BenchmarkEvent<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

fn job(input: &str) -> Job {
    Job::Quantize(Box::new(QuantizeJob {
        input: ArtifactRef::here(Path::new(input)),
        output: ArtifactRef::output(Path::new("out.gguf")),
        file_type: "Q8_0".parse::<FileType>().unwrap(),
        threads: None,
        allow_requantize: false,
        types: None,
        method: Method::Rtn,
        calibration: None,
        generates: false,
    }))
}

fn host(worker: &str) -> (LocalHost, Raise) {
    let (interrupt, raise) = Interrupt::new();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/workers").join(worker);
    (LocalHost::with_program(program, Build::default(), interrupt), raise)
}

fn listen_to(worker: &str, silence: Duration) -> WorkerRun {
    let (mut host, _raise) = host(worker);
    run(&mut host, &job("in.gguf"), silence)
}

fn run(host: &mut LocalHost, job: &Job, silence: Duration) -> WorkerRun {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = Limits { silence, until: None, machine_bytes: None };
    runtime.block_on(run_worker(host, job, limits, &mut Nobody)).unwrap()
}

fn failure(report: &WorkerRun) -> String {
    match &report.ending {
        Ending::Failed(failure) => format!("{}: {}", failure.phase, failure.reason),
        ending => panic!("{ending:?}"),
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn an_abort_is_told_with_phase_and_assertion() {
    assert_eq!(
        failure(&listen_to("aborts.sh", PATIENCE)),
        "load: the worker aborted: fake.cpp:42: GGML_ASSERT(tensors > 0) failed"
    );
}

#[test]
fn nonsense_ends_the_worker_and_is_quoted_harmlessly() {
    assert_eq!(
        failure(&listen_to("babbles.sh", PATIENCE)),
        "start: the worker wrote something that is not an event and was ended: \
         'Hello \u{fffd}[31mworld'"
    );
}

#[test]
fn a_line_without_end_is_cut_off_in_bounded_memory() {
    let reason = failure(&listen_to("endless.sh", PATIENCE));
    assert!(reason.contains("not an event"), "{reason}");
    assert!(reason.len() < 2000);
}

#[test]
fn a_worker_that_says_nothing_is_ended_after_the_limit() {
    let started = Instant::now();
    let reason = failure(&listen_to("deaf.sh", SHORT));
    assert!(reason.contains("nothing happened for 300 ms"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_job_larger_than_a_pipe_does_not_block_on_a_worker_that_never_reads_it() {
    let (mut host, _raise) = host("deaf.sh");
    let reason = failure(&run(&mut host, &job(&"x".repeat(1 << 20)), SHORT));
    assert!(reason.contains("nothing happened"), "{reason}");
}

#[test]
fn a_worker_that_lingers_after_its_last_word_is_done_all_the_same() {
    let started = Instant::now();
    assert_eq!(listen_to("lingers.sh", PATIENCE).ending, Ending::Done);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_worker_may_write_any_amount_to_standard_error() {
    assert_eq!(listen_to("loud.sh", PATIENCE).ending, Ending::Done);
}

#[test]
fn a_worker_of_another_version_is_told_with_both() {
    let reason = failure(&listen_to("stranger.sh", PATIENCE));
    assert!(
        reason.starts_with("start: the worker is quantbench 0.0.1 (protocol 0) and this is"),
        "{reason}"
    );
    assert!(reason.ends_with("install the same version at both ends"), "{reason}");
}

#[test]
fn a_program_that_is_not_there_is_a_failure_of_the_trial() {
    let reason = failure(&listen_to("nowhere.sh", PATIENCE));
    assert!(reason.starts_with("start: cannot start the worker"), "{reason}");
    assert!(reason.ends_with("No such file or directory (os error 2)"), "{reason}");
}

#[test]
fn an_interruption_ends_the_worker_at_once() {
    let (mut host, raise) = host("deaf.sh");
    let started = Instant::now();
    std::thread::spawn(move || {
        std::thread::sleep(SHORT);
        raise.raise();
    });
    let report = run(&mut host, &job("in.gguf"), PATIENCE);
    assert_eq!(report.ending, Ending::Interrupted);
    assert!(started.elapsed() < Duration::from_secs(10));
}
