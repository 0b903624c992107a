//! Answers of models with an encoder: the nearest alternative, and what a decoder writes after it.
//!
//! An encoder-only model chooses the alternative whose embedding is nearest to the request's, both as
//! they stand in the task: prefixes that the encoder was trained with belong into the templates. An
//! encoder-decoder reads the request whole and writes, or is asked how probable each alternative is
//! ([`super::seq2seq`]).

use super::answerer::{self, Answer, Done};
use super::draft::Limits;
use super::record::Work;
use super::seq2seq::{Pairs, SourceChooser, SourceWriter};
use super::{Answered, TaskError};
use crate::engine::Model;
use crate::engine::error::EngineError;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Asked, Question};
use crate::workload::Progress;
use crate::workload::embedder::{Embedder, cosine};
use std::collections::HashMap;

/// Questions with the tokens of their texts, those that are too long left out.
struct Fitting<T> {
    positions: Vec<usize>,
    tokens: Vec<T>,
    too_long: Vec<String>,
}

/// Turns questions into tokens; `longest` says how many tokens the encoder has to read at once.
fn fit<T>(
    model: &dyn Model,
    questions: &[Question],
    encode: impl Fn(&Question) -> Result<T, TaskError>,
    longest: impl Fn(&T) -> usize,
) -> Result<Fitting<T>, TaskError> {
    let context = model.context_length();
    let mut fitting = Fitting { positions: Vec::new(), tokens: Vec::new(), too_long: Vec::new() };
    let mut shortest = usize::MAX;
    for (position, question) in questions.iter().enumerate() {
        let tokens = encode(question)?;
        shortest = shortest.min(longest(&tokens));
        if longest(&tokens) as u64 > u64::from(context) {
            fitting.too_long.push(question.id.clone());
        } else {
            fitting.positions.push(position);
            fitting.tokens.push(tokens);
        }
    }
    if fitting.positions.is_empty() {
        let questions = questions.len();
        return Err(TaskError::NothingFits { questions, shortest, context });
    }
    Ok(fitting)
}

/// Requests and continuations as tokens, with what ends a text: an encoder was trained on whole texts,
/// and a decoder writes the token that ends one.
fn fit_pairs(model: &dyn Model, questions: &[Question]) -> Result<Fitting<Pairs>, TaskError> {
    let encode = |question: &Question| -> Result<Pairs, TaskError> {
        let Asked::Choose { alternatives, .. } = &question.asked else { return Ok(Vec::new()) };
        let tokens = |text: &str| model.tokenize(text, true, false);
        let both =
            alternatives.iter().map(|it| Ok((tokens(&it.request)?, tokens(&it.continuation)?)));
        both.collect()
    };
    let longest = |texts: &Pairs| {
        texts.iter().map(|(one, other)| one.len().max(other.len())).max().unwrap_or(0)
    };
    fit(model, questions, encode, longest)
}

fn widest<'t>(texts: impl Iterator<Item = &'t Vec<i32>>) -> u32 {
    u32::try_from(texts.map(Vec::len).max().unwrap_or(0)).unwrap_or(u32::MAX)
}

/// The places of a question's texts among all texts that are embedded.
struct Places {
    request: Vec<usize>,
    alternatives: Vec<usize>,
}

/// How near each alternative is to its request.
pub(super) fn nearest(
    model: &dyn Model,
    settings: &Settings,
    questions: &[Question],
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let Fitting { positions, tokens, too_long } = fit_pairs(model, questions)?;
    // Requests and names of classes recur; each text is embedded once.
    let mut texts: Vec<Vec<i32>> = Vec::new();
    let mut known: HashMap<Vec<i32>, usize> = HashMap::new();
    let mut place = |text: Vec<i32>| {
        *known.entry(text).or_insert_with_key(|text| {
            texts.push(text.clone());
            texts.len() - 1
        })
    };
    let mut request_tokens = 0;
    let places: Vec<Places> = tokens
        .into_iter()
        .map(|alternatives| {
            request_tokens += alternatives
                .iter()
                .map(|(one, other)| (one.len() + other.len()) as u64)
                .sum::<u64>();
            let (request, alternatives) =
                alternatives.into_iter().map(|(one, other)| (place(one), place(other))).unzip();
            Places { request, alternatives }
        })
        .collect();
    let mut embedder = Embedder::new(model, settings, widest(texts.iter()))?;
    let count = texts.len();
    #[expect(clippy::cast_precision_loss, reason = "a fraction for the display")]
    let mut told = |done: usize| progress(done as f64 / count as f64, "");
    let embeddings = embedder.embed(&texts, &mut told)?;
    let answers = places
        .iter()
        .map(|places| {
            let pairs = places.request.iter().zip(&places.alternatives);
            let near = pairs.map(|(&one, &other)| cosine(&embeddings[one], &embeddings[other]));
            Answer::Similarities(near.collect())
        })
        .collect();
    let evaluated_tokens = texts.iter().map(|text| text.len() as u64).sum();
    Ok(Answered {
        positions,
        too_long,
        answers,
        work: Work { request_tokens, evaluated_tokens },
        memory: embedder.memory(),
    })
}

/// What an encoder-decoder writes, the most probable token each time.
pub(super) fn write(
    model: &dyn Model,
    settings: &Settings,
    questions: &[Question],
    limits: &Limits,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let encode = |question: &Question| match &question.asked {
        Asked::Write { request, .. } => Ok(model.tokenize(request, true, false)?),
        _ => Ok(Vec::new()),
    };
    let Fitting { positions, tokens, too_long } = fit(model, questions, encode, Vec::len)?;
    let start = start_token(model)?;
    let writer = |size| SourceWriter::new(tokens.clone(), limits.clone(), start, size);
    let Done { answers, work, memory } =
        answerer::run_in_groups(writer, model, settings, progress)?;
    Ok(Answered { positions, too_long, answers, work, memory })
}

/// How probable each alternative is to an encoder-decoder that has read its request.
pub(super) fn choose(
    model: &dyn Model,
    settings: &Settings,
    questions: &[Question],
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let Fitting { positions, tokens, too_long } = fit_pairs(model, questions)?;
    let start = start_token(model)?;
    let chooser = |size| SourceChooser::new(tokens.clone(), start, size);
    let Done { answers, work, memory } =
        answerer::run_in_groups(chooser, model, settings, progress)?;
    Ok(Answered { positions, too_long, answers, work, memory })
}

/// The token that a decoder begins with.
fn start_token(model: &dyn Model) -> Result<i32, TaskError> {
    Ok(model.decoder_start_token().ok_or(EngineError::NoStartToken)?)
}
