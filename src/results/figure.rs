//! Figures: an estimate together with what it takes to compare it fairly with another one.

use super::task_figure::TaskEvidence;
use crate::statistics::bootstrap::ClusteredQuantile;
use crate::statistics::estimate::{Estimate, Interval};
use crate::statistics::paired::{self, Pair};
use std::collections::BTreeMap;

/// One figure of one trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its value, with interval.
    pub estimate: Estimate,
    /// What comparisons are made from.
    pub evidence: Evidence,
}

/// What a figure rests on, kept so that two figures are compared in pairs: by the same round, the
/// same prompt or the same chunk of text.
#[derive(Debug, Clone, PartialEq)]
pub enum Evidence {
    /// Read off, without noise.
    Exact,
    /// One value per round, all positive; compared by the median of ratios.
    Rounds(BTreeMap<u32, f64>),
    /// A quantile over test prompts; compared by redrawing the prompts for both alike.
    Prompts {
        /// The prompts' names, ascending.
        ids: Vec<String>,
        /// The quantile.
        quantile: ClusteredQuantile,
    },
    /// One value per chunk of the evaluation text; compared by the mean of differences.
    Chunks {
        /// The values, in the order of the text.
        values: Vec<f64>,
        /// Whether the figure is exp of the values' mean (perplexity), not the mean itself.
        exponential: bool,
    },
    /// What each question of a task contributes; compared question by question.
    Questions(TaskEvidence),
    /// Nothing but value and interval.
    IntervalOnly,
}

/// What may be said of one figure in comparison with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is lower, beyond the noise.
    Lower,
    /// The 95 % interval leaves it open which is lower, or there is none to go by.
    Same,
    /// It is higher, beyond the noise.
    Higher,
}

impl Figure {
    /// A figure without noise.
    pub fn exact(value: f64) -> Self {
        Self { estimate: Estimate::exact(value), evidence: Evidence::Exact }
    }

    /// One minus this figure: how far something is of which this says how near.
    #[must_use]
    pub fn complement(self) -> Self {
        let estimate = Estimate {
            value: 1.0 - self.estimate.value,
            interval: self
                .estimate
                .interval
                .map(|Interval { low, high }| Interval { low: 1.0 - high, high: 1.0 - low }),
            n: self.estimate.n,
        };
        let evidence = match self.evidence {
            Evidence::Exact => Evidence::Exact,
            Evidence::Chunks { values, exponential: false } => Evidence::Chunks {
                values: values.into_iter().map(|value| 1.0 - value).collect(),
                exponential: false,
            },
            _ => Evidence::IntervalOnly,
        };
        Self { estimate, evidence }
    }

    /// Whether this figure is lower or higher than `other`, beyond the noise.
    pub fn relation(&self, other: &Self) -> Relation {
        let by_ratio = || self.ratio(other)?.interval.map(|interval| around(interval, 1.0));
        let by_difference =
            || self.difference(other)?.interval.map(|interval| around(interval, 0.0));
        match (&self.evidence, &other.evidence) {
            (Evidence::Rounds(_), Evidence::Rounds(_))
            | (Evidence::Prompts { .. }, Evidence::Prompts { .. }) => by_ratio(),
            _ => by_difference(),
        }
        .unwrap_or(Relation::Same)
    }

    /// How many times `other` this figure is, with the interval of the paired comparison. `None` if
    /// they have nothing in common to be paired by.
    pub fn ratio(&self, other: &Self) -> Option<Estimate> {
        match (&self.evidence, &other.evidence) {
            (Evidence::Exact, Evidence::Exact) if other.estimate.value > 0.0 => {
                Some(Estimate::exact(self.estimate.value / other.estimate.value))
            }
            (Evidence::Rounds(own), Evidence::Rounds(others)) => {
                let pairs: Vec<Pair> = own
                    .iter()
                    .filter_map(|(round, &subject)| {
                        others.get(round).map(|&baseline| Pair { subject, baseline })
                    })
                    .collect();
                paired::ratio(&pairs)
            }
            (
                Evidence::Prompts { ids, quantile },
                Evidence::Prompts { ids: other_ids, quantile: other_quantile },
            ) if ids == other_ids => quantile.ratio(other_quantile),
            (
                Evidence::Chunks { exponential: true, .. },
                Evidence::Chunks { exponential: true, .. },
            ) => self.difference(other).map(|difference| difference.map(f64::exp)),
            _ => None,
        }
    }

