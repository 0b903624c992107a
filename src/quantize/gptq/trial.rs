//! GPTQ's inner loop for sixteen pairs of scale and minimum at once, one per SIMD lane.
//!
//! Each lane rounds weight after weight to its own grid and compensates each rounding error in the later weights of the
//! part. The loss of a pair is thus that of the codes it leads to. Uses the factor and the levels; used by the search.

use super::factor::Factor;
use super::layout::Levels;
use wide::f32x16;

/// One or two vector registers.
pub(super) const LANES: usize = 16;

/// One number per lane.
pub(super) type Lanes = [f32; LANES];

/// The loss of errors in a part of `N` weights: its [`Factor`] in arrays.
#[derive(Debug, Clone)]
pub(super) struct PartMetric<const N: usize> {
    unit: [[f32; N]; N],
    weight: [f32; N],
    /// The sequence of errors that are all 1, as a change of the minimum makes them.
    ones: [f32; N],
    /// Their loss.
    pub(super) ones_squared: f32,
}

/// The result of all lanes.
#[derive(Debug, Clone)]
pub(super) struct RoundingTrial<const N: usize> {
    pub(super) loss: Lanes,
    codes: [f32x16; N],
}

impl<const N: usize> PartMetric<N> {
    /// From a factor of size `N`.
    pub(super) fn new(factor: &Factor) -> Self {
        let mut unit = [[0.0; N]; N];
        for (i, row) in unit.iter_mut().enumerate() {
            row.copy_from_slice(factor.row(i));
        }
        let mut weight = [0.0; N];
        weight.copy_from_slice(&factor.weight);
        let mut metric = Self { unit, weight, ones: [0.0; N], ones_squared: 0.0 };
        metric.ones = metric.whiten(&[1.0; N]);
        metric.ones_squared = metric.product(&metric.ones, &metric.ones);
        metric
    }

    /// The sequence of an error, see [`Factor`].
    #[expect(clippy::needless_range_loop, reason = "a triangle: two rows share the index")]
    pub(super) fn whiten(&self, error: &[f32; N]) -> [f32; N] {
        let mut sequence = *error;
        for i in 0..N {
            let step = sequence[i];
            for j in i + 1..N {
                sequence[j] -= step * self.unit[i][j];
            }
        }
        sequence
    }

    /// `a H bᵀ` of two sequences.
    pub(super) fn product(&self, a: &[f32; N], b: &[f32; N]) -> f32 {
        let mut sum = 0.0;
        for i in 0..N {
            sum += self.weight[i] * a[i] * b[i];
        }
        sum
    }

    pub(super) fn loss(&self, error: &[f32; N]) -> f32 {
        let sequence = self.whiten(error);
        self.product(&sequence, &sequence)
    }

    /// The least-squares scale and minimum for given levels.
    pub(super) fn fit(&self, target: &[f32; N], levels: &[f32; N], with_minimum: bool) -> Fit {
        let target = self.whiten(target);
        let levels = self.whiten(levels);
        let ll = self.product(&levels, &levels);
        let lt = self.product(&levels, &target);
        if !with_minimum {
            let scale = if ll > 0.0 { lt / ll } else { 0.0 };
            return Fit { scale, minimum: 0.0, curvature: ll, cross: 0.0 };
        }
        let lo = self.product(&levels, &self.ones);
        let ot = self.product(&self.ones, &target);
        let oo = self.ones_squared;
        let determinant = ll * oo - lo * lo;
        if determinant <= 1e-6 * ll * oo {
            return Fit { scale: 0.0, minimum: -ot / oo, curvature: ll, cross: lo };
        }
        let scale = (lt * oo - ot * lo) / determinant;
        let minimum = -(ot * ll - lt * lo) / determinant;
        Fit { scale, minimum, curvature: ll, cross: lo }
    }

    /// Tries sixteen pairs of scale and minimum.
    pub(super) fn trial(
        &self,
        target: &[f32; N],
        levels: Levels,
        scales: &Lanes,
        minimums: &Lanes,
    ) -> RoundingTrial<N> {
        let inverses = scales.map(|scale| if scale == 0.0 { 0.0 } else { 1.0 / scale });
        let (inverses, minimums) = (f32x16::new(inverses), f32x16::new(*minimums));
        let scales = f32x16::new(*scales);
        match levels {
            Levels::Integers(lowest, highest) => {
                let lowest = f32x16::splat(f32::from(lowest));
                let highest = f32x16::splat(f32::from(highest));
                self.run(target, scales, minimums, |weights| {
                    let exact = (weights + minimums) * inverses;
                    let codes = round(exact.fast_max(lowest).fast_min(highest));
                    (codes, codes)
                })
            }
            Levels::Table(table) => {
                let table = table.map(f32::from);
                self.run(target, scales, minimums, |weights| {
                    let exact = (weights + minimums) * inverses;
                    let (mut codes, mut values) = (f32x16::ZERO, f32x16::splat(table[0]));
                    for pair in table.windows(2) {
                        let (middle, step) = ((pair[0] + pair[1]) * 0.5, pair[1] - pair[0]);
                        let above = exact.simd_gt(f32x16::splat(middle));
                        codes += above & f32x16::ONE;
                        values += above & f32x16::splat(step);
                    }
                    (codes, values)
                })
            }
        }
    }

