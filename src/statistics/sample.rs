//! Samples: observations with their location and spread.

/// At least one observation, all of them finite, sorted.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    sorted: Vec<f64>,
}

impl Sample {
    /// Takes observations in any order; `None` if there is none or one is not finite.
    pub fn new(observations: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = observations.into_iter().collect();
        if sorted.is_empty() || sorted.iter().any(|value| !value.is_finite()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        Some(Self { sorted })
    }

    /// The observations, ascending.
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// Number of observations, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a sample is never empty")]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest observation.
    pub fn minimum(&self) -> f64 {
        self.sorted[0]
    }

    /// The largest observation.
    pub fn maximum(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }

    /// The middle observation, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The quantile for a probability from 0 to 1: linear between the observations around rank
    /// `probability · (n − 1)`, counted from 0. R calls it type 7 and takes it by default, as `NumPy`
    /// does (`method="linear"`).
    pub fn quantile(&self, probability: f64) -> f64 {
        let rank = Rank::of(probability, self.sorted.len());
        rank.between(self.sorted[rank.below], self.sorted[rank.above])
    }

    /// Arithmetic mean.
    pub fn mean(&self) -> f64 {
        self.sorted.iter().sum::<f64>() / to_f64(self.sorted.len())
    }

    /// Standard deviation with divisor n − 1; `None` for a single observation.
    pub fn standard_deviation(&self) -> Option<f64> {
        if self.sorted.len() < 2 {
            return None;
        }
        let mean = self.mean();
        let squares: f64 = self.sorted.iter().map(|value| (value - mean).powi(2)).sum();
        Some((squares / to_f64(self.sorted.len() - 1)).sqrt())
    }
}

/// Where a quantile lies: between two ranks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    pub(super) below: usize,
    pub(super) above: usize,
    fraction: f64,
}

impl Rank {
    /// For `probability` among `count` observations, at least one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is from 0 to count − 1"
    )]
    pub(super) fn of(probability: f64, count: usize) -> Self {
        let rank = probability.clamp(0.0, 1.0) * to_f64(count.saturating_sub(1));
        let below = rank.floor() as usize;
        Self {
            below,
            above: (below + 1).min(count.saturating_sub(1)),
            fraction: rank - rank.floor(),
        }
    }

    pub(super) fn between(self, below: f64, above: f64) -> f64 {
        // Not `below + fraction · (above − below)`: that overflows for opposite huge values. Rounding
        // must not lead beyond either of them.
        (below * (1.0 - self.fraction) + above * self.fraction).clamp(below, above)
    }
}

/// Counts are far below 2^53, where an f64 is exact.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{found} {expected}");
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        // NumPy: quantile([15, 20, 35, 40, 50], [0.05, 0.3, 0.4, 0.5, 0.9]).
        let sample = Sample::new([50.0, 15.0, 40.0, 20.0, 35.0]).unwrap();
        for (probability, expected) in
            [(0.05, 16.0), (0.3, 23.0), (0.4, 29.0), (0.5, 35.0), (0.9, 46.0)]
        {
            close(sample.quantile(probability), expected);
        }
        close(Sample::new([1.0, 2.0, 3.0, 4.0]).unwrap().median(), 2.5);
    }

    #[test]
    fn the_spread_is_that_of_numpy() {
        // NumPy: std([2, 4, 4, 4, 5, 5, 7, 9], ddof=1).
        let sample = Sample::new([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        close(sample.standard_deviation().unwrap(), 2.138_089_935_299_39);
    }

    #[test]
    fn a_sample_is_neither_empty_nor_infinite() {
        assert_eq!(Sample::new([]), None);
        assert_eq!(Sample::new([1.0, f64::NAN]), None);
        assert_eq!(Sample::new([f64::INFINITY]), None);
        assert_eq!(Sample::new([3.0]).unwrap().standard_deviation(), None);
    }

    proptest! {
        #[test]
        fn quantiles_lie_within_the_sample_and_rise(
            values in prop::collection::vec(-1e6..1e6_f64, 1..40),
            low in 0.0..1.0_f64,
            high in 0.0..1.0_f64,
        ) {
            let sample = Sample::new(values).unwrap();
            let (low, high) = (low.min(high), low.max(high));
            prop_assert!(sample.quantile(low) <= sample.quantile(high) + 1e-6);
            prop_assert!(sample.minimum() - 1e-6 <= sample.quantile(low));
            prop_assert!(sample.quantile(high) <= sample.maximum() + 1e-6);
        }

        #[test]
        fn the_median_shifts_and_scales_with_the_sample(
            values in prop::collection::vec(-1e3..1e3_f64, 1..40),
            shift in -1e3..1e3_f64,
            scale in 0.1..10.0_f64,
        ) {
            let median = Sample::new(values.clone()).unwrap().median();
            let moved = Sample::new(values.iter().map(|value| value * scale + shift)).unwrap();
            prop_assert!((moved.median() - (median * scale + shift)).abs() < 1e-6);
        }
    }
}
