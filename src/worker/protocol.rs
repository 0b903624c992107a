//! What orchestrator and worker say to each other: one JSON object per line.
//!
//! The orchestrator writes one [`Job`], with the places of its files, to the worker's standard input and keeps that pipe open; a
//! worker whose standard input ends knows that the orchestrator is gone and exits. The worker
//! writes [`Event`]s to its standard output and llama.cpp's log to its standard error.

use crate::engine::Device;
use crate::mix::MixReport;
use crate::mix::jobs::{ApplyRecipeJob, MixJob};
use crate::model::artifact::ArtifactRef;
use crate::model::engine_name::EngineName;
use crate::model::progress::Progress;
use crate::quantize::MethodReport;
use crate::quantize::importance::CalibrationReport;
use crate::quantize::jobs::{
    CalibrateJob, ExportJob, ImportJob, PlanTypesJob, PlannedVariant, QuantizeJob,
};
use crate::quantize::onnx::ExportReport;
use crate::workload::Measurement;
pub use crate::workload::Phase;
use crate::workload::jobs::{PredictJob, VisitJob};
use crate::workload::measured::{BufferMemory, LoadSample, ModelFacts, PredictedMemory};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The one thing a worker process does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "job")]
pub enum Job {
    /// Make a variant.
    Quantize(Box<QuantizeJob>),
    /// Write a GPTQ or AWQ checkpoint as a GGUF.
    Import(ImportJob),
    /// Write a model as an ONNX file.
    ExportOnnx(ExportJob),
    /// Choose a type for every tensor, and write the file.
    Mix(Box<MixJob>),
    /// Write a file with the types of a recipe.
    ApplyRecipe(Box<ApplyRecipeJob>),
    /// Make an importance matrix.
    Calibrate(CalibrateJob),
    /// Load a variant and measure it.
    Visit(VisitJob),
    /// Say how much memory a variant would take, without loading its weights.
    PredictMemory(PredictJob),
    /// Say which types variants would have, without making them.
    PlanTypes(PlanTypesJob),
    /// Start an engine, and say what it can compute on.
    Devices {
        /// Which.
        engine: EngineName,
    },
}

impl Job {
    /// Its files, to be given a place.
    pub fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        match self {
            Self::Quantize(job) => job.files_mut(),
            Self::Import(job) => vec![&mut job.checkpoint, &mut job.base, &mut job.output],
            Self::ExportOnnx(job) => vec![&mut job.input, &mut job.output, &mut job.data],
            Self::Mix(job) => job.files_mut(),
            Self::ApplyRecipe(job) => job.files_mut(),
            Self::Calibrate(job) => vec![&mut job.model, &mut job.output],
            Self::Visit(job) => job.files_mut(),
            Self::PredictMemory(job) => vec![&mut job.model],
            Self::PlanTypes(job) => job.files_mut(),
            Self::Devices { .. } => Vec::new(),
        }
    }

    /// Its files.
    pub fn files(&self) -> Vec<ArtifactRef> {
        self.clone().files_mut().into_iter().map(|file| file.clone()).collect()
    }
}

/// A job with the places of its files on the machine that does it.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkOrder {
    /// The job.
    pub job: Job,
    /// Where each file is, by its key.
    pub paths: BTreeMap<String, PathBuf>,
}

impl WorkOrder {
    /// A job whose files have their places already.
    pub fn new(job: &Job) -> Self {
        let paths = job.files().into_iter().map(|file| (file.key, file.path)).collect();
        Self { job: job.clone(), paths }
    }

    /// The job, its files in their places.
    ///
    /// # Errors
    /// A file has none; in a sentence.
    pub fn into_job(mut self) -> Result<Job, String> {
        for file in self.job.files_mut() {
            let path = self.paths.get(&file.key);
            let path =
                path.ok_or_else(|| format!("'{}' has no place on this machine", file.name))?;
            file.path.clone_from(path);
        }
        Ok(self.job)
    }
}

/// What a job that makes a file came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "made", content = "of")]
pub enum Made {
    /// A variant, by a method that may leave tensors to simpler rounding.
    Variant(MethodReport),
    /// An importance matrix.
    Importance(CalibrationReport),
    /// A mix.
    Mix(Box<MixReport>),
    /// An ONNX file.
    Onnx(ExportReport),
}

/// What a worker reports, in the order in which it happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A phase begins; the one before it is over.
    Phase(Phase),
    /// How far the phase is, or something to know of it, for the display.
    Progress(Progress),
    /// The file of a job that makes one is written.
    Made(Made),
    /// The model was loaded.
    Loaded {
        /// How long it took.
        sample: LoadSample,
        /// What was loaded.
        facts: ModelFacts,
    },
    /// What llama.cpp allocated, after the context of a workload was made.
    Memory {
        /// One entry per buffer type.
        buffers: Vec<BufferMemory>,
    },
    /// A workload measured something.
    Measured(Measurement),
    /// A workload cannot be measured, but what comes after it can.
    WorkloadFailed {
        /// The workload's phase.
        phase: Phase,
        /// Why, in one sentence.
        reason: String,
    },
    /// Answer to [`Job::PredictMemory`].
    PredictedMemory {
        /// One entry per question; an error is the engine's, in a sentence.
        predictions: Vec<Result<PredictedMemory, String>>,
    },
    /// Answer to [`Job::PlanTypes`].
    PlannedTypes {
        /// One entry per quantization asked for.
        variants: Vec<PlannedVariant>,
    },
    /// Answer to [`Job::Devices`].
    Devices {
        /// In the engine's order.
        devices: Vec<Device>,
    },
    /// The job is done; the last event of a worker that succeeded.
    Done {
        /// Peak resident memory of the worker over its whole life, bytes, where the system tells it.
        peak_rss_bytes: Option<u64>,
        /// Proportional share of resident memory at the end, bytes, where the system tells it.
        pss_bytes: Option<u64>,
    },
    /// The job failed; the last event of a worker that noticed.
    Failed {
        /// What was wrong, in one sentence.
        message: String,
    },
}
