//! Workloads: what is measured on a loaded model.
//!
//! This file lists them: what a job asks for, in which phase of a worker it is done, and what it yields. Nobody
//! else tells them apart: the worker runs what it is given, and the orchestrator carries what comes back. Each
//! has a module of its own (`speed`, `latency`, `tokenization`, `quality` with `encoder_quality`, `tasks`) with its job, its
//! [`Workload`] and what it computes. `jobs` makes the jobs of a visit, `measured` is the plain data that
//! travels from there into records and reports, `applicability` says what has a meaning for which model,
//! `batched` is a context with its batch, `draft` an answer that is written beside others, `embedder` runs encoders. `softmax` and `divergence` are the arithmetic;
//! `reference` is the file that carries the reference's log-probabilities from one worker to the next, `top_row`
//! a row of it when it cannot be kept whole. Uses `engine`, `prompt` and `metrics`; used by `worker`.

pub mod applicability;
pub mod batched;
pub mod divergence;
mod draft;
pub mod embedder;
pub mod encoder_quality;
pub mod jobs;
pub mod latency;
pub mod measured;
pub mod quality;
pub mod reference;
pub mod softmax;
pub mod speed;
pub mod tasks;
pub mod tokenization;
pub mod top_row;
mod visit;

pub use visit::{Observer, Visit, Workload, WorkloadError};

use crate::experiment::metric::Metric;
use crate::experiment::tasks::TaskName;
use crate::experiment::workloads::{SpeedTest, WorkloadPlan};
use crate::units::count;
use jobs::{InputError, Inputs, Target};
use measured::{EmbeddingQuality, LeftOut, LiveFigure, ModelFacts, Quality, Response, SpeedSample};
use serde::{Deserialize, Serialize};
use std::fmt;
use tasks::record::TaskRecord;
use tokenization::{Tokenization, TokenizationJob};

/// Told how far a workload is: a fraction from 0 to 1 and the latest figure in words.
pub type Progress<'a> = &'a mut dyn FnMut(f64, &str);

/// One workload of a visit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "workload")]
pub enum WorkloadJob {
    /// A throughput test, after one warm-up that is not counted.
    Speed(speed::SpeedJob),
    /// Answer these prompts, one at a time.
    Latency(latency::LatencyJob),
    /// Tokenize a text.
    Tokenization(TokenizationJob),
    /// Perplexity, and divergence from the reference if a reference file is given.
    Quality(quality::QualityJob),
    /// Answer the questions of a task.
    Task(Box<tasks::TaskJob>),
}

impl WorkloadJob {
    /// The job of a workload in one visit; `None`: there is nothing to do in it.
    fn new(
        plan: WorkloadPlan<'_>,
        target: &Target,
        inputs: &mut Inputs<'_>,
    ) -> Result<Option<Self>, InputError> {
        Ok(match plan {
            WorkloadPlan::Speed(test) => Some(Self::speed(test, target)),
            WorkloadPlan::Latency(plan) => {
                latency::LatencyJob::new(plan, target).map(Self::Latency)
            }
            WorkloadPlan::Tokenization(plan) => {
                Some(Self::Tokenization(TokenizationJob::new(plan, target, inputs)?))
            }
            WorkloadPlan::Quality(plan) => {
                Some(Self::Quality(quality::QualityJob::new(plan, target, inputs)?))
            }
            WorkloadPlan::Task(plan) => {
                Some(Self::Task(Box::new(tasks::TaskJob::new(plan, target, inputs)?)))
            }
        })
    }

    /// A throughput test alone.
    #[must_use]
    pub fn speed(test: SpeedTest, target: &Target) -> Self {
        Self::Speed(speed::SpeedJob::new(test, target))
    }

    /// What does it.
    #[must_use]
    pub fn workload(&self) -> &dyn Workload {
        match self {
            Self::Speed(job) => job,
            Self::Latency(job) => job,
            Self::Tokenization(job) => job,
            Self::Quality(job) => job,
            Self::Task(job) => job.as_ref(),
        }
    }

    /// The same, to be changed.
    pub fn workload_mut(&mut self) -> &mut dyn Workload {
        match self {
            Self::Speed(job) => job,
            Self::Latency(job) => job,
            Self::Tokenization(job) => job,
            Self::Quality(job) => job,
            Self::Task(job) => job.as_mut(),
        }
    }
}

