//! What a task leaves: its answers, and for each metric what every question contributes.

use super::answerer::Answer;
use crate::experiment::tasks::{Answering, Asked, Question, TaskName};
use crate::metrics::{TaskMetric, bleu, chrf, ranking, rouge, squad};
use crate::statistics::sample::to_f64;
use crate::workload::draft::Written;
use crate::workload::measured::LiveFigure;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// What one variant made of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task.
    pub task: TaskName,
    /// What requests were put into: `none`, the name of a format, or `own` for the model's template.
    pub format: String,
    /// The text that opens a thought (`<think>`) at the end of every request, if the format leaves one open:
    /// answers are then part of the thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_thought: Option<String>,
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
    /// Of a task that finds passages: how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<RetrievalRecord>,
    /// Of a task that shows pictures: what seeing them took.
    #[serde(default, alias = "sight", skip_serializing_if = "Option::is_none")]
    pub vision: Option<VisionRecord>,
}

impl TaskRecord {
    /// `arc-easy acc 61.3 %`.
    pub(in crate::workload) fn live(&self) -> Option<LiveFigure> {
        let ScoreRecord { metric, counts } = self.scores.first()?;
        let percent = metric.value_of_all(counts) * metric.percent_factor();
        let name = format!("{} {metric}", self.task);
        Some(LiveFigure::latest(name, percent, |percent| format!("{percent:.1} %")))
    }
}

/// What seeing pictures took, one question at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VisionRecord {
    /// Pictures that were encoded; questions in a row about one picture share its encoding.
    pub pictures: u32,
    /// Mean number of tokens that a picture takes of the context.
    pub tokens_per_picture: f64,
    /// Bytes of the projector's weights and of what encoding takes, as the engine counts them. The
    /// memory of a trial's other workloads does not hold them.
    pub projector_bytes: u64,
    /// Where the time goes.
    pub seconds: VisionSeconds,
}

/// Mean seconds of each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct VisionSeconds {
    /// Per picture: from pixels to embeddings, scaling included; reading the file is not.
    pub encoding: f64,
    /// Per question: the request is read, the picture's embeddings included, up to the first token of the
    /// answer.
    pub prefill: f64,
    /// Per question: the rest of the answer is written.
    pub generation: f64,
}

/// How passages were found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetrievalRecord {
    /// The index of their chunks.
    pub index: IndexUse,
    /// Where the time of a question goes.
    pub seconds: StageSeconds,
}

/// How the index came about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IndexUse {
    /// Chunks in it.
    pub chunks: u32,
    /// Whether it was read from its file; else it was made.
    pub was_read: bool,
    /// Seconds that reading it, or embedding the chunks and making it, took.
    pub seconds: f64,
}

/// Mean seconds per question, one question at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSeconds {
    /// The question is embedded.
    pub embedding: f64,
    /// The index is searched.
    pub search: f64,
    /// The request is read, up to the first token of the answer; 0 if nothing is answered.
    pub prefill: f64,
    /// The rest of the answer is written; 0 if nothing is answered.
    pub generation: f64,
}

impl StageSeconds {
    /// The means, from the sums over so many questions.
    pub(super) fn per(self, questions: usize) -> Self {
        let mean = |sum: f64| sum / to_f64(questions);
        Self {
            embedding: mean(self.embedding),
            search: mean(self.search),
            prefill: mean(self.prefill),
            generation: mean(self.generation),
        }
    }
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
    /// The alternative chosen, or the passage found, from 0.
    Choice(u32),
    /// The text written.
    Text(String),
}

