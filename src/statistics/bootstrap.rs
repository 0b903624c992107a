//! Redrawing: quantiles of observations that come in clusters, and whatever is computed from a set of
//! questions, with bootstrap intervals.
//!
//! The tokens of one answer are no independent observations of a latency: a hiccup of the machine
//! or a long prompt touches many of them. The answers are what is independent, so they are what is
//! drawn again.

use super::estimate::{Estimate, Interval};
use super::sample::{Rank, Sample};

/// Redraws. The ends of a 95 % interval then are the 13th smallest and the 13th largest.
const REDRAWS: usize = 500;

/// Where every sequence of redraws begins.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Below this many clusters redrawing them says too little for an interval.
const CLUSTERS_AT_LEAST: usize = 5;

/// A quantile of all observations of all clusters together, and its value in every redraw.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusteredQuantile {
    value: f64,
    redraws: Vec<f64>,
    clusters: usize,
}

/// Computes several quantiles (R's type 7, of all observations together) of the same clusters.
/// `None` if there is no observation or one is not finite.
///
/// Every redraw takes as many clusters as there are, with replacement. Which ones is fixed by the
/// number of clusters alone, so the same data give the same figures on every machine, and two sets
/// of clusters in the same order (the same prompts answered by two variants) are redrawn alike:
/// that makes [`ClusteredQuantile::ratio`] a paired comparison.
pub fn quantiles(clusters: &[Vec<f64>], probabilities: &[f64]) -> Option<Vec<ClusteredQuantile>> {
    let mut pooled: Vec<(f64, usize)> = clusters
        .iter()
        .enumerate()
        .flat_map(|(cluster, values)| values.iter().map(move |&value| (value, cluster)))
        .collect();
    if pooled.is_empty() || pooled.iter().any(|(value, _)| !value.is_finite()) {
        return None;
    }
    pooled.sort_by(|left, right| left.0.total_cmp(&right.0));
    let once = vec![1; clusters.len()];
    let redraws: Vec<Vec<u32>> = if clusters.len() < CLUSTERS_AT_LEAST {
        Vec::new()
    } else {
        redraws(clusters.len()).collect()
    };
    let quantile_of = |probability: f64| {
        let redraws = redraws.iter().filter_map(|times| weighted(&pooled, times, probability));
        Some(ClusteredQuantile {
            value: weighted(&pooled, &once, probability)?,
            redraws: redraws.collect(),
            clusters: clusters.len(),
        })
    };
    probabilities.iter().map(|&probability| quantile_of(probability)).collect()
}

/// How often each of `count` things comes up, redraw by redraw. Fixed by `count` alone, so that two
/// sets of the same size are redrawn alike: that makes differences paired.
pub fn redraws(count: usize) -> impl Iterator<Item = Vec<u32>> {
    let mut random = SplitMix { state: SEED };
    (0..REDRAWS).map(move |_| random.draw_with_replacement(count))
}

impl ClusteredQuantile {
    /// The quantile with its 95 % interval: the 2.5th and 97.5th percentile over the redraws. No
    /// interval with fewer than five clusters.
    pub fn estimate(&self) -> Estimate {
        let interval = percentile_interval(self.redraws.iter().copied());
        Estimate { value: self.value, interval, n: self.clusters }
    }

    /// How many times `baseline` this quantile is, with the 95 % interval over the redraws taken
    /// pairwise. `None` if the clusters are not as many or the baseline is not positive.
    ///
    /// The caller answers for the clusters of both being the same ones in the same order.
    pub fn ratio(&self, baseline: &Self) -> Option<Estimate> {
        if self.clusters != baseline.clusters || self.redraws.len() != baseline.redraws.len() {
            return None;
        }
        let value = self.value / baseline.value;
        let ratios = self.redraws.iter().zip(&baseline.redraws).map(|(own, other)| own / other);
        let interval = percentile_interval(ratios);
        value.is_finite().then_some(Estimate { value, interval, n: self.clusters })
    }
}

/// The 2.5th and 97.5th percentile over redraws; `None` if one is not finite.
pub fn percentile_interval(redraws: impl Iterator<Item = f64>) -> Option<Interval> {
    let sample = Sample::new(redraws)?;
    Some(Interval { low: sample.quantile(0.025), high: sample.quantile(0.975) })
}

