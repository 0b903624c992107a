//! Quality jobs: what each trial is compared with, and the files that takes.
//!
//! The reference's visit writes its log-probabilities to a scratch file that the visits of the
//! model's other trials read. At most one such file exists at a time, and none after the run.

use super::plan::PlannedTrial;
use crate::experiment::resolved::Experiment;
use crate::experiment::workloads::QualityPlan;
use crate::model::cache::{Cache, CacheError, Scratch};
use crate::worker::protocol::{QualityJob, ReferenceUse};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Where the text and the current reference's log-probabilities are.
#[derive(Debug)]
pub struct ReferenceShelf<'a> {
    cache: &'a Cache,
    quality: Option<(&'a QualityPlan, Scratch)>,
    current: Option<Shelved>,
}

/// The log-probabilities of one model's reference.
#[derive(Debug)]
struct Shelved {
    model_position: usize,
    file: Scratch,
    /// The reference's visit succeeded: the file is whole.
    complete: bool,
}

/// Why nothing can be written for the quality workload.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
    /// There is no place for it.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The text or the questions could not be written.
    #[error("cannot write what is to be evaluated to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl<'a> ReferenceShelf<'a> {
    /// Writes the experiment's text where workers can read it; nothing if quality is not measured.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn new(cache: &'a Cache, experiment: &'a Experiment) -> Result<Self, QualityError> {
        let quality = match &experiment.workloads.quality {
            None => None,
            Some(plan) => {
                let text = cache.scratch("evaluation-text")?;
                fs::write(text.path(), &plan.text).map_err(|source| QualityError::Write {
                    path: text.path().to_owned(),
                    source,
                })?;
                Some((plan, text))
            }
        };
        Ok(Self { cache, quality, current: None })
    }

    /// The quality job of a trial; `None` if quality is not measured.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn job(&mut self, trial: &PlannedTrial) -> Result<Option<QualityJob>, QualityError> {
        let Some((plan, text)) = &self.quality else { return Ok(None) };
        let reference = if !plan.divergence {
            ReferenceUse::None
        } else if trial.is_reference {
            // The reference before is no longer needed; its file goes before the next one comes.
            self.current = None;
            let file = self.cache.scratch("reference")?;
            let path = file.path().to_owned();
            self.current =
                Some(Shelved { model_position: trial.model_position, file, complete: false });
            let budget_bytes = plan.reference_budget_bytes.min(self.room());
            ReferenceUse::Write { path, budget_bytes }
        } else {
            match &self.current {
                Some(it) if it.complete && it.model_position == trial.model_position => {
                    ReferenceUse::Read { path: it.file.path().to_owned() }
                }
                // The reference failed: perplexity is measured all the same.
                _ => ReferenceUse::None,
            }
        };
        Ok(Some(QualityJob {
            text: text.path().to_owned(),
            context: plan.context,
            chunks: plan.chunks,
            reference,
            precision: plan.precision,
        }))
    }

    /// Half of what is free on the disk, bytes: less of the reference is kept rather than none.
    fn room(&self) -> u64 {
        fs4::available_space(self.cache.root()).map_or(u64::MAX, |free| free / 2)
    }

    /// The visit of a trial succeeded: if it was the reference's, others can read what it wrote.
    pub fn reference_done(&mut self, trial: &PlannedTrial) {
        if let Some(current) = &mut self.current
            && trial.is_reference
            && trial.model_position == current.model_position
        {
            current.complete = true;
        }
    }
}
