//! Jobs that measure, as the orchestrator sends them to a worker.

use super::tasks::retrieve::CorpusJob;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Answering, TaskName};
use crate::experiment::workloads::{Sampling, SpeedTest, TestPrompt};
use crate::metrics::TaskMetric;
use crate::model::artifact::ArtifactRef;
use crate::prompt::choice::FormatChoice;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One visit: load a variant once (or twice, cold and warm) and run workloads on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisitJob {
    /// The variant (first part, if split).
    pub model: ArtifactRef,
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
        let mut files = vec![&mut self.model];
        for workload in &mut self.workloads {
            match workload {
                WorkloadJob::Speed { .. } | WorkloadJob::Latency { .. } => {}
                WorkloadJob::Quality(QualityJob { text, reference, .. }) => {
                    files.push(text);
                    match reference {
                        ReferenceUse::None => {}
                        ReferenceUse::Write { file, .. } | ReferenceUse::Read { file } => {
                            files.push(file);
                        }
                    }
                }
                WorkloadJob::Task(task) => {
                    let TaskJob { questions, corpus, pictures, projector, .. } = task.as_mut();
                    files.push(questions);
                    files.extend(pictures.iter_mut().chain(projector));
                    if let Some(CorpusJob { passages, index, encoder, .. }) = corpus {
                        files.extend([passages, index].into_iter().chain(encoder));
                    }
                }
            }
        }
        files
    }
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
    pub questions: ArtifactRef,
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
    pub pictures: Option<ArtifactRef>,
    /// The file of the projector, of a model that sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<ArtifactRef>,
}

/// Perplexity and divergence of one variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityJob {
    /// File with the text.
    pub text: ArtifactRef,
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
        file: ArtifactRef,
        /// Bytes it may take; above it the top K and the tail mass are kept.
        budget_bytes: u64,
    },
    /// Compare with the log-probabilities in this file.
    Read {
        /// The file that the reference's visit wrote.
        file: ArtifactRef,
    },
}

/// Predict memory at several context lengths, from the file's metadata alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictJob {
    /// The variant (first part, if split).
    pub model: ArtifactRef,
    /// Under which settings.
    pub settings: Settings,
    /// For which context lengths, in tokens.
    pub contexts: Vec<u32>,
}
