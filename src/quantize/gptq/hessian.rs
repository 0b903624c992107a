//! The Hessian of a matrix's loss, and the target that matches the original's outputs.
//!
//! With inputs `x` in the quantized model and `y` in the original, the loss is `Σ |W y + d − Q x|²` over all tokens, `d` the
//! drift of the residual stream that the product is added to. Its Hessian is `H = mean xᵀx`; the target follows from
//! `mean (y − x)ᵀ x` and `mean dᵀ x`. Sums over a few thousand tokens are made in f32, and over these in f64. Uses `faer`;
//! used by the tables and the sequence.

use super::factor::Factor;
use crate::quantize::sums::add_gram;
use crate::statistics::sample::to_f64;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

/// Tokens after which the sums in f32 are added to those in f64.
const TOKENS_IN_SINGLE: usize = 4096;

/// A sum of outer products.
struct Products {
    single: Mat<f32>,
    double: Mat<f64>,
}

impl Products {
    fn new(rows: usize, columns: usize) -> Self {
        Self { single: Mat::zeros(rows, columns), double: Mat::zeros(rows, columns) }
    }

    fn flush(&mut self) {
        for column in 0..self.double.ncols() {
            let double = self.double.col_as_slice_mut(column);
            for (sum, part) in double.iter_mut().zip(self.single.col_as_slice_mut(column)) {
                *sum += f64::from(*part);
                *part = 0.0;
            }
        }
    }
}

/// Sums over the tokens seen so far.
pub(super) struct Moments {
    pub(super) width: usize,
    parallel: Par,
    pub(super) tokens: usize,
    in_single: usize,
    /// `Σ xᵀx`; the lower triangle.
    inputs: Products,
    /// `Σ (y − x)ᵀ x`.
    drift: Option<Products>,
    /// `Σ dᵀ x`.
    residual: Option<Products>,
}

/// The original model's values for the same tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Original<'a> {
    pub(super) inputs: &'a [f32],
    /// The drift of the residual stream, if it is corrected.
    pub(super) residual: Option<&'a [f32]>,
}

impl Moments {
    /// For inputs of `width`. `outputs` is the width of a residual stream to correct.
    pub(super) fn new(width: usize, matched: bool, outputs: Option<usize>, parallel: Par) -> Self {
        Self {
            width,
            parallel,
            tokens: 0,
            in_single: 0,
            inputs: Products::new(width, width),
            drift: matched.then(|| Products::new(width, width)),
            residual: outputs.map(|outputs| Products::new(outputs, width)),
        }
    }

    /// Bytes of the sums.
    pub(super) fn bytes(width: usize, matched: bool, outputs: Option<usize>) -> u64 {
        let sums = 1 + u64::from(matched);
        let rows = sums * width as u64 + outputs.unwrap_or(0) as u64;
        rows * width as u64 * (size_of::<f32>() + size_of::<f64>()) as u64
    }

    /// Adds tokens, `[tokens, width]`. `original` must have the values that [`Self::new`] was asked for.
    pub(super) fn add(&mut self, inputs: &[f32], original: Option<Original<'_>>) {
        let tokens = inputs.len() / self.width;
        let x = MatRef::from_row_major_slice(inputs, tokens, self.width);
        add_gram(self.inputs.single.as_mut(), x, self.parallel);
        if let (Some(drift), Some(original)) = (&mut self.drift, original) {
            let difference: Vec<f32> =
                original.inputs.iter().zip(inputs).map(|(y, x)| y - x).collect();
            accumulate(drift, &difference, x, self.parallel);
        }
        let stream = original.and_then(|original| original.residual);
        if let (Some(residual), Some(stream)) = (&mut self.residual, stream) {
            accumulate(residual, stream, x, self.parallel);
        }
        self.tokens += tokens;
        self.in_single += tokens;
        if self.in_single >= TOKENS_IN_SINGLE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.in_single = 0;
        self.inputs.flush();
        self.drift.iter_mut().chain(&mut self.residual).for_each(Products::flush);
    }

    /// The Hessian with its factor. `damping` times the mean diagonal is added to the diagonal; it is raised tenfold, up to
    /// 1, while the Hessian is not positive definite. `None` if inputs are all zero or not finite.
    pub(super) fn hessian(&mut self, mut damping: f64) -> Option<Hessian> {
        self.flush();
        let scale = 1.0 / to_f64(self.tokens.max(1));
        let sums = &self.inputs.double;
        let at = |i: usize, j: usize| sums[(i.max(j), i.min(j))] * scale;
        let mean = (0..self.width).map(|i| at(i, i)).sum::<f64>() / to_f64(self.width);
        if !(mean.is_finite() && mean > 0.0) {
            return None;
        }
        loop {
            let added = damping * mean;
            let damped = |i: usize, j: usize| at(i, j) + if i == j { added } else { 0.0 };
            if let Some(factor) = Factor::new(self.width, damped, self.parallel) {
                #[expect(clippy::cast_possible_truncation, reason = "matrix products are in f32")]
                let matrix = (0..self.width * self.width)
                    .map(|index| damped(index / self.width, index % self.width) as f32)
                    .collect();
                return Some(Hessian { matrix, factor });
            }
            if damping >= 1.0 {
                return None;
            }
            damping = (damping * 10.0).clamp(1e-6, 1.0);
        }
    }

