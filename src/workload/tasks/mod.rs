//! Tasks: many questions answered side by side by a loaded model, and scored.
//!
//! `answerer` is the seam: a way of answering says how questions are cut into groups and how one
//! group is answered; it runs groups over as many contexts as the processor has threads. `choose`
//! and `generate` are two such ways, `seq2seq` has the two of encoder-decoders; what is written side by
//! side are `draft`s. `with_encoder` is how models with an encoder answer, `retrieve` finds
//! passages, `rag` answers with them, `see` about pictures: these two ask one question at a time
//! (`alone`). `prefix` makes beginnings that questions share be evaluated once, `encode` turns questions
//! into tokens, `record` answers into what is kept. Uses `dataset`, `metrics`, `prompt`, `experiment` and
//! `engine`; used by `worker`. docs/TASKS.md tells what is measured.

mod alone;
mod answerer;
mod beginning;
pub mod choose;
mod draft;
pub mod encode;
mod generate;
mod job;
mod prefix;
mod rag;
pub mod record;
pub mod retrieve;
#[cfg(feature = "multimodal")]
mod image_text;
mod seq2seq;
#[cfg(test)]
mod tests;
mod with_encoder;

pub use answerer::{Answer, Answerer, GroupSize, Stream};
pub use job::TaskJob;

use super::Progress;
use crate::causes;
use crate::engine::Model;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Answering, Question, TaskName};
use crate::metrics::TaskMetric;
use crate::model::architecture::ArchitectureClass;
use crate::prompt::choice::Prompter;
use crate::prompt::template::TemplateError;
use crate::retrieval::index::IndexError;
use answerer::Done;
use choose::Chooser;
use draft::Limits;
use encode::{Encoded, Encoder, Fitted};
use generate::Writer;
use record::{RetrievalRecord, TaskRecord, VisionRecord, Work};
use retrieve::Corpus;
use std::path::Path;
use std::time::Instant;

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A native call failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model's chat template fails.
    #[error("question '{id}'")]
    Template {
        /// The question.
        id: String,
        /// What the template says.
        source: TemplateError,
    },
    /// No question fits the model.
    #[error(
        "none of the {questions} questions fits the model's context of {context} tokens; the \
         shortest takes {shortest}"
    )]
    NothingFits {
        /// How many questions there are.
        questions: usize,
        /// Tokens of the shortest, what is to be generated included.
        shortest: usize,
        /// The model's context length.
        context: u32,
    },
    /// A text is to be scored from its very beginning, and the model has no token to begin with.
    #[error("question '{id}' has no request, and the model has no token that begins a text")]
    NoBeginning {
        /// The question.
        id: String,
    },
    /// A task that finds passages has none.
    #[error("the task finds passages, but has none to look among")]
    NoCorpus,
    /// A request cannot be made of what was found.
    #[error("the template of the request cannot be filled in: {reason}")]
    Filling {
        /// What the template says.
        reason: String,
    },
    /// A task that shows pictures has a model that sees none.
    #[error("the task shows pictures, but the model has no projector")]
    NoProjector,
    /// This build shows no pictures.
    #[error("{}", crate::dataset::picture::NOT_BUILT_IN)]
    NotBuiltIn,
    /// A picture cannot be shown.
    #[error("question '{id}': {reason}")]
    Picture {
        /// The question.
        id: String,
        /// What is wrong, in a sentence.
        reason: String,
    },
    /// The prompt format has no place for the picture.
    #[error(
        "question '{id}': the prompt format leaves out the request, or repeats it, so that the picture has no place"
    )]
    NoPlace {
        /// The question.
        id: String,
    },
    /// The index of the passages cannot be used.
    #[error("{reason}")]
    Index {
        /// What is wrong, in a sentence.
        reason: String,
    },
    /// The model's output is not a number.
    #[error("the model's output for question '{id}' is not a number")]
    NotANumber {
        /// The question.
        id: String,
    },
}

impl TaskError {
    /// Whether a template is to blame, the model's or the task's own.
    #[must_use]
    pub fn is_of_template(&self) -> bool {
        matches!(self, Self::Template { .. } | Self::Filling { .. } | Self::NoPlace { .. })
    }
}

impl From<IndexError> for TaskError {
    fn from(error: IndexError) -> Self {
        Self::Index { reason: causes::in_words(&error) }
    }
}

