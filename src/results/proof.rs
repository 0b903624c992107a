//! Proofs: whether what was measured shows that a requirement is met, or that it is not.
//!
//! A verdict of `run` compares a value with a limit. A proof compares an interval: it is *met* where the whole
//! interval is on the right side of the limit, *not met* where it is on the wrong one, and *marginal* in between. Whoever
//! measures until something is proved looks again and again, and each look may be wrong: at each of [`LOOKS`](super::spread::LOOKS) looks the
//! interval is one that errs to either side in 2.5 % / [`LOOKS`](super::spread::LOOKS) of cases, so that all of them together keep 95 %
//! (Bonferroni).

use super::extract;
use super::figure::{Evidence, Figure};
use super::metric::{Better, Metric};
use super::record::{RunRecord, Stage, TrialRecord};
use super::spread::{
    LEAST_SPREAD, ONE_SIDED, logarithms, of_median, spread_of_prompts, spread_of_rounds,
};
use super::verdict::memory;
use crate::experiment::requirements::{Bound, GENERATION, MEMORY, Requirement};
use crate::statistics::estimate::{Estimate, Interval};
use crate::statistics::interval::one_sided_t;
use crate::statistics::sample::{Sample, to_f64};
use crate::statistics::spread::Spread;
use serde::Serialize;
use std::collections::BTreeMap;

/// Peak memory differs so much between visits, as a fraction, or by so many bytes if that is more. So far predictions
/// were off, too (docs/PLAN.md).
const MEMORY_VARIES: f64 = 0.02;
const LEAST_MEMORY: f64 = 4.0 * 1024.0 * 1024.0;

/// What is shown of a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It is met.
    Met,
    /// It is not met.
    NotMet,
    /// The limit is within the interval.
    Marginal,
    /// Nothing of it was measured.
    NotMeasured,
}

/// What one observation of a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A round.
    Rounds,
    /// A chunk of the text.
    Chunks,
    /// A prompt.
    Prompts,
    /// What is measured once.
    Once,
}

/// One requirement and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What is required.
    #[serde(flatten)]
    pub requirement: Requirement,
    /// The figure that it is on, if any trial has it.
    #[serde(skip)]
    pub metric: Option<Metric>,
    /// What was measured, or predicted where nothing is measured.
    pub value: Option<f64>,
    /// The interval that the proof goes by; of a figure that is exact its value twice.
    #[serde(flatten, serialize_with = "ends")]
    pub interval: Option<Interval>,
    /// Observations.
    pub n: usize,
    /// What they are.
    pub unit: Unit,
    /// What that shows.
    pub proof: Proof,
    /// Of a marginal one: about how many observations more would decide it; `None`: no number that can be told.
    pub more: Option<u64>,
    /// Whether it rests on the plan alone.
    pub is_predicted: bool,
}

#[expect(clippy::ref_option, reason = "what serde calls")]
fn ends<S: serde::Serializer>(interval: &Option<Interval>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Ends {
        low: Option<f64>,
        high: Option<f64>,
    }
    Ends { low: interval.map(|it| it.low), high: interval.map(|it| it.high) }.serialize(to)
}

impl Finding {
    /// By how much the value is on the right side of the limit, as a fraction of the limit; negative on the wrong side.
    pub fn margin(&self) -> Option<f64> {
        let Requirement { bound, limit, .. } = self.requirement;
        let by = match bound {
            Bound::AtLeast => self.value? - limit,
            Bound::AtMost => limit - self.value?,
        };
        let margin = by / limit.abs();
        margin.is_finite().then_some(margin)
    }

    /// Whether the plan alone rules it out.
    pub fn is_predicted_not_met(&self) -> bool {
        self.is_predicted && self.proof == Proof::NotMet
    }

    /// In which part of a run more is learned of it.
    pub fn stage(&self) -> Stage {
        self.metric.map_or(Stage::Rounds, stage_of)
    }
}

/// The part of a run in which a figure is measured.
pub fn stage_of(metric: Metric) -> Stage {
    match metric {
        Metric::Perplexity
        | Metric::PerplexityIncrease
        | Metric::Kld
        | Metric::Kld99
        | Metric::TopTokenAgreement
        | Metric::EmbeddingCosine
        | Metric::NearestAgreement => Stage::Quality,
        Metric::Task(_) => Stage::Tasks,
        _ => Stage::Rounds,
    }
}

