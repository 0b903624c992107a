//! The search for the scales of one relation: powers of the sizes of channels, tried with the real rounding.
//!
//! A candidate multiplies column `j` of every weight by `s_j`, rounds with ggml's own code and divides by `s_j` again. The
//! loss of the difference `E` to the original is that of the outputs: `tr(E H Eᵀ)`, `H` the second moment of the inputs.
//! Uses the statistics and `llama::blocks`; used by the entry point.

use super::inputs::divided_by_squares;
use super::relations::Relation;
use crate::engine::llama::blocks;
use crate::model::gguf::GgmlType;
use crate::quantize::MethodError;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

/// Largest ratio of a scale to the geometric mean of the largest and the smallest one.
const WIDEST: f32 = 1e4;
/// Parts that the exponents are divided into before those around the best are tried.
const COARSE: u16 = 5;
/// Rows that one thread works on at a time.
pub(super) const ROWS: usize = 16;
/// Columns within which a weight is compared with the largest one, as the groups of the paper.
const GROUP: usize = 32;

/// One matrix whose columns are multiplied by the scales.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    /// How it will be stored.
    pub(super) format: GgmlType,
    pub(super) columns: usize,
    /// A sample of its rows, `[rows, columns]`.
    pub(super) values: Vec<f32>,
    /// Of its columns, in the original model.
    pub(super) importance: Option<Vec<f32>>,
    /// Index of the second moment of its inputs.
    pub(super) moment: usize,
    /// Factor of its loss in the sum.
    pub(super) weight: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scales {
    /// One per channel.
    pub(super) values: Vec<f32>,
    /// Loss of rounding without scales, relative to the mean square of the outputs.
    pub(super) before: f64,
    /// Loss with scales.
    pub(super) after: f64,
}

/// Matrices that share a set of scales.
pub(super) struct ScaleSearch<'a> {
    pub(super) relation: &'a Relation,
    pub(super) matrices: &'a [Matrix],
    /// Second moments of inputs.
    pub(super) seconds: &'a [Mat<f32>],
    /// Mean absolute input of each column.
    pub(super) sizes: &'a [f64],
}

impl ScaleSearch<'_> {
    /// Finds the best scales: powers of the sizes of inputs with exponents from 0 to 1 in so many steps, with `weights` also
    /// divided by the sizes of weights to the power of 1 minus the exponent.
    ///
    /// Every [`COARSE`]th of the whole is tried, then the steps around the best: rounding takes nearly all of the time,
    /// and the loss is nearly smooth in the exponent.
    pub(super) fn run(&self, exponents: u16, weights: bool) -> Result<Scales, MethodError> {
        let values = vec![1.0; self.relation.channels];
        let before = self.loss(&values)?;
        let mut best = Scales { values, before, after: before };
        if exponents == 0 {
            return Ok(best);
        }
        let inputs = self.per_channel(self.sizes);
        let sizes = self.per_channel(&self.weight_sizes());
        let mut at = None;
        let mut attempt = |step: u16, with_weights: bool, at: &mut Option<(u16, bool)>| {
            let exponent = f64::from(step) / f64::from(exponents);
            let scale = |(input, weight): (&f64, &f64)| {
                let divisor = if with_weights { weight.powf(1.0 - exponent) } else { 1.0 };
                input.powf(exponent) / divisor
            };
            let values: Vec<f64> = inputs.iter().zip(&sizes).map(scale).collect();
            let values = normalized(&values);
            let after = self.loss(&values)?;
            if after < best.after {
                best = Scales { values, before, after };
                *at = Some((step, with_weights));
            }
            Ok::<(), MethodError>(())
        };
        let mut stride = exponents.div_ceil(COARSE);
        for step in (0..=exponents).step_by(stride.into()) {
            // Without the weights' sizes, an exponent of 0 changes nothing.
            if step > 0 {
                attempt(step, false, &mut at)?;
            }
            if weights {
                attempt(step, true, &mut at)?;
            }
        }
        while let (Some((step, with_weights)), 2..) = (at, stride) {
            stride = stride.div_ceil(2);
            for near in [step.checked_sub(stride), step.checked_add(stride)] {
                if let Some(near) = near.filter(|&near| near <= exponents) {
                    attempt(near, with_weights, &mut at)?;
                }
            }
        }
        Ok(best)
    }

    /// The mean over the columns of each channel.
    fn per_channel(&self, columns: &[f64]) -> Vec<f64> {
        let mut sums = vec![(0.0, 0.0); self.relation.channels];
        for (column, value) in columns.iter().enumerate() {
            let (sum, count) = &mut sums[self.relation.channel_of(column)];
            *sum += value;
            *count += 1.0;
        }
        sums.into_iter().map(|(sum, count)| sum / f64::max(count, 1.0)).collect()
    }

    /// Sum of each column's absolute weights, each relative to the largest of its group.
    fn weight_sizes(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.sizes.len()];
        for matrix in self.matrices {
            for row in matrix.values.chunks_exact(matrix.columns) {
                for (group, sums) in row.chunks(GROUP).zip(sums.chunks_mut(GROUP)) {
                    let most = group.iter().fold(1e-12_f32, |most, value| most.max(value.abs()));
                    for (sum, value) in sums.iter_mut().zip(group) {
                        *sum += f64::from(value.abs() / most);
                    }
                }
            }
        }
        sums
    }

    /// Loss of rounding with these scales.
    fn loss(&self, scales: &[f32]) -> Result<f64, MethodError> {
        let columns = self.relation.spread(scales);
        let mut loss = 0.0;
        for matrix in self.matrices {
            let second = self.seconds[matrix.moment].as_ref();
            loss += matrix.weight * matrix.loss(&columns, second)?;
        }
        Ok(loss)
    }
}