    /// The weights whose outputs come closest to the original's: `W + (W E + D) H⁻¹`, `E = mean (y − x)ᵀ x` and
    /// `D = mean dᵀ x`.
    pub(super) fn target(&mut self, weights: &[f32], factor: &Factor) -> Vec<f32> {
        self.flush();
        let (width, rows) = (self.width, weights.len() / self.width);
        let mut target = weights.to_vec();
        let scale = 1.0 / to_f64(self.tokens.max(1));
        let mut wanted = Mat::<f32>::zeros(rows, width);
        if let Some(drift) = &self.drift {
            let drift = single(&drift.double, scale);
            let weights = MatRef::from_row_major_slice(weights, rows, width);
            matmul(wanted.as_mut(), Accum::Replace, weights, drift.as_ref(), 1.0, self.parallel);
        }
        if let Some(stream) = &self.residual {
            wanted += single(&stream.double, scale);
        }
        // H⁻¹ = Rᵀ D⁻¹ R.
        let unit = MatRef::from_row_major_slice(&factor.unit, width, width);
        let mut half = Mat::<f32>::zeros(rows, width);
        let wanted = wanted.as_ref();
        matmul(half.as_mut(), Accum::Replace, wanted, unit.transpose(), 1.0, self.parallel);
        for (column, weight) in factor.weight.iter().enumerate() {
            half.col_as_slice_mut(column).iter_mut().for_each(|value| *value /= weight);
        }
        let out = MatMut::from_row_major_slice_mut(&mut target, rows, width);
        matmul(out, Accum::Add, half.as_ref(), unit, 1.0, self.parallel);
        target
    }
}

pub(super) struct Hessian {
    /// Damped, row after row.
    pub(super) matrix: Vec<f32>,
    pub(super) factor: Factor,
}

fn accumulate(sums: &mut Products, left: &[f32], right: MatRef<'_, f32>, parallel: Par) {
    let tokens = right.nrows();
    let left = MatRef::from_row_major_slice(left, tokens, left.len() / tokens.max(1));
    matmul(sums.single.as_mut(), Accum::Add, left.transpose(), right, 1.0, parallel);
}

#[expect(clippy::cast_possible_truncation, reason = "matrix products are in f32")]
fn single(matrix: &Mat<f64>, scale: f64) -> Mat<f32> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| (matrix[(i, j)] * scale) as f32)
}

#[cfg(test)]
mod tests {
    use super::super::testing::normal;
    use super::*;

    #[test]
    fn the_target_gives_the_original_outputs_from_changed_inputs() {
        let (width, rows, tokens) = (12, 5, 600);
        let mut random = fastrand::Rng::with_seed(8);
        let mut numbers =
            |count: usize| (0..count).map(|_| normal(&mut random)).collect::<Vec<f32>>();
        let original = numbers(tokens * width);
        let weights = numbers(rows * width);
        // Inputs that are the original's times a known matrix: the target undoes it.
        let scales: Vec<f32> = (0_u16..).take(width).map(|i| 1.0 + 0.1 * f32::from(i)).collect();
        let inputs: Vec<f32> =
            original.iter().enumerate().map(|(i, y)| y * scales[i % width]).collect();
        let mut moments = Moments::new(width, true, None, Par::Seq);
        for (x, y) in inputs.chunks(100 * width).zip(original.chunks(100 * width)) {
            moments.add(x, Some(Original { inputs: y, residual: None }));
        }
        let hessian = moments.hessian(1e-9).unwrap();
        let target = moments.target(&weights, &hessian.factor);
        for (i, (target, weight)) in target.iter().zip(&weights).enumerate() {
            assert!((target - weight / scales[i % width]).abs() < 1e-3);
        }
    }

    #[test]
    fn what_the_residual_stream_lacks_is_added() {
        let (width, rows, tokens) = (8, 3, 400);
        let mut random = fastrand::Rng::with_seed(9);
        let inputs: Vec<f32> = (0..tokens * width).map(|_| normal(&mut random)).collect();
        let missing: Vec<f32> = (0..rows * width).map(|_| normal(&mut random)).collect();
        let stream: Vec<f32> = inputs
            .chunks(width)
            .flat_map(|x| {
                missing
                    .chunks(width)
                    .map(move |row| row.iter().zip(x).map(|(m, x)| m * x).sum::<f32>())
            })
            .collect();
        let mut moments = Moments::new(width, true, Some(rows), Par::Seq);
        moments.add(&inputs, Some(Original { inputs: &inputs, residual: Some(&stream) }));
        let hessian = moments.hessian(1e-9).unwrap();
        let target = moments.target(&vec![0.0; rows * width], &hessian.factor);
        for (target, missing) in target.iter().zip(&missing) {
            assert!((target - missing).abs() < 1e-3);
        }
    }

    #[test]
    fn a_singular_hessian_is_damped_until_it_is_not_and_zeros_are_refused() {
        let mut moments = Moments::new(4, false, None, Par::Seq);
        moments.add(&[1.0, 2.0, 3.0, 4.0], None);
        assert!(moments.hessian(0.0).unwrap().matrix[0] > 1.0);
        let mut moments = Moments::new(4, false, None, Par::Seq);
        moments.add(&[0.0; 8], None);
        assert!(moments.hessian(0.01).is_none());
    }
}
