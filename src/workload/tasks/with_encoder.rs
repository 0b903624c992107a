//! Answers of models with an encoder: the nearest alternative, and what a decoder writes after it.
//!
//! An encoder-only model chooses the alternative whose embedding is nearest to the request's, both as
//! they stand in the task: prefixes that the encoder was trained with belong into the templates. An
//! encoder-decoder reads the request whole and writes, or is asked how probable each alternative is.

use super::answerer::{Answer, Likelihood};
use super::record::Work;
use super::{Answered, TaskError};
use crate::experiment::settings::Settings;
use crate::experiment::tasks::{Asked, Question};
use crate::llama::memory::BufferMemory;
use crate::llama::model::Model;
use crate::workload::Progress;
use crate::workload::embedder::{Embedder, cosine};
use crate::workload::seq2seq::SequenceToSequence;
use crate::workload::softmax::{index_of_maximum, log_sum_exp};
use std::collections::HashMap;

/// The tokens of request and continuation of every alternative.
type Pairs = Vec<(Vec<i32>, Vec<i32>)>;

/// Questions with the tokens of their texts, those that are too long left out.
struct Fitting<T> {
    positions: Vec<usize>,
    tokens: Vec<T>,
    too_long: Vec<String>,
}

/// Turns questions into tokens; `longest` says how many tokens the encoder has to read at once.
fn fit<T>(
    model: &Model,
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
fn fit_pairs(model: &Model, questions: &[Question]) -> Result<Fitting<Pairs>, TaskError> {
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
    model: &Model,
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

/// What an encoder-decoder writes, the most probable token each time: up to so many tokens, or to one
/// of the texts at which it stops.
pub(super) fn write(
    model: &Model,
    settings: &Settings,
    questions: &[Question],
    (max_tokens, stops): (u32, &[String]),
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let encode = |question: &Question| match &question.asked {
        Asked::Write { request, .. } => Ok(model.tokenize(request, true, false)?),
        _ => Ok(Vec::new()),
    };
    let Fitting { positions, tokens, too_long } = fit(model, questions, encode, Vec::len)?;
    let mut writer = SequenceToSequence::new(model, settings, widest(tokens.iter()), max_tokens)?;
    let mut answers = Vec::with_capacity(tokens.len());
    for source in &tokens {
        let written = writer.answer(source, max_tokens)?;
        let written = written.iter().filter(|&&token| !model.ends_generation(token));
        let bytes: Vec<u8> = written.flat_map(|&token| model.token_bytes(token)).collect();
        let text = String::from_utf8_lossy(&bytes);
        let end = stops.iter().filter_map(|stop| text.find(stop.as_str())).min();
        answers.push(Answer::Text(text[..end.unwrap_or(text.len())].to_owned()));
        tell(progress, answers.len(), tokens.len());
    }
    Ok(finish(positions, too_long, answers, &tokens, writer.memory()))
}

/// How probable each alternative is to an encoder-decoder that has read its request.
pub(super) fn choose(
    model: &Model,
    settings: &Settings,
    questions: &[Question],
    progress: Progress<'_>,
) -> Result<Answered, TaskError> {
    let Fitting { positions, tokens, too_long } = fit_pairs(model, questions)?;
    let sources = || tokens.iter().flatten().map(|(source, _)| source);
    let answers_ = || tokens.iter().flatten().map(|(_, answer)| answer);
    let mut writer =
        SequenceToSequence::new(model, settings, widest(sources()), widest(answers_()))?;
    let vocabulary = model.vocabulary_size().max(1);
    let mut answers = Vec::with_capacity(tokens.len());
    for alternatives in &tokens {
        let mut found = Vec::with_capacity(alternatives.len());
        for (source, answer) in alternatives {
            let logits = writer.logits_of(source, answer)?;
            found.push(likelihood(&logits, answer, vocabulary));
        }
        answers.push(Answer::Alternatives(found));
        tell(progress, answers.len(), tokens.len());
    }
    let sources: Vec<Vec<i32>> = sources().cloned().collect();
    Ok(finish(positions, too_long, answers, &sources, writer.memory()))
}

fn likelihood(logits: &[f32], answer: &[i32], vocabulary: usize) -> Likelihood {
    let mut likelihood = Likelihood { log_likelihood: 0.0, is_greedy: true };
    for (row, &token) in logits.chunks_exact(vocabulary).zip(answer) {
        let token = usize::try_from(token).unwrap_or(usize::MAX);
        let logit = row.get(token).copied().unwrap_or(f32::NAN);
        likelihood.log_likelihood += f64::from(logit - log_sum_exp(row));
        likelihood.is_greedy &= index_of_maximum(row) == token;
    }
    likelihood
}

fn finish(
    positions: Vec<usize>,
    too_long: Vec<String>,
    answers: Vec<Answer>,
    sources: &[Vec<i32>],
    memory: Vec<BufferMemory>,
) -> Answered {
    let tokens = sources.iter().map(|source| source.len() as u64).sum();
    let work = Work { request_tokens: tokens, evaluated_tokens: tokens };
    Answered { positions, too_long, answers, work, memory }
}

#[expect(clippy::cast_precision_loss, reason = "a fraction for the display")]
fn tell(progress: Progress<'_>, done: usize, all: usize) {
    progress(done as f64 / all as f64, "");
}