/// A figure as a proof sees it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    value: f64,
    interval: Option<Interval>,
    n: usize,
    unit: Unit,
}

/// What was measured in a run, for proofs.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidences {
    figures: Vec<BTreeMap<Metric, Figure>>,
    known: Vec<Metric>,
    generation: Option<Metric>,
    spreads: BTreeMap<Metric, Spread>,
    /// Of the time to the first token of one prompt.
    of_prompts: Option<Spread>,
}

impl Evidences {
    /// Of all trials of a run.
    pub fn of(run: &RunRecord) -> Self {
        let tests = super::each_once(run.trials.iter().flat_map(extract::speed_tests));
        let columns = super::each_once(run.trials.iter().flat_map(extract::task_columns));
        let figures: Vec<BTreeMap<Metric, Figure>> =
            run.trials.iter().map(extract::figures).collect();
        let known = Metric::all(&tests, &columns);
        let of_rounds = |metric: &Metric| {
            let of_trials = figures.iter().filter_map(|of| match &of.get(metric)?.evidence {
                Evidence::Rounds(rounds) => Some(rounds),
                _ => None,
            });
            spread_of_rounds(of_trials)
        };
        let spreads = known.iter().filter_map(|metric| Some((*metric, of_rounds(metric)?)));
        Self {
            spreads: spreads.collect(),
            of_prompts: spread_of_prompts(run),
            generation: extract::generation_test(&tests).map(Metric::Speed),
            known,
            figures,
        }
    }

    /// The metric of generation.
    pub fn generation(&self) -> Option<Metric> {
        self.generation
    }

    /// A figure of a trial.
    pub fn figure(&self, trial: usize, metric: Metric) -> Option<&Figure> {
        self.figures.get(trial)?.get(&metric)
    }

    /// Whether any trial has a figure.
    pub fn is_measured(&self, metric: Metric) -> bool {
        self.figures.iter().any(|of| of.contains_key(&metric))
    }

    /// The figure that a requirement is on.
    pub fn metric_of(&self, name: &str) -> Option<Metric> {
        match name {
            MEMORY => None,
            GENERATION => self.generation,
            name => self.known.iter().copied().find(|metric| metric.name() == name),
        }
    }

    /// What is known of a requirement in a trial.
    pub fn finding(&self, run: &RunRecord, trial: usize, requirement: &Requirement) -> Finding {
        let record = &run.trials[trial];
        let metric = self.metric_of(&requirement.metric);
        let (seen, is_predicted) = match metric {
            None if requirement.metric == MEMORY => self.memory(record, trial),
            None => (None, false),
            Some(metric) => (self.seen(run, trial, metric), false),
        };
        let found = |seen: Seen| {
            let proof = seen.interval.map_or(Proof::Marginal, |it| proof(requirement, it));
            let more = if proof == Proof::Marginal { more(requirement, seen) } else { None };
            (proof, more)
        };
        let (proof, more) = seen.map_or((Proof::NotMeasured, None), found);
        // That it fits is shown by running it.
        let proof = if is_predicted && proof == Proof::Met { Proof::NotMeasured } else { proof };
        Finding {
            requirement: requirement.clone(),
            metric,
            value: seen.map(|seen| seen.value),
            interval: seen.and_then(|seen| seen.interval),
            n: seen.map_or(0, |seen| seen.n),
            unit: seen.map_or(Unit::Once, |seen| seen.unit),
            proof,
            more,
            is_predicted,
        }
    }

    /// What was resident, or what is predicted for the context that was asked for if that is more.
    fn memory(&self, record: &TrialRecord, trial: usize) -> (Option<Seen>, bool) {
        let measured = memory(&self.figures[trial]).map(|figure| figure.estimate.value);
        let predicted = record.predicted.as_ref().filter(|it| it.peak_bytes > 0);
        let exact = |value: f64, varies: f64| Seen {
            value,
            interval: Some(Interval { low: value - varies, high: value + varies }),
            n: 1,
            unit: Unit::Once,
        };
        let planned = predicted.map(|it| exact(to_bytes(it.peak_bytes), to_bytes(it.error_bytes)));
        // Where it was run, a prediction for a larger context is as good as those that were compared.
        let Some(measured) = measured else { return (planned, true) };
        let value = planned.map_or(measured, |planned| planned.value.max(measured));
        (Some(exact(value, (value * MEMORY_VARIES).max(LEAST_MEMORY))), false)
    }

