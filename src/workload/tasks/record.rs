//! What a task leaves: its answers, and for each metric what every question contributes.

use super::answerer::{Answer, Likelihood};
use crate::experiment::tasks::{Answering, Asked, Question, TaskName};
use crate::metrics::{TaskMetric, bleu, chrf, rouge, squad};
use crate::statistics::sample::to_f64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one variant made of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task.
    pub task: TaskName,
    /// What requests were put into: `none`, the name of a format, or `own` for the model's template.
    pub format: String,
    /// Questions that were answered.
    pub questions: u32,
    /// Questions that were not, because they do not fit the model's context.
    pub too_long: Vec<String>,
    /// One per metric; the first is the one shown first.
    pub scores: Vec<ScoreRecord>,
    /// The answers, in the order of the questions; none for continuations that were given.
    pub answers: Vec<KeptAnswer>,
    /// Tokens that would have been evaluated with one request at a time.
    pub request_tokens: u64,
    /// Tokens that were evaluated before answers were written; what all questions begin with is
    /// not counted.
    pub evaluated_tokens: u64,
    /// Seconds it took, tokenization included.
    pub seconds: f64,
}

/// One metric of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRecord {
    /// The metric.
    pub metric: TaskMetric,
    /// [`TaskMetric::width`] numbers per question, one question after the other.
    pub counts: Vec<f64>,
}

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KeptAnswer {
    /// The alternative chosen, from 0.
    Choice(u32),
    /// The text written.
    Text(String),
}

/// How much there was to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) request_tokens: u64,
    pub(super) evaluated_tokens: u64,
}

/// The answers as they are kept.
pub(super) fn kept(answering: &Answering, answers: &[Answer]) -> Vec<KeptAnswer> {
    if *answering == Answering::Predict {
        return Vec::new();
    }
    let keep = |answer: &Answer| match answer {
        Answer::Text(text) => KeptAnswer::Text(text.clone()),
        Answer::Alternatives(found) => {
            let chosen = likeliest(found.iter().map(|it| it.log_likelihood));
            KeptAnswer::Choice(u32::try_from(chosen).unwrap_or(u32::MAX))
        }
    };
    answers.iter().map(keep).collect()
}

/// What every question contributes to each metric.
pub(super) fn scores(
    metrics: &[TaskMetric],
    questions: &[&Question],
    answers: &[Answer],
) -> Vec<ScoreRecord> {
    let score = |&metric: &TaskMetric| {
        let mut classes = Classes::default();
        let counts = questions.iter().zip(answers).flat_map(|(question, answer)| {
            let row = match (&question.asked, answer) {
                (Asked::Write { references, .. }, Answer::Text(text)) => {
                    of_text(metric, text, references, &mut classes)
                }
                (Asked::Choose { alternatives, right }, Answer::Alternatives(found)) => {
                    let lengths = alternatives.iter().map(|it| it.continuation.chars().count());
                    of_choice(metric, found, lengths, *right)
                }
                _ => None,
            };
            // A metric that says nothing of such answers was refused with the experiment.
            row.unwrap_or_else(|| vec![f64::NAN; metric.width()])
        });
        ScoreRecord { metric, counts: counts.collect() }
    };
    metrics.iter().map(score).collect()
}

/// Position of the highest value; the first of several.
fn likeliest(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (position, value) in values.enumerate() {
        if value > best.1 {
            best = (position, value);
        }
    }
    best.0
}

fn one(is_right: bool) -> Vec<f64> {
    vec![f64::from(u8::from(is_right))]
}

fn of_choice(
    metric: TaskMetric,
    found: &[Likelihood],
    characters: impl Iterator<Item = usize>,
    right: usize,
) -> Option<Vec<f64>> {
    let chosen = likeliest(found.iter().map(|it| it.log_likelihood));
    Some(match metric {
        TaskMetric::Accuracy if found.len() == 1 => one(found[0].is_greedy),
        TaskMetric::Accuracy => one(chosen == right),
        TaskMetric::AccuracyNormalized => {
            let per_character = found
                .iter()
                .zip(characters)
                .map(|(it, characters)| it.log_likelihood / to_f64(characters.max(1)));
            one(likeliest(per_character) == right)
        }
        TaskMetric::MacroF1 => vec![to_f64(right), to_f64(chosen)],
        _ => return None,
    })
}

/// Numbers for classes that are named by texts.
#[derive(Debug, Default)]
struct Classes(BTreeMap<String, usize>);

