//! Variants: their files are found in the cache or made by a worker, before anything is measured.

use super::calibration::{CalibrationRequest, Prepared, prepare};
use super::event::{Listener, ListenerError};
use super::plan::{Origin, Variant};
use super::reason;
use super::worker_run::{Ending, Limits, run_worker};
use crate::causes;
use crate::host::Host;
use crate::mix::jobs::QuantizeJob;
use crate::model::artifact::{Artifact, ArtifactRef};
use crate::model::cache::{Cache, CacheError, Reserved};
use crate::results::record::Failure;
use crate::worker::protocol::{Job, Phase};
use std::path::PathBuf;
use std::time::Duration;

/// How long to wait before asking again whether another run has made a variant.
const TURN: Duration = Duration::from_millis(500);

/// What came of the request for a variant.
#[derive(Debug)]
pub enum VariantOutcome {
    /// Its file is there.
    Ready {
        /// The file.
        artifact: Artifact,
        /// Whether it was made just now.
        made: bool,
    },
    /// It cannot be made.
    Failed(Failure),
    /// The user wants to stop.
    Interrupted,
}

/// Why no variant can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum VariantError {
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// What a worker is to read could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A listener could not keep what it was told.
    #[error(transparent)]
    Listener(#[from] ListenerError),
}

/// Finds or makes the file of a variant.
///
/// A file appears in the cache under its own name only when it is whole: it is written to a
/// temporary name, which is removed if the worker fails, the user stops, or this process dies.
///
/// # Errors
/// The cache cannot be used by any variant (read-only, no permission). That this one cannot be made
/// is no error, even if only because the disk is full: a smaller one may fit.
pub async fn prepare_variant<H: Host>(
    variant: &Variant,
    cache: &Cache,
    host: &mut H,
    limits: Limits,
    listener: &mut dyn Listener,
) -> Result<VariantOutcome, VariantError> {
    let (input, key, allow_requantize, expected_bytes, calibration) = match &variant.origin {
        Origin::Ready(artifact) => {
            return Ok(VariantOutcome::Ready { artifact: artifact.clone(), made: false });
        }
        Origin::Make { input, key, allow_requantize, expected_bytes, calibration } => {
            (input, key, *allow_requantize, *expected_bytes, calibration.as_deref())
        }
    };
    let slot = cache.variant(key);
    let pending = loop {
        // Looked at each time: whoever made it keeps its lock while using it.
        if let Some(artifact) = slot.existing()? {
            return Ok(VariantOutcome::Ready { artifact, made: false });
        }
        match slot.reserve(expected_bytes) {
            Ok(pending) => break pending,
            // Another run makes it; waiting is cheaper than making it twice.
            Err(CacheError::Busy { .. }) => host.pause(TURN).await,
            Err(error) => return concerning_all(error),
        }
        if host.is_interrupted() {
            return Ok(VariantOutcome::Interrupted);
        }
    };
    let pending = match pending.unless_made()? {
        Reserved::Made(artifact) => return Ok(VariantOutcome::Ready { artifact, made: false }),
        Reserved::Pending(pending) => pending,
    };
    let prepared = match calibration {
        None => None,
        Some(plan) => {
            let request = CalibrationRequest {
                model: input,
                model_checksum: &key.source_checksum,
                plan,
                maker: &key.maker,
                threads: None,
            };
            match prepare(&request, cache, host, limits, listener).await? {
                Prepared::Ready(ready) => Some((ready, plan)),
                Prepared::Failed(failure) => return Ok(VariantOutcome::Failed(failure)),
                Prepared::Interrupted => return Ok(VariantOutcome::Interrupted),
            }
        }
    };
    let started = host.now();
    let job = Job::Quantize(QuantizeJob {
        input: ArtifactRef::input(&key.source_checksum, input, 0),
        output: ArtifactRef::output(pending.path()),
        file_type: variant.quantization.file_type,
        threads: None,
        allow_requantize,
        recipe: None,
        method: variant.quantization.method,
        calibration: prepared.as_ref().map(|(ready, plan)| ready.input(plan)),
    });
    let report = run_worker(host, &job, limits, listener).await?;
    match report.ending {
        Ending::Interrupted => Ok(VariantOutcome::Interrupted),
        Ending::Failed(Failure { phase, reason }) => {
            let reason = reason::of_writing(reason, pending.path());
            Ok(VariantOutcome::Failed(Failure { phase, reason }))
        }
        Ending::Done => {
            let seconds = (host.now() - started).as_seconds_f64();
            match pending.commit(seconds, report.kept) {
                Ok(artifact) => Ok(VariantOutcome::Ready { artifact, made: true }),
                Err(error) => concerning_all(error),
            }
        }
    }
}

/// An error of the cache that concerns one variant fails its trials; one that concerns all ends the
/// run.
fn concerning_all(error: CacheError) -> Result<VariantOutcome, VariantError> {
    let reason = causes::in_words(&error);
    match error {
        CacheError::NoFolder | CacheError::Foreign { .. } | CacheError::NotWritable { .. } => {
            Err(error.into())
        }
        CacheError::NoSpace { .. }
        | CacheError::Busy { .. }
        | CacheError::NotWhole { .. }
        | CacheError::Io { .. } => {
            Ok(VariantOutcome::Failed(Failure { phase: Phase::Quantize, reason }))
        }
    }
}