/// What a workload is called before it is measured of a model; nothing, if it has no meaning for the model.
/// `sees`: with a projector.
#[must_use]
pub fn names(plan: WorkloadPlan<'_>, facts: &ModelFacts, sees: bool) -> Vec<String> {
    match plan {
        WorkloadPlan::Speed(test) => {
            let applies = applicability::speed(test, facts).is_none();
            applies.then(|| test.to_string()).into_iter().collect()
        }
        WorkloadPlan::Latency(plan) => {
            let prompts = facts.class.generates().then_some(plan.prompts.len());
            prompts.map(|it| format!("latency ({})", count(it, "prompt"))).into_iter().collect()
        }
        WorkloadPlan::Tokenization(_) => vec!["tokenization".to_owned()],
        WorkloadPlan::Quality(plan) => quality::names(plan, facts.class),
        WorkloadPlan::Task(plan) => {
            let applies = applicability::task(&plan.answering, facts.class, sees).is_none();
            let name = || format!("{} ({})", plan.name, count(plan.question_count, "question"));
            applies.then(name).into_iter().collect()
        }
    }
}

/// One thing that a workload measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Measurement {
    /// One timed repetition of a throughput test.
    Speed {
        /// Which test.
        test: SpeedTest,
        /// The repetition.
        sample: SpeedSample,
    },
    /// One answered prompt.
    Response(Response),
    /// How long a text took to become tokens.
    Tokenization(Tokenization),
    /// Perplexity and divergence.
    Quality(Quality),
    /// How alike an encoder's embeddings and the reference's are.
    EmbeddingQuality(EmbeddingQuality),
    /// A task that was answered.
    Task(TaskRecord),
    /// Something that cannot be measured of this model; what else was asked for is.
    LeftOut(LeftOut),
}

impl Measurement {
    /// What is shown of it while it is measured.
    #[must_use]
    pub fn live(&self) -> Vec<LiveFigure> {
        match self {
            Self::Speed { test, sample } => vec![sample.live(*test)],
            Self::Response(response) => response.live().into_iter().collect(),
            Self::Tokenization(it) => it.live().into_iter().collect(),
            Self::Quality(quality) => quality.live(),
            Self::EmbeddingQuality(quality) => vec![quality.live()],
            Self::Task(task) => task.live().into_iter().collect(),
            Self::LeftOut(_) => Vec::new(),
        }
    }

    /// The figures that it comes to, if nothing else is asked of it than one value each. The others take more:
    /// `results/extract.rs` knows what.
    #[must_use]
    pub fn figures(&self) -> Vec<(Metric, f64)> {
        match self {
            Self::Tokenization(tokenization) => tokenization.figures(),
            _ => Vec::new(),
        }
    }
}

/// What a worker is doing; the monitor's usage records are kept per phase.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, strum::VariantNames)]
#[serde(rename_all = "snake_case", tag = "phase", content = "of")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// The process starts; back ends are found.
    Start,
    /// A file is fetched from the hub.
    Fetch,
    /// A calibration text runs through the model.
    Calibrate,
    /// Weights are rounded and written.
    Quantize,
    /// The file is loaded after it was dropped from the page cache.
    ColdLoad,
    /// The file is loaded from the page cache.
    Load,
    /// A throughput test, its warm-up included.
    Speed(SpeedTest),
    /// Test prompts are answered.
    Latency,
    /// A text is tokenized.
    Tokenization,
    /// Perplexity, and divergence if there is a reference to compare with.
    Quality,
    /// The questions of a task are answered.
    Task(TaskName),
    /// Sensitivities are measured and a mix is chosen.
    Mix,
    /// Memory is predicted.
    PredictMemory,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => formatter.pad("start"),
            Self::Fetch => formatter.pad("fetch"),
            Self::Calibrate => formatter.pad("calibrate"),
            Self::Quantize => formatter.pad("quantize"),
            Self::ColdLoad => formatter.pad("cold load"),
            Self::Load => formatter.pad("load"),
            Self::Speed(test) => test.fmt(formatter),
            Self::Latency => formatter.pad("latency"),
            Self::Tokenization => formatter.pad("tokenization"),
            Self::Quality => formatter.pad("quality"),
            Self::Task(task) => formatter.pad(&format!("task {task}")),
            Self::Mix => formatter.pad("mix"),
            Self::PredictMemory => formatter.pad("memory"),
        }
    }
}
