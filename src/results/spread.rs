//! Spread: how much what is timed differs from round to round, and how sure that leaves a median of a few rounds.

use super::record::{RunRecord, TrialRecord};
use crate::statistics::estimate::Interval;
use crate::statistics::interval::{one_sided_t, skipped_ranks};
use crate::statistics::sample::{Sample, to_f64};
use crate::statistics::spread::Spread;
use std::collections::BTreeMap;

/// How often a figure is looked at before measuring it ends.
pub const LOOKS: u32 = 8;

/// Probability of an error to one side, at one look.
pub(super) const ONE_SIDED: f64 = 0.025 / LOOKS as f64;

/// Rounds of one process after another are more alike than those of other days: their spread counts as so much at
/// least, as a fraction.
pub(super) const LEAST_SPREAD: f64 = 0.005;

/// What rounds are expected to differ by before any was seen, as a fraction, and for how many degrees of freedom that counts:
/// as much as a machine that is not quite idle shows, so that what is far from a limit is decided at the first look.
const EXPECTED: f64 = 0.05;
const EXPECTED_DEGREES: usize = 3;

/// The standard deviation of normal noise over the median of its absolute deviations.
pub(super) const DEVIATIONS: f64 = 1.4826;

/// What a median of deviations is worth, in degrees of freedom of a standard deviation: asymptotically 37 %, of few
/// observations more.
const EFFICIENCY: f64 = 0.5;

/// The error of a median over that of a mean, of normal noise.
pub(super) const ERROR_OF_MEDIAN: f64 = 1.2533;

/// From how many times the spread that others show a trial's own is taken for itself.
const RESTLESS: f64 = 2.0;

/// Spread of the logarithms of rounds around the median of their trial, over all trials.
///
/// By the median of the deviations, so that rounds in which the machine did something else do not count for more than
/// their number.
pub(super) fn spread_of_rounds<'a>(
    samples: impl Iterator<Item = &'a BTreeMap<u32, f64>>,
) -> Option<Spread> {
    let (mut all, mut degrees) = (Vec::new(), 0.0);
    for rounds in samples.filter(|rounds| rounds.len() > 1) {
        let Some(sample) = logarithms(rounds.values()) else { continue };
        all.extend(deviations(&sample));
        degrees += to_f64(sample.len() - 1);
    }
    let seen = DEVIATIONS * Sample::new(all)?.median();
    let (own, expected) = (degrees * EFFICIENCY, to_f64(EXPECTED_DEGREES));
    let variance = (expected * EXPECTED * EXPECTED + own * seen * seen) / (expected + own);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    let own = own as usize;
    Some(Spread { deviation: variance.sqrt(), degrees: EXPECTED_DEGREES + own })
}

/// Spread of the time to the first token of a prompt, to go by how many times as long as in another trial it took:
/// without noise all prompts would say the same.
pub(super) fn spread_of_prompts(run: &RunRecord) -> Option<Spread> {
    let times = |trial: &TrialRecord| -> BTreeMap<String, f64> {
        let responses = trial.visits.iter().flat_map(|visit| &visit.responses);
        let times = responses.filter_map(|it| Some((it.prompt_id.clone(), it.ttft_seconds()?)));
        times.collect()
    };
    let all: Vec<BTreeMap<String, f64>> = run.trials.iter().map(times).collect();
    let first = all.iter().find(|times| times.len() > 1)?;
    let ratios = all.iter().filter(|times| !std::ptr::eq(*times, first)).map(|times| {
        let both = times.iter().filter_map(|(id, time)| Some((time, first.get(id)?)));
        (0..).zip(both.map(|(time, other)| time / other)).collect::<BTreeMap<u32, f64>>()
    });
    let ratios: Vec<BTreeMap<u32, f64>> = ratios.collect();
    let both = spread_of_rounds(ratios.iter())?;
    Some(Spread { deviation: both.deviation / std::f64::consts::SQRT_2, ..both })
}

pub(super) fn logarithms<'a>(values: impl Iterator<Item = &'a f64>) -> Option<Sample> {
    Sample::new(values.map(|value| value.ln()))
}

/// Distances from the median, as far as they would be from the true one.
pub(super) fn deviations(sample: &Sample) -> impl Iterator<Item = f64> {
    let n = to_f64(sample.len());
    let (median, wider) = (sample.median(), (n / (n - 1.0)).sqrt());
    sample.sorted().iter().map(move |value| (value - median).abs() * wider)
}

/// Interval of the median of logarithms at one look.
///
/// Two rounds say little of their own spread, but all trials together do: it is taken to be the same for all, unless a
/// trial's own is far wider. Then its own counts; from nine rounds on by their ranks, which assumes nothing.
pub(super) fn of_median(sample: &Sample, spread: &Spread) -> Option<Interval> {
    let n = sample.len();
    let own = DEVIATIONS * Sample::new(deviations(sample).collect::<Vec<_>>())?.median();
    let shared = spread.deviation.max(LEAST_SPREAD);
    let median = sample.median();
    let around = |half: f64| Interval { low: median - half, high: median + half };
    if n > 1 && own <= RESTLESS * shared {
        let error = if n > 2 { ERROR_OF_MEDIAN } else { 1.0 } * shared / to_f64(n).sqrt();
        return Some(around(one_sided_t(ONE_SIDED, spread.degrees) * error));
    }
    if let Some(skipped) = skipped_ranks(n, ONE_SIDED) {
        let sorted = sample.sorted();
        return Some(Interval { low: sorted[skipped], high: sorted[n - 1 - skipped] });
    }
    let error = sample.standard_deviation()? / to_f64(n).sqrt();
    Some(around(one_sided_t(ONE_SIDED, n - 1) * error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::MadeUp;

    fn sample(values: &[f64]) -> Sample {
        Sample::new(values.iter().copied()).unwrap()
    }

    #[test]
    fn the_spread_of_many_trials_is_that_of_the_noise_also_where_some_rounds_are_disturbed() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let mut trials: Vec<BTreeMap<u32, f64>> = (0..10)
            .map(|_| (0..6).map(|round| (round, 50.0 * (0.03 * normal()).exp())).collect())
            .collect();
        let clean = spread_of_rounds(trials.iter()).unwrap();
        assert!((clean.deviation / 0.033 - 1.0).abs() < 0.35, "{clean:?}");
        for trial in &mut trials {
            trial.insert(0, 5.0);
        }
        let disturbed = spread_of_rounds(trials.iter()).unwrap();
        assert!(disturbed.deviation < 0.06, "{disturbed:?}");
    }

    #[test]
    fn rounds_far_apart_speak_for_themselves() {
        let calm = Spread { deviation: 0.01, degrees: 30 };
        let width = |values: &[f64]| of_median(&sample(values), &calm).unwrap().half_width();
        assert!(width(&[1.0, 1.005]) < 0.03, "others lend their spread");
        assert!(width(&[1.0, 1.5]) > 10.0, "two of its own say nothing");
        assert_eq!(of_median(&sample(&[1.0]), &calm), None);
        let nine: Vec<f64> = (0..9).map(f64::from).collect();
        assert_eq!(of_median(&sample(&nine), &calm), Some(Interval { low: 0.0, high: 8.0 }));
    }

    #[test]
    fn times_of_prompts_are_as_noisy_as_what_two_trials_say_of_the_same() {
        let of = |noise| spread_of_prompts(&MadeUp { noise, ..MadeUp::default() }.run()).unwrap();
        assert!((of(0.02).deviation / 0.02 - 1.0).abs() < 0.3, "{:?}", of(0.02));
        assert!(of(0.0).deviation < 0.01);
    }
}
