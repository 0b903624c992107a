//! The worker: a child process of the same binary that does one job and reports it.
//!
//! `protocol` is what both sides say; the rest runs in the child. Uses `mix`, `workload`, `quantize` and
//! `engine`; the orchestrator starts it and reads its events.

pub mod hello;
mod making;
mod page_cache;
mod process_memory;
pub mod protocol;
mod report;
mod visit;

use crate::causes::in_words;
use hello::Hello;
use protocol::{Event, Job, Phase, WorkOrder};
use report::Reporter;
use std::io::{BufRead, Read as _};
use std::process::ExitCode;

use crate::engine::clock::{Clock, MonotonicClock};
use crate::engine::llama::backend::Backend;
use crate::engine::{self, Engine};

/// Why a job is not done.
type AnyError = Box<dyn std::error::Error>;

/// Longest job, bytes: prompts are in it, and a recipe with a line per tensor.
const JOB_LIMIT: u64 = 64 << 20;

/// Reads one job from standard input, does it, and reports on standard output.
///
/// The exit code is 0 if the job was done, 1 if it failed (the last event says why), 2 if there was
/// no job to read.
#[must_use]
pub fn main() -> ExitCode {
    let reporter = Reporter::to(std::io::stdout());
    reporter.send_line(&Hello::default().line());
    let job = read_job(&mut std::io::stdin().lock());
    let job = match job {
        Ok(job) => job,
        Err(error) => {
            reporter.send(&Event::Failed { message: format!("no job could be read: {error}") });
            return ExitCode::from(2);
        }
    };
    leave_when_orchestrator_is_gone();
    reporter.send(&Event::Phase(Phase::Start));
    let clock = MonotonicClock::default();
    let tools = |engine| Tools { engine, clock: &clock, reporter: &reporter };
    let result = match &job {
        Job::Quantize(job) => making::quantize(Backend::initialise(), job, &reporter),
        Job::Import(job) => making::import(Backend::initialise(), job, &reporter),
        Job::Calibrate(job) => making::calibrate(Backend::initialise(), job, &reporter),
        Job::Mix(job) => making::mix(Backend::initialise(), job, &reporter),
        Job::ApplyRecipe(job) => making::apply_recipe(Backend::initialise(), job, &reporter),
        Job::Visit(job) => match engine::start(job.engine) {
            Ok(engine) => visit::run(tools(engine.as_ref()), job),
            Err(error) => Err(error.into()),
        },
        Job::PredictMemory(job) => match engine::start(job.engine) {
            Ok(engine) => visit::predict_memory(tools(engine.as_ref()), job),
            Err(error) => Err(error.into()),
        },
        Job::Devices { engine } => match engine::start(*engine) {
            Ok(engine) => {
                visit::devices(tools(engine.as_ref()));
                Ok(())
            }
            Err(error) => Err(error.into()),
        },
        Job::ExportOnnx(job) => making::export_onnx(Backend::initialise(), job, &reporter),
        Job::PlanTypes(job) => making::plan_types(Backend::initialise(), job, &reporter),
    };
    if finish(result, &reporter) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads the orchestrator's hello and its job.
fn read_job(input: &mut impl BufRead) -> Result<Job, AnyError> {
    Hello::check(&read_line(input)?, "the orchestrator")
        .map_err(|reason| reason.unwrap_or_else(|| "the first line is no hello".to_owned()))?;
    let order: WorkOrder = serde_json::from_slice(&read_line(input)?)?;
    Ok(order.into_job()?)
}

fn read_line(input: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.take(JOB_LIMIT).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// What a visit works with.
#[derive(Clone, Copy)]
struct Tools<'a> {
    engine: &'a dyn Engine,
    clock: &'a dyn Clock,
    reporter: &'a Reporter,
}

/// Sends the last event; returns whether the job is done.
fn finish(result: Result<(), AnyError>, reporter: &Reporter) -> bool {
    let is_done = result.is_ok();
    reporter.send(&match result {
        Ok(()) => process_memory::done(),
        Err(error) => Event::Failed { message: in_words(&*error) },
    });
    is_done
}

/// The orchestrator keeps our standard input open for as long as it lives, however it dies.
fn leave_when_orchestrator_is_gone() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(3);
    });
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::workload::jobs::VisitJob;

    /// Does a visit in this process with an engine and a clock of a test; what it reports goes to `output`,
    /// as it would go to the orchestrator.
    pub(crate) fn visit_in_this_process(
        engine: &dyn Engine,
        clock: &dyn Clock,
        job: &VisitJob,
        output: impl std::io::Write + Send + 'static,
    ) {
        let reporter = Reporter::to(output);
        reporter.send(&Event::Phase(Phase::Start));
        finish(visit::run(Tools { engine, clock, reporter: &reporter }, job), &reporter);
    }
}
