//! What orchestrator and worker say to each other: one JSON object per line.
//!
//! The orchestrator writes one [`Job`] to the worker's standard input and keeps that pipe open; a
//! worker whose standard input ends knows that the orchestrator is gone and exits. The worker
//! writes [`Event`]s to its standard output and llama.cpp's log to its standard error.

use crate::experiment::calibration::GptqSettings;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Answering, TaskName};
use crate::experiment::workloads::{Sampling, SpeedTest, TestPrompt};
use crate::metrics::TaskMetric;
use crate::mix::recipe::{Checksums, Recipe};
use crate::mix::{Cost, Report, Target};
use crate::model::artifact::KeptTensor;
use crate::model::quantization::{FileType, Method, Quantization};
use crate::model::stored_types::StoredTypes;
use crate::prompt::choice::FormatChoice;
use crate::quantize::import::CheckpointKind;
use crate::workload::measured::{
    BufferMemory, EmbeddingQuality, LeftOut, LoadSample, ModelFacts, PredictedMemory, Quality,
    Response, SpeedSample,
};
use crate::workload::tasks::record::TaskRecord;
use crate::workload::tasks::retrieve::CorpusJob;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
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
}

/// Make one variant.
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
    /// Types of single tensors, in place of the file type's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Box<Recipe>>,
    /// How its weights are chosen.
    #[serde(default)]
    pub method: Method,
    /// What a method that is calibrated needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationInput>,
}

/// What a calibrated method needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationInput {
    /// The importance matrix.
    pub importance: PathBuf,
    /// File with the text; methods that need only the matrix do without.
    pub text: Option<PathBuf>,
    /// The text's name.
    pub dataset: String,
    /// Tokens of a chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// How GPTQ is done.
    pub gptq: GptqSettings,
    /// A folder for files that are needed meanwhile.
    pub folder: PathBuf,
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

/// Measure what each type does to each tensor, choose, and write the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixJob {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: PathBuf,
    /// Where to write; the caller chose a temporary name.
    pub output: PathBuf,
    /// A folder for files that are needed meanwhile.
    pub scratch: PathBuf,
    /// Bytes that the original's log-probabilities may take.
    pub reference_budget_bytes: u64,
    /// Where what was measured is kept.
    pub ledger: PathBuf,
    /// File with the text.
    pub text: PathBuf,
    /// Tokens per chunk.
    pub context: u32,
    /// Chunks of the text that are used.
    pub chunks: u32,
    /// ggml's names of the types to choose from.
    pub types: Vec<String>,
    /// Those that are measured; empty: all.
    pub measured_types: Vec<String>,
    /// An importance matrix; `None`: round to nearest.
    pub importance: Option<PathBuf>,
    /// What the mix must keep to.
    pub target: Target,
    /// Neighbouring layers whose tensors of one kind get one type.
    pub layers_per_group: u32,
    /// How many times the choice is revised around the mix itself.
    pub revisions: u32,
    /// How the model is evaluated.
    pub settings: Settings,
    /// What makes the file, for its metadata.
    pub maker: String,
    /// Checksums of what goes in, for the recipe.
    pub checksums: Checksums,
}

/// Write a file with the types of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyRecipeJob {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: PathBuf,
    /// Where to write; the caller chose a temporary name.
    pub output: PathBuf,
    /// The recipe.
    pub recipe: Recipe,
    /// The importance matrix that the recipe was made with; `None`: round to nearest.
    pub importance: Option<PathBuf>,
    /// Threads; `None`: all.
    pub threads: Option<u32>,
    /// What makes the file, for its metadata.
    pub maker: String,
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

/// Find the types that quantizations would give the tensors of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanTypesJob {
    /// The model (first part, if split).
    pub input: PathBuf,
    /// What would be made of it.
    pub quantizations: Vec<Quantization>,
}

/// A variant that is not made yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedVariant {
    /// Bytes of the file, but for what its method adds to the metadata.
    pub bytes: u64,
    /// The types of its tensors.
    pub types: StoredTypes,
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
    /// Sensitivities are measured and a mix is chosen.
    Mix,
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
            Self::Mix => formatter.pad("mix"),
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
    /// Something that the user should know of what the job makes.
    Note {
        /// In a sentence.
        text: String,
    },
    /// A variant of a method that may leave tensors to simpler rounding is written.
    Quantized {
        /// Tensors whose weights the method chose.
        chosen: u64,
        /// Those it left as llama.cpp rounds them with the importance matrix.
        kept: Vec<KeptTensor>,
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
    /// A workload cannot be measured, but what comes after it can.
    WorkloadFailed {
        /// The workload's phase.
        phase: Phase,
        /// Why, in one sentence.
        reason: String,
    },
    /// One answered prompt.
    Response(Response),
    /// Perplexity and divergence.
    Quality(Quality),
    /// Something that cannot be measured of this model; what else was asked for is.
    LeftOut(LeftOut),
    /// A task that was answered.
    Task(TaskRecord),
    /// How alike an encoder's embeddings and the reference's are.
    EmbeddingQuality(EmbeddingQuality),
    /// Answer to [`Job::PredictMemory`].
    PredictedMemory {
        /// One entry per context length asked for.
        predictions: Vec<PredictedMemory>,
    },
    /// Answer to [`Job::PlanTypes`].
    PlannedTypes {
        /// One entry per quantization asked for.
        variants: Vec<PlannedVariant>,
    },
    /// What a mix will cost, before it is paid.
    MixCost(Cost),
    /// The mix that was chosen.
    Mixed(Box<Report>),
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