/// The quantile of sorted `(value, cluster)` pairs, each counted as often as its cluster was drawn.
fn weighted(pooled: &[(f64, usize)], times: &[u32], probability: f64) -> Option<f64> {
    let count: usize = pooled.iter().map(|&(_, cluster)| times[cluster] as usize).sum();
    if count == 0 {
        return None;
    }
    let rank = Rank::of(probability, count);
    let mut seen = 0;
    let mut below = None;
    for &(value, cluster) in pooled {
        seen += times[cluster] as usize;
        if below.is_none() && seen > rank.below {
            below = Some(value);
        }
        if seen > rank.above {
            return below.map(|below| rank.between(below, value));
        }
    }
    None
}

/// Steele, Lea and Flood's `SplitMix64`: tiny, and good enough to draw with.
struct SplitMix {
    state: u64,
}

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// How often each of `count` things comes up in as many draws.
    fn draw_with_replacement(&mut self, count: usize) -> Vec<u32> {
        let mut times = vec![0; count];
        for _ in 0..count {
            // The high half of a 64 × 64 bit product is uniform over 0..count.
            let product = u128::from(self.next()) * count as u128;
            times[usize::try_from(product >> 64).unwrap_or(0)] += 1;
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_value_is_the_quantile_of_all_observations_together() {
        let clusters = [vec![50.0, 15.0], vec![40.0], vec![20.0, 35.0]];
        let found = quantiles(&clusters, &[0.5, 0.9]).unwrap();
        let values: Vec<f64> = found.iter().map(|quantile| quantile.estimate().value).collect();
        assert_eq!(values, [35.0, 46.0]);
        assert_eq!(found[0].estimate().interval, None, "three clusters are too few");
    }

    #[test]
    fn the_interval_of_a_median_is_about_that_of_order_statistics() {
        // 100 evenly spaced values: ranks 40 to 61 cover 95 % (SciPy: stats.binom.ppf(0.025, 100, 0.5)).
        let clusters: Vec<Vec<f64>> = (1..=100).map(|value| vec![f64::from(value)]).collect();
        let interval = quantiles(&clusters, &[0.5]).unwrap()[0].estimate().interval.unwrap();
        assert!((interval.low - 40.0).abs() <= 3.0, "{interval:?}");
        assert!((interval.high - 61.0).abs() <= 3.0, "{interval:?}");
    }

    #[test]
    fn a_common_factor_shows_in_spite_of_very_different_clusters() {
        let baseline: Vec<Vec<f64>> =
            (1..=20).map(|value| vec![f64::from(value * value)]).collect();
        let subject: Vec<Vec<f64>> = baseline.iter().map(|values| vec![values[0] * 1.1]).collect();
        let own = quantiles(&subject, &[0.9]).unwrap();
        let other = quantiles(&baseline, &[0.9]).unwrap();
        let ratio = own[0].ratio(&other[0]).unwrap();
        assert!((ratio.value - 1.1).abs() < 1e-9);
        assert!(ratio.interval.unwrap().half_width() < 1e-9);
        assert!(own[0].estimate().relative_half_width().unwrap() > 0.1);
    }

    #[test]
    fn different_numbers_of_clusters_are_not_compared() {
        let six = quantiles(&vec![vec![1.0]; 6], &[0.5]).unwrap();
        let seven = quantiles(&vec![vec![1.0]; 7], &[0.5]).unwrap();
        assert_eq!(six[0].ratio(&seven[0]), None);
    }

    #[test]
    fn nothing_is_made_of_no_observation() {
        assert_eq!(quantiles(&[], &[0.5]), None);
        assert_eq!(quantiles(&[vec![], vec![]], &[0.5]), None);
        assert_eq!(quantiles(&[vec![f64::NAN]], &[0.5]), None);
    }

    proptest! {
        #[test]
        fn an_interval_lies_within_the_observations(
            clusters in prop::collection::vec(prop::collection::vec(0.0..1e3_f64, 0..8), 5..12),
            probability in 0.0..1.0_f64,
        ) {
            let found = quantiles(&clusters, &[probability]);
            prop_assert_eq!(found.is_some(), clusters.iter().any(|values| !values.is_empty()));
            if let Some(found) = found {
                let all = Sample::new(clusters.into_iter().flatten()).unwrap();
                let interval = found[0].estimate().interval.unwrap();
                prop_assert!(all.minimum() - 1e-9 <= interval.low);
                prop_assert!(interval.low <= interval.high);
                prop_assert!(interval.high <= all.maximum() + 1e-9);
            }
        }
    }
}
