//! Noise of what is timed: how much rounds of two trials differ within a run, and how much runs of the same differ.

use super::Form;
use super::evidence::is_memory;
use super::partners::{Measured, Pair};
use super::shift::{Scale, Shift};
use crate::results::figure::Evidence;
use crate::results::metric::Metric;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::spread::{DEVIATIONS, ERROR_OF_MEDIAN, LEAST_SPREAD, deviations, logarithms};
use crate::statistics::sample::{Sample, to_f64};
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
            let (one, other) = (&pair.first(false).figures, &pair.first(true).figures);
            for (&metric, figure) in one {
                let partner = other.get(&metric).map(|it| &it.evidence);
                if let Some(sample) = partner.and_then(|it| ratios(&figure.evidence, it))
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
        Self { rounds, others: others.map(|(run, trial)| Measured::of(run, trial)).collect() }
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

    /// The shift of a figure that was measured in turns, by the median of its rounds' ratios.
    ///
    /// A few rounds say little of their own spread. That of all figures of the kind, taken by the median of the deviations
    /// so that disturbed rounds count no more than their number, is lent to each.
    pub(super) fn interleaved(
        &self,
        metric: Metric,
        base: &Evidence,
        new: &Evidence,
    ) -> Result<Shift, String> {
        let sample = ratios(base, new).ok_or("no round has both")?;
        let n = sample.len();
        let own = sample.standard_deviation().ok_or(
            "it was measured in one round, which says nothing of how rounds differ; take 3 or more",
        )?;
        let all = self.rounds.get(&Kind::of(metric)).map_or(&[][..], Vec::as_slice);
        let shared = Sample::new(all.iter().copied()).map_or(0.0, |it| DEVIATIONS * it.median());
        let shared = shared.max(LEAST_SPREAD);
        // What the others know: a round of each figure is taken up by its median.
        let of_others = all.len().saturating_sub(n) / n * (n - 1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let lent = ((to_f64(of_others) * EFFICIENCY) as usize).min(LENT_DEGREES);
        let (lent_degrees, own_degrees) = (to_f64(lent), to_f64(n - 1));
        let variance = (lent_degrees * shared.powi(2)
            + own_degrees * own.powi(2).max(LEAST_SPREAD.powi(2)))
            / (lent_degrees + own_degrees);
        let of_median = if n > 2 { ERROR_OF_MEDIAN } else { 1.0 };
        let error = of_median * (variance / to_f64(n)).sqrt();
        Shift::from_error(Scale::Logarithm, sample.median(), error, lent + n - 1)
            .ok_or_else(|| "its rounds say nothing".to_owned())
    }

    /// The shift of a figure between runs, each of which is one observation.
    ///
    /// What the runs of a side, and further runs of the same trials, differ by says how sure it is. Where they are few, the
    /// documented spread stands in, and what the rounds within a run differ by comes on top of it.
    pub(super) fn between(&self, pair: &Pair<'_>, metric: Metric) -> Result<Shift, String> {
        let of_side = |is_new: bool| -> Vec<f64> {
            let values = pair.side(is_new).iter().filter_map(|it| it.figures.get(&metric));
            values.map(|figure| figure.estimate.value.ln()).filter(|it| it.is_finite()).collect()
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
            let values = others.filter_map(|it| it.figures.get(&metric));
            let mut group: Vec<f64> = values.map(|it| it.estimate.value.ln()).collect();
            group.retain(|it| it.is_finite());
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

/// Logarithms of how many times the base's each round is.
fn ratios(base: &Evidence, new: &Evidence) -> Option<Sample> {
    let (Evidence::Rounds(base), Evidence::Rounds(new)) = (base, new) else { return None };
    let both = new.iter().filter_map(|(round, value)| Some((value / base.get(round)?).ln()));
    Sample::new(both)
}

/// Variance of a run's figure from what it was measured on again and again: of the median of its rounds, the mean over both
/// sides, or of a quantile from what each prompt took in either run. 0 where there is one round.
fn within(pair: &Pair<'_>, metric: Metric) -> Result<f64, String> {
    let (one, other) =
        (pair.first(false).figures.get(&metric), pair.first(true).figures.get(&metric));
    if let (Some(one), Some(other)) = (one, other)
        && let Evidence::Prompts { .. } = one.evidence
    {
        let ratio = other.ratio(one).and_then(|ratio| ratio.map(f64::ln).half_width());
        let half = ratio.ok_or("fewer than 5 prompts were answered")?;
        return Ok((half / NORMAL).powi(2) / 2.0);
    }
    let of_run = |it: &Measured<'_>| {
        let Evidence::Rounds(rounds) = &it.figures.get(&metric)?.evidence else { return None };
        let sample = logarithms(rounds.values())?;
        let error = ERROR_OF_MEDIAN * sample.standard_deviation()?;
        Some(error.powi(2) / to_f64(sample.len()))
    };
    let all = pair.base.iter().chain(&pair.new).filter_map(of_run);
    Ok(Sample::new(all).map_or(0.0, |it| it.mean()))
}