impl Classes {
    fn number(&mut self, name: &str) -> f64 {
        let next = self.0.len();
        to_f64(*self.0.entry(name.trim().to_owned()).or_insert(next))
    }
}

fn of_text(
    metric: TaskMetric,
    answer: &str,
    references: &[String],
    classes: &mut Classes,
) -> Option<Vec<f64>> {
    Some(match metric {
        TaskMetric::Accuracy => one(references.iter().any(|it| it.trim() == answer.trim())),
        TaskMetric::MacroF1 => {
            vec![classes.number(references.first()?), classes.number(answer)]
        }
        TaskMetric::ExactMatch => vec![squad::exact_match(answer, references)],
        TaskMetric::F1 => vec![squad::f1(answer, references)],
        TaskMetric::Bleu => bleu::counts(answer, references),
        TaskMetric::Chrf => chrf::counts(answer, references),
        TaskMetric::Rouge1 => vec![rouge::rouge_n(1, answer, references)],
        TaskMetric::Rouge2 => vec![rouge::rouge_n(2, answer, references)],
        TaskMetric::RougeL => vec![rouge::rouge_l(answer, references)],
        TaskMetric::AccuracyNormalized
        | TaskMetric::Hit(_)
        | TaskMetric::ReciprocalRank
        | TaskMetric::Ndcg(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::tasks::Alternative;

    fn choice(continuations: &[&str], right: usize) -> Question {
        let alternative =
            |text: &&str| Alternative { request: "?".to_owned(), continuation: (*text).to_owned() };
        let alternatives = continuations.iter().map(alternative).collect();
        Question { id: "q".to_owned(), asked: Asked::Choose { alternatives, right } }
    }

    fn likelihoods(values: &[(f64, bool)]) -> Answer {
        let one =
            |&(log_likelihood, is_greedy): &(f64, bool)| Likelihood { log_likelihood, is_greedy };
        Answer::Alternatives(values.iter().map(one).collect())
    }

    fn counts(metric: TaskMetric, question: &Question, answer: &Answer) -> Vec<f64> {
        scores(&[metric], &[question], std::slice::from_ref(answer)).swap_remove(0).counts
    }

    #[test]
    fn length_turns_a_choice_only_where_it_is_normalized() {
        let question = choice(&["no", "certainly"], 1);
        let answer = likelihoods(&[(-2.0, false), (-4.5, false)]);
        assert_eq!(counts(TaskMetric::Accuracy, &question, &answer), [0.0]);
        // −1 against −0.5 per character.
        assert_eq!(counts(TaskMetric::AccuracyNormalized, &question, &answer), [1.0]);
        assert_eq!(counts(TaskMetric::MacroF1, &question, &answer), [1.0, 0.0]);
    }

    #[test]
    fn a_single_continuation_is_right_if_the_model_would_say_it() {
        let question = choice(&["word"], 0);
        assert_eq!(counts(TaskMetric::Accuracy, &question, &likelihoods(&[(-9.0, true)])), [1.0]);
        assert_eq!(counts(TaskMetric::Accuracy, &question, &likelihoods(&[(-0.1, false)])), [0.0]);
    }

    #[test]
    fn written_answers_are_right_to_the_letter_or_not() {
        let references = vec!["the mill".to_owned(), "a mill".to_owned()];
        let asked = Asked::Write { request: "?".to_owned(), references };
        let question = Question { id: "q".to_owned(), asked };
        let text = |text: &str| Answer::Text(text.to_owned());
        assert_eq!(counts(TaskMetric::Accuracy, &question, &text(" a mill\n")), [1.0]);
        assert_eq!(counts(TaskMetric::Accuracy, &question, &text("A mill")), [0.0]);
        assert_eq!(counts(TaskMetric::ExactMatch, &question, &text("A mill.")), [1.0]);
        assert_eq!(counts(TaskMetric::Bleu, &question, &text("x")).len(), bleu::WIDTH);
    }

    #[test]
    fn answers_read_back_as_what_they_were() {
        let kept = vec![KeptAnswer::Choice(3), KeptAnswer::Text("4".to_owned())];
        let json = serde_json::to_string(&kept).unwrap();
        assert_eq!(json, "[3,\"4\"]");
        assert_eq!(serde_json::from_str::<Vec<KeptAnswer>>(&json).unwrap(), kept);
    }
}
