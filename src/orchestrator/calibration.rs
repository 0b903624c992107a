//! Calibration: what calibrated methods need is found in the cache or made by a worker, before the variant.

use super::event::Listener;
use super::reason;
use super::variants::VariantError;
use super::worker_run::{Ending, Limits, run_worker};
use crate::experiment::calibration::CalibrationPlan;
use crate::host::Host;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{Cache, CacheError, ImportanceKey, Scratch, of_bytes};
use crate::quantize::jobs::{CalibrateJob, CalibrationInput};
use crate::results::record::Failure;
use crate::worker::protocol::Job;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long to wait before asking again whether another run has made a matrix.
const TURN: Duration = Duration::from_millis(500);

/// Which model is calibrated on what.
#[derive(Debug, Clone, Copy)]
pub struct CalibrationRequest<'a> {
    /// The model's file (first part, if split).
    pub model: &'a Path,
    /// SHA-256 of the model, hex.
    pub model_checksum: &'a str,
    /// The text, and how much of it.
    pub plan: &'a CalibrationPlan,
    /// What makes the matrix, with its version.
    pub maker: &'a str,
    /// Threads; `None`: llama-bench's default.
    pub threads: Option<u32>,
}

/// What came of a request.
#[derive(Debug)]
pub enum Prepared {
    /// All is there.
    Ready(Ready),
    /// There is no matrix.
    Failed(Failure),
    /// The user wants to stop.
    Interrupted,
}

/// What a worker that makes a variant is given.
#[derive(Debug)]
pub struct Ready {
    importance: ArtifactRef,
    /// The text, in a folder of its own that goes with this.
    text: Scratch,
}

impl Ready {
    /// As a worker wants it. The files are there as long as this value.
    #[must_use]
    pub fn input(&self, plan: &CalibrationPlan) -> CalibrationInput {
        let text = self.text.path();
        CalibrationInput {
            importance: self.importance.clone(),
            text: Some(ArtifactRef::text(plan.text.as_bytes(), text)),
            dataset: plan.source.clone(),
            context: plan.context,
            chunks: plan.chunks,
            gptq: plan.gptq,
            folder: ArtifactRef::scratch(text.parent().unwrap_or(text)),
        }
    }
}

/// Finds or makes the importance matrix of a model, and lays out the text.
///
/// A calibration that was interrupted goes on where it was.
///
/// # Errors
/// The cache cannot be used.
pub async fn prepare<H: Host>(
    request: &CalibrationRequest<'_>,
    cache: &Cache,
    host: &mut H,
    limits: Limits,
    listener: &mut dyn Listener,
) -> Result<Prepared, VariantError> {
    let plan = request.plan;
    let text = cache.scratch("calibration-text")?;
    fs::write(text.path(), &plan.text)
        .map_err(|source| VariantError::Write { path: text.path().to_owned(), source })?;
    let slot = cache.importance(&ImportanceKey {
        source_checksum: request.model_checksum.to_owned(),
        text_checksum: of_bytes(plan.text.as_bytes()),
        context: plan.context,
        chunks: plan.chunks,
        maker: request.maker.to_owned(),
    });
    let importance = slot.path();
    let pending = loop {
        if let Some(importance) = slot.existing() {
            let importance = slot.as_input(&importance);
            return Ok(Prepared::Ready(Ready { importance, text }));
        }
        match slot.reserve() {
            Ok(pending) => break pending,
            // Another run makes it; waiting is cheaper than making it twice.
            Err(CacheError::Busy { .. }) => host.pause(TURN).await,
            Err(error) => return Err(error.into()),
        }
        if host.is_interrupted() {
            return Ok(Prepared::Interrupted);
        }
    };
    // Another run may have made it while this one waited for its turn.
    if let Some(importance) = pending.made() {
        let importance = slot.as_input(&importance);
        pending.keep_for_use();
        return Ok(Prepared::Ready(Ready { importance, text }));
    }
    let job = Job::Calibrate(CalibrateJob {
        model: ArtifactRef::input(request.model_checksum, request.model, 0),
        text: ArtifactRef::text(plan.text.as_bytes(), text.path()),
        dataset: plan.source.clone(),
        context: plan.context,
        chunks: plan.chunks,
        output_weight: false,
        threads: request.threads,
        output: ArtifactRef::output(&importance),
    });
    let report = run_worker(host, &job, limits, listener).await?;
    Ok(match report.ending {
        Ending::Done => {
            pending.commit()?;
            let importance = slot.as_input(&importance);
            Prepared::Ready(Ready { importance, text })
        }
        Ending::Interrupted => Prepared::Interrupted,
        Ending::Failed(Failure { phase, reason }) => {
            let reason = reason::of_writing(reason, &importance);
            Prepared::Failed(Failure { phase, reason })
        }
    })
}
