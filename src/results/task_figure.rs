//! Figures of tasks: values over questions with their intervals, and their comparison in pairs.

use super::figure::{Evidence, Figure};
use crate::metrics::{Aggregation, TaskMetric};
use crate::statistics::bootstrap::{percentile_interval, redraws};
use crate::statistics::estimate::Estimate;
use crate::statistics::interval::mean_estimate;
use crate::statistics::paired::{self, Pair};
use crate::statistics::proportion::{mcnemar, share_estimate};
use crate::statistics::sample::{Sample, to_f64};
use crate::workload::tasks::record::{ScoreRecord, TaskRecord};
use serde::Serialize;
use std::sync::Arc;

/// Fewer questions are not redrawn for an interval: they say too little.
const REDRAWN_FROM: usize = 5;

/// What each question of a task contributes to a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEvidence {
    metric: TaskMetric,
    counts: Arc<Vec<f64>>,
    /// Names of questions that were not answered: with the same ones left out, questions are the same.
    too_long: Arc<Vec<String>>,
    /// The value in every redraw, if the interval comes from there.
    redraws: Arc<Vec<f64>>,
}

/// How a figure compares with the same one of another trial, question by question.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedTest {
    /// By how much it is higher, with its 95 % interval.
    pub difference: Estimate,
    /// How probable a difference at least as large is if there is none.
    pub p_value: f64,
    /// How that was found.
    pub test: TestKind,
}

/// A paired test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TestKind {
    /// `McNemar`'s exact test, for answers that are right or wrong.
    Mcnemar,
    /// Questions redrawn for both alike.
    PairedBootstrap,
}

/// The figure of one metric of a task; `None` without a question or if something is not a number.
pub(super) fn figure(task: &TaskRecord, score: &ScoreRecord) -> Option<Figure> {
    let evidence = TaskEvidence::new(task, score)?;
    Some(Figure { estimate: evidence.estimate()?, evidence: Evidence::Questions(evidence) })
}

impl TaskEvidence {
    fn new(task: &TaskRecord, score: &ScoreRecord) -> Option<Self> {
        let ScoreRecord { metric, counts } = score;
        let whole = counts.len() == metric.width() * task.questions as usize;
        if counts.is_empty() || !whole || counts.iter().any(|count| !count.is_finite()) {
            return None;
        }
        let questions = counts.len() / metric.width();
        let is_redrawn = metric.aggregation() != Aggregation::Share && questions >= REDRAWN_FROM;
        let redraws = if is_redrawn {
            redraws(questions).map(|times| metric.value(counts, times.into_iter())).collect()
        } else {
            Vec::new()
        };
        Some(Self {
            metric: *metric,
            counts: Arc::new(counts.clone()),
            too_long: Arc::new(task.too_long.clone()),
            redraws: Arc::new(redraws),
        })
    }

    fn questions(&self) -> usize {
        self.counts.len() / self.metric.width()
    }

    /// The value with its 95 % interval: Wilson's for shares, Student's for means, the redraws' for
    /// what is computed from sums.
    fn estimate(&self) -> Option<Estimate> {
        match self.metric.aggregation() {
            Aggregation::Share => {
                let right = self.counts.iter().filter(|&&count| count > 0.5).count();
                share_estimate(right, self.questions())
            }
            Aggregation::Mean => {
                Sample::new(self.counts.iter().copied()).map(|it| mean_estimate(&it))
            }
            Aggregation::Corpus | Aggregation::Classes => Some(Estimate {
                value: self.metric.value_of_all(&self.counts),
                interval: percentile_interval(self.redraws.iter().copied()),
                n: self.questions(),
            }),
        }
    }

    /// Compares with another trial's; `None` if the questions are not the same.
    pub(super) fn against(&self, other: &Self) -> Option<PairedTest> {
        let same = self.metric == other.metric
            && self.counts.len() == other.counts.len()
            && self.too_long == other.too_long;
        if !same {
            return None;
        }
        if self.metric.aggregation() == Aggregation::Share {
            let pairs: Vec<Pair> = self
                .counts
                .iter()
                .zip(other.counts.iter())
                .map(|(&subject, &baseline)| Pair { subject, baseline })
                .collect();
            let only = |direction: f64| {
                pairs.iter().filter(|it| (it.subject - it.baseline) * direction > 0.5).count()
            };
            return Some(PairedTest {
                difference: paired::difference(&pairs)?,
                p_value: mcnemar(only(1.0), only(-1.0)),
                test: TestKind::Mcnemar,
            });
        }
        let value =
            self.metric.value_of_all(&self.counts) - other.metric.value_of_all(&other.counts);
        let differences: Vec<f64> =
            self.redraws.iter().zip(other.redraws.iter()).map(|(own, other)| own - other).collect();
        let interval = percentile_interval(differences.iter().copied());
        Some(PairedTest {
            difference: Estimate { value, interval, n: self.questions() },
            p_value: bootstrap_p_value(&differences),
            test: TestKind::PairedBootstrap,
        })
    }
}

