//! Noise of what is timed: how much rounds of two trials differ within a run, and how much runs of the same differ.

use super::Form;
use super::evidence::{disturbance, is_memory};
use super::partners::{Measured, Pair};
use super::shift::{Scale, Shift};
use crate::results::figure::Evidence;
use crate::results::metric::Metric;
use crate::results::record::{RunRecord, TrialRecord, VisitRecord};
use crate::results::spread::{DEVIATIONS, ERROR_OF_MEDIAN, LEAST_SPREAD, deviations, logarithms};
use crate::statistics::sample::{Sample, to_f64};
use crate::workload::measured::Response;
use std::collections::BTreeMap;

/// What is noisy in a way of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Speed,
    Load,
    Memory,
}

impl Kind {
    fn of(metric: Metric) -> Self {
        match metric {
            Metric::ColdLoadSeconds | Metric::WarmLoadSeconds => Self::Load,
            metric if is_memory(metric) => Self::Memory,
            _ => Self::Speed,
        }
    }

    /// The standard deviation of runs of the same on one machine at different times, as a fraction, which stands in where
    /// there are too few to tell (docs/COMPARE.md says what it was measured on).
    fn documented(self) -> f64 {
        match self {
            Self::Speed => 0.05,
            Self::Load => 0.15,
            Self::Memory => 0.01,
        }
    }
}

/// Degrees of freedom that the documented spread counts for where nothing else is known, and how many each that is known
/// takes from it.
const DOCUMENTED_DEGREES: usize = 8;
const TAKEN_BY_EACH: usize = 2;

/// Degrees of freedom that the spread of all figures of a kind lends to each.
const LENT_DEGREES: usize = 4;

/// What a median of deviations is worth, in degrees of freedom of a standard deviation.
const EFFICIENCY: f64 = 0.5;

/// The error of Hodges and Lehmann's estimate over that of a mean, of normal noise.
const ERROR_OF_LOCATION: f64 = 1.05;

/// Half the width of a 95 % interval of normal noise, in standard errors.
const NORMAL: f64 = 1.96;

/// Noise of all pairs, by kind, and further runs.
pub(super) struct Spreads<'a> {
    /// Distances of the rounds' ratios from their median, of interleaved pairs.
    rounds: BTreeMap<Kind, Vec<f64>>,
    /// Trials of further runs, each the same as one of a pair, on the same machine.
    others: Vec<Measured<'a>>,
}

