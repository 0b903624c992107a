//! Answers of the reference along which a model's variants are compared.
//!
//! The reference answers prompts in the format of its own chat template. What it was asked and what it answered,
//! as tokens, is kept in a file beside its log-probabilities, so that every variant is scored along the same
//! tokens.

use super::QualityError;
use super::chunks::Chunk;
use crate::engine::Model;
use crate::experiment::settings::Settings;
use crate::experiment::workloads::{AnswersPlan, PlannedPrompt};
use crate::prompt::choice::Prompter;
use crate::workload::Progress;
use crate::workload::measured::ComparedAnswer;
use crate::workload::reference::{ReferenceError, io, mismatch};
use crate::workload::tasks::{self, TaskError};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// So many of the answers that diverge most are kept.
const WORST: usize = 3;

/// A prompt as the reference sees it, and what it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The place of the prompt in the plan.
    pub prompt: usize,
    /// The prompt in its format.
    pub request: Vec<i32>,
    /// The answer, with the token that ended it; empty: not answered yet.
    pub answer: Vec<i32>,
}

/// What is answered, and where the answers are.
#[derive(Debug, Clone, Copy)]
pub struct Along<'a> {
    /// The prompts, and how long answers may be.
    pub plan: &'a AnswersPlan,
    /// Those that fit the model.
    pub answered: &'a [Answered],
    /// Where the reference's answers are kept.
    pub file: &'a Path,
}

impl Along<'_> {
    /// The domain of a prompt.
    pub(super) fn domain_of(&self, answered: &Answered) -> &str {
        self.plan.prompts.get(answered.prompt).map_or("", |prompt| &prompt.domain)
    }
}

/// The prompts of a plan as tokens, without those that leave no room for an answer.
///
/// # Errors
/// The model's chat template fails.
pub(super) fn asked(
    model: &dyn Model,
    plan: &AnswersPlan,
    prompter: &Prompter,
) -> Result<Vec<Answered>, TaskError> {
    let context = model.context_length().min(model.learnt_positions().unwrap_or(u32::MAX));
    let mut asked = Vec::new();
    for (place, PlannedPrompt { text, .. }) in plan.prompts.iter().enumerate() {
        let of_template = |source| TaskError::Template { id: text.clone(), source };
        let prompt = prompter.request(text).map_err(of_template)?;
        let request = model.tokenize_prompt(&prompt)?;
        if !request.is_empty() && request.len() + plan.max_tokens as usize <= context as usize {
            asked.push(Answered { prompt: place, request, answer: Vec::new() });
        }
    }
    Ok(asked)
}

/// Answers the prompts among `chunks`, adds the answers to them, and keeps them for the other variants.
pub(super) fn write(
    model: &dyn Model,
    settings: &Settings,
    along: Along<'_>,
    chunks: &mut [Chunk],
    progress: Progress<'_>,
) -> Result<(), QualityError> {
    let chunks = chunks.iter_mut().filter_map(|chunk| Some((chunk.answer?, chunk)));
    let mut chunks: Vec<(usize, &mut Chunk)> = chunks.collect();
    let requests: Vec<Vec<i32>> = chunks.iter().map(|(_, chunk)| chunk.tokens.clone()).collect();
    let mut told = |done: f64, _: &str| progress(done, "answering");
    let answers = tasks::write(model, settings, &requests, along.plan.max_tokens, &mut told)?;
    let mut answered = along.answered.to_vec();
    for ((place, chunk), answer) in chunks.iter_mut().zip(answers) {
        chunk.tokens.extend(&answer);
        answered[*place].answer = answer;
    }
    Ok(keep(along.file, &answered)?)
}

/// Keeps answers in a file.
pub(super) fn keep(path: &Path, answered: &[Answered]) -> Result<(), ReferenceError> {
    // Plain data always serializes.
    let bytes = serde_json::to_vec(answered).unwrap_or_default();
    fs::write(path, bytes).map_err(|source| io("write", path, source))
}

/// The answers that the reference kept of a plan.
pub(super) fn kept(path: &Path, plan: &AnswersPlan) -> Result<Vec<Answered>, ReferenceError> {
    let bytes = fs::read(path).map_err(|source| io("read", path, source))?;
    let answered: Vec<Answered> =
        serde_json::from_slice(&bytes).map_err(|_| mismatch(path, "it is no list of answers"))?;
    match answered.iter().find(|it| it.prompt >= plan.prompts.len()) {
        Some(_) => Err(mismatch(path, "the reference was asked something else")),
        None => Ok(answered),
    }
}

/// What the variant itself answers where it diverges most from the reference along the reference's answers.
pub(super) fn worst(
    model: &dyn Model,
    settings: &Settings,
    along: Along<'_>,
    chunks: &[Chunk],
    chunk_kld: &[f64],
) -> Result<Vec<ComparedAnswer>, QualityError> {
    let of_answer = |(chunk, &kld): (&Chunk, &f64)| Some((along.answered.get(chunk.answer?)?, kld));
    let mut found: Vec<(&Answered, f64)> =
        chunks.iter().zip(chunk_kld).filter_map(of_answer).collect();
    found.sort_by(|one, other| other.1.total_cmp(&one.1));
    found.retain(|(_, kld)| *kld > 0.0);
    found.truncate(WORST);
    let requests: Vec<Vec<i32>> = found.iter().map(|(it, _)| it.request.clone()).collect();
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let own = tasks::write(model, settings, &requests, along.plan.max_tokens, &mut |_, _| {})?;
    let text = |tokens: &[i32]| {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| model.token_bytes(token)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let compared = |((answered, kld), own): ((&Answered, f64), Vec<i32>)| {
        let PlannedPrompt { domain, text: prompt } = along.plan.prompts.get(answered.prompt)?;
        Some(ComparedAnswer {
            domain: domain.clone(),
            prompt: prompt.clone(),
            kld,
            reference: text(&answered.answer),
            variant: text(&own),
        })
    };
    Ok(found.into_iter().zip(own).filter_map(compared).collect())
}
