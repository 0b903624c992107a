//! Retrieval-augmented answers: an encoder finds chunks, a decoder answers with them in its request.
//!
//! One question at a time, as a user would ask, so that it can be told where the time goes: embedding
//! the question, searching the index, reading the request, writing the answer.

use super::alone::{Alone, mean_seconds, tell};
use super::answerer::Answer;
use super::record::{RetrievalRecord, StageSeconds, Work};
use super::retrieve::{Corpus, Retriever};
use super::{Answered, TaskError, TaskRequest};
use crate::engine::Model;
use crate::engine::error::EngineError;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Asked, Question, Sought};
use crate::prompt::sandbox::Sandbox;
use crate::workload::Progress;
use std::time::{Duration, Instant};

/// The name of the request's template in its sandbox.
const TEMPLATE: &str = "template";

/// The passages nearest to every query, by an encoder.
pub(super) fn retrieve(
    model: &dyn Model,
    settings: &Settings,
    request: &TaskRequest<'_>,
    corpus: &Corpus<'_>,
    progress: Progress<'_>,
) -> Result<(Answered, RetrievalRecord), TaskError> {
    let (mut retriever, index) = Retriever::open(model, settings, corpus.passages, corpus.job)?;
    let mut answered = Answered::none(retriever.memory());
    let mut times = Times::default();
    for (position, question) in request.questions.iter().enumerate() {
        let Asked::Find { query, .. } = &question.asked else { continue };
        let Some(found) = retriever.find(query)? else {
            answered.too_long.push(question.id.clone());
            continue;
        };
        times.add(&found.embedding, &found.search, &Duration::ZERO, &Duration::ZERO);
        answered.count(found.tokens);
        answered.positions.push(position);
        answered.answers.push(Answer::Found { passages: found.passages, text: None });
        tell(progress, position + 1, request.questions.len());
    }
    answered.checked(request.questions, model)?;
    let seconds = times.means();
    Ok((answered, RetrievalRecord { index, seconds }))
}

/// Answers of a decoder whose requests hold the chunks that an encoder found.
pub(super) fn augment(
    model: &dyn Model,
    settings: &Settings,
    request: &TaskRequest<'_>,
    corpus: &Corpus<'_>,
    (max_tokens, stop): (u32, &[String]),
    progress: Progress<'_>,
) -> Result<(Answered, RetrievalRecord), TaskError> {
    let encoder = corpus.encoder.unwrap_or(model);
    let (mut retriever, index) = Retriever::open(encoder, settings, corpus.passages, corpus.job)?;
    let mut stops: Vec<&str> = stop.iter().map(String::as_str).collect();
    stops.extend(request.prompter.stops());
    let mut reader = Reader::new(model, settings, corpus, request, max_tokens)?;
    let mut memory = retriever.memory();
    memory.extend(reader.alone.context.memory());
    let mut answered = Answered::none(memory);
    let mut times = Times::default();
    for (position, question) in request.questions.iter().enumerate() {
        let Asked::Find { query, answer: Some(sought), .. } = &question.asked else { continue };
        let found = retriever.find(query)?;
        let chunks: Option<Vec<&str>> = found.as_ref().map(|found| {
            let nearest = found.chunks.iter().take(corpus.job.top as usize);
            nearest.map(|&chunk| retriever.content(chunk)).collect()
        });
        let start = Instant::now();
        let tokens = match &chunks {
            Some(chunks) => reader.request(question, sought, chunks)?,
            None => None,
        };
        let (Some(found), Some(tokens)) = (found, tokens) else {
            answered.too_long.push(question.id.clone());
            continue;
        };
        let first = reader.read(&tokens)?;
        let prefill = start.elapsed();
        let start = Instant::now();
        let text = reader.write(first, tokens.len(), &stops)?;
        times.add(&found.embedding, &found.search, &prefill, &start.elapsed());
        answered.count(found.tokens + tokens.len());
        answered.positions.push(position);
        answered.answers.push(Answer::Found { passages: found.passages, text: Some(text) });
        tell(progress, position + 1, request.questions.len());
    }
    answered.checked(request.questions, model)?;
    let seconds = times.means();
    Ok((answered, RetrievalRecord { index, seconds }))
}

