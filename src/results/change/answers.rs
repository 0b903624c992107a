//! Answers: how many changed from one side to the other. Perplexity may stand still while they do.

use super::partners::{Measured, Pair};
use crate::statistics::estimate::Estimate;
use crate::statistics::proportion::share_estimate;
use crate::workload::tasks::record::{KeptAnswer, TaskRecord};
use serde::Serialize;
use std::collections::BTreeMap;

/// What the answers to latency's prompts are called, among tasks.
pub(super) const PROMPTS: &str = "prompts";

/// How many answers of a task changed, or of the prompts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswersChange {
    /// The task, or `prompts`.
    pub of: String,
    /// Questions or prompts that both answered.
    pub asked: usize,
    /// Answers that are not the same.
    pub changed: usize,
    /// Of those, how many were wrong and are right; `None` where nothing says what is right.
    pub to_right: Option<usize>,
    /// How many were right and are wrong.
    pub to_wrong: Option<usize>,
    /// The part that flipped from right to wrong or back, with its 95 % interval; where nothing says what is right, the
    /// part that changed.
    pub flipped: Estimate,
}

impl AnswersChange {
    /// Whether they are answers to the prompts of latency, and to no task.
    pub fn is_of_prompts(&self) -> bool {
        self.of == PROMPTS
    }
}

/// Of every task, then of the prompts.
pub(super) fn of(pair: &Pair<'_>) -> Vec<AnswersChange> {
    let (base, new) = (pair.first(false), pair.first(true));
    let partner = |task: &TaskRecord| new.trial.tasks.iter().find(|it| it.task == task.task);
    let tasks = base.trial.tasks.iter().filter_map(|task| of_task(task, partner(task)?));
    tasks.chain(of_prompts(base, new)).collect()
}

fn of_task(base: &TaskRecord, new: &TaskRecord) -> Option<AnswersChange> {
    let is_same = base.questions == new.questions && base.too_long == new.too_long;
    if !is_same {
        return None;
    }
    // The first metric that says of each question whether it was answered right.
    let right = |task: &TaskRecord| -> Option<Vec<bool>> {
        let score = task.scores.iter().find(|it| {
            let is_yes_or_no = |count: &f64| *count <= 0.0 || *count >= 1.0;
            it.metric.width() == 1 && it.counts.iter().all(is_yes_or_no)
        })?;
        Some(score.counts.iter().map(|&count| count > 0.5).collect())
    };
    let turned = right(base).zip(right(new)).filter(|(one, other)| one.len() == other.len());
    let turned = turned.map(|(one, other)| {
        let to = |is_right: bool| {
            one.iter()
                .zip(&other)
                .filter(|(one, other)| one != other && **other == is_right)
                .count()
        };
        (to(true), to(false))
    });
    let is_kept = !base.answers.is_empty() && base.answers.len() == new.answers.len();
    let changed = if is_kept {
        let pairs = base.answers.iter().zip(&new.answers);
        pairs.filter(|(one, other)| !is_same_answer(one, other)).count()
    } else {
        let (to_right, to_wrong) = turned?;
        to_right + to_wrong
    };
    let asked = if is_kept { base.answers.len() } else { base.questions as usize };
    Some(AnswersChange {
        of: base.task.to_string(),
        asked,
        changed,
        to_right: turned.map(|it| it.0),
        to_wrong: turned.map(|it| it.1),
        flipped: share_estimate(turned.map_or(changed, |it| it.0 + it.1), asked)?,
    })
}

fn is_same_answer(one: &KeptAnswer, other: &KeptAnswer) -> bool {
    match (one, other) {
        (KeptAnswer::Text(one), KeptAnswer::Text(other)) => one.trim() == other.trim(),
        _ => one == other,
    }
}

fn of_prompts(base: &Measured<'_>, new: &Measured<'_>) -> Option<AnswersChange> {
    super::evidence::same_prompts(base, new).ok()?;
    let answers = |it: &Measured<'_>| -> BTreeMap<String, String> {
        let responses = it.trial.visits.iter().flat_map(|visit| &visit.responses);
        responses.map(|it| (it.prompt_id.clone(), it.text.clone())).collect()
    };
    let (one, other) = (answers(base), answers(new));
    let both = one.iter().filter_map(|(id, text)| Some((text, other.get(id)?)));
    let both: Vec<_> = both.collect();
    let changed = both.iter().filter(|(one, other)| one != other).count();
    Some(AnswersChange {
        of: PROMPTS.to_owned(),
        asked: both.len(),
        changed,
        to_right: None,
        to_wrong: None,
        flipped: share_estimate(changed, both.len())?,
    })
}
