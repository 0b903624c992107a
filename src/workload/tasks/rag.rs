//! Retrieval-augmented answers: an encoder finds chunks, a decoder answers with them in its request.
//!
//! One question at a time, as a user would ask, so that it can be told where the time goes: embedding
//! the question, searching the index, reading the request, writing the answer.

use super::answerer::Answer;
use super::encode::prompt;
use super::record::{RetrievalRecord, StageSeconds};
use super::retrieve::Retriever;
use super::{Answered, TaskError, TaskRequest};
use crate::engine::{ContextPurpose, ContextShape, Model};
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Asked, CorpusPlan, Question, Sought};
use crate::prompt::sandbox::{Fault, Sandbox};
use crate::statistics::sample::to_f64;
use crate::workload::Progress;
use crate::workload::batched::BatchedContext;
use crate::workload::draft::{self, Draft, Limits};
use serde_json::Value;
use std::time::Instant;

/// The name of the request's template in its sandbox.
const TEMPLATE: &str = "template";

/// The passages nearest to every query, and, given where they end, answers of a decoder whose requests hold the chunks
/// that were found.
pub(super) fn run(
    request: &TaskRequest<'_>,
    limits: Option<&Limits>,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let TaskRequest { model, settings, job, .. } = *request;
    let passages = job.plan.corpus.as_ref().zip(job.corpus.as_ref()).zip(request.passages);
    let missing = || TaskError::Other("the task finds passages, but has none".to_owned());
    let ((corpus, files), passages) = passages.ok_or_else(missing)?;
    let encoder = request.encoder.unwrap_or(model);
    let (mut retriever, index) = Retriever::open(encoder, settings, passages, (corpus, files))?;
    let mut reader =
        limits.map(|limits| Reader::new(model, settings, corpus, limits)).transpose()?;
    let mut memory = retriever.memory();
    memory.extend(reader.iter().flat_map(|reader| reader.batched.context.memory()));
    let mut answered = Answered { memory, ..Answered::default() };
    let mut seconds = StageSeconds::default();
    for (position, question) in request.questions.iter().enumerate() {
        let Asked::Find { query, answer, .. } = &question.asked else { continue };
        let found = retriever.find(query)?;
        let mut start = Instant::now();
        let (mut read, mut text) = (0, None);
        if let (Some(found), Some(reader), Some(sought)) = (&found, &mut reader, answer) {
            let nearest = found.chunks.iter().take(corpus.top as usize);
            let chunks = nearest.map(|&chunk| Value::from(retriever.content(chunk))).collect();
            if let Some(tokens) = reader.request(request, question, sought, chunks)? {
                let draft = reader.read(&tokens)?;
                seconds.prefill += start.elapsed().as_secs_f64();
                start = Instant::now();
                let written = draft::write(&mut reader.batched, vec![draft], reader.limits)?.pop();
                text = written.map(|written| written.text);
                seconds.generation += start.elapsed().as_secs_f64();
                read = tokens.len();
            }
        }
        match found {
            Some(found) if text.is_some() || reader.is_none() => {
                seconds.embedding += found.embedding.as_secs_f64();
                seconds.search += found.search.as_secs_f64();
                answered.count(found.tokens + read);
                answered.positions.push(position);
                answered.answers.push(Answer::Found { passages: found.passages, text });
                progress(to_f64(position + 1) / to_f64(request.questions.len()), "");
            }
            _ => answered.too_long.push(question.id.clone()),
        }
    }
    if answered.positions.is_empty() {
        return Err(TaskError::NothingFits);
    }
    let seconds = seconds.per(answered.positions.len());
    answered.retrieval = Some(RetrievalRecord { index, seconds });
    Ok(answered)
}

fn unfilled(fault: &Fault) -> TaskError {
    TaskError::OwnTemplate(format!("the template of the request cannot be filled in: {fault}"))
}

/// A decoder, and the template of its requests.
struct Reader<'a> {
    batched: BatchedContext<'a>,
    sandbox: Sandbox,
    limits: &'a Limits,
}

impl<'a> Reader<'a> {
    fn new(
        model: &'a dyn Model,
        settings: &Settings,
        corpus: &CorpusPlan,
        limits: &'a Limits,
    ) -> Result<Self, TaskError> {
        let sandbox = Sandbox::task();
        sandbox
            .add(TEMPLATE, corpus.template.as_deref().unwrap_or_default())
            .map_err(|fault| unfilled(&fault))?;
        let tokens = model.context_length();
        let batch = settings.batch.min(tokens);
        let shape =
            ContextShape { tokens, sequences: 1, batch, ubatch: settings.ubatch.min(batch) };
        let batched = BatchedContext::open(model, settings, shape, ContextPurpose::Separate)?;
        Ok(Self { batched, sandbox, limits })
    }

    /// The request as tokens; `None` if it and an answer do not fit the model's context.
    fn request(
        &self,
        request: &TaskRequest<'_>,
        question: &Question,
        sought: &Sought,
        chunks: Vec<Value>,
    ) -> Result<Option<Vec<i32>>, TaskError> {
        let mut fields = sought.fields.clone();
        fields.insert("passages".to_owned(), Value::Array(chunks));
        let text = self.sandbox.render_one(TEMPLATE, fields).map_err(|fault| unfilled(&fault))?;
        let model = self.batched.model;
        let tokens = model.tokenize_prompt(&prompt(request.prompter, question, &text)?)?;
        let fits = tokens.len() + self.limits.max_tokens <= model.context_length() as usize;
        Ok((fits && !tokens.is_empty()).then_some(tokens))
    }

    /// Reads a request; returns the answer to it with its first token.
    fn read(&mut self, tokens: &[i32]) -> Result<Draft, TaskError> {
        self.batched.context.clear_memory();
        let position = self.batched.read(tokens, 0, true)?;
        Ok(Draft::begin(0, position, self.batched.context.all_logits(1)?))
    }
}