    fn seen(&self, run: &RunRecord, trial: usize, metric: Metric) -> Option<Seen> {
        let record = &run.trials[trial];
        if record.is_reference && metric.descriptor().is_comparison {
            let value = if metric.descriptor().better == Some(Better::Higher) { 1.0 } else { 0.0 };
            let interval = Some(Interval { low: value, high: value });
            return Some(Seen { value, interval, n: 1, unit: Unit::Once });
        }
        let figure = self.figure(trial, metric)?;
        let Estimate { value, interval, n } = figure.estimate;
        let seen = |interval, n, unit| Some(Seen { value, interval, n, unit });
        if metric == Metric::PerplexityIncrease
            && let Some(differences) = nll_differences(run, trial)
        {
            let half = half_of_mean(&differences)
                .map(|half| half * rest_of_text(record, differences.len()));
            let around = |half: f64| Interval {
                low: (value.ln_1p() - half).exp_m1(),
                high: (value.ln_1p() + half).exp_m1(),
            };
            return seen(half.map(around), differences.len(), Unit::Chunks);
        }
        match &figure.evidence {
            Evidence::Rounds(rounds) => {
                let of_logarithms = logarithms(rounds.values()).zip(self.spreads.get(&metric));
                let interval =
                    of_logarithms.and_then(|(sample, spread)| of_median(&sample, spread));
                let interval =
                    interval.map(|it| Interval { low: it.low.exp(), high: it.high.exp() });
                seen(interval, rounds.len(), Unit::Rounds)
            }
            Evidence::Chunks { values, exponential: false } if metric == Metric::Kld => {
                let half = half_of_divergence(values);
                let half = half.map(|half| half * rest_of_text(record, values.len()));
                seen(half.map(|half| by_factor(value, half)), values.len(), Unit::Chunks)
            }
            Evidence::Chunks { values, .. } => {
                let rest = rest_of_text(record, values.len());
                let interval =
                    interval.map(|it| scaled(value, widened(value, it, values.len()), rest));
                seen(interval, values.len(), Unit::Chunks)
            }
            // Once all prompts are answered, what is left is the noise of their times.
            Evidence::Prompts { ids, .. } => {
                let rounds = super::each_once(record.visits.iter().map(|it| it.round)).len();
                let asked = run.stored_experiment().rounds.unwrap_or(u32::MAX);
                let are_all = u32::try_from(rounds).is_ok_and(|rounds| rounds >= asked);
                let of_times = self.of_prompts.filter(|_| are_all);
                let interval = match of_times {
                    Some(Spread { deviation, degrees }) => {
                        let half = one_sided_t(ONE_SIDED, degrees) * deviation.max(LEAST_SPREAD);
                        Some(by_factor(value, half))
                    }
                    None => interval.map(|it| widened(value, it, ids.len())),
                };
                seen(interval, n, Unit::Prompts)
            }
            // One look.
            Evidence::Exact | Evidence::Questions(_) => seen(interval, n, Unit::Once),
            Evidence::IntervalOnly => {
                let chunks = record.quality.as_ref().map_or(0, |quality| quality.chunk_nll.len());
                let is_text = stage_of(metric) == Stage::Quality && chunks > 1;
                let unit = if is_text { Unit::Chunks } else { Unit::Once };
                let n = if is_text { chunks } else { n };
                let rest = if is_text { rest_of_text(record, n) } else { 1.0 };
                seen(interval.map(|it| scaled(value, widened(value, it, n), rest)), n, unit)
            }
        }
    }

    /// How many times as high as another's a figure of a trial is, as a logarithm, with the interval of the proof; of
    /// what is measured in pairs. `None`: too little was.
    pub fn log_ratio(&self, one: usize, other: usize, metric: Metric) -> Option<Estimate> {
        let (own, others) = (self.figure(one, metric)?, self.figure(other, metric)?);
        let (logarithms, pooled): (Vec<f64>, _) = match (&own.evidence, &others.evidence) {
            (Evidence::Chunks { values, .. }, Evidence::Chunks { values: others, .. }) => {
                let pairs = values.iter().zip(others).filter(|(a, b)| **a > 0.0 && **b > 0.0);
                (pairs.map(|(a, b)| (a / b).ln()).collect(), None)
            }
            (Evidence::Rounds(values), Evidence::Rounds(others)) => {
                let pairs = values.iter().filter_map(|(at, a)| Some((a / others.get(at)?).ln()));
                (pairs.collect(), self.spreads.get(&metric))
            }
            _ => return None,
        };
        let sample = Sample::new(logarithms)?;
        let n = sample.len();
        if let Some(spread) = pooled {
            let both = std::f64::consts::SQRT_2 * spread.deviation.max(LEAST_SPREAD);
            let interval = of_median(&sample, &Spread { deviation: both, ..*spread });
            return Some(Estimate { value: sample.median(), interval, n });
        }
        let error = sample.standard_deviation()? / to_f64(n).sqrt();
        let half = one_sided_t(ONE_SIDED, n - 1) * error;
        let value = sample.mean();
        let interval = Some(Interval { low: value - half, high: value + half });
        Some(Estimate { value, interval, n })
    }
}

