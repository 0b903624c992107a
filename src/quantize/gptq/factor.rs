//! The factorisation behind GPTQ: a positive definite `H` as `R⁻¹ D R⁻ᵀ`, `R` unit upper triangular.
//!
//! The published algorithm takes the Cholesky factor `U` of `H⁻¹ = Uᵀ U`. Here `R` is `U` with each row divided by its
//! diagonal and `D` is one over the diagonal squared, which saves a product per step. It is made from a Cholesky
//! factorisation of `H` with rows and columns in reverse order and the inverse of a triangle, so `H⁻¹` itself, which loses
//! digits, is never formed. Uses `faer`; used by the solver and by the search within blocks.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{
    LltRegularization, cholesky_in_place, cholesky_in_place_scratch,
};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Mat, Par, Spec};

/// `H = R⁻¹ D R⁻ᵀ`.
///
/// For an error `e` (target minus what is stored) the sequence `s_i = e_i`, `e_j -= s_i R_ij` for `j > i` has
/// `e H eᵀ = Σ D_i s_i²`: the part of weight `i` when all after it are free to compensate.
#[derive(Debug, Clone)]
pub(super) struct Factor {
    /// Rows and columns.
    pub(super) size: usize,
    /// `R`, row after row; zeros below the diagonal.
    pub(super) unit: Vec<f32>,
    /// `D`.
    pub(super) weight: Vec<f32>,
}

impl Factor {
    /// Factorises a symmetric matrix; `None` if it is not positive definite.
    #[expect(clippy::cast_possible_truncation, reason = "f64 is for the factorisation only")]
    pub(super) fn new(
        size: usize,
        matrix: impl Fn(usize, usize) -> f64,
        parallel: Par,
    ) -> Option<Self> {
        let last = size.checked_sub(1)?;
        let mut lower = Mat::from_fn(size, size, |i, j| matrix(last - i, last - j));
        let scratch = cholesky_in_place_scratch::<f64>(size, parallel, Spec::default());
        let mut memory = MemBuffer::new(scratch);
        cholesky_in_place(
            lower.as_mut(),
            LltRegularization::default(),
            parallel,
            MemStack::new(&mut memory),
            Spec::default(),
        )
        .ok()?;
        let mut inverse = Mat::<f64>::zeros(size, size);
        invert_lower_triangular(inverse.as_mut(), lower.as_ref(), parallel);
        drop(lower);
        let mut unit = vec![0.0; size * size];
        let mut weight = Vec::with_capacity(size);
        for (i, row) in unit.chunks_exact_mut(size).enumerate() {
            let diagonal = inverse[(last - i, last - i)];
            if !(diagonal.is_finite() && diagonal > 0.0) {
                return None;
            }
            weight.push((1.0 / (diagonal * diagonal)) as f32);
            for (j, value) in row.iter_mut().enumerate().skip(i) {
                *value = (inverse[(last - i, last - j)] / diagonal) as f32;
            }
        }
        Some(Self { size, unit, weight })
    }

    /// Row `i` of `R`.
    pub(super) fn row(&self, i: usize) -> &[f32] {
        &self.unit[i * self.size..][..self.size]
    }

    /// The diagonal block of columns `from` to `from + size`: the factor of the Schur complement of all later columns.
    pub(super) fn part(&self, from: usize, size: usize) -> Self {
        let mut unit = Vec::with_capacity(size * size);
        for i in from..from + size {
            unit.extend_from_slice(&self.row(i)[from..from + size]);
        }
        Self { size, unit, weight: self.weight[from..from + size].to_vec() }
    }

    /// Subtracts the compensation of errors from the weights right after them. `sequence` is that of the errors of columns
    /// from `first` on.
    pub(super) fn compensate(&self, first: usize, sequence: &[f32], after: &mut [f32]) {
        for (i, step) in sequence.iter().enumerate() {
            let row = &self.row(first + i)[first + sequence.len()..];
            for (weight, r) in after.iter_mut().zip(row) {
                *weight -= step * r;
            }
        }
    }

    /// Turns errors into their sequence, in place.
    pub(super) fn whiten(&self, errors: &mut [f32]) {
        for i in 0..self.size {
            let step = errors[i];
            let row = &self.row(i)[i + 1..];
            for (error, &r) in errors[i + 1..].iter_mut().zip(row) {
                *error -= step * r;
            }
        }
    }

    /// `Σ D_i s_i²` of a whitened sequence.
    pub(super) fn loss(&self, sequence: &[f32]) -> f32 {
        self.weight.iter().zip(sequence).map(|(weight, step)| weight * step * step).sum()
    }

    /// `H⁻¹ g = Rᵀ D⁻¹ R g`.
    pub(super) fn solve(&self, gradient: &[f32], solution: &mut [f32]) {
        solution[..self.size].fill(0.0);
        for i in 0..self.size {
            let row = &self.row(i)[i..];
            let product: f32 = row.iter().zip(&gradient[i..]).map(|(r, g)| r * g).sum();
            let scaled = product / self.weight[i];
            for (value, r) in solution[i..].iter_mut().zip(row) {
                *value += scaled * r;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{correlated, quadratic};
    use super::*;

    #[test]
    fn the_sequence_has_the_loss_of_the_matrix() {
        let size = 48;
        let mut random = fastrand::Rng::with_seed(3);
        let matrix = correlated(size, &mut random);
        let factor = Factor::new(size, |i, j| matrix[i * size + j].into(), Par::Seq).unwrap();
        let error: Vec<f32> = (0..size).map(|_| random.f32() - 0.5).collect();
        let expected = quadratic(&matrix, &error);
        let mut sequence = error.clone();
        factor.whiten(&mut sequence);
        let loss = factor.loss(&sequence);
        assert!((loss / expected - 1.0).abs() < 1e-3, "{loss} {expected}");
    }

    #[test]
    fn a_solution_solves() {
        let size = 40;
        let mut random = fastrand::Rng::with_seed(4);
        let matrix = correlated(size, &mut random);
        let factor = Factor::new(size, |i, j| matrix[i * size + j].into(), Par::Seq).unwrap();
        let wanted: Vec<f32> = (0..size).map(|_| random.f32() - 0.5).collect();
        let gradient: Vec<f32> = matrix
            .chunks_exact(size)
            .map(|row| row.iter().zip(&wanted).map(|(a, b)| a * b).sum())
            .collect();
        let mut solution = vec![0.0; size];
        factor.solve(&gradient, &mut solution);
        for (found, wanted) in solution.iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-2, "{found} {wanted}");
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        assert!(Factor::new(2, |_, _| 1.0, Par::Seq).is_none_or(|factor| factor.weight[1] > 1e12));
        assert!(Factor::new(2, |i, j| if i == j { -1.0 } else { 0.0 }, Par::Seq).is_none());
        assert!(Factor::new(0, |_, _| 1.0, Par::Seq).is_none());
    }
}
