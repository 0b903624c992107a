//! Mean size and second moment of the inputs of each weight.
//!
//! A second moment takes `columns²` numbers, so the text is evaluated as often as it takes to stay within a memory
//! budget, each time only as far as is needed. Used by the streams and the entry point.

use crate::quantize::sums::add_gram;
use faer::{Mat, MatRef, Par};
use std::collections::HashMap;

/// Sums over the vectors that one matrix is multiplied with.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) vectors: usize,
    /// Σ|x| of each column.
    pub(super) sizes: Vec<f64>,
    /// `Σ xᵀx`, the lower triangle.
    products: Mat<f32>,
}

impl Moment {
    pub(super) fn new(columns: usize) -> Self {
        Self { vectors: 0, sizes: vec![0.0; columns], products: Mat::zeros(columns, columns) }
    }

    /// Adds vectors, `[vectors, columns]`.
    pub(super) fn add(&mut self, rows: &[f32], parallel: Par) {
        let columns = self.sizes.len();
        for row in rows.chunks_exact(columns) {
            for (sum, value) in self.sizes.iter_mut().zip(row) {
                *sum += f64::from(value.abs());
            }
        }
        let vectors = rows.len() / columns.max(1);
        let x = MatRef::from_row_major_slice(&rows[..vectors * columns], vectors, columns);
        add_gram(self.products.as_mut(), x, parallel);
        self.vectors += vectors;
    }

    /// The mean of `xᵀx`; zeros without vectors.
    pub(super) fn second(&self) -> Mat<f32> {
        #[expect(clippy::cast_precision_loss, reason = "numbers of tokens")]
        let scale = 1.0 / self.vectors.max(1) as f32;
        Mat::from_fn(self.sizes.len(), self.sizes.len(), |i, j| {
            self.products[(i.max(j), i.min(j))] * scale
        })
    }
}

/// A weight whose inputs are summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tap {
    pub(super) weight: String,
    pub(super) columns: usize,
    /// 1, or the number of experts: each has sums of its own.
    pub(super) matrices: usize,
}

impl Tap {
    /// Bytes of its sums.
    pub(super) fn bytes(&self) -> u64 {
        (self.columns * self.columns * self.matrices * size_of::<f32>()) as u64
    }
}

/// Sums by weight, one per matrix.
pub(super) type Statistics = HashMap<String, Vec<Moment>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_means_over_all_vectors() {
        let mut moment = Moment::new(2);
        moment.add(&[1.0, -2.0], Par::Seq);
        moment.add(&[3.0, 0.0, 0.0, 4.0], Par::Seq);
        assert_eq!((moment.vectors, &moment.sizes[..]), (3, &[4.0, 6.0][..]));
        let second = moment.second();
        let expected = [[10.0, -2.0], [-2.0, 20.0]];
        for i in 0..2 {
            for j in 0..2 {
                assert!((second[(i, j)] - expected[i][j] / 3.0).abs() < 1e-6);
            }
        }
        assert!(Moment::new(1).second()[(0, 0)].abs() < f32::EPSILON);
    }
}
