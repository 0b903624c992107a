//! GPTQ of one matrix: blocks from left to right, each error compensated in the columns after it.
//!
//! As published, columns are done in chunks: within a chunk errors are compensated at once, row by row in parallel;
//! after it by one matrix product. Unlike the paper, the unit is a block whose scales are chosen when it is reached, not a
//! single column with scales chosen beforehand. Uses the search over blocks, `faer` and `rayon`; used by the tables.

use super::block::BlockMetric;
use super::factor::Factor;
use super::layout::{Layout, MOST_WEIGHTS};
use super::sweep;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use std::ops::Range;

/// Least columns of a chunk.
const CHUNK: usize = 128;

/// A matrix to store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a> {
    pub(super) layout: &'a Layout,
    pub(super) columns: usize,
    /// `[rows, columns]`.
    pub(super) target: &'a [f32],
    /// `[columns, columns]`, positive definite.
    pub(super) hessian: &'a [f32],
    /// Of the Hessian.
    pub(super) factor: &'a Factor,
}

/// How a matrix is searched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Candidates for a super-block's scale, and for its minimum, that are tried in full.
    pub(super) units: usize,
    /// Maximum number of sweeps after the pass.
    pub(super) sweeps: u32,
    pub(super) parallel: Par,
}

/// Stores a matrix. Returns its bytes and their loss.
pub(super) fn solve(problem: &Problem<'_>, work: Work) -> (Vec<u8>, f64) {
    match problem.layout.part {
        16 => solve_parts::<16>(problem, work),
        _ => solve_parts::<32>(problem, work),
    }
}

fn solve_parts<const N: usize>(problem: &Problem<'_>, work: Work) -> (Vec<u8>, f64) {
    let mut bytes = pass::<N>(problem, work);
    let loss = sweep::improve::<N>(problem, work, &mut bytes);
    (bytes, loss)
}

/// `tr((W − Q) H (W − Q)ᵀ)` of stored blocks.
pub(super) fn loss(problem: &Problem<'_>, bytes: &[u8], parallel: Par) -> f64 {
    let errors = problem.errors(bytes);
    let gradient = problem.gradient(&errors, parallel);
    inner(&errors, &gradient)
}

/// Inner product.
pub(super) fn inner(a: &[f32], b: &[f32]) -> f64 {
    a.par_chunks(4096)
        .zip(b.par_chunks(4096))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>())
        .sum()
}

impl Problem<'_> {
    pub(super) fn rows(&self) -> usize {
        self.target.len() / self.columns
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.columns / self.layout.weights * self.layout.bytes
    }

    /// Columns of a chunk.
    pub(super) fn chunk(&self) -> usize {
        CHUNK.max(self.layout.weights)
    }

    /// Target minus stored weights.
    pub(super) fn errors(&self, bytes: &[u8]) -> Vec<f32> {
        let mut errors = vec![0.0; self.target.len()];
        errors
            .par_chunks_mut(self.columns)
            .zip(bytes.par_chunks(self.row_bytes()))
            .zip(self.target.par_chunks(self.columns))
            .for_each(|((errors, bytes), target)| {
                self.layout.decode_bytes(bytes, errors);
                for (error, target) in errors.iter_mut().zip(target) {
                    *error = target - *error;
                }
            });
        errors
    }

    /// Errors times the Hessian.
    pub(super) fn gradient(&self, errors: &[f32], parallel: Par) -> Vec<f32> {
        let (rows, columns) = (self.rows(), self.columns);
        let mut gradient = vec![0.0; errors.len()];
        matmul(
            MatMut::from_row_major_slice_mut(&mut gradient, rows, columns),
            Accum::Replace,
            MatRef::from_row_major_slice(errors, rows, columns),
            MatRef::from_row_major_slice(self.hessian, columns, columns),
            1.0,
            parallel,
        );
        gradient
    }
}

