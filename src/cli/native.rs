//! What commands ask of llama.cpp itself: memory, from a worker, and devices, in this process.

use super::devices::BackendDevice;
use super::inspect::PredictionRequest;
use crate::experiment::settings::Settings;
use crate::llama::backend::Backend;
use crate::llama::devices;
use crate::orchestrator::conversation::{Ending, Limits, converse};
use crate::orchestrator::event::{BenchmarkEvent, Listener, ListenerError};
use crate::orchestrator::interrupt::Interrupt;
use crate::orchestrator::process::ProcessLauncher;
use crate::orchestrator::reason;
use crate::worker::protocol::{Job, PredictJob};
use crate::workload::measured::PredictedMemory;
use std::time::Duration;

/// Predicting reads metadata only; a worker that is silent for longer hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// Hears nothing: a prediction takes a moment.
struct Nobody;

impl Listener for Nobody {
    fn hear(&mut self, _event: &BenchmarkEvent<'_>) -> Result<(), ListenerError> {
        Ok(())
    }
}

/// Has a worker predict memory, so that a file which native code cannot bear costs an answer and not
/// the program. An error is the reason in words.
pub(super) fn predict_memory(
    request: &PredictionRequest<'_>,
) -> Result<Vec<PredictedMemory>, String> {
    let job = Job::PredictMemory(PredictJob {
        model: request.path.to_owned(),
        settings: Settings {
            cache_type_k: request.cache_type_k,
            cache_type_v: request.cache_type_v,
            swa_full: request.swa_full,
            ..Settings::default()
        },
        contexts: request.contexts.to_vec(),
    });
    let in_words = |error: std::io::Error| reason::of_error(&error);
    // Ctrl-C ends this program as any other, and the worker with it.
    let (interrupt, _raise) = Interrupt::new();
    let mut launcher = ProcessLauncher::new(interrupt).map_err(in_words)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(in_words)?;
    let limits = Limits { silence: PATIENCE, machine_bytes: None };
    let report = runtime
        .block_on(converse(&mut launcher, &job, limits, &mut Nobody))
        .map_err(|error| reason::of_error(&error))?;
    match report.ending {
        Ending::Done => Ok(report.predicted),
        Ending::Failed(failure) => Err(failure.reason),
        Ending::Interrupted => Err("interrupted".to_owned()),
    }
}

/// The devices that llama.cpp can compute on.
pub(super) fn backend_devices() -> Vec<BackendDevice> {
    devices::list(Backend::initialise())
        .into_iter()
        .map(|device| BackendDevice {
            name: device.name,
            description: device.description,
            kind: device.kind,
            backend: device.backend,
            total_bytes: device.total_bytes,
            free_bytes: device.free_bytes,
        })
        .collect()
}