/// What a task asks of a model.
#[derive(Debug, Clone, Copy)]
pub struct TaskRequest<'a> {
    /// The task's name.
    pub name: TaskName,
    /// The questions.
    pub questions: &'a [Question],
    /// How they are answered.
    pub answering: &'a Answering,
    /// What the answers are measured by.
    pub metrics: &'a [TaskMetric],
    /// Puts requests into a format.
    pub prompter: &'a Prompter,
    /// What stands between request and alternative; `None`: see [`Encoder`].
    pub separator: Option<&'a str>,
    /// The passages of a task that finds some.
    pub corpus: Option<Corpus<'a>>,
    /// The pictures of a task that shows some.
    pub images: Option<ImageSet<'a>>,
}

/// The pictures of a task, and what the model sees them with.
#[derive(Debug, Clone, Copy)]
pub struct ImageSet<'a> {
    /// Where their paths begin.
    pub folder: &'a Path,
    /// The file of the projector.
    pub projector: &'a Path,
}

/// What a task yields.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRun {
    /// Answers and their scores.
    pub record: TaskRecord,
    /// What llama.cpp allocated, for all contexts together.
    pub memory: Vec<BufferMemory>,
}

/// Answers all questions of a task that fit the model's context; those that do not are named in the
/// record and no part of its figures.
///
/// # Errors
/// [`TaskError`].
pub fn run(
    model: &dyn Model,
    settings: &Settings,
    request: &TaskRequest<'_>,
    progress: Progress<'_>,
) -> Result<TaskRun, TaskError> {
    let start = Instant::now();
    let class = model.class();
    let Measured { answered, retrieval, vision } = match answer(model, settings, request, progress)
    {
        // A task that is too long for a model says nothing of what else the model is measured by.
        Err(TaskError::NothingFits { .. }) => Measured::nothing(request.questions),
        measured => measured?,
    };
    // Formats are a decoder's: an encoder reads the request as it is.
    let decodes = class == ArchitectureClass::DecoderOnly;
    let format = if decodes { request.prompter.name() } else { "none" };
    let Answered { positions, too_long, answers, work, memory } = answered;
    let questions: Vec<&Question> =
        positions.iter().map(|&position| &request.questions[position]).collect();
    for (question, answer) in questions.iter().zip(&answers) {
        if answer.is_not_a_number() {
            return Err(TaskError::NotANumber { id: question.id.clone() });
        }
    }
    let record = TaskRecord {
        task: request.name,
        format: format.to_owned(),
        open_thought: if decodes { request.prompter.open_thought() } else { None },
        questions: u32::try_from(questions.len()).unwrap_or(u32::MAX),
        too_long,
        scores: record::scores(request.metrics, &questions, &answers),
        answers: record::kept(request.answering, &answers),
        request_tokens: work.request_tokens,
        evaluated_tokens: work.evaluated_tokens,
        seconds: start.elapsed().as_secs_f64(),
        retrieval,
        vision,
    };
    Ok(TaskRun { record, memory })
}

/// What a task came to, before it is scored.
struct Measured {
    answered: Answered,
    retrieval: Option<RetrievalRecord>,
    vision: Option<VisionRecord>,
}

impl Measured {
    /// No question fits the model.
    fn nothing(questions: &[Question]) -> Self {
        let mut answered = Answered::none(Vec::new());
        answered.too_long = questions.iter().map(|question| question.id.clone()).collect();
        Self { answered, retrieval: None, vision: None }
    }
}

/// The answers to all questions that fit the model's context.
fn answer(
    model: &dyn Model,
    settings: &Settings,
    request: &TaskRequest<'_>,
    progress: Progress<'_>,
) -> Result<Measured, TaskError> {
    let class = model.class();
    let (mut retrieval, mut vision) = (None, None);
    let answered = match request.answering {
        Answering::See { max_tokens, stop } => {
            let images = request.images.ok_or(TaskError::NoProjector)?;
            let writing = (*max_tokens, stop.as_slice());
            let (answered, record) = see(model, settings, request, images, writing, progress)?;
            vision = Some(record);
            answered
        }
        Answering::Retrieve => {
            let corpus = request.corpus.as_ref().ok_or(TaskError::NoCorpus)?;
            let (answered, record) = rag::retrieve(model, settings, request, corpus, progress)?;
            retrieval = Some(record);
            answered
        }
        Answering::Augment { max_tokens, stop } => {
            let corpus = request.corpus.as_ref().ok_or(TaskError::NoCorpus)?;
            let writing = (*max_tokens, stop.as_slice());
            let (answered, record) =
                rag::augment(model, settings, request, corpus, writing, progress)?;
            retrieval = Some(record);
            answered
        }
        _ if class == ArchitectureClass::DecoderOnly => decode(model, settings, request, progress)?,
        _ => encode(class, model, settings, request, progress)?,
    };
    Ok(Measured { answered, retrieval, vision })
}