    /// Vectors by name, not loops over arrays: a compiler makes gathers of those, ten times slower.
    #[inline]
    fn run(
        &self,
        target: &[f32; N],
        scales: f32x16,
        minimums: f32x16,
        nearest: impl Fn(f32x16) -> (f32x16, f32x16),
    ) -> RoundingTrial<N> {
        let mut weights = target.map(f32x16::splat);
        let mut codes = [f32x16::ZERO; N];
        let mut loss = f32x16::ZERO;
        for i in 0..N {
            let (nearest_codes, values) = nearest(weights[i]);
            let error = weights[i] - (scales * values - minimums);
            loss = (error * error).mul_add(f32x16::splat(self.weight[i]), loss);
            codes[i] = nearest_codes;
            for (weight, &r) in weights[i + 1..].iter_mut().zip(&self.unit[i][i + 1..]) {
                *weight = error.mul_neg_add(f32x16::splat(r), *weight);
            }
        }
        RoundingTrial { loss: loss.to_array(), codes }
    }
}

/// A least-squares scale and minimum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    pub(super) scale: f32,
    pub(super) minimum: f32,
    /// Second derivative of half the loss over the scale.
    pub(super) curvature: f32,
    /// Mixed second derivative of half the loss over the scale and minus the minimum.
    pub(super) cross: f32,
}

impl<const N: usize> RoundingTrial<N> {
    /// The lane with the least loss.
    pub(super) fn best(&self) -> usize {
        let better = |best, lane| if self.loss[lane] < self.loss[best] { lane } else { best };
        (1..LANES).fold(0, better)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "integers that fit, by the clamp to the levels"
    )]
    pub(super) fn codes(&self, lane: usize) -> [i8; N] {
        std::array::from_fn(|i| self.codes[i].as_array()[lane] as i8)
    }
}

/// Nearest integers of numbers well below 2²²: adding 1.5 · 2²³ leaves no bits for a fraction. Two instructions on every
/// processor, unlike `f32::round`.
#[inline]
fn round(numbers: f32x16) -> f32x16 {
    let shift = f32x16::splat(12_582_912.0);
    (numbers + shift) - shift
}

#[cfg(test)]
mod tests {
    use super::super::testing::{correlated, normal, quadratic};
    use super::*;
    use faer::Par;

    #[test]
    fn the_loss_of_a_lane_is_that_of_its_codes() {
        let mut random = fastrand::Rng::with_seed(1);
        let matrix = correlated(32, &mut random);
        let factor = Factor::new(32, |i, j| matrix[i * 32 + j].into(), Par::Seq).unwrap();
        let metric = PartMetric::<32>::new(&factor);
        let target: [f32; 32] = std::array::from_fn(|_| normal(&mut random));
        let mut count = 0.0;
        let numbers: Lanes = std::array::from_fn(|_| {
            count += 1.0;
            count - 1.0
        });
        for levels in
            [Levels::Integers(-8, 7), super::super::layout::Layout::named("IQ4_NL").unwrap().levels]
        {
            let (low, _) = levels.ends();
            let scales: Lanes = numbers.map(|lane| (lane - 7.5) / (2.0 * low));
            let minimums: Lanes = numbers.map(|lane| lane * 0.01);
            let trial = metric.trial(&target, levels, &scales, &minimums);
            for lane in 0..LANES {
                let codes = trial.codes(lane);
                let error: Vec<f32> = (0..32)
                    .map(|i| target[i] - (scales[lane] * levels.value(codes[i]) - minimums[lane]))
                    .collect();
                let expected = quadratic(&matrix, &error);
                assert!((trial.loss[lane] / expected - 1.0).abs() < 1e-2, "lane {lane}");
            }
            let best = trial.best();
            assert!(trial.loss.iter().all(|&loss| loss >= trial.loss[best]));
        }
    }

    #[test]
    fn a_fit_finds_the_scale_and_minimum_that_made_the_weights() {
        let mut random = fastrand::Rng::with_seed(2);
        let matrix = correlated(16, &mut random);
        let factor = Factor::new(16, |i, j| matrix[i * 16 + j].into(), Par::Seq).unwrap();
        let metric = PartMetric::<16>::new(&factor);
        let levels: [f32; 16] = std::array::from_fn(|_| random.u8(0..4).into());
        let target = levels.map(|level| 0.3 * level - 0.7);
        let fit = metric.fit(&target, &levels, true);
        assert!((fit.scale - 0.3).abs() < 1e-3 && (fit.minimum - 0.7).abs() < 1e-3, "{fit:?}");
        let fit = metric.fit(&levels.map(|level| 0.3 * level), &levels, false);
        assert!((fit.scale - 0.3).abs() < 1e-4, "{fit:?}");
    }
}
