//! The recommendation of a run: which variant is proved to meet everything, and what is known of the others.

use super::choice::size_relation;
use super::figure::{Figure, Relation};
use super::metric::Metric;
use super::proof::{Evidences, Finding, Proof};
use super::record::{RunRecord, TrialRecord};
use crate::experiment::recommend::Order;
use crate::units::to_f64;
use serde::{Deserialize, Serialize};

/// Divergences that differ by less are alike for whoever has to choose, as a fraction.
pub const ALIKE_LOSS: f64 = 0.1;

/// Speeds that differ by less are.
pub const ALIKE_SPEED: f64 = 0.05;

/// Below this divergence nobody tells variants apart, nats.
pub const NO_LOSS: f64 = 1e-4;

/// How a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It meets everything.
    Proved,
    /// It does not meet something.
    RuledOut,
    /// It is predicted not to fit, and was not looked at.
    DoesNotFit,
    /// Memory is limited, and nobody knows what it takes: it is not run.
    MemoryUnknown,
    /// It could not be measured.
    Failed,
    /// Something is marginal or was not measured.
    Open,
}

/// What a plan says of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// Bytes of its file; of one that is to be made, at most.
    pub file_bytes: u64,
    /// Memory that it will take at its peak, bytes; 0: the engine cannot tell.
    pub peak_bytes: u64,
    /// How far off that may be, bytes.
    pub error_bytes: u64,
    /// Tokens of context of all sequences that this is for.
    pub tokens: u32,
    /// Why it is not run, as half a sentence: it cannot be here, or nobody knows what it takes, which is limited; `None`: it
    /// can, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub does_not_fit: Option<String>,
}

/// One trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assessment {
    /// Its position.
    pub row: usize,
    /// What is known of each requirement.
    pub findings: Vec<Finding>,
    /// What that comes to.
    pub status: Status,
    /// Whether it is shown to be no better, in the order, than the one that is recommended.
    pub is_no_better: bool,
}

/// What a run recommends.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// What is better.
    pub order: Order,
    /// All trials.
    pub candidates: Vec<Assessment>,
    /// The best of those that are proved to meet everything.
    pub chosen: Option<usize>,
    /// If there is none: the one that comes closest.
    pub nearest: Option<usize>,
    #[serde(skip)]
    evidences: Evidences,
}

impl Recommendation {
    /// What a run recommends by what is measured so far; `None`: it was not asked to.
    pub fn of(run: &RunRecord) -> Option<Self> {
        let asked = run.stored_experiment().recommend?;
        Some(Self::by(run, asked.order))
    }

    /// The same, in this order.
    pub fn by(run: &RunRecord, order: Order) -> Self {
        let evidences = Evidences::of(run);
        let candidates = (0..run.trials.len()).map(|row| candidate(run, &evidences, row));
        let mut found = Self {
            order,
            candidates: candidates.collect(),
            chosen: None,
            nearest: None,
            evidences,
        };
        found.chosen = found.best(run);
        if let Some(chosen) = found.chosen {
            for row in 0..found.candidates.len() {
                found.candidates[row].is_no_better =
                    row == chosen || found.is_no_better(run, row, chosen);
            }
        } else {
            found.nearest = found.closest_to_all();
        }
        found
    }

    /// What the proofs were made from.
    pub fn evidences(&self) -> &Evidences {
        &self.evidences
    }

    /// Trials that may still turn out to be better than the recommended one.
    pub fn undecided(&self) -> impl Iterator<Item = &Assessment> {
        let is_possible = |it: &&Assessment| matches!(it.status, Status::Proved | Status::Open);
        self.candidates.iter().filter(is_possible).filter(|it| !it.is_no_better)
    }

    /// The best of the proved ones by what was measured; of those that are alike, the smallest.
    fn best(&self, run: &RunRecord) -> Option<usize> {
        let proved = self.candidates.iter().filter(|it| it.status == Status::Proved);
        proved.map(|it| it.row).reduce(|best, next| {
            let alike = self.is_no_better(run, next, best) && self.is_no_better(run, best, next);
            let is_better = if alike {
                bytes(&run.trials[next]) < bytes(&run.trials[best])
            } else {
                self.worth(run, next) > self.worth(run, best)
            };
            if is_better { next } else { best }
        })
    }