    /// By how much this figure exceeds `other`: paired by chunk for what is measured over a text
    /// (in logarithms for perplexity), else with the two intervals combined as of independent
    /// measurements.
    pub fn difference(&self, other: &Self) -> Option<Estimate> {
        if let (
            Evidence::Chunks { values, exponential },
            Evidence::Chunks { values: others, exponential: other_exponential },
        ) = (&self.evidence, &other.evidence)
            && exponential == other_exponential
        {
            // An evaluation that stopped early has fewer chunks, of the same text from its start.
            let pairs: Vec<Pair> = values
                .iter()
                .zip(others)
                .map(|(&subject, &baseline)| Pair { subject, baseline })
                .collect();
            return paired::difference(&pairs);
        }
        if let (Evidence::Questions(own), Evidence::Questions(others)) =
            (&self.evidence, &other.evidence)
            && let Some(test) = own.against(others)
        {
            return Some(test.difference);
        }
        let value = self.estimate.value - other.estimate.value;
        let interval = match (self.estimate.interval, other.estimate.interval) {
            (Some(own), Some(others)) => Some(Interval {
                low: value
                    - (self.estimate.value - own.low).hypot(others.high - other.estimate.value),
                high: value
                    + (own.high - self.estimate.value).hypot(other.estimate.value - others.low),
            }),
            _ => None,
        };
        Some(Estimate { value, interval, n: self.estimate.n.min(other.estimate.n) })
    }
}

fn around(interval: Interval, equal: f64) -> Relation {
    if interval.high < equal {
        Relation::Lower
    } else if interval.low > equal {
        Relation::Higher
    } else {
        Relation::Same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::interval::{mean_estimate, median_estimate};
    use crate::statistics::sample::Sample;

    fn rounds(values: &[f64]) -> Figure {
        Figure {
            estimate: median_estimate(&Sample::new(values.iter().copied()).unwrap()),
            evidence: Evidence::Rounds((0..).zip(values.iter().copied()).collect()),
        }
    }

    fn chunks(values: &[f64]) -> Figure {
        Figure {
            estimate: mean_estimate(&Sample::new(values.iter().copied()).unwrap()),
            evidence: Evidence::Chunks { values: values.to_vec(), exponential: false },
        }
    }

    #[test]
    fn rounds_are_compared_in_pairs_although_their_intervals_overlap() {
        let slow = rounds(&[100.0, 150.0, 80.0, 120.0, 95.0]);
        let fast = rounds(&[103.0, 154.0, 82.0, 124.0, 97.9]);
        assert!(slow.estimate.interval.unwrap().contains(fast.estimate.value));
        assert_eq!(fast.relation(&slow), Relation::Higher);
        assert_eq!(slow.relation(&fast), Relation::Lower);
    }

    #[test]
    fn a_single_round_settles_nothing() {
        assert_eq!(rounds(&[10.0]).relation(&rounds(&[20.0])), Relation::Same);
    }

    #[test]
    fn texts_are_compared_chunk_by_chunk_as_far_as_both_went() {
        let better = chunks(&[0.010, 0.050, 0.020, 0.080, 0.5]);
        let worse = chunks(&[0.012, 0.056, 0.024, 0.085]);
        assert_eq!(better.relation(&worse), Relation::Lower);
    }

    #[test]
    fn a_divergence_is_more_than_the_reference_s_own_zero_if_its_interval_says_so() {
        let zero = Figure::exact(0.0);
        assert_eq!(chunks(&[0.01, 0.012, 0.011]).relation(&zero), Relation::Higher);
        assert_eq!(chunks(&[0.0, 0.0, 0.0]).relation(&zero), Relation::Same);
    }

    #[test]
    fn sizes_differ_by_any_byte() {
        assert_eq!(Figure::exact(1000.0).relation(&Figure::exact(1001.0)), Relation::Lower);
    }
}
