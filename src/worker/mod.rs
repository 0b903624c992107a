//! The worker: a child process of the same binary that does one job and reports it.
//!
//! `protocol` is what both sides say; the rest runs in the child. Uses `mix`, `workload`, `quantize` and
//! `llama`; the orchestrator starts it and reads its events.

mod making;
mod mix;
mod page_cache;
mod process_memory;
pub mod protocol;
mod report;
mod visit;

use protocol::{Event, Job, Phase};
use report::Reporter;
use std::io::BufRead as _;
use std::process::ExitCode;

use crate::llama::backend::Backend;

/// Reads one job from standard input, does it, and reports on standard output.
///
/// The exit code is 0 if the job was done, 1 if it failed (the last event says why), 2 if there was
/// no job to read.
#[must_use]
pub fn main() -> ExitCode {
    let mut line = String::new();
    let job = match std::io::stdin().lock().read_line(&mut line) {
        Ok(_) => serde_json::from_str::<Job>(&line).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let reporter = Reporter::default();
    let job = match job {
        Ok(job) => job,
        Err(error) => {
            reporter.send(&Event::Failed { message: format!("no job could be read: {error}") });
            return ExitCode::from(2);
        }
    };
    leave_when_orchestrator_is_gone();
    reporter.send(&Event::Phase(Phase::Start));
    let backend = Backend::initialise();
    let result = match job {
        Job::Quantize(job) => making::quantize(backend, &job, &reporter),
        Job::Import(job) => making::import(backend, &job, &reporter),
        Job::Calibrate(job) => making::calibrate(backend, &job, &reporter),
        Job::Mix(job) => mix::run(backend, &job, &reporter),
        Job::ApplyRecipe(job) => mix::apply(backend, &job, &reporter),
        Job::Visit(job) => visit::run(backend, &job, &reporter),
        Job::PredictMemory(job) => visit::predict_memory(backend, &job, &reporter),
        Job::PlanTypes(job) => making::plan_types(backend, &job, &reporter),
    };
    match result {
        Ok(()) => {
            let memory = process_memory::read();
            reporter.send(&Event::Done {
                peak_rss_bytes: memory.peak_rss_bytes,
                pss_bytes: memory.pss_bytes,
            });
            ExitCode::SUCCESS
        }
        Err(message) => {
            reporter.send(&Event::Failed { message });
            ExitCode::FAILURE
        }
    }
}

/// The orchestrator keeps our standard input open for as long as it lives, however it dies.
fn leave_when_orchestrator_is_gone() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(3);
    });
}