impl Answered {
    pub(super) fn none(memory: Vec<crate::engine::memory::BufferMemory>) -> Self {
        let work = Work { request_tokens: 0, evaluated_tokens: 0 };
        Self { positions: Vec::new(), too_long: Vec::new(), answers: Vec::new(), work, memory }
    }

    pub(super) fn count(&mut self, tokens: usize) {
        self.work.request_tokens += tokens as u64;
        self.work.evaluated_tokens += tokens as u64;
    }

    /// An error if there is no answer at all.
    fn checked(&self, questions: &[Question], model: &dyn Model) -> Result<(), TaskError> {
        if self.positions.is_empty() {
            let context = model.context_length();
            // How long the shortest is cannot be told before passages are found for it.
            let shortest = context as usize + 1;
            return Err(TaskError::NothingFits { questions: questions.len(), shortest, context });
        }
        Ok(())
    }
}

/// A decoder, and the template of its requests.
struct Reader<'a> {
    model: &'a dyn Model,
    alone: Alone<'a>,
    sandbox: Sandbox,
    request: &'a TaskRequest<'a>,
    max_tokens: u32,
}

impl<'a> Reader<'a> {
    fn new(
        model: &'a dyn Model,
        settings: &Settings,
        corpus: &Corpus<'_>,
        request: &'a TaskRequest<'a>,
        max_tokens: u32,
    ) -> Result<Self, TaskError> {
        let sandbox = Sandbox::task();
        sandbox
            .add(TEMPLATE, corpus.job.template.as_deref().unwrap_or_default())
            .map_err(|fault| TaskError::Filling { reason: fault.to_string() })?;
        let alone = Alone::open(model, settings, model.context_length())?;
        Ok(Self { model, alone, sandbox, request, max_tokens })
    }

    /// The request as tokens; `None` if it and an answer do not fit the model's context.
    fn request(
        &self,
        question: &Question,
        sought: &Sought,
        chunks: &[&str],
    ) -> Result<Option<Vec<i32>>, TaskError> {
        let mut fields = sought.fields.clone();
        let passages = chunks.iter().map(|&chunk| serde_json::Value::from(chunk)).collect();
        fields.insert("passages".to_owned(), serde_json::Value::Array(passages));
        let text = self
            .sandbox
            .render_one(TEMPLATE, fields)
            .map_err(|fault| TaskError::Filling { reason: fault.to_string() })?;
        let prompt = self
            .request
            .prompter
            .request(&text)
            .map_err(|source| TaskError::Template { id: question.id.clone(), source })?;
        let tokens = self.model.tokenize_prompt(&prompt)?;
        let room = u64::from(self.model.context_length());
        let fits = !tokens.is_empty() && tokens.len() as u64 + u64::from(self.max_tokens) <= room;
        Ok(fits.then_some(tokens))
    }

    /// Reads the request; returns the first token of the answer.
    fn read(&mut self, tokens: &[i32]) -> Result<i32, EngineError> {
        self.alone.context.clear_memory();
        self.alone.read(tokens, 0, true)?;
        self.alone.next()
    }

    /// Writes the answer from its first token on, up to one of `stops`.
    fn write(&mut self, first: i32, length: usize, stops: &[&str]) -> Result<String, EngineError> {
        let position = i32::try_from(length).unwrap_or(i32::MAX);
        self.alone.write(first, position, self.max_tokens, stops)
    }
}

/// Time spent in each stage over all questions.
#[derive(Default)]
struct Times {
    questions: u32,
    embedding: Duration,
    search: Duration,
    prefill: Duration,
    generation: Duration,
}

impl Times {
    fn add(
        &mut self,
        embedding: &Duration,
        search: &Duration,
        prefill: &Duration,
        generation: &Duration,
    ) {
        self.questions += 1;
        self.embedding += *embedding;
        self.search += *search;
        self.prefill += *prefill;
        self.generation += *generation;
    }

    fn means(&self) -> StageSeconds {
        let mean = |sum| mean_seconds(sum, self.questions);
        StageSeconds {
            embedding: mean(self.embedding),
            search: mean(self.search),
            prefill: mean(self.prefill),
            generation: mean(self.generation),
        }
    }
}
