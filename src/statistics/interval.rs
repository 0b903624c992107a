//! 95 % intervals of medians and means.

use super::estimate::{Estimate, Interval};
use super::sample::{Sample, to_f64};

/// From this many observations on, order statistics reach 95 %: 1 − 2·(1/2)⁶ = 96.9 %.
const ORDER_STATISTICS_FROM: usize = 6;

/// The median with its 95 % interval.
///
/// Definition: with six or more observations, the narrowest symmetric pair of order statistics
/// whose exact coverage (sign test, binomial with p = ½) is at least 95 %; it assumes nothing about
/// the distribution. With two to five, where no such pair exists, Student's t interval around
/// their mean, which assumes roughly normal noise and is wide; it always contains the median, since
/// mean and median are less than one standard deviation apart. With one, no interval.
///
/// Source: Conover, *Practical Nonparametric Statistics*, 3rd ed., §3.2.
pub fn median_estimate(sample: &Sample) -> Estimate {
    let interval = if sample.len() >= ORDER_STATISTICS_FROM {
        let skipped = skipped_ranks(sample.len(), 0.025).unwrap_or(0);
        let sorted = sample.sorted();
        Some(Interval { low: sorted[skipped], high: sorted[sorted.len() - 1 - skipped] })
    } else {
        mean_interval(sample, 1)
    };
    Estimate { value: sample.median(), interval, n: sample.len() }
}

/// The mean with Student's 95 % interval; no interval for a single observation.
pub fn mean_estimate(sample: &Sample) -> Estimate {
    mean_estimate_among(sample, 1)
}

/// The same of one of several means, so that with 95 % probability all of their intervals hold theirs (Bonferroni).
pub fn mean_estimate_among(sample: &Sample, several: usize) -> Estimate {
    let interval = mean_interval(sample, several);
    Estimate { value: sample.mean(), interval, n: sample.len() }
}

/// A mean of which only value and standard error are known, with its 95 % interval of ±1.96
/// standard errors.
pub fn from_standard_error(value: f64, standard_error: f64, n: usize) -> Estimate {
    let half = 1.96 * standard_error;
    let interval = half.is_finite().then_some(Interval { low: value - half, high: value + half });
    Estimate { value, interval, n }
}

/// Student's t for a two-sided interval of 95 %.
pub(super) fn student_t(degrees_of_freedom: usize) -> f64 {
    one_sided_t(0.025, degrees_of_freedom)
}

/// Student's t that is exceeded with this probability.
pub fn one_sided_t(probability: f64, degrees_of_freedom: usize) -> f64 {
    distrs::StudentsT::ppf(1.0 - probability, to_f64(degrees_of_freedom))
}

fn mean_interval(sample: &Sample, several: usize) -> Option<Interval> {
    let deviation = sample.standard_deviation()?;
    let probability = 0.025 / to_f64(several.max(1));
    let half = one_sided_t(probability, sample.len() - 1) * deviation / to_f64(sample.len()).sqrt();
    let mean = sample.mean();
    Some(Interval { low: mean - half, high: mean + half })
}

/// How many order statistics lie outside the interval of a median on each side, where each end errs with this
/// probability at most: the largest k with P(Binomial(n, ½) ≤ k) ≤ `one_sided`. `None`: all of them together are too few.
pub fn skipped_ranks(n: usize, one_sided: f64) -> Option<usize> {
    // In logarithms, since 2^n overflows for the thousands of observations that may come.
    let log_half_to_n = -to_f64(n) * std::f64::consts::LN_2;
    let mut log_choose = 0.0_f64;
    let mut up_to_k = 0.0_f64;
    for k in 0..n / 2 {
        up_to_k += (log_choose + log_half_to_n).exp();
        if up_to_k > one_sided {
            return k.checked_sub(1);
        }
        log_choose += (to_f64(n - k) / to_f64(k + 1)).ln();
    }
    (n / 2).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(values: &[f64]) -> Sample {
        Sample::new(values.iter().copied()).unwrap()
    }

    #[test]
    fn students_t_is_that_of_scipy() {
        // SciPy: stats.t.ppf(0.975, [1, 2, 4, 9, 30]).
        for (degrees, expected) in [
            (1, 12.706_204_736),
            (2, 4.302_652_730),
            (4, 2.776_445_105),
            (9, 2.262_157_163),
            (30, 2.042_272_456),
        ] {
            assert!((student_t(degrees) - expected).abs() < 1e-6, "{degrees}");
        }
    }

    #[test]
    fn five_observations_get_students_interval() {
        // SciPy: stats.t.interval(0.95, 4, mean, sem) of these is 10.036757 to 13.963243.
        let estimate = median_estimate(&sample(&[10.0, 11.0, 12.0, 13.0, 14.0]));
        let interval = estimate.interval.unwrap();
        assert!((interval.low - 10.036_757).abs() < 1e-5);
        assert!((interval.high - 13.963_243).abs() < 1e-5);
        assert_eq!((estimate.value, estimate.n), (12.0, 5));
    }

    #[test]
    fn the_ranks_of_larger_samples_are_the_tabulated_ones() {
        // SciPy: stats.binom.ppf(0.025, n, 0.5) is the rank, counted from 1.
        for (n, lower_rank) in
            [(6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (20, 6), (50, 18), (10_000, 4902)]
        {
            assert_eq!(skipped_ranks(n, 0.025).unwrap() + 1, lower_rank, "{n}");
        }
    }

    #[test]
    fn one_observation_has_no_interval() {
        assert_eq!(median_estimate(&sample(&[3.0])).interval, None);
        assert_eq!(mean_estimate(&sample(&[3.0])).interval, None);
    }

    #[test]
    fn an_unknown_standard_error_gives_no_interval() {
        assert_eq!(from_standard_error(1.0, f64::NAN, 9).interval, None);
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_median(values in prop::collection::vec(-1e6..1e6_f64, 2..30)) {
            let estimate = median_estimate(&Sample::new(values).unwrap());
            let interval = estimate.interval.unwrap();
            prop_assert!(interval.low <= estimate.value + 1e-6);
            prop_assert!(estimate.value <= interval.high + 1e-6);
        }
    }
}