/// The pass from left to right.
fn pass<const N: usize>(problem: &Problem<'_>, work: Work) -> Vec<u8> {
    let Problem { layout, columns, factor, .. } = *problem;
    let mut weights = problem.target.to_vec();
    let mut bytes = vec![0; problem.rows() * problem.row_bytes()];
    let mut errors = vec![0.0; problem.rows() * problem.chunk()];
    for from in (0..columns).step_by(problem.chunk()) {
        let width = problem.chunk().min(columns - from);
        let metrics: Vec<BlockMetric<N>> = (from..from + width)
            .step_by(layout.weights)
            .map(|column| BlockMetric::new(factor.part(column, layout.weights)))
            .collect();
        let errors = &mut errors[..problem.rows() * width];
        let first_byte = from / layout.weights * layout.bytes;
        weights
            .par_chunks_mut(columns)
            .zip(errors.par_chunks_mut(width))
            .zip(bytes.par_chunks_mut(problem.row_bytes()))
            .for_each(|((weights, errors), bytes)| {
                let (weights, bytes) = (&mut weights[from..from + width], &mut bytes[first_byte..]);
                let mut target = [0.0; MOST_WEIGHTS];
                let target = &mut target[..layout.weights];
                for (index, metric) in metrics.iter().enumerate() {
                    let (at, after) = (index * layout.weights, (index + 1) * layout.weights);
                    target.copy_from_slice(&weights[at..after]);
                    let block = metric.choose(layout, target, work.units);
                    metric.errors(layout, target, &block, &mut errors[at..after]);
                    layout.pack(&block, &mut bytes[index * layout.bytes..][..layout.bytes]);
                    factor.compensate(from + at, &errors[at..after], &mut weights[after..]);
                }
            });
        compensate_after(&mut weights, errors, factor, from..from + width, work.parallel);
    }
    bytes
}

/// Compensates the errors of a chunk in all columns after it.
fn compensate_after(
    weights: &mut [f32],
    errors: &[f32],
    factor: &Factor,
    chunk: Range<usize>,
    parallel: Par,
) {
    let columns = factor.size;
    let rows = weights.len() / columns;
    if chunk.end == columns {
        return;
    }
    let weights = MatMut::from_row_major_slice_mut(weights, rows, columns);
    let unit = MatRef::from_row_major_slice(&factor.unit, columns, columns);
    let after = columns - chunk.end;
    matmul(
        weights.submatrix_mut(0, chunk.end, rows, after),
        Accum::Add,
        MatRef::from_row_major_slice(errors, rows, chunk.len()),
        unit.submatrix(chunk.start, chunk.end, chunk.len(), after),
        -1.0,
        parallel,
    );
}

#[cfg(test)]
mod tests {
    use super::super::testing::{correlated, normal};
    use super::*;

    /// Every format: GPTQ's loss against that of the nearest codes with the same search for scales, which is
    /// what a Hessian without correlations gives.
    #[test]
    fn moving_errors_on_and_sweeping_each_lower_the_loss_in_every_format() {
        let (rows, columns) = (24, 512);
        let mut random = fastrand::Rng::with_seed(5);
        let hessian = correlated(columns, &mut random);
        let at = |i: usize, j: usize| f64::from(hessian[i * columns + j]);
        let factor = Factor::new(columns, at, Par::Seq).unwrap();
        let alone = |i: usize, j: usize| if i == j { at(i, j) } else { 0.0 };
        let diagonal = Factor::new(columns, alone, Par::Seq).unwrap();
        let target: Vec<f32> = (0..rows * columns).map(|_| normal(&mut random) * 0.05).collect();
        for layout in Layout::all() {
            let problem =
                Problem { layout, columns, target: &target, hessian: &hessian, factor: &factor };
            let rounded = Problem { factor: &diagonal, ..problem };
            let work = |sweeps| Work { units: 2, sweeps, parallel: Par::Seq };
            let (bytes, _) = solve(&rounded, work(0));
            let nearest = loss(&problem, &bytes, Par::Seq);
            let (_, passed) = solve(&problem, work(0));
            let (bytes, swept) = solve(&problem, work(2));
            let again = loss(&problem, &bytes, Par::Seq);
            println!("{}: {nearest:.4} passed {passed:.4} swept {swept:.4}", layout.name);
            assert!(passed < 0.6 * nearest, "{}", layout.name);
            assert!(swept < 0.99 * passed, "{}", layout.name);
            assert!((again / swept - 1.0).abs() < 1e-2, "{}", layout.name);
        }
    }
}
