//! Jobs that measure, as the orchestrator sends them to a worker.

use super::tasks::retrieve::CorpusJob;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Answering, TaskName};
use crate::experiment::workloads::{Sampling, SpeedTest, TestPrompt};
use crate::metrics::TaskMetric;
use crate::prompt::choice::FormatChoice;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// One visit: load a variant once (or twice, cold and warm) and run workloads on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisitJob {
    /// The variant (first part, if split).
    pub model: PathBuf,
    /// Under which settings.
    pub settings: Settings,
    /// Also measure a load with the file dropped from the page cache.
    pub cold_load: bool,
    /// What to measure, in this order.
    pub workloads: Vec<WorkloadJob>,
}

/// One workload of a visit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "workload")]
pub enum WorkloadJob {
    /// A throughput test, after one warm-up that is not counted.
    Speed {
        /// Which.
        test: SpeedTest,
        /// How many timed repetitions.
        repetitions: u32,
    },
    /// Answer these prompts, one at a time.
    Latency {
        /// The prompts of this visit.
        prompts: Vec<TestPrompt>,
        /// Generation stops after this many tokens.
        max_tokens: u32,
        /// How tokens are chosen.
        sampling: Sampling,
        /// Which format prompts are put into.
        format: FormatChoice,
        /// What the model's own template is given besides.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        chat_template_kwargs: Map<String, Value>,
    },
    /// Perplexity, and divergence from the reference if a reference file is given.
    Quality(QualityJob),
    /// Answer the questions of a task.
    Task(Box<TaskJob>),
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskJob {
    /// Its name.
    pub name: TaskName,
    /// File with the questions, a list as JSON.
    pub questions: PathBuf,
    /// How they are answered.
    pub answering: Answering,
    /// What the answers are measured by.
    pub metrics: Vec<TaskMetric>,
    /// Which format requests are put into.
    pub format: FormatChoice,
    /// What the model's own template is given besides.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
    /// What stands between request and alternative, if it was chosen.
    pub separator: Option<String>,
    /// The passages of a task that finds some.
    pub corpus: Option<CorpusJob>,
    /// The folder at which the paths of pictures begin, of a task that shows some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<PathBuf>,
    /// The file of the projector, of a model that sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<PathBuf>,
}

/// Perplexity and divergence of one variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityJob {
    /// File with the text.
    pub text: PathBuf,
    /// Tokens per chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// What to do about the reference.
    pub reference: ReferenceUse,
    /// Stop once the 95 % interval of the mean KLD is within this fraction of it.
    pub precision: Option<f64>,
}

/// What a quality job does about the reference's log-probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reference")]
pub enum ReferenceUse {
    /// Perplexity only.
    None,
    /// This variant is the reference: write its log-probabilities here.
    Write {
        /// The file to make.
        path: PathBuf,
        /// Bytes it may take; above it the top K and the tail mass are kept.
        budget_bytes: u64,
    },
    /// Compare with the log-probabilities in this file.
    Read {
        /// The file that the reference's visit wrote.
        path: PathBuf,
    },
}

/// Predict memory at several context lengths, from the file's metadata alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictJob {
    /// The variant (first part, if split).
    pub model: PathBuf,
    /// Under which settings.
    pub settings: Settings,
    /// For which context lengths, in tokens.
    pub contexts: Vec<u32>,
}
