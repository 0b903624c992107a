//! Shares of yes among answers of yes or no: their intervals, and the comparison of two in pairs.

use super::estimate::{Estimate, Interval};
use super::sample::to_f64;

/// Standard normal quantile of 97.5 %.
const Z: f64 = 1.959_963_984_540_054;

/// The share of `yes` among `n` with Wilson's 95 % interval, which is never outside 0 to 1 and has a
/// width even when all answers agree. `None` if there is no answer.
///
/// Source: Wilson 1927; Newcombe 1998, method 3.
pub fn share_estimate(yes: usize, n: usize) -> Option<Estimate> {
    if n == 0 {
        return None;
    }
    let count = to_f64(n);
    let share = to_f64(yes.min(n)) / count;
    let scale = 1.0 + Z * Z / count;
    let centre = (share + Z * Z / (2.0 * count)) / scale;
    let half = Z / scale * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    let interval = Interval { low: (centre - half).max(0.0), high: (centre + half).min(1.0) };
    // At the ends rounding must not put the share outside its own interval.
    let interval = Interval { low: interval.low.min(share), high: interval.high.max(share) };
    Some(Estimate { value: share, interval: Some(interval), n })
}

/// The p-value of `McNemar`'s exact test: how probable a split at least as uneven is, if of the pairs
/// whose answers differ either direction were as likely. `only_one` and `only_other` count these
/// pairs by direction.
///
/// Source: `McNemar` 1947, with the binomial distribution in place of χ².
pub fn mcnemar(only_one: usize, only_other: usize) -> f64 {
    let n = only_one + only_other;
    let fewer = only_one.min(only_other);
    // ln of binomial probabilities from 0 to `fewer`, each from the one before.
    let mut logarithm = -to_f64(n) * std::f64::consts::LN_2;
    let mut terms = vec![logarithm];
    for k in 1..=fewer {
        logarithm += (to_f64(n - k + 1) / to_f64(k)).ln();
        terms.push(logarithm);
    }
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = terms.iter().map(|term| (term - largest).exp()).sum();
    (2.0 * (largest + sum.ln()).exp()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_interval_is_that_of_scipy() {
        // SciPy: binomtest(81, 263).proportion_ci(method="wilson") is 0.2552885 to 0.3662096.
        let estimate = share_estimate(81, 263).unwrap();
        let interval = estimate.interval.unwrap();
        assert!((interval.low - 0.255_288_5).abs() < 1e-6, "{interval:?}");
        assert!((interval.high - 0.366_209_6).abs() < 1e-6, "{interval:?}");
        let all = share_estimate(10, 10).unwrap().interval.unwrap();
        assert!(all.low > 0.6 && all.low < 0.9 && all.high >= 1.0, "{all:?}");
        assert_eq!(share_estimate(0, 0), None);
    }

    #[test]
    fn the_exact_test_is_that_of_scipy() {
        // SciPy: binomtest(min(b, c), b + c).pvalue.
        for (one, other, expected) in [
            (0, 0, 1.0),
            (5, 5, 1.0),
            (1, 9, 0.021_484_375),
            (0, 6, 0.031_25),
            (30, 12, 0.007_915_897_334_9),
            (900, 1100, 8.457_089_535_5e-6),
        ] {
            let found = mcnemar(one, other);
            assert!((found - expected).abs() < 1e-9 * expected.max(1e-2), "{one} {other} {found}");
        }
    }

    proptest! {
        #[test]
        fn a_share_lies_within_its_interval(n in 1_usize..5000, yes in 0_usize..5000) {
            let estimate = share_estimate(yes.min(n), n).unwrap();
            prop_assert!(estimate.interval.unwrap().contains(estimate.value));
        }

        #[test]
        fn a_p_value_is_a_probability(one in 0_usize..3000, other in 0_usize..3000) {
            let p = mcnemar(one, other);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert!((p - mcnemar(other, one)).abs() < 1e-12);
        }
    }
}
