//! Paired comparisons: two samples measured side by side, observation by observation.
//!
//! What disturbs a machine for a while disturbs both partners of a round, and what makes one text
//! harder makes it harder for both variants; pairing takes that out of the comparison.

use super::estimate::Estimate;
use super::interval::{mean_estimate, median_estimate};
use super::sample::Sample;

/// Two observations of the same round, prompt or chunk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Of what is judged.
    pub subject: f64,
    /// Of what it is compared with.
    pub baseline: f64,
}

/// How many times the baseline the subject is: the median of the pairs' ratios with its 95 %
/// interval, both computed on logarithms, so that swapping the partners inverts the result.
/// `None` if there is no pair or an observation is not positive.
pub fn ratio(pairs: &[Pair]) -> Option<Estimate> {
    let logarithms = Sample::new(pairs.iter().map(|pair| (pair.subject / pair.baseline).ln()))?;
    Some(median_estimate(&logarithms).map(f64::exp))
}

/// By how much the subject exceeds the baseline: the mean of the pairs' differences with Student's
/// 95 % interval. `None` if there is no pair or an observation is not finite.
pub fn difference(pairs: &[Pair]) -> Option<Estimate> {
    let differences = Sample::new(pairs.iter().map(|pair| pair.subject - pair.baseline))?;
    Some(mean_estimate(&differences))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(values: &[(f64, f64)]) -> Vec<Pair> {
        values.iter().map(|&(subject, baseline)| Pair { subject, baseline }).collect()
    }

    #[test]
    fn pairing_finds_a_small_difference_under_large_common_noise() {
        // The machine's speed swings by 50 %, the subject is 2 % faster in every round.
        let swings = [100.0, 150.0, 80.0, 120.0, 95.0];
        let pairs = pairs(&swings.map(|speed| (speed * 1.02, speed)));
        let ratio = ratio(&pairs).unwrap();
        assert!((ratio.value - 1.02).abs() < 1e-12);
        assert!(ratio.interval.unwrap().low > 1.019);
    }

    #[test]
    fn noise_larger_than_the_difference_leaves_it_open() {
        let pairs = pairs(&[(100.0, 110.0), (120.0, 100.0), (90.0, 95.0), (115.0, 105.0)]);
        assert!(ratio(&pairs).unwrap().interval.unwrap().contains(1.0));
    }

    #[test]
    fn the_difference_is_that_of_scipy() {
        // SciPy: stats.t.interval(0.95, 3, mean, sem) of 1, 2, 0, 3 is -0.5542603 to 3.5542603.
        let pairs = pairs(&[(5.0, 4.0), (7.0, 5.0), (9.0, 9.0), (4.0, 1.0)]);
        let estimate = difference(&pairs).unwrap();
        assert!((estimate.value - 1.5).abs() < 1e-12);
        let high = estimate.interval.unwrap().high;
        assert!((high - 3.554_260_3).abs() < 1e-5, "{high}");
    }

    #[test]
    fn nothing_is_said_of_pairs_that_have_no_ratio() {
        assert_eq!(ratio(&[]), None);
        assert_eq!(ratio(&pairs(&[(0.0, 1.0)])), None);
        assert_eq!(ratio(&pairs(&[(1.0, 0.0)])), None);
        assert_eq!(difference(&pairs(&[(f64::NAN, 0.0)])), None);
    }

    proptest! {
        #[test]
        fn swapping_the_partners_inverts_the_ratio(
            values in prop::collection::vec((0.1..1e3_f64, 0.1..1e3_f64), 2..20),
        ) {
            let forward = ratio(&pairs(&values)).unwrap();
            let swapped: Vec<_> = values.iter().map(|&(a, b)| (b, a)).collect();
            let backward = ratio(&pairs(&swapped)).unwrap();
            prop_assert!((forward.value * backward.value - 1.0).abs() < 1e-9);
            let (forward, backward) = (forward.interval.unwrap(), backward.interval.unwrap());
            prop_assert!((forward.low * backward.high - 1.0).abs() < 1e-6);
        }
    }
}
