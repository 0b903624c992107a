//! GPTQ of one matrix: blocks from left to right, every error moved on to the columns after it.
//!
//! As published, columns are done in chunks: within a chunk errors move on at once, row by row in parallel;
//! behind it by one matrix product. What differs is that the unit is a block with its scales, chosen
//! when it is reached, not a single column with scales chosen beforehand. Uses the search over blocks, `faer` and
//! `rayon`; used by the sequence over layers.

use super::block::{BlockMetric, Effort};
use super::factor::Factor;
use super::layout::{Block, Layout, MOST_WEIGHTS};
use super::sweep;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Columns whose errors move on together, where blocks are smaller.
const CHUNK: usize = 128;

/// One matrix to store.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// In which format.
    pub layout: &'a Layout,
    /// Length of a row.
    pub columns: usize,
    /// What the matrix should be, row after row.
    pub target: &'a [f32],
    /// What errors cost, `columns × columns`, positive definite.
    pub hessian: &'a [f32],
    /// The factor of that.
    pub factor: &'a Factor,
}

/// How much work is put into one matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// For choosing a block's numbers.
    pub effort: Effort,
    /// Most sweeps over all parts afterwards, each choosing a part anew with all others fixed.
    pub sweeps: usize,
}

/// A matrix, stored.
#[derive(Debug, Clone)]
pub struct Solution {
    /// The blocks.
    pub bytes: Vec<u8>,
    /// What the errors cost after the pass from left to right.
    pub passed_loss: f64,
    /// What they cost in the end.
    pub loss: f64,
}

/// Stores a matrix.
#[must_use]
pub fn solve(problem: &Problem<'_>, work: Work, parallel: Par) -> Solution {
    match problem.layout.part {
        16 => solve_parts::<16>(problem, work, parallel),
        _ => solve_parts::<32>(problem, work, parallel),
    }
}

fn solve_parts<const N: usize>(problem: &Problem<'_>, work: Work, parallel: Par) -> Solution {
    let mut bytes = pass::<N>(problem, work.effort, parallel);
    let (passed_loss, loss) = sweep::improve::<N>(problem, work, &mut bytes, parallel);
    Solution { bytes, passed_loss, loss }
}

/// `tr((W − Q) H (W − Q)ᵀ)` of stored blocks.
#[must_use]
pub fn loss(problem: &Problem<'_>, bytes: &[u8], parallel: Par) -> f64 {
    let errors = problem.errors(bytes);
    let gradient = problem.gradient(&errors, parallel);
    inner(&errors, &gradient)
}

/// Sum of products.
pub fn inner(a: &[f32], b: &[f32]) -> f64 {
    a.par_chunks(4096)
        .zip(b.par_chunks(4096))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>())
        .sum()
}

impl Problem<'_> {
    /// Rows of the matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.target.len() / self.columns
    }

    /// Bytes of a stored row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.columns / self.layout.weights * self.layout.bytes
    }

    /// Columns per chunk.
    #[must_use]
    pub fn chunk(&self) -> usize {
        CHUNK.max(self.layout.weights)
    }

    /// Target minus what is stored.
    #[must_use]
    pub fn errors(&self, bytes: &[u8]) -> Vec<f32> {
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
    #[must_use]
    pub fn gradient(&self, errors: &[f32], parallel: Par) -> Vec<f32> {
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
fn pass<const N: usize>(problem: &Problem<'_>, effort: Effort, parallel: Par) -> Vec<u8> {
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
                let chunk = Chunk { layout, metrics: &metrics, factor, from, effort };
                chunk.row(&mut weights[from..from + width], errors, &mut bytes[first_byte..]);
            });
        move_behind(&mut weights, errors, factor, from..from + width, parallel);
    }
    bytes
}

/// Moves the errors of a chunk on to all columns behind it.
fn move_behind(
    weights: &mut [f32],
    errors: &[f32],
    factor: &Factor,
    chunk: std::ops::Range<usize>,
    parallel: Par,
) {
    let columns = factor.size;
    let rows = weights.len() / columns;
    if chunk.end == columns {
        return;
    }
    let weights = MatMut::from_row_major_slice_mut(weights, rows, columns);
    let unit = MatRef::from_row_major_slice(&factor.unit, columns, columns);
    let behind = columns - chunk.end;
    matmul(
        weights.submatrix_mut(0, chunk.end, rows, behind),
        Accum::Add,
        MatRef::from_row_major_slice(errors, rows, chunk.len()),
        unit.submatrix(chunk.start, chunk.end, chunk.len(), behind),
        -1.0,
        parallel,
    );
}

/// Blocks of one chunk of columns.
struct Chunk<'a, const N: usize> {
    layout: &'a Layout,
    metrics: &'a [BlockMetric<N>],
    factor: &'a Factor,
    from: usize,
    effort: Effort,
}

impl<const N: usize> Chunk<'_, N> {
    /// Stores the blocks of one row; leaves the sequence of errors in `errors`.
    fn row(&self, weights: &mut [f32], errors: &mut [f32], bytes: &mut [u8]) {
        let size = self.layout.weights;
        let mut target = [0.0; MOST_WEIGHTS];
        for (index, metric) in self.metrics.iter().enumerate() {
            let at = index * size;
            let target = &mut target[..size];
            target.copy_from_slice(&weights[at..at + size]);
            let block: Block = metric.choose(self.layout, target, None, self.effort);
            let own = &mut errors[at..at + size];
            metric.errors(self.layout, target, &block, own);
            self.layout.pack(&block, &mut bytes[index * self.layout.bytes..][..self.layout.bytes]);
            let (from, behind) = (self.from + at + size, &mut weights[at + size..]);
            for (i, step) in own.iter().enumerate() {
                let row = &self.factor.row(self.from + at + i)[from..];
                for (weight, r) in behind.iter_mut().zip(row) {
                    *weight -= step * r;
                }
            }
        }
    }
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
            let effort = Effort { units: 2 };
            let rounded = Problem { factor: &diagonal, ..problem };
            let bytes = match layout.part {
                16 => pass::<16>(&rounded, effort, Par::Seq),
                _ => pass::<32>(&rounded, effort, Par::Seq),
            };
            let nearest = loss(&problem, &bytes, Par::Seq);
            let solution = solve(&problem, Work { effort, sweeps: 2 }, Par::Seq);
            let again = loss(&problem, &solution.bytes, Par::Seq);
            println!(
                "{}: {nearest:.4} passed {:.4} swept {:.4}",
                layout.name, solution.passed_loss, solution.loss
            );
            assert!(solution.passed_loss < 0.6 * nearest, "{}", layout.name);
            assert!(solution.loss < 0.99 * solution.passed_loss, "{}", layout.name);
            assert!((again / solution.loss - 1.0).abs() < 1e-2, "{}", layout.name);
        }
    }
}