impl<'a> Spreads<'a> {
    pub(super) fn of(pairs: &[Pair<'_>], others: &'a [RunRecord]) -> Self {
        let mut rounds: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
        for pair in pairs.iter().filter(|pair| pair.is_interleaved()) {
            for &metric in pair.first(false).figures.keys() {
                if let Some(sample) = ratios(pair, metric)
                    && sample.len() > 1
                {
                    rounds.entry(Kind::of(metric)).or_default().extend(deviations(&sample));
                }
            }
        }
        let members = || pairs.iter().flat_map(|pair| pair.base.iter().chain(&pair.new));
        let is_member = |run: &RunRecord| members().any(|it| it.run.id == run.id);
        let others = others.iter().filter(|run| !is_member(run));
        let others = others.flat_map(|run| run.trials.iter().map(move |trial| (run, trial)));
        let others = others.filter(|(run, trial)| members().any(|it| is_same(it, run, trial)));
        // What else disturbed them says nothing of how much others differ.
        let others = others.map(|(run, trial)| Measured::of(run, trial));
        Self {
            rounds,
            others: others.filter(|it| disturbance(it.run, it.trial).is_none()).collect(),
        }
    }

    /// How timed figures are compared.
    pub(super) fn form(&self, pairs: &[Pair<'_>]) -> Form {
        if pairs.iter().all(Pair::is_interleaved) {
            return Form::Interleaved;
        }
        let most = |count: &dyn Fn(&Pair<'_>) -> usize| pairs.iter().map(count).max().unwrap_or(0);
        let of_pair = |pair: &Pair<'_>| {
            let others =
                |is_new| self.others.iter().filter(move |it| it.is_same(pair.first(is_new)));
            others(false).count().max(others(true).count())
        };
        Form::Runs {
            base: most(&|pair| pair.base.len()),
            new: most(&|pair| pair.new.len()),
            others: most(&of_pair),
        }
    }

    /// The shift of a figure that was measured in turns, from its rounds' ratios.
    ///
    /// By Hodges and Lehmann's estimate, which a disturbed round moves little, as it does a median, and which wastes hardly
    /// more than a mean does. A few rounds say little of their own spread: that of all figures of the kind, taken by the
    /// median of the deviations so that disturbed rounds count no more than their number, is lent to each.
    pub(super) fn interleaved(&self, pair: &Pair<'_>, metric: Metric) -> Result<Shift, String> {
        let sample = ratios(pair, metric).ok_or("no round has both")?;
        let n = sample.len();
        let own = sample.standard_deviation().ok_or(
            "it was measured in one round, which says nothing of how rounds differ; take 3 or more",
        )?;
        let all = self.rounds.get(&Kind::of(metric)).map_or(&[][..], Vec::as_slice);
        let shared = Sample::new(all.iter().copied()).map_or(0.0, |it| DEVIATIONS * it.median());
        let shared = shared.max(LEAST_SPREAD);
        let of_others = to_f64(all.len().saturating_sub(n) / n * (n - 1));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let lent = ((of_others * EFFICIENCY) as usize).min(LENT_DEGREES);
        let (lent_degrees, own_degrees) = (to_f64(lent), to_f64(n - 1));
        let own = own.max(LEAST_SPREAD);
        let variance = (lent_degrees * shared.powi(2) + own_degrees * own.powi(2))
            / (lent_degrees + own_degrees);
        let error = ERROR_OF_LOCATION * (variance / to_f64(n)).sqrt();
        Shift::from_error(Scale::Logarithm, location(&sample), error, lent + n - 1)
            .ok_or_else(|| "its rounds say nothing".to_owned())
    }

    /// The shift of a figure between runs, each of which is one observation.
    ///
    /// What the runs of a side, and further runs of the same trials, differ by says how sure it is. Where they are few, the
    /// documented spread stands in, and what the rounds within a run differ by comes on top of it. Runs that were disturbed
    /// say nothing of speed; one of each side that was not has to be there.
    pub(super) fn between(&self, pair: &Pair<'_>, metric: Metric) -> Result<Shift, String> {
        let of_side = |is_new: bool| -> Vec<f64> {
            let counts =
                |it: &&Measured<'_>| is_memory(metric) || disturbance(it.run, it.trial).is_none();
            pair.side(is_new).iter().filter(counts).filter_map(|it| of_run(it, metric)).collect()
        };
        let (base, new) = (of_side(false), of_side(true));
        let centre = |values: &[f64]| Sample::new(values.iter().copied()).map(|it| it.mean());
        let (Some(base_mean), Some(new_mean)) = (centre(&base), centre(&new)) else {
            return Err("it is not positive".to_owned());
        };
        let (mut squares, mut degrees) = (0.0, 0);
        for (is_new, own) in [(false, &base), (true, &new)] {
            // Where both sides are of the same trial, each further run is one observation all the same.
            let others = self.others.iter().filter(|it| it.is_same(pair.first(is_new)));
            let others = others.filter(|it| !(is_new && it.is_same(pair.first(false))));
            let mut group: Vec<f64> = others.filter_map(|it| of_run(it, metric)).collect();
            group.extend(own);
            let Some(sample) = Sample::new(group) else { continue };
            let deviation = sample.standard_deviation().unwrap_or(0.0);
            squares += deviation.powi(2) * to_f64(sample.len() - 1);
            degrees += sample.len() - 1;
        }
        let stand_in = DOCUMENTED_DEGREES.saturating_sub(TAKEN_BY_EACH * degrees);
        let documented = Kind::of(metric).documented().powi(2) + within(pair, metric)?;
        let variance = (to_f64(stand_in) * documented + squares) / to_f64(stand_in + degrees);
        let variance = variance.max(LEAST_SPREAD.powi(2));
        let error = (variance * (1.0 / to_f64(base.len()) + 1.0 / to_f64(new.len()))).sqrt();
        Shift::from_error(Scale::Logarithm, new_mean - base_mean, error, stand_in + degrees)
            .ok_or_else(|| "it is no number".to_owned())
    }
}

impl Measured<'_> {
    fn is_same(&self, one: &Measured<'_>) -> bool {
        is_same(one, self.run, self.trial)
    }
}

/// Whether a trial of another run is the same as one that is compared, on the same machine.
fn is_same(one: &Measured<'_>, run: &RunRecord, trial: &TrialRecord) -> bool {
    let (own, other) = (one.run.environment_of(one.trial), run.environment_of(trial));
    one.trial.key == trial.key
        && !trial.key.is_empty()
        && one.trial.host.name == trial.host.name
        && (&own.cpu, &own.gpus, &own.governor, own.usable_cpus)
            == (&other.cpu, &other.gpus, &other.governor, other.usable_cpus)
        && trial.failure.is_none()
}

/// Hodges and Lehmann's estimate: the median of the means of every two observations, each with itself too.
fn location(sample: &Sample) -> f64 {
    let sorted = sample.sorted();
    let means = (0..sorted.len()).flat_map(|one| {
        (one..sorted.len()).map(move |other| f64::midpoint(sorted[one], sorted[other]))
    });
    Sample::new(means).map_or(f64::NAN, |means| means.median())
}

/// Logarithms of how many times the base's each round is; of a latency, over the prompts of the round.
fn ratios(pair: &Pair<'_>, metric: Metric) -> Option<Sample> {
    let by_round = |it: &Measured<'_>| match &it.figures.get(&metric)?.evidence {
        Evidence::Rounds(rounds) => Some(rounds.clone()),
        Evidence::Prompts { .. } => Some(latencies(it, metric)),
        _ => None,
    };
    let (base, new) = (by_round(pair.first(false))?, by_round(pair.first(true))?);
    let both = new.iter().filter_map(|(round, new)| Some((new / base.get(round)?).ln()));
    Sample::new(both)
}

