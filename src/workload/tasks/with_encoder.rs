//! Answers of models with an encoder: the nearest alternative, and what a decoder writes after it.
//!
//! An encoder-only model chooses the alternative whose embedding is nearest to the request's, both as
//! they stand in the task: prefixes that the encoder was trained with belong into the templates. An
//! encoder-decoder reads the request whole and writes, or is asked how probable each alternative is
//! ([`super::seq2seq`]).

use super::answerer::{self, Answer};
use super::encode::{Fitted, fit};
use super::seq2seq::{Pairs, SourceChooser, SourceWriter};
use super::{Answered, TaskError, TaskRequest};
use crate::engine::Model;
use crate::engine::error::EngineError;
use crate::experiment::tasks::{Asked, Question};
use crate::statistics::sample::to_f64;
use crate::workload::Progress;
use crate::workload::draft::Limits;
use crate::workload::embedder::{Embedder, cosine};
use std::collections::HashMap;

/// Requests and continuations as tokens, with what ends a text: an encoder was trained on whole texts,
/// and a decoder writes the token that ends one.
fn fit_pairs(request: &TaskRequest<'_>) -> Result<Fitted<Pairs>, TaskError> {
    let TaskRequest { model, settings, questions, .. } = *request;
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
    fit(model, settings, questions, encode, longest)
}

/// How near each alternative is to its request.
pub(super) fn nearest(
    request: &TaskRequest<'_>,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let TaskRequest { model, settings, .. } = *request;
    let Fitted { positions, tokens, too_long } = fit_pairs(request)?;
    // Requests and names of classes recur; each text is embedded once.
    let mut texts: Vec<Vec<i32>> = Vec::new();
    let mut known: HashMap<Vec<i32>, usize> = HashMap::new();
    let mut place = |text: Vec<i32>| {
        *known.entry(text).or_insert_with_key(|text| {
            texts.push(text.clone());
            texts.len() - 1
        })
    };
    let request_tokens =
        tokens.iter().flatten().map(|(one, other)| (one.len() + other.len()) as u64).sum();
    // The places of both texts of each alternative.
    let places: Vec<Vec<(usize, usize)>> = tokens
        .into_iter()
        .map(|pairs| pairs.into_iter().map(|(one, other)| (place(one), place(other))).collect())
        .collect();
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    let mut embedder = Embedder::new(model, settings, u32::try_from(longest).unwrap_or(u32::MAX))?;
    let count = to_f64(texts.len());
    let embeddings = embedder.embed(&texts, &mut |done| progress(to_f64(done) / count, ""))?;
    let near = |&(one, other): &(usize, usize)| cosine(&embeddings[one], &embeddings[other]);
    let answers = places.iter().map(|pairs| Answer::Similarities(pairs.iter().map(near).collect()));
    Ok(Answered {
        positions,
        too_long,
        answers: answers.collect(),
        request_tokens,
        evaluated_tokens: texts.iter().map(|text| text.len() as u64).sum(),
        memory: embedder.memory(),
        ..Answered::default()
    })
}

/// What an encoder-decoder writes, the most probable token each time.
pub(super) fn write(
    request: &TaskRequest<'_>,
    limits: &Limits,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let TaskRequest { model, settings, questions, .. } = *request;
    let encode = |question: &Question| match &question.asked {
        Asked::Write { request, .. } => Ok(model.tokenize(request, true, false)?),
        _ => Ok(Vec::new()),
    };
    let Fitted { positions, tokens, too_long } = fit(model, settings, questions, encode, Vec::len)?;
    let start = start_token(model)?;
    let writer = |size| SourceWriter::answerer(tokens.clone(), limits.clone(), start, size);
    let answered = answerer::run_in_groups(writer, model, settings, progress)?;
    Ok(Answered { positions, too_long, ..answered })
}

/// How probable each alternative is to an encoder-decoder that has read its request.
pub(super) fn choose(
    request: &TaskRequest<'_>,
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let TaskRequest { model, settings, .. } = *request;
    let Fitted { positions, tokens, too_long } = fit_pairs(request)?;
    let start = start_token(model)?;
    let chooser = |size| SourceChooser::answerer(tokens.clone(), start, size);
    let answered = answerer::run_in_groups(chooser, model, settings, progress)?;
    Ok(Answered { positions, too_long, ..answered })
}

/// The token that a decoder begins with.
fn start_token(model: &dyn Model) -> Result<i32, TaskError> {
    Ok(model.decoder_start_token().ok_or(EngineError::NoStartToken)?)
}