impl Matrix {
    /// Loss of rounding the scaled matrix, summed over its rows.
    fn loss(&self, scales: &[f32], second: MatRef<'_, f32>) -> Result<f64, MethodError> {
        let importance =
            self.importance.as_deref().map(|values| divided_by_squares(values, scales));
        self.values
            .par_chunks(ROWS * self.columns)
            .map(|rows| {
                let mut scaled = rows.to_vec();
                for row in scaled.chunks_exact_mut(self.columns) {
                    row.iter_mut().zip(scales).for_each(|(value, scale)| *value *= scale);
                }
                let mut errors =
                    blocks::rounded(self.format, &scaled, self.columns, importance.as_deref())?;
                let originals = rows.chunks_exact(self.columns);
                for (errors, originals) in errors.chunks_exact_mut(self.columns).zip(originals) {
                    for ((error, original), scale) in errors.iter_mut().zip(originals).zip(scales) {
                        *error = *error / scale - original;
                    }
                }
                Ok(quadratic(&errors, second).iter().sum::<f64>())
            })
            .sum()
    }

    /// The mean square of its outputs, summed over its rows.
    pub(super) fn power(&self, second: MatRef<'_, f32>) -> f64 {
        self.values
            .par_chunks(ROWS * self.columns)
            .map(|rows| quadratic(rows, second).iter().sum::<f64>())
            .sum()
    }
}

/// `e H eᵀ` of each row.
pub(super) fn quadratic(rows: &[f32], second: MatRef<'_, f32>) -> Vec<f64> {
    let columns = second.ncols();
    let count = rows.len() / columns.max(1);
    let left = MatRef::from_row_major_slice(&rows[..count * columns], count, columns);
    // Transposed, so that a row's product is contiguous.
    let mut product = Mat::<f32>::zeros(columns, count);
    matmul(product.as_mut(), Accum::Replace, second, left.transpose(), 1.0, Par::Seq);
    let rows = rows.chunks_exact(columns).enumerate();
    rows.map(|(index, row)| {
        let product = product.col_as_slice(index);
        row.iter().zip(product).map(|(a, b)| f64::from(a * b)).sum()
    })
    .collect()
}

