//! What orchestrator and worker say to each other: one JSON object per line.
//!
//! The orchestrator writes one [`Job`] to the worker's standard input and keeps that pipe open; a
//! worker whose standard input ends knows that the orchestrator is gone and exits. The worker
//! writes [`Event`]s to its standard output and llama.cpp's log to its standard error.

use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Answering, TaskName};
use crate::experiment::workloads::{Sampling, SpeedTest, TestPrompt};
use crate::metrics::TaskMetric;
use crate::model::quantization::FileType;
use crate::prompt::choice::FormatChoice;
use crate::quantize::import::CheckpointKind;
use crate::workload::measured::{
    BufferMemory, LoadSample, ModelFacts, PredictedMemory, Quality, Response, SpeedSample,
};
use crate::workload::tasks::record::TaskRecord;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The one thing a worker process does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "job")]
pub enum Job {
    /// Make a variant.
    Quantize(QuantizeJob),
    /// Write a GPTQ or AWQ checkpoint as a GGUF.
    Import(ImportJob),
    /// Make an importance matrix.
    Calibrate(CalibrateJob),
    /// Load a variant and measure it.
    Visit(VisitJob),
    /// Say how much memory a variant would take, without loading its weights.
    PredictMemory(PredictJob),
}

/// Make one variant with llama.cpp's own quantization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantizeJob {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub input: PathBuf,
    /// Where to write; the caller chose a temporary name.
    pub output: PathBuf,
    /// What to make.
    pub file_type: FileType,
    /// Threads; `None`: all.
    pub threads: Option<u32>,
    /// Accept an input that is quantized already.
    pub allow_requantize: bool,
}

/// Write a GPTQ or AWQ checkpoint as a GGUF, without rounding its weights again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportJob {
    /// The folder of the checkpoint.
    pub checkpoint: PathBuf,
    /// What it is.
    pub kind: CheckpointKind,
    /// A GGUF of the same model (first part, if split).
    pub base: PathBuf,
    /// Where to write; the caller chose a temporary name.
    pub output: PathBuf,
}

/// Make the importance matrix of a model from a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrateJob {
    /// The model (first part, if split).
    pub model: PathBuf,
    /// Its SHA-256, hex.
    pub model_checksum: String,
    /// File with the text.
    pub text: PathBuf,
    /// The text's name, which the matrix records.
    pub dataset: String,
    /// Tokens per chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// Also for `output.weight`.
    pub output_weight: bool,
    /// Threads; `None`: llama-bench's default.
    pub threads: Option<u32>,
    /// The file to write. The worker gives it its name when it is whole, and keeps what is done so far
    /// beside it.
    pub output: PathBuf,
}

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
    },
    /// Perplexity, and divergence from the reference if a reference file is given.
    Quality(QualityJob),
    /// Answer the questions of a task.
    Task(TaskJob),
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
    /// What stands between request and alternative, if it was chosen.
    pub separator: Option<String>,
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

/// What a worker is doing; the monitor's usage records are kept per phase.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase", content = "of")]
pub enum Phase {
    /// The process starts; back ends are found.
    Start,
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
    /// Perplexity, and divergence if there is a reference to compare with.
    Quality,
    /// The questions of a task are answered.
    Task(TaskName),
    /// Memory is predicted.
    PredictMemory,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => formatter.pad("start"),
            Self::Calibrate => formatter.pad("calibrate"),
            Self::Quantize => formatter.pad("quantize"),
            Self::ColdLoad => formatter.pad("cold load"),
            Self::Load => formatter.pad("load"),
            Self::Speed(test) => test.fmt(formatter),
            Self::Latency => formatter.pad("latency"),
            Self::Quality => formatter.pad("quality"),
            Self::Task(task) => formatter.pad(&format!("task {task}")),
            Self::PredictMemory => formatter.pad("memory"),
        }
    }
}

/// Part of the memory that a job takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPart {
    /// What for: `weights`.
    pub purpose: String,
    /// How much.
    pub bytes: u64,
}

/// What a worker reports, in the order in which it happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A phase begins; the one before it is over.
    Phase(Phase),
    /// Part of the phase is done: a fraction from 0 to 1, and what is being done, for the display.
    Progress {
        /// From 0 to 1.
        fraction: f64,
        /// The latest figure, in a few words (`ppl 24.1`); may be empty.
        note: String,
    },
    /// Memory that the job will take at most, told before it is taken.
    MemoryNeeded {
        /// What it is for.
        parts: Vec<MemoryPart>,
    },
    /// The importance matrix is written.
    Calibrated {
        /// Chunks that it is made from.
        chunks: u32,
        /// Those of them that an earlier worker had done.
        resumed: u32,
        /// Weights in it.
        weights: u64,
    },
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
    /// One timed repetition of a throughput test.
    Speed {
        /// Which test.
        test: SpeedTest,
        /// The repetition.
        sample: SpeedSample,
    },
    /// One answered prompt.
    Response(Response),
    /// Perplexity and divergence.
    Quality(Quality),
    /// A task that was answered.
    Task(TaskRecord),
    /// Answer to [`Job::PredictMemory`].
    PredictedMemory {
        /// One entry per context length asked for.
        predictions: Vec<PredictedMemory>,
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
