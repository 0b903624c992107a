//! Jobs that measure, as the orchestrator sends them to a worker, and how those of a visit are made.

use super::WorkloadJob;
use super::quality::job::QualityFiles;
use crate::experiment::settings::Settings;
use crate::experiment::workloads::{Stage, Workloads};
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{Cache, CacheError, Scratch};
use crate::model::engine_name::EngineName;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// One visit: load a variant once (or twice, cold and warm) and run workloads on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisitJob {
    /// What computes it.
    pub engine: EngineName,
    /// The variant (first part, if split).
    pub model: ArtifactRef,
    /// What changes it while it computes.
    #[serde(default)]
    pub adapters: Vec<AdapterRef>,
    /// Under which settings.
    pub settings: Settings,
    /// Also measure a load with the file dropped from the page cache.
    pub cold_load: bool,
    /// What to measure, in this order.
    pub workloads: Vec<WorkloadJob>,
}

impl VisitJob {
    /// Its files, to be given a place.
    pub fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        let workloads = self.workloads.iter_mut();
        let of_workloads = workloads.flat_map(|workload| workload.workload_mut().files_mut());
        let adapters = self.adapters.iter_mut().map(|adapter| &mut adapter.file);
        std::iter::once(&mut self.model).chain(adapters).chain(of_workloads).collect()
    }
}

/// An adapter of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterRef {
    /// The GGUF.
    pub file: ArtifactRef,
    /// What it is multiplied by.
    pub scale: f64,
}

/// Predict memory, from the file's metadata alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictJob {
    /// What computes it.
    pub engine: EngineName,
    /// The variant (first part, if split).
    pub model: ArtifactRef,
    /// What is asked; those after each other that load the model alike load it once.
    pub questions: Vec<MemoryQuestion>,
}

/// How much memory a model takes like this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryQuestion {
    /// The settings.
    pub settings: Settings,
    /// Tokens of context in all.
    pub tokens: u32,
    /// Sequences side by side, which share the tokens equally.
    pub sequences: u32,
    /// Whether the logits of every token may be asked for, as perplexity does; else one token's of a sequence.
    pub all_logits: bool,
    /// Whether the weights of experts lie on the host, whatever else is on a GPU.
    pub experts_on_host: bool,
}

/// What a visit is to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which trial of the plan.
    pub trial: usize,
    /// Which model of the experiment.
    pub model: usize,
    /// Chunks of the text that it scored.
    pub scored: u32,
    /// The chunk before which a visit for quality stops; `None`: at the end.
    pub until: Option<u32>,
    /// Whether the model's other variants are compared with it.
    pub is_reference: bool,
    /// SHA-256 of its file, hex.
    pub checksum: String,
    /// The file that it sees pictures with.
    pub projector: Option<ArtifactRef>,
    /// Timed repetitions of a throughput test.
    pub repetitions: u32,
    /// None of them is begun later than this after the first.
    pub repeat_within: Option<Duration>,
    /// The round, from 0.
    pub round: u32,
    /// How many there are.
    pub rounds: u32,
}

/// Files that jobs name, written where workers can read them; they are gone when this is.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub(super) cache: &'a Cache,
    /// Each once, by what tells it apart.
    written: Vec<(String, ArtifactRef, Scratch)>,
    /// What visits for quality leave for later ones.
    pub(super) quality: QualityFiles,
}

/// Why a job cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// There is no place for its files.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A text or questions could not be written.
    #[error("cannot write what is to be evaluated to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl<'a> Inputs<'a> {
    /// No files yet.
    #[must_use]
    pub fn new(cache: &'a Cache) -> Self {
        Self { cache, written: Vec::new(), quality: QualityFiles::default() }
    }

    /// What is to be measured in a visit, in order.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn jobs(
        &mut self,
        workloads: &Workloads,
        stage: Stage,
        target: &Target,
    ) -> Result<Vec<WorkloadJob>, InputError> {
        let mut jobs = Vec::new();
        for plan in workloads.plans().filter(|plan| plan.stage() == stage) {
            jobs.extend(WorkloadJob::new(plan, target, self)?);
        }
        Ok(jobs)
    }

    /// A visit succeeded: what it wrote for others can be read by them.
    pub fn succeeded(&mut self, stage: Stage, target: &Target) {
        if stage == Stage::Quality {
            self.quality.succeeded(target);
        }
    }

    /// The file of what `checksum` tells apart; it is written if it is not there.
    pub(super) fn file(
        &mut self,
        name: &str,
        checksum: &str,
        bytes: impl FnOnce() -> Vec<u8>,
    ) -> Result<ArtifactRef, InputError> {
        if let Some((_, file, _)) = self.written.iter().find(|(known, ..)| known == checksum) {
            return Ok(file.clone());
        }
        let written = self.cache.scratch(name)?;
        let bytes = bytes();
        fs::write(written.path(), &bytes)
            .map_err(|source| InputError::Write { path: written.path().to_owned(), source })?;
        let file = ArtifactRef::text(&bytes, written.path());
        self.written.push((checksum.to_owned(), file.clone(), written));
        Ok(file)
    }
}