/// The answers as they are kept.
pub(super) fn kept(answering: &Answering, answers: &[Answer]) -> Vec<KeptAnswer> {
    if *answering == Answering::Predict {
        return Vec::new();
    }
    let choice = |place: usize| KeptAnswer::Choice(u32::try_from(place).unwrap_or(u32::MAX));
    let keep = |answer: &Answer| match answer {
        Answer::Text(Written { text, .. }) | Answer::Found { text: Some(text), .. } => {
            KeptAnswer::Text(text.clone())
        }
        Answer::Alternatives(found) => choice(likeliest(found.iter().map(|it| it.log_likelihood))),
        Answer::Found { passages, text: None } => {
            choice(passages.first().copied().unwrap_or(usize::MAX))
        }
        Answer::Similarities(found) => choice(likeliest(found.iter().copied())),
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
                (
                    Asked::Write { references, .. } | Asked::See { references, .. },
                    Answer::Text(Written { text, .. }),
                ) => of_text(metric, text, references, &mut classes),
                (Asked::Choose { .. }, Answer::Alternatives(found))
                    if found.len() == 1 && metric == TaskMetric::Accuracy =>
                {
                    Some(one(found[0].is_greedy))
                }
                (Asked::Choose { alternatives, right }, Answer::Alternatives(found)) => {
                    let chosen = likeliest(found.iter().map(|it| it.log_likelihood));
                    let per_character = found.iter().zip(alternatives).map(|(it, alternative)| {
                        it.log_likelihood / to_f64(alternative.continuation.chars().count().max(1))
                    });
                    of_choice(metric, [chosen, likeliest(per_character)], *right)
                }
                // The length of an alternative plays no part in how near it is.
                (Asked::Choose { right, .. }, Answer::Similarities(found)) => {
                    of_choice(metric, [likeliest(found.iter().copied()); 2], *right)
                }
                (Asked::Find { relevant, answer, .. }, Answer::Found { passages, text }) => {
                    let references =
                        answer.as_ref().map_or(&[][..], |answer| answer.references.as_slice());
                    of_ranking(metric, passages, *relevant)
                        .or_else(|| of_text(metric, text.as_deref()?, references, &mut classes))
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

/// The best alternative by its probability, and by that per character.
fn of_choice(
    metric: TaskMetric,
    [chosen, normalized]: [usize; 2],
    right: usize,
) -> Option<Vec<f64>> {
    Some(match metric {
        TaskMetric::Accuracy => one(chosen == right),
        TaskMetric::AccuracyNormalized => one(normalized == right),
        TaskMetric::MacroF1 => vec![to_f64(right), to_f64(chosen)],
        _ => return None,
    })
}

fn of_ranking(metric: TaskMetric, passages: &[usize], relevant: usize) -> Option<Vec<f64>> {
    let relevant = HashSet::from([relevant]);
    Some(vec![match metric {
        TaskMetric::Hit(k) => ranking::hit(passages, &relevant, k.into()),
        TaskMetric::ReciprocalRank => ranking::reciprocal_rank(passages, &relevant),
        TaskMetric::Ndcg(k) => ranking::ndcg(passages, &relevant, k.into()),
        _ => return None,
    }])
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
    use crate::experiment::tasks::{Alternative, Sought};
    use crate::workload::tasks::answerer::Likelihood;
    use serde_json::Map;

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
    fn found_passages_count_by_rank_and_answers_by_their_text() {
        let answer = Some(Sought { fields: Map::new(), references: vec!["a mill".to_owned()] });
        let asked = Asked::Find { query: "?".to_owned(), relevant: 7, answer };
        let question = Question { id: "q".to_owned(), asked };
        let found = Answer::Found { passages: vec![3, 7, 1], text: Some("A mill.".to_owned()) };
        let of = |metric| counts(metric, &question, &found);
        assert_eq!(of(TaskMetric::Hit(1)), [0.0]);
        assert_eq!(of(TaskMetric::Hit(2)), [1.0]);
        assert_eq!(of(TaskMetric::ReciprocalRank), [0.5]);
        assert!((of(TaskMetric::Ndcg(10))[0] - 1.0 / 3_f64.log2()).abs() < 1e-12);
        assert_eq!(of(TaskMetric::ExactMatch), [1.0]);
        assert_eq!(of(TaskMetric::Accuracy), [0.0]);
        let only_found = Answer::Found { passages: vec![3, 7], text: None };
        assert_eq!(kept(&Answering::Retrieve, &[only_found]), [KeptAnswer::Choice(3)]);
    }

    #[test]
    fn the_nearest_alternative_is_the_answer() {
        let question = choice(&["near", "far away"], 1);
        let answer = Answer::Similarities(vec![0.2, 0.7]);
        assert_eq!(counts(TaskMetric::Accuracy, &question, &answer), [1.0]);
        assert_eq!(counts(TaskMetric::AccuracyNormalized, &question, &answer), [1.0]);
        assert_eq!(counts(TaskMetric::MacroF1, &question, &answer), [1.0, 1.0]);
        assert_eq!(kept(&Answering::Choose, &[answer]), [KeptAnswer::Choice(1)]);
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
        let text = |text: &str| Answer::Text(Written { text: text.to_owned(), tokens: Vec::new() });
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
