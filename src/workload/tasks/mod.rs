//! Tasks: many questions answered side by side by a loaded model, and scored.
//!
//! `answerer` is a way of answering: it says how questions are cut into groups and how one group is answered, and runs
//! groups over as many contexts as the processor has threads. `choose` and `generate` are two such ways, `seq2seq` has the
//! two of encoder-decoders; what is written side by side are `draft`s of the folder above. `with_encoder` is how models with an encoder answer.
//! `rag` answers with the passages that `retrieve` finds, `image_text` about pictures: these two ask one question at a time.
//! `beginning` evaluates once what all questions begin with, `prefix` what several have in common; `encode` turns questions
//! into tokens, `record` answers into what is kept. Uses `dataset`, `metrics`, `prompt`, `experiment` and `engine`; used by
//! `worker`. docs/TASKS.md tells what is measured.

mod answerer;
mod beginning;
mod choose;
pub mod encode;
mod generate;
mod job;
#[cfg(feature = "multimodal")]
mod image_text;
mod prefix;
mod rag;
pub mod record;
pub mod retrieve;
mod seq2seq;
#[cfg(test)]
mod tests;
mod with_encoder;

pub use job::TaskJob;

use super::Progress;
use crate::engine::Model;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Answering, Question};
use crate::model::architecture::ArchitectureClass;
use crate::prompt::choice::Prompter;
use crate::prompt::template::TemplateError;
use crate::retrieval::index::IndexError;
use crate::workload::draft::Limits;
use answerer::Answer;
use choose::Chooser;
use encode::{Encoder, Fitted};
use generate::Writer;
use record::{RetrievalRecord, TaskRecord, VisionRecord};
use std::time::Instant;

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
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
    #[error("no question fits the model's context")]
    NothingFits,
    /// The task's own template fails, or leaves no place for what is shown.
    #[error("{0}")]
    OwnTemplate(String),
    /// The index of the passages cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Something that the task needs is missing or wrong.
    #[error("{0}")]
    Other(String),
}

impl TaskError {
    /// Whether a template is to blame, the model's or the task's own.
    pub fn is_of_template(&self) -> bool {
        matches!(self, Self::Template { .. } | Self::OwnTemplate(_))
    }
}

/// What a task asks of a model.
#[derive(Debug, Clone, Copy)]
pub struct TaskRequest<'a> {
    /// Who is asked.
    pub model: &'a dyn Model,
    /// How it is evaluated.
    pub settings: &'a Settings,
    /// The task.
    pub job: &'a TaskJob,
    /// The questions in the job's file.
    pub questions: &'a [Question],
    /// Puts requests into a format.
    pub prompter: &'a Prompter,
    /// The passages of a task that finds some.
    pub passages: Option<&'a [String]>,
    /// The model that embeds them; `None`: the one that is measured.
    pub encoder: Option<&'a dyn Model>,
}

/// What a task yields.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRun {
    /// Answers and their scores.
    pub record: TaskRecord,
    /// What the engine allocated, for all contexts together.
    pub memory: Vec<BufferMemory>,
}

/// Answers all questions of a task that fit the model's context; those that do not are named in the
/// record and no part of its figures.
///
/// # Errors
/// [`TaskError`].
pub fn run(request: &TaskRequest<'_>, progress: Progress<'_>) -> Result<TaskRun, TaskError> {
    let start = Instant::now();
    let TaskRequest { job: TaskJob { plan, .. }, prompter, .. } = request;
    let answered = match answer(request, progress) {
        // A task that is too long for a model says nothing of what else the model is measured by.
        Err(TaskError::NothingFits) => {
            let too_long = request.questions.iter().map(|question| question.id.clone()).collect();
            Answered { too_long, ..Answered::default() }
        }
        answered => answered?,
    };
    let questions: Vec<&Question> =
        answered.positions.iter().map(|&position| &request.questions[position]).collect();
    for (question, answer) in questions.iter().zip(&answered.answers) {
        if answer.is_not_a_number() {
            let id = &question.id;
            let message = format!("the model's output for question '{id}' is not a number");
            return Err(TaskError::Other(message));
        }
    }
    // Formats are a decoder's: an encoder reads the request as it is.
    let decodes = request.model.class() == ArchitectureClass::DecoderOnly;
    let record = TaskRecord {
        task: plan.name,
        format: if decodes { prompter.name() } else { "none" }.to_owned(),
        open_thought: if decodes { prompter.open_thought() } else { None },
        questions: u32::try_from(questions.len()).unwrap_or(u32::MAX),
        too_long: answered.too_long,
        scores: record::scores(&plan.metrics, &questions, &answered.answers),
        answers: record::kept(&plan.answering, &answered.answers),
        request_tokens: answered.request_tokens,
        evaluated_tokens: answered.evaluated_tokens,
        seconds: start.elapsed().as_secs_f64(),
        retrieval: answered.retrieval,
        vision: answered.vision,
    };
    Ok(TaskRun { record, memory: answered.memory })
}