/// What answering came to.
struct Answered {
    /// The places of the questions that were answered.
    positions: Vec<usize>,
    /// The ids of those that do not fit the model.
    too_long: Vec<String>,
    /// One answer per position.
    answers: Vec<Answer>,
    /// How much there was to evaluate.
    work: Work,
    /// What llama.cpp allocated.
    memory: Vec<BufferMemory>,
}

/// The answers of a decoder-only model.
fn decode(
    model: &dyn Model,
    settings: &Settings,
    request: &TaskRequest<'_>,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let encoder = Encoder { model, prompter: request.prompter, separator: request.separator };
    let threads = settings.threads.unwrap_or_else(|| model.engine().default_threads());
    let (positions, too_long, done);
    match request.answering {
        Answering::Choose | Answering::Predict => {
            let Fitted { fitting, too_long: left_out } =
                with_threads(threads, || encoder.alternatives(request.questions))?;
            (positions, too_long) = (places(&fitting), left_out);
            let chooser = Chooser::new(fitting, model.vocabulary_size());
            done = answerer::run(&chooser, model, settings, progress)?;
        }
        Answering::Generate { max_tokens, stop } => {
            let Fitted { fitting, too_long: left_out } =
                with_threads(threads, || encoder.requests(request.questions, *max_tokens))?;
            (positions, too_long) = (places(&fitting), left_out);
            let mut stops = stop.clone();
            stops.extend(request.prompter.stops().iter().map(|&text| text.to_owned()));
            let limits = Limits::new(*max_tokens, stops);
            let writer = |size| Writer::new(fitting.clone(), limits.clone(), size);
            done = answerer::run_in_groups(writer, model, settings, progress)?;
        }
        Answering::Retrieve | Answering::Augment { .. } => return Err(TaskError::NoCorpus),
        Answering::See { .. } => return Err(TaskError::NoProjector),
    }
    let Done { answers, work, memory } = done;
    Ok(Answered { positions, too_long, answers, work, memory })
}

/// Does something that uses the threads of a pool with so many of them; where none can be had, with those there are.
fn with_threads<T: Send>(threads: u32, work: impl FnOnce() -> T + Send) -> T {
    match rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

/// The places of questions among all.
fn places<T>(questions: &[Encoded<T>]) -> Vec<usize> {
    questions.iter().map(|question| question.position).collect()
}

/// The answers of a model with an encoder. What does not apply to its class is not asked
/// ([`super::applicability::task`]).
fn encode(
    class: ArchitectureClass,
    model: &dyn Model,
    settings: &Settings,
    request: &TaskRequest<'_>,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let questions = request.questions;
    match request.answering {
        Answering::Choose | Answering::Predict if class == ArchitectureClass::EncoderOnly => {
            with_encoder::nearest(model, settings, questions, progress)
        }
        Answering::Choose | Answering::Predict => {
            with_encoder::choose(model, settings, questions, progress)
        }
        Answering::Generate { max_tokens, stop } => {
            let limits = Limits::new(*max_tokens, stop.clone());
            with_encoder::write(model, settings, questions, &limits, progress)
        }
        Answering::Retrieve | Answering::Augment { .. } => Err(TaskError::NoCorpus),
        Answering::See { .. } => Err(TaskError::NoProjector),
    }
}

#[cfg(feature = "multimodal")]
use image_text::see;

/// The place of `image_text::see` in a build without pictures.
#[cfg(not(feature = "multimodal"))]
fn see(
    _model: &dyn Model,
    _settings: &Settings,
    _request: &TaskRequest<'_>,
    _gallery: ImageSet<'_>,
    _writing: (u32, &[String]),
    _progress: Progress<'_>,
) -> Result<(Answered, VisionRecord), TaskError> {
    Err(TaskError::NotBuiltIn)
}