fn to_bytes(bytes: u64) -> f64 {
    crate::units::to_f64(bytes)
}

/// Log-likelihoods less the reference's, chunk by chunk.
fn nll_differences(run: &RunRecord, trial: usize) -> Option<Vec<f64>> {
    let record = &run.trials[trial];
    let reference = run
        .trials
        .iter()
        .find(|it| it.is_reference && it.model == record.model)?
        .quality
        .as_ref()?;
    let own = record.quality.as_ref()?;
    let pairs = own.chunk_nll.iter().zip(&reference.chunk_nll);
    Some(pairs.map(|(own, other)| own - other).collect())
}

/// How much less sure than of the whole text one is of it after so many chunks: of what is read to its end nothing is left
/// to be unsure of (finite population correction).
fn rest_of_text(record: &TrialRecord, chunks: usize) -> f64 {
    let all = record.quality.as_ref().map_or(0, |quality| quality.chunks_available);
    if all == 0 { 1.0 } else { (1.0 - to_f64(chunks) / f64::from(all)).max(0.0).sqrt() }
}

fn scaled(value: f64, interval: Interval, factor: f64) -> Interval {
    Interval {
        low: value - (value - interval.low) * factor,
        high: value + (interval.high - value) * factor,
    }
}

fn half_of_mean(values: &[f64]) -> Option<f64> {
    let sample = Sample::new(values.iter().copied())?;
    let error = sample.standard_deviation()? / to_f64(sample.len()).sqrt();
    Some(one_sided_t(ONE_SIDED, sample.len() - 1) * error)
}

/// Of a mean of divergences, in logarithms: what chunks have is spread over factors, not over differences.
///
/// Source: Zhou and Gao 1997, *Confidence intervals for the log-normal mean* (Cox's method), with Student's t.
fn half_of_divergence(values: &[f64]) -> Option<f64> {
    let sample = Sample::new(values.iter().map(|value| value.max(f64::MIN_POSITIVE).ln()))?;
    let (variance, n) = (sample.standard_deviation()?.powi(2), to_f64(sample.len()));
    let error = (variance / n + variance * variance / (2.0 * (n - 1.0))).sqrt();
    Some(one_sided_t(ONE_SIDED, sample.len() - 1) * error)
}

fn by_factor(value: f64, half: f64) -> Interval {
    Interval { low: value * (-half).exp(), high: value * half.exp() }
}

/// A 95 % interval at the level of one look.
fn widened(value: f64, interval: Interval, n: usize) -> Interval {
    let degrees = n.saturating_sub(1).max(1);
    scaled(value, interval, one_sided_t(ONE_SIDED, degrees) / one_sided_t(0.025, degrees))
}

fn proof(requirement: &Requirement, interval: Interval) -> Proof {
    let limit = requirement.limit;
    match requirement.bound {
        Bound::AtMost if interval.high <= limit => Proof::Met,
        Bound::AtLeast if interval.low >= limit => Proof::Met,
        Bound::AtMost if interval.low > limit => Proof::NotMet,
        Bound::AtLeast if interval.high < limit => Proof::NotMet,
        _ => Proof::Marginal,
    }
}

/// An interval shrinks with the root of the number of observations.
fn more(requirement: &Requirement, seen: Seen) -> Option<u64> {
    let Seen { value, interval, n, unit } = seen;
    if unit == Unit::Once {
        return None;
    }
    let Some(interval) = interval else { return Some(1) };
    let half = if requirement.limit > value { interval.high - value } else { value - interval.low };
    let distance = (requirement.limit - value).abs();
    let needed = to_f64(n) * (half / distance).powi(2);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 10^6")]
    let count = |number: f64| number.ceil() as u64;
    (needed < 1e6).then(|| count(needed).saturating_sub(n as u64).max(1))
}