/// Writes answers to requests side by side, the most probable token at a time: the tokens of each, with the one that
/// ended it.
pub(in crate::workload) fn write(
    model: &dyn Model,
    settings: &Settings,
    requests: &[Vec<i32>],
    max_tokens: u32,
    progress: Progress<'_>,
) -> Result<Vec<Vec<i32>>, TaskError> {
    let limits = Limits { max_tokens: max_tokens as usize, stops: Vec::new() };
    let writer = |size| Writer::answerer(requests.to_vec(), limits.clone(), size, settings);
    let answered = answerer::run_in_groups(writer, model, settings, progress)?;
    let tokens = |answer| match answer {
        Answer::Text(written) => Some(written.tokens),
        _ => None,
    };
    Ok(answered.answers.into_iter().filter_map(tokens).collect())
}

/// What answering came to, before it is scored.
#[derive(Debug, Default)]
struct Answered {
    /// The places of the questions that were answered.
    positions: Vec<usize>,
    /// The ids of those that do not fit the model.
    too_long: Vec<String>,
    /// One answer per position.
    answers: Vec<Answer>,
    /// See [`TaskRecord`].
    request_tokens: u64,
    evaluated_tokens: u64,
    /// What the engine allocated.
    memory: Vec<BufferMemory>,
    retrieval: Option<RetrievalRecord>,
    vision: Option<VisionRecord>,
}

impl Answered {
    /// Counts tokens that were evaluated for one request.
    fn count(&mut self, tokens: usize) {
        self.request_tokens += tokens as u64;
        self.evaluated_tokens += tokens as u64;
    }
}

/// The answers to all questions that fit the model's context. What does not apply to the model's class is not asked
/// ([`super::applicability::task`]).
fn answer(request: &TaskRequest<'_>, progress: Progress<'_>) -> Result<Answered, TaskError> {
    let TaskRequest { model, settings, job, questions, prompter, .. } = *request;
    let class = model.class();
    let limits = |max_tokens: u32, stops: &[String]| {
        let own = if class == ArchitectureClass::DecoderOnly { prompter.stops() } else { &[] };
        let own = own.iter().map(|&text| text.to_owned());
        Limits {
            max_tokens: max_tokens as usize,
            stops: stops.iter().cloned().chain(own).collect(),
        }
    };
    let separator = job.plan.separator.as_deref();
    let encoder = Encoder { model, settings, prompter, separator };
    match (&job.plan.answering, class) {
        (Answering::See { max_tokens, stop }, _) => {
            see(request, &limits(*max_tokens, stop), progress)
        }
        (Answering::Retrieve, _) => rag::run(request, None, progress),
        (Answering::Augment { max_tokens, stop }, _) => {
            rag::run(request, Some(&limits(*max_tokens, stop)), progress)
        }
        (Answering::Choose | Answering::Predict, ArchitectureClass::DecoderOnly) => {
            let Fitted { positions, tokens, too_long } = encoder.alternatives(questions)?;
            let chooser = Chooser::answerer(tokens, model.vocabulary_size(), settings);
            let answered = answerer::run(&chooser, model, settings, progress)?;
            Ok(Answered { positions, too_long, ..answered })
        }
        (Answering::Choose | Answering::Predict, ArchitectureClass::EncoderOnly) => {
            with_encoder::nearest(request, progress)
        }
        (Answering::Choose | Answering::Predict, ArchitectureClass::EncoderDecoder) => {
            with_encoder::choose(request, progress)
        }
        (Answering::Generate { max_tokens, stop }, ArchitectureClass::DecoderOnly) => {
            let limits = limits(*max_tokens, stop);
            let Fitted { positions, tokens, too_long } =
                encoder.requests(questions, limits.max_tokens)?;
            let writer = |size| Writer::answerer(tokens.clone(), limits.clone(), size, settings);
            let answered = answerer::run_in_groups(writer, model, settings, progress)?;
            Ok(Answered { positions, too_long, ..answered })
        }
        (Answering::Generate { max_tokens, stop }, _) => {
            with_encoder::write(request, &limits(*max_tokens, stop), progress)
        }
    }
}

#[cfg(feature = "multimodal")]
use image_text::see;

/// The place of `image_text::see` in a build without pictures.
#[cfg(not(feature = "multimodal"))]
fn see(
    _request: &TaskRequest<'_>,
    _limits: &Limits,
    _progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    Err(TaskError::Other(crate::dataset::picture::NOT_BUILT_IN.to_owned()))
}