/// Twice the share of redraws on the other side of 0, those at 0 counting for both; at least one
/// redraw is granted to it, since none in 500 is no proof of impossibility.
fn bootstrap_p_value(differences: &[f64]) -> f64 {
    if differences.is_empty() {
        return 1.0;
    }
    let below = differences.iter().filter(|&&difference| difference <= 0.0).count();
    let above = differences.iter().filter(|&&difference| difference >= 0.0).count();
    let fewer = below.min(above) + 1;
    (2.0 * to_f64(fewer) / to_f64(differences.len() + 1)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::chrf;
    use crate::results::made_up::answered;

    fn record(metric: TaskMetric, counts: Vec<f64>) -> TaskRecord {
        answered("t", metric, counts)
    }

    fn evidence(metric: TaskMetric, counts: Vec<f64>) -> TaskEvidence {
        let record = record(metric, counts);
        TaskEvidence::new(&record, &record.scores[0]).unwrap()
    }

    #[test]
    fn ten_answers_turned_wrong_are_beyond_chance_and_two_are_not() {
        let all_right = evidence(TaskMetric::Accuracy, vec![1.0; 50]);
        let turned = |wrong: usize| {
            let counts = (0..50).map(|at| f64::from(u8::from(at >= wrong))).collect();
            evidence(TaskMetric::Accuracy, counts).against(&all_right).unwrap()
        };
        let ten = turned(10);
        assert!((ten.difference.value + 0.2).abs() < 1e-12);
        assert!((ten.p_value - 2.0_f64.powi(-9)).abs() < 1e-12, "{ten:?}");
        assert!((turned(2).p_value - 0.5).abs() < 1e-12);
        assert!((turned(0).p_value - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_constant_loss_shows_through_questions_of_all_difficulties() {
        let hard = |at: usize| to_f64(at % 10) / 10.0;
        let own = evidence(TaskMetric::F1, (0..60).map(|at| hard(at) * 0.9).collect());
        let other = evidence(TaskMetric::F1, (0..60).map(hard).collect());
        let test = own.against(&other).unwrap();
        assert!(test.difference.interval.unwrap().high < 0.0, "{test:?}");
        assert!(test.p_value < 0.01);
        let same = other.against(&other).unwrap();
        assert!(same.difference.interval.unwrap().contains(0.0) && same.p_value > 0.99);
    }

    #[test]
    fn a_corpus_metric_has_an_interval_around_it() {
        let references = ["the old mill".to_owned()];
        let rows =
            |texts: &[&str]| texts.iter().flat_map(|it| chrf::counts(it, &references)).collect();
        let texts = ["the old mill", "an old hill", "a mill", "nothing", "the cold mill", "mill"];
        let record = record(TaskMetric::Chrf, rows(&texts));
        let estimate = figure(&record, &record.scores[0]).unwrap().estimate;
        let interval = estimate.interval.unwrap();
        assert!(interval.low < estimate.value && estimate.value < interval.high, "{estimate:?}");
        assert!(interval.half_width() > 5.0 && estimate.n == 6);
    }

    #[test]
    fn different_questions_are_not_compared() {
        let one = evidence(TaskMetric::Accuracy, vec![1.0; 5]);
        assert_eq!(one.against(&evidence(TaskMetric::Accuracy, vec![1.0; 4])), None);
        assert_eq!(one.against(&evidence(TaskMetric::ExactMatch, vec![1.0; 5])), None);
        let mut left_out = record(TaskMetric::Accuracy, vec![1.0; 5]);
        left_out.too_long = vec!["line 3".to_owned()];
        let left_out = TaskEvidence::new(&left_out, &left_out.scores[0]).unwrap();
        assert_eq!(one.against(&left_out), None);
    }

    #[test]
    fn counts_that_are_none_make_no_figure() {
        let broken = record(TaskMetric::Accuracy, vec![f64::NAN]);
        assert_eq!(figure(&broken, &broken.scores[0]), None);
        let mut short = record(TaskMetric::Bleu, vec![1.0; 10]);
        short.questions = 2;
        assert_eq!(figure(&short, &short.scores[0]), None);
    }
}
