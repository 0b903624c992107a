//! Tasks: many questions answered side by side by a loaded model, and scored.
//!
//! `answerer` is the seam: a way of answering says how questions are cut into groups and how one
//! group is answered; it runs groups over as many contexts as the processor has threads. `choose`
//! and `generate` are two such ways. `prefix` makes beginnings that questions share be evaluated
//! once, `encode` turns questions into tokens, `record` answers into what is kept. Uses `metrics`,
//! `prompt`, `experiment` and `llama`; used by `worker`. docs/TASKS.md tells what is measured.

mod answerer;
pub mod choose;
pub mod encode;
mod generate;
mod prefix;
pub mod record;
#[cfg(test)]
mod tests;

pub use answerer::{Answer, Answerer, Lane};

use super::Progress;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Answering, Question, TaskName};
use crate::llama::error::LlamaError;
use crate::llama::memory::BufferMemory;
use crate::llama::model::Model;
use crate::metrics::TaskMetric;
use crate::prompt::choice::Prompter;
use crate::prompt::template::TemplateError;
use choose::Chooser;
use encode::Encoder;
use generate::Writer;
use record::TaskRecord;
use std::time::Instant;

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A native call failed.
    #[error(transparent)]
    Llama(#[from] LlamaError),
    /// The model's chat template fails.
    #[error("question '{id}': {source}")]
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
    /// The model's output is not a number.
    #[error("the model's output for question '{id}' is not a number")]
    NotANumber {
        /// The question.
        id: String,
    },
}

/// What a task asks of a model.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
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
    model: &Model,
    settings: &Settings,
    request: &Request<'_>,
    progress: Progress<'_>,
) -> Result<TaskRun, TaskError> {
    let start = Instant::now();
    let encoder = Encoder { model, prompter: request.prompter, separator: request.separator };
    let (answered, too_long, work);
    let done = match request.answering {
        Answering::Choose | Answering::Predict => {
            let encoded = encoder.alternatives(request.questions)?;
            let chooser = Chooser::new(encoded.fitting, model.vocabulary_size());
            (too_long, work) = (encoded.too_long, chooser.work());
            answered = chooser.positions().to_vec();
            answerer::run(&chooser, model, settings, progress)?
        }
        Answering::Generate { max_tokens, stop } => {
            let encoded = encoder.requests(request.questions, *max_tokens)?;
            let mut stops = stop.clone();
            stops.extend(request.prompter.stops().iter().map(|&text| text.to_owned()));
            let writer = Writer::new(encoded.fitting, *max_tokens, stops);
            (too_long, work) = (encoded.too_long, writer.work());
            answered = writer.positions().to_vec();
            answerer::run(&writer, model, settings, progress)?
        }
    };
    let questions: Vec<&Question> =
        answered.iter().map(|&position| &request.questions[position]).collect();
    for (question, answer) in questions.iter().zip(&done.answers) {
        if answer.is_not_a_number() {
            return Err(TaskError::NotANumber { id: question.id.clone() });
        }
    }
    let record = TaskRecord {
        task: request.name,
        format: request.prompter.name().to_owned(),
        questions: u32::try_from(questions.len()).unwrap_or(u32::MAX),
        too_long,
        scores: record::scores(request.metrics, &questions, &done.answers),
        answers: record::kept(request.answering, &done.answers),
        request_tokens: work.request_tokens,
        evaluated_tokens: work.evaluated_tokens,
        seconds: start.elapsed().as_secs_f64(),
    };
    Ok(TaskRun { record, memory: done.memory })
}