    /// What the order goes by, higher being better.
    pub fn worth(&self, run: &RunRecord, row: usize) -> f64 {
        let value = |metric| {
            let figure = self.evidences.figure(row, metric);
            figure.map(|figure| figure.estimate.value)
        };
        match self.order {
            Order::Smallest => -bytes(&run.trials[row]).unwrap_or(f64::INFINITY),
            Order::Fastest => {
                self.evidences.generation().and_then(value).unwrap_or(f64::NEG_INFINITY)
            }
            Order::Closest if run.trials[row].is_reference => 0.0,
            Order::Closest => match value(self.loss()) {
                Some(cosine) if self.loss() == Metric::EmbeddingCosine => cosine - 1.0,
                Some(loss) => -loss,
                None => f64::NEG_INFINITY,
            },
        }
    }

    /// The figure that says how far a variant is from the reference.
    pub fn loss(&self) -> Metric {
        let embeds = self.evidences.is_measured(Metric::EmbeddingCosine);
        if embeds { Metric::EmbeddingCosine } else { Metric::Kld }
    }

    /// Whether it is shown that a trial is no better in the order than another, by more than what counts as alike.
    fn is_no_better(&self, run: &RunRecord, row: usize, than: usize) -> bool {
        let high = |metric| self.evidences.log_ratio(row, than, metric).and_then(|it| it.interval);
        match self.order {
            Order::Smallest => {
                let (own, other) = (bytes(&run.trials[row]), bytes(&run.trials[than]));
                own.zip(other).is_some_and(|(own, other)| {
                    size_relation(&Figure::exact(own), &Figure::exact(other)) != Relation::Lower
                })
            }
            Order::Fastest => {
                let metric = self.evidences.generation();
                metric.and_then(high).is_some_and(|it| it.high <= ALIKE_SPEED.ln_1p())
            }
            Order::Closest if run.trials[than].is_reference => true,
            Order::Closest if run.trials[row].is_reference => {
                self.evidences.figure(than, self.loss()).is_some_and(is_none)
            }
            Order::Closest => {
                let both = [row, than].map(|row| self.evidences.figure(row, self.loss()));
                let are_none = both.into_iter().all(|it| it.is_some_and(is_none));
                are_none || high(self.loss()).is_some_and(|it| it.low >= -ALIKE_LOSS.ln_1p())
            }
        }
    }

    /// The trial whose worst requirement is missed by the least, of those that were measured if any were.
    fn closest_to_all(&self) -> Option<usize> {
        let is_possible = |it: &&Assessment| {
            matches!(it.status, Status::RuledOut | Status::Open)
                && it.findings.iter().any(|finding| finding.value.is_some())
        };
        let worst = |it: &Assessment| {
            let margins = it.findings.iter().filter_map(Finding::margin);
            margins.fold(f64::INFINITY, f64::min).min(0.0)
        };
        // Of what was measured more is known.
        let known = |it: &Assessment| {
            let is_measured = |it: &&Finding| it.value.is_some() && !it.is_predicted;
            it.findings.iter().filter(is_measured).count()
        };
        let all = |it: &Assessment| known(it) == it.findings.len();
        let candidates = self.candidates.iter().filter(is_possible);
        let nearest = candidates.max_by(|one, other| {
            let by_known =
                all(one).cmp(&all(other)).then((known(one) > 0).cmp(&(known(other) > 0)));
            by_known.then(worst(one).total_cmp(&worst(other)))
        });
        nearest.map(|it| it.row)
    }
}

/// Whether a divergence is shown to be so small that nobody tells it from none.
fn is_none(loss: &Figure) -> bool {
    let interval = loss.estimate.interval;
    interval.is_some_and(|it| it.high <= NO_LOSS)
}

fn candidate(run: &RunRecord, evidences: &Evidences, row: usize) -> Assessment {
    let trial = &run.trials[row];
    let findings = run.requirements.0.iter().map(|it| evidences.finding(run, row, it));
    let findings: Vec<Finding> = findings.collect();
    let has = |proof: Proof| findings.iter().any(|finding| finding.proof == proof);
    let does_not_fit = trial.predicted.as_ref().filter(|it| it.does_not_fit.is_some());
    let status = if trial.failure.is_some() {
        Status::Failed
    } else if let Some(predicted) = does_not_fit.filter(|_| trial.visits.is_empty()) {
        if predicted.peak_bytes == 0 { Status::MemoryUnknown } else { Status::DoesNotFit }
    } else if has(Proof::NotMet) {
        Status::RuledOut
    } else if has(Proof::Marginal) || has(Proof::NotMeasured) || trial.facts.is_none() {
        Status::Open
    } else {
        Status::Proved
    };
    Assessment { row, findings, status, is_no_better: false }
}

/// Bytes of a trial's file, or of what it will be.
pub fn bytes(trial: &TrialRecord) -> Option<f64> {
    let made = trial.artifact.as_ref().map(|artifact| artifact.file_bytes);
    let planned = trial.predicted.as_ref().map(|it| it.file_bytes);
    made.or(planned).map(to_f64)
}
