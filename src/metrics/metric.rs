//! The metrics by name, and how the counts of questions come to a value.

use super::{bleu, chrf};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// One metric of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskMetric {
    /// Share of right answers: the likeliest choice is the right one (lm-evaluation-harness' `acc`),
    /// or the answer is a reference to the letter, white space around it aside.
    Accuracy,
    /// As accuracy, the log-likelihood of each choice divided by its length in characters
    /// (lm-evaluation-harness' `acc_norm`).
    AccuracyNormalized,
    /// Mean over the classes of the F1 of each.
    MacroF1,
    /// `SQuAD`'s exact match.
    ExactMatch,
    /// `SQuAD`'s F1 over words.
    F1,
    /// BLEU.
    Bleu,
    /// chrF++.
    Chrf,
    /// ROUGE-1.
    Rouge1,
    /// ROUGE-2.
    Rouge2,
    /// ROUGE-L.
    RougeL,
    /// Share of questions for which a right passage is among the first k.
    Hit(u8),
    /// Mean reciprocal rank of the first right passage.
    ReciprocalRank,
    /// Normalized discounted cumulative gain of the first k.
    Ndcg(u8),
}

/// How the counts of questions come to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// One number per question, 0 or 1; the value is their mean.
    Share,
    /// One number per question; the value is their mean.
    Mean,
    /// Sums of the counts of all questions make the value.
    Corpus,
    /// Two numbers per question, the right class and the one answered.
    Classes,
}

/// Why a text is no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no metric; there are acc, acc_norm, macro_f1, exact_match, f1, bleu, chrf, rouge1, rouge2, rougeL, hit@K, mrr and ndcg@K"
)]
pub struct TaskMetricError(String);

impl TaskMetric {
    /// How counts come to a value.
    pub fn aggregation(self) -> Aggregation {
        match self {
            Self::Accuracy | Self::AccuracyNormalized | Self::ExactMatch | Self::Hit(_) => {
                Aggregation::Share
            }
            Self::F1
            | Self::Rouge1
            | Self::Rouge2
            | Self::RougeL
            | Self::ReciprocalRank
            | Self::Ndcg(_) => Aggregation::Mean,
            Self::Bleu | Self::Chrf => Aggregation::Corpus,
            Self::MacroF1 => Aggregation::Classes,
        }
    }

    /// Numbers that one question contributes.
    pub fn width(self) -> usize {
        match self.aggregation() {
            Aggregation::Share | Aggregation::Mean => 1,
            Aggregation::Classes => 2,
            Aggregation::Corpus if self == Self::Bleu => bleu::WIDTH,
            Aggregation::Corpus => chrf::WIDTH,
        }
    }

    /// What the value is multiplied with to be a percentage: 1 for metrics that are defined from 0
    /// to 100, 100 for the others, which are from 0 to 1.
    pub fn percent_factor(self) -> f64 {
        if self.aggregation() == Aggregation::Corpus { 1.0 } else { 100.0 }
    }

    /// The value over questions, each counted as often as `times` says; `rows` holds
    /// [`Self::width`] numbers per question. NaN without a question.
    pub fn value(self, rows: &[f64], times: impl Iterator<Item = u32>) -> f64 {
        let rows = rows.chunks_exact(self.width()).zip(times.map(f64::from));
        match self.aggregation() {
            Aggregation::Share | Aggregation::Mean => {
                let (sum, count) = rows.fold((0.0, 0.0), |(sum, count), (row, times)| {
                    (sum + times * row[0], count + times)
                });
                sum / count
            }
            Aggregation::Corpus => {
                let mut sums = vec![0.0; self.width()];
                for (row, times) in rows {
                    for (sum, count) in sums.iter_mut().zip(row) {
                        *sum += times * count;
                    }
                }
                if self == Self::Bleu { bleu::score(&sums) } else { chrf::score(&sums) }
            }
            Aggregation::Classes => macro_f1(rows.map(|(row, times)| (row[0], row[1], times))),
        }
    }

    /// The value over all questions.
    pub fn value_of_all(self, rows: &[f64]) -> f64 {
        self.value(rows, std::iter::repeat(1))
    }
}

/// Mean of the F1 of every class that is right or answered at least once, as scikit-learn's
/// `f1_score(average="macro")`. Takes the right class, the one answered, and how often it counts.
fn macro_f1(questions: impl Iterator<Item = (f64, f64, f64)>) -> f64 {
    #[derive(Default)]
    struct Class {
        right: f64,
        answered: f64,
        both: f64,
    }
    let mut classes: BTreeMap<u64, Class> = BTreeMap::new();
    for (right, answered, times) in questions.filter(|(_, _, times)| *times > 0.0) {
        // Classes are small whole numbers; their bits tell them apart.
        classes.entry(right.to_bits()).or_default().right += times;
        classes.entry(answered.to_bits()).or_default().answered += times;
        if right.to_bits() == answered.to_bits() {
            classes.entry(right.to_bits()).or_default().both += times;
        }
    }
    let f1 = classes.values().map(|class| 2.0 * class.both / (class.right + class.answered));
    f1.sum::<f64>() / crate::statistics::sample::to_f64(classes.len())
}

/// Names of metrics that stand alone: the one that is shown, then others. Those of hit@K and ndcg@K have a number behind.
const NAMES: [(TaskMetric, &[&str]); 11] = [
    (TaskMetric::Accuracy, &["acc", "accuracy"]),
    (TaskMetric::AccuracyNormalized, &["acc_norm"]),
    (TaskMetric::MacroF1, &["macro_f1"]),
    (TaskMetric::ExactMatch, &["exact_match", "em"]),
    (TaskMetric::F1, &["f1"]),
    (TaskMetric::Bleu, &["bleu"]),
    (TaskMetric::Chrf, &["chrf", "chrf++"]),
    (TaskMetric::Rouge1, &["rouge1", "rouge_1"]),
    (TaskMetric::Rouge2, &["rouge2", "rouge_2"]),
    (TaskMetric::RougeL, &["rougeL", "rouge_l"]),
    (TaskMetric::ReciprocalRank, &["mrr"]),
];

impl fmt::Display for TaskMetric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit(k) => formatter.pad(&format!("hit@{k}")),
            Self::Ndcg(k) => formatter.pad(&format!("ndcg@{k}")),
            alone => {
                let names = NAMES.iter().find(|(metric, _)| metric == alone);
                formatter.pad(names.map_or("", |(_, names)| names[0]))
            }
        }
    }
}

impl FromStr for TaskMetric {
    type Err = TaskMetricError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_lowercase().replace('-', "_");
        let is_named = |names: &[&str]| names.iter().any(|it| it.eq_ignore_ascii_case(&name));
        let found = match name.split_once('@') {
            None => NAMES.iter().find(|(_, names)| is_named(names)).map(|(metric, _)| *metric),
            Some((name, k)) => k.parse().ok().filter(|&k: &u8| k > 0).and_then(|k| match name {
                "hit" => Some(Self::Hit(k)),
                "ndcg" => Some(Self::Ndcg(k)),
                _ => None,
            }),
        };
        found.ok_or_else(|| TaskMetricError(text.to_owned()))
    }
}

impl Serialize for TaskMetric {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskMetric {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
