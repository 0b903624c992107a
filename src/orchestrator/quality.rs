//! Quality jobs: what each trial is compared with, and the files that takes.
//!
//! The reference's visit writes its log-probabilities to a scratch file that the visits of the
//! model's other trials read. At most one such file exists at a time, and none after the run.

use super::plan::PlannedTrial;
use crate::experiment::resolved::Experiment;
use crate::experiment::workloads::QualityPlan;
use crate::files::folder_of;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{Cache, CacheError, Scratch};
use crate::workload::jobs::{QualityJob, ReferenceUse};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the text and the current reference's log-probabilities are.
#[derive(Debug)]
pub struct ReferenceLogits<'a> {
    cache: &'a Cache,
    experiment: &'a Experiment,
    /// The text of the model that was visited last: trials of a model follow one another.
    text: Option<(usize, ArtifactRef, Scratch)>,
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

impl<'a> ReferenceLogits<'a> {
    /// An empty logits.
    #[must_use]
    pub fn new(cache: &'a Cache, experiment: &'a Experiment) -> Self {
        Self { cache, experiment, text: None, current: None }
    }

    /// Writes a model's text where workers can read it, unless it is there.
    fn text(
        &mut self,
        model_position: usize,
        plan: &QualityPlan,
    ) -> Result<ArtifactRef, QualityError> {
        if let Some((position, text, _)) = &self.text
            && *position == model_position
        {
            return Ok(text.clone());
        }
        let written = self.cache.scratch("evaluation-text")?;
        fs::write(written.path(), &plan.text)
            .map_err(|source| QualityError::Write { path: written.path().to_owned(), source })?;
        let text = ArtifactRef::text(plan.text.as_bytes(), written.path());
        self.text = Some((model_position, text.clone(), written));
        Ok(text)
    }

    /// The quality job of a trial; `None` if quality is not measured.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn job(&mut self, trial: &PlannedTrial) -> Result<Option<QualityJob>, QualityError> {
        let experiment = self.experiment;
        let workloads = experiment.workloads_of(trial.model_position);
        let Some(plan) = &workloads.quality else { return Ok(None) };
        let text = self.text(trial.model_position, plan)?;
        let reference = if !plan.divergence {
            ReferenceUse::None
        } else if trial.is_reference {
            // The reference before is no longer needed; its file goes before the next one comes.
            self.current = None;
            let file = self.cache.scratch("reference")?;
            let budget_bytes = plan.reference_budget_bytes.min(room(file.path()));
            let logits = logits(&file);
            self.current =
                Some(Shelved { model_position: trial.model_position, file, complete: false });
            ReferenceUse::Write { file: logits, budget_bytes }
        } else {
            match &self.current {
                Some(it) if it.complete && it.model_position == trial.model_position => {
                    ReferenceUse::Read { file: logits(&it.file) }
                }
                // The reference failed: perplexity is measured all the same.
                _ => ReferenceUse::None,
            }
        };
        Ok(Some(QualityJob {
            text,
            context: plan.context,
            chunks: plan.chunks,
            reference,
            precision: plan.precision,
        }))
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

/// The one file of log-probabilities that there is at a time, where a job writes or reads it.
fn logits(file: &Scratch) -> ArtifactRef {
    ArtifactRef::place("reference-logits", file.path())
}

/// Half of what is free on the disk of a file, bytes: less of the reference is kept rather than none.
fn room(path: &Path) -> u64 {
    fs4::available_space(folder_of(path)).map_or(u64::MAX, |free| free / 2)
}