/// Bounded scales, divided by the geometric mean of the largest and the smallest.
#[expect(clippy::cast_possible_truncation, reason = "scales are stored in f32")]
fn normalized(values: &[f64]) -> Vec<f32> {
    let most = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    if most <= 0.0 {
        return vec![1.0; values.len()];
    }
    // A channel that is never used would make the mean meaningless.
    let bounded = values
        .iter()
        .map(|value| if value.is_finite() { value.max(most / f64::from(WIDEST)) } else { most });
    let least = bounded.clone().fold(f64::INFINITY, f64::min);
    let middle = (most * least).sqrt();
    bounded.map(|value| (value / middle) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::super::relations::Producer;
    use super::*;
    use crate::engine::llama::backend::Backend;

    const COLUMNS: usize = 64;
    const SALIENT: [usize; 3] = [5, 40, 41];

    fn relation() -> Relation {
        Relation {
            producer: Producer { weight: "norm.weight".to_owned(), first_row: None },
            biases: Vec::new(),
            products: vec!["product.weight".to_owned()],
            channels: COLUMNS,
            columns: COLUMNS,
            sharing: None,
            experts: 1,
        }
    }

    fn matrix(columns: usize) -> Matrix {
        let mut random = fastrand::Rng::with_seed(3);
        Matrix {
            format: GgmlType::from_name("Q4_0").unwrap(),
            columns,
            values: (0..24 * columns).map(|_| random.f32() - 0.5).collect(),
            importance: None,
            moment: 0,
            weight: 1.0,
        }
    }

    /// Inputs of mean size 1, thirty times that in the salient columns, and without correlation.
    fn inputs() -> (Vec<f64>, Mat<f32>) {
        let size = |column: usize| if SALIENT.contains(&column) { 30.0 } else { 1.0 };
        let second =
            Mat::from_fn(COLUMNS, COLUMNS, |i, j| if i == j { size(i) * size(i) } else { 0.0 });
        ((0..COLUMNS).map(|column| f64::from(size(column))).collect(), second)
    }

    fn search(exponents: u16, weights: bool) -> Scales {
        let _backend = Backend::initialise();
        let (relation, (sizes, second)) = (relation(), inputs());
        let matrices = [matrix(COLUMNS)];
        let search = ScaleSearch {
            relation: &relation,
            matrices: &matrices,
            seconds: &[second],
            sizes: &sizes,
        };
        search.run(exponents, weights).unwrap()
    }

    #[test]
    fn salient_channels_get_larger_weights_and_the_loss_falls() {
        let found = search(20, false);
        assert!(found.after < 0.5 * found.before, "{} of {}", found.after, found.before);
        let ordinary = found.values[0];
        for (column, scale) in found.values.iter().enumerate() {
            if SALIENT.contains(&column) {
                assert!(*scale > 1.5 * ordinary, "{column}: {scale}");
            } else {
                assert!((scale - ordinary).abs() < 1e-6, "{column}: {scale}");
            }
        }
    }

    #[test]
    fn steps_between_the_coarse_ones_are_tried_around_the_best() {
        let (coarse, fine) = (search(COARSE, true), search(4 * COARSE, true));
        assert!(fine.after < coarse.after, "{} of {}", fine.after, coarse.after);
    }

    #[test]
    fn a_grid_without_steps_leaves_everything_as_it_is() {
        let found = search(0, true);
        assert!(found.values.iter().all(|scale| (scale - 1.0).abs() < f32::EPSILON));
        assert!((found.after - found.before).abs() < f64::EPSILON);
    }

    #[test]
    fn columns_that_share_a_channel_get_its_scale() {
        let _backend = Backend::initialise();
        // Two heads of 32 columns read one head of 32 channels.
        let relation = Relation {
            channels: 32,
            sharing: Some(super::super::relations::Sharing { width: 32, heads: 2 }),
            ..relation()
        };
        let (mut sizes, second) = inputs();
        sizes[5] = 59.0;
        let matrices = [matrix(COLUMNS)];
        let search = ScaleSearch {
            relation: &relation,
            matrices: &matrices,
            seconds: &[second],
            sizes: &sizes,
        };
        assert!((search.per_channel(&sizes)[5] - 30.0).abs() < 1e-12);
        let found = search.run(10, true).unwrap();
        assert_eq!(found.values.len(), 32);
        let spread = relation.spread(&found.values);
        assert_eq!(spread[..32], spread[32..]);
    }

    #[test]
    fn the_loss_of_rows_is_that_of_their_outputs() {
        // x of (1, 0) and (1, 1), each half of the time.
        let second = Mat::from_fn(2, 2, |i, j| if i == 0 && j == 0 { 1.0_f32 } else { 0.5 });
        let loss = quadratic(&[2.0, 1.0, 0.0, 3.0], second.as_ref());
        // Outputs 2 and 3; 0 and 3.
        assert_eq!(loss, [6.5, 4.5]);
    }

    #[test]
    fn scales_are_bounded_and_those_of_unused_channels_too() {
        let scales = normalized(&[0.0, 1.0, 1e12, f64::INFINITY]);
        assert!(scales.iter().all(|scale| scale.is_finite() && *scale > 0.0), "{scales:?}");
        assert_eq!(normalized(&[0.0, 0.0]), [1.0, 1.0]);
        let scales = normalized(&[4.0, 1.0]);
        assert_eq!(scales, [2.0, 0.5]);
    }
}