/// The logarithm of a run's figure; of a latency the median over its rounds, so that one disturbed round is not the run's.
fn of_run(measured: &Measured<'_>, metric: Metric) -> Option<f64> {
    let figure = measured.figures.get(&metric)?;
    let value = match figure.evidence {
        Evidence::Prompts { .. } => {
            Sample::new(latencies(measured, metric).into_values())?.median()
        }
        _ => figure.estimate.value,
    };
    Some(value.ln()).filter(|it| it.is_finite())
}

/// A quantile of latencies by the round in which they were measured.
fn latencies(measured: &Measured<'_>, metric: Metric) -> BTreeMap<u32, f64> {
    let probability = match metric {
        Metric::Ttft90Seconds | Metric::Itl90Seconds => 0.9,
        _ => 0.5,
    };
    let is_first = matches!(metric, Metric::TtftMedianSeconds | Metric::Ttft90Seconds);
    let of_visit = |visit: &VisitRecord| {
        let answers = visit.responses.iter();
        let seconds: Vec<f64> = if is_first {
            answers.filter_map(Response::ttft_seconds).collect()
        } else {
            answers.flat_map(Response::itl_seconds).collect()
        };
        Some((visit.round, Sample::new(seconds)?.quantile(probability)))
    };
    let rounds = measured.trial.visits.iter().filter_map(of_visit);
    rounds.filter(|(_, seconds)| *seconds > 0.0).collect()
}

/// The logarithm of how many times the base's a quantile over prompts is, and its standard error over the prompts; `None`
/// of what is over no prompts.
fn of_prompts(pair: &Pair<'_>, metric: Metric) -> Result<Option<(f64, f64)>, String> {
    let figure = |is_new| pair.first(is_new).figures.get(&metric);
    let (Some(base), Some(new)) = (figure(false), figure(true)) else { return Ok(None) };
    if !matches!(base.evidence, Evidence::Prompts { .. }) {
        return Ok(None);
    }
    let ratio = new.ratio(base).map(|ratio| ratio.map(f64::ln));
    let known = ratio.and_then(|ratio| Some((ratio.value, ratio.half_width()? / NORMAL)));
    known.map(Some).ok_or_else(|| "fewer than 5 prompts were answered".to_owned())
}

/// Variance of a run's figure from what it was measured on again and again: of the median of its rounds, the mean over both
/// sides, or of a quantile from what each prompt took in either run. 0 where there is one round.
fn within(pair: &Pair<'_>, metric: Metric) -> Result<f64, String> {
    if let Some((_, error)) = of_prompts(pair, metric)? {
        return Ok(error.powi(2) / 2.0);
    }
    let of_median = |it: &Measured<'_>| {
        let Evidence::Rounds(rounds) = &it.figures.get(&metric)?.evidence else { return None };
        let sample = logarithms(rounds.values())?;
        let error = ERROR_OF_MEDIAN * sample.standard_deviation()?;
        Some(error.powi(2) / to_f64(sample.len()))
    };
    let all = pair.base.iter().chain(&pair.new).filter_map(of_median);
    Ok(Sample::new(all).map_or(0.0, |it| it.mean()))
}
