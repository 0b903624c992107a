//! What commands ask of llama.cpp itself: memory and types, from a worker, and devices and threads, in this process.

use super::session::Workers;
use crate::causes;
use crate::engine::llama::backend::Backend;
use crate::engine::{Device, Engine as _};
use crate::experiment::tuning::thread_counts;
use crate::hardware::cgroup::Limits as Allowed;
use crate::hardware::processor::Processor;
use crate::hardware::root::SystemRoot;
use crate::host::interrupt::Interrupt;
use crate::host::profile::usable_cpus;
use crate::model::artifact::ArtifactRef;
use crate::model::engine_name::EngineName;
use crate::model::quantization::Quantization;
use crate::orchestrator::event::Listener;
use crate::orchestrator::worker_run::{Ending, Limits, WorkerRun, run_worker};
use crate::quantize::jobs::{PlanTypesJob, PlannedVariant};
use crate::worker::protocol::Job;
use crate::workload::jobs::PredictJob;
use crate::workload::measured::PredictedMemory;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Predicting reads metadata only; a worker that is silent for longer hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// Has a worker predict memory, one entry per question. An error is the reason in words.
pub(super) fn predict_memory(
    job: PredictJob,
) -> Result<Vec<Result<PredictedMemory, String>>, String> {
    ask(&Job::PredictMemory(job)).map(|report| report.predicted)
}

/// Has a worker tell the types of variants that are not made yet, one entry per quantization. An error is the
/// reason in words.
pub(super) fn planned_types(
    input: &Path,
    quantizations: Vec<Quantization>,
) -> Result<Vec<PlannedVariant>, String> {
    let (input, outlines) = (ArtifactRef::here(input), Vec::new());
    ask(&Job::PlanTypes(PlanTypesJob { input, quantizations, outlines })).map(|it| it.planned)
}

/// Has a worker write what quantizations of a file would be, but for their weights. An error is the reason in words.
pub(super) fn write_outlines(
    input: &Path,
    outlines: Vec<(Quantization, PathBuf)>,
) -> Result<(), String> {
    let input = ArtifactRef::here(input);
    let (quantizations, paths): (Vec<_>, Vec<_>) = outlines.into_iter().unzip();
    let outlines = paths.iter().map(|path| ArtifactRef::place(&path.to_string_lossy(), path));
    let outlines = outlines.collect();
    ask(&Job::PlanTypes(PlanTypesJob { input, quantizations, outlines })).map(|_| ())
}

/// Has a worker start an engine and tell what it can compute on. An error is the reason in words.
pub(super) fn devices_of(engine: EngineName) -> Result<Vec<Device>, String> {
    ask(&Job::Devices { engine }).map(|report| report.devices)
}

/// Has a worker answer a question about a file, so that one which native code cannot bear costs an answer and
/// not the program.
fn ask(job: &Job) -> Result<WorkerRun, String> {
    // Ctrl-C ends this program as any other, and the worker with it.
    let (interrupt, _raise) = Interrupt::new();
    let workers = Workers::until(interrupt).map_err(|error| causes::in_words(&error))?;
    let Workers { runtime, mut host } = workers;
    let limits = Limits { silence: PATIENCE, until: None, machine_bytes: None };
    // A prediction takes a moment: nobody hears of it.
    let mut nobody: Vec<Box<dyn Listener>> = Vec::new();
    let report = runtime.block_on(run_worker(&mut host, job, limits, &mut nobody));
    let mut report = report.map_err(|error| causes::in_words(&error))?;
    match std::mem::replace(&mut report.ending, Ending::Done) {
        Ending::Done => Ok(report),
        Ending::Failed(failure) => Err(failure.reason),
        Ending::Interrupted | Ending::Cut(_) => Err("interrupted".to_owned()),
    }
}

/// What may make a model faster here: ways to divide it where there are several GPUs, else other numbers of threads.
pub(super) fn other_settings() -> Vec<(&'static str, Value)> {
    let gpus = backend_devices().iter().filter(|device| device.kind == "GPU").count();
    if gpus > 1 {
        return vec![("split_mode", json!("tensor")), ("split_mode", json!("none"))];
    }
    let threads = thread_counts(default_threads(), processors());
    threads.into_iter().map(|count| ("threads", json!(count))).collect()
}

/// Logical processors that may be used.
pub(super) fn processors() -> u32 {
    let root = SystemRoot::default();
    usable_cpus(&Processor::read(&root), &Allowed::read(&root))
}

/// The number of threads that llama.cpp takes by itself.
pub(super) fn default_threads() -> u32 {
    Backend::silent().default_threads()
}

/// The devices that llama.cpp can compute on.
pub(super) fn backend_devices() -> Vec<Device> {
    Backend::silent().devices()
}
