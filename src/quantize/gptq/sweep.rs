//! Sweeps after the pass: every part is chosen again with all others fixed, and kept if the loss falls.
//!
//! The pass chooses a block while everything after it is still free to compensate. Once all is chosen, the target of a part
//! follows from the errors of all others: `q + H_pp⁻¹ g`, `g` the gradient there. Uses the search over a part, `faer` and
//! `rayon`; used by the solver.

use super::block::{store_part, store_single};
use super::factor::Factor;
use super::layout::{Block, Layout};
use super::part::{Choice, Part, Units};
use super::solve::{Problem, Work, inner};
use super::trial::PartMetric;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use std::ops::Range;

/// Sweeping stops when a sweep lowers the loss by less than this fraction.
const WORTHWHILE: f64 = 0.002;

/// The loss of errors of one part with all others fixed.
struct Own<const N: usize> {
    metric: PartMetric<N>,
    factor: Factor,
}

/// Sweeps over stored blocks. Returns the loss after.
pub(super) fn improve<const N: usize>(problem: &Problem<'_>, work: Work, bytes: &mut [u8]) -> f64 {
    let parallel = work.parallel;
    let mut errors = problem.errors(bytes);
    let mut gradient = problem.gradient(&errors, parallel);
    let mut loss = inner(&errors, &gradient);
    let Some(owns) = own_metrics::<N>(problem) else { return loss };
    for _ in 0..work.sweeps {
        for from in (0..problem.columns).step_by(problem.chunk()) {
            let chunk = from..(from + problem.chunk()).min(problem.columns);
            sweep_chunk(problem, &owns, bytes, (&mut errors, &mut gradient), chunk, parallel);
        }
        let now = inner(&errors, &gradient);
        let gain = (loss - now) / loss;
        loss = now;
        if gain <= WORTHWHILE || gain.is_nan() {
            break;
        }
    }
    loss
}

/// One per part; `None` if the Hessian is not positive definite there.
fn own_metrics<const N: usize>(problem: &Problem<'_>) -> Option<Vec<Own<N>>> {
    let Problem { columns, hessian, .. } = *problem;
    let own = |from: usize| {
        let at = |i: usize, j: usize| f64::from(hessian[(from + i) * columns + from + j]);
        let factor = Factor::new(N, at, Par::Seq)?;
        Some(Own { metric: PartMetric::new(&factor), factor })
    };
    (0..columns).into_par_iter().step_by(N).map(own).collect()
}

/// Chooses the parts of a chunk of columns again, in all rows.
fn sweep_chunk<const N: usize>(
    problem: &Problem<'_>,
    owns: &[Own<N>],
    bytes: &mut [u8],
    (errors, gradient): (&mut [f32], &mut [f32]),
    chunk: Range<usize>,
    parallel: Par,
) {
    let Problem { layout, columns, .. } = *problem;
    let width = chunk.len();
    let mut changes = vec![0.0; problem.rows() * width];
    let first_byte = chunk.start / layout.weights * layout.bytes;
    let row_bytes = width / layout.weights * layout.bytes;
    errors
        .par_chunks_mut(columns)
        .zip(gradient.par_chunks_mut(columns))
        .zip(changes.par_chunks_mut(width))
        .zip(bytes.par_chunks_mut(problem.row_bytes()))
        .for_each(|(((errors, gradient), changes), bytes)| {
            let mut row = Row {
                problem,
                owns,
                from: chunk.start,
                gradient: &mut gradient[chunk.clone()],
                changes,
            };
            row.sweep(&mut bytes[first_byte..first_byte + row_bytes]);
            for (error, change) in errors[chunk.clone()].iter_mut().zip(row.changes) {
                *error -= *change;
            }
        });
    let hessian = MatRef::from_row_major_slice(problem.hessian, columns, columns);
    let rows = problem.rows();
    for other in [0..chunk.start, chunk.end..columns] {
        if other.is_empty() {
            continue;
        }
        let gradient = MatMut::from_row_major_slice_mut(&mut *gradient, rows, columns);
        matmul(
            gradient.submatrix_mut(0, other.start, rows, other.len()),
            Accum::Add,
            MatRef::from_row_major_slice(&changes, rows, width),
            hessian.submatrix(chunk.start, other.start, width, other.len()),
            -1.0,
            parallel,
        );
    }
}

/// The columns of one chunk in one row.
struct Row<'a, const N: usize> {
    problem: &'a Problem<'a>,
    owns: &'a [Own<N>],
    /// The chunk's first column.
    from: usize,
    /// Gradient in the chunk; kept current.
    gradient: &'a mut [f32],
    /// Added to the stored weights so far.
    changes: &'a mut [f32],
}

impl<const N: usize> Row<'_, N> {
    fn sweep(&mut self, bytes: &mut [u8]) {
        let layout = self.problem.layout;
        let mut block = Block::default();
        for (index, bytes) in bytes.chunks_exact_mut(layout.bytes).enumerate() {
            layout.unpack(bytes, &mut block);
            let mut changed = false;
            for part in 0..layout.parts() {
                changed |= self.part(index * layout.weights + part * N, part, &mut block);
            }
            if changed {
                layout.pack(&block, bytes);
            }
        }
    }

    /// Chooses one part again; `true` if it changed. `at` is its first column within the chunk.
    fn part(&mut self, at: usize, part: usize, block: &mut Block) -> bool {
        let layout = self.problem.layout;
        let own = &self.owns[(self.from + at) / N];
        let mut wanted = [0.0; N];
        own.factor.solve(&self.gradient[at..at + N], &mut wanted);
        let stored = values::<N>(layout, block, part);
        let mut choice = current::<N>(block, part);
        // At this point `wanted` is the target minus the stored weights.
        choice.loss = own.metric.loss(&wanted) * 0.9999;
        for (wanted, stored) in wanted.iter_mut().zip(&stored) {
            *wanted += stored;
        }
        let before = choice.loss;
        let search = Part { layout, metric: &own.metric, target: &wanted };
        if layout.scale.is_none() {
            search.refine(1.0, &mut choice);
            search.refine(0.3, &mut choice);
        } else {
            let units = Units { scale: block.scale, minimum: block.minimum };
            for _ in 0..2 {
                let fit = search.fit(&choice);
                search.around(units, fit.scale, fit.minimum, &mut choice);
            }
        }
        if choice.loss >= before || choice.loss.is_nan() {
            return false;
        }
        if layout.scale.is_none() {
            store_single(&choice, layout, block);
        } else {
            store_part(&choice, part, block);
        }
        self.change(at, &stored, &values::<N>(layout, block, part));
        true
    }

    /// Records a change and updates the gradient in the chunk.
    fn change(&mut self, at: usize, before: &[f32; N], after: &[f32; N]) {
        let columns = self.problem.columns;
        for i in 0..N {
            let change = after[i] - before[i];
            if change == 0.0 {
                continue;
            }
            self.changes[at + i] += change;
            let row = &self.problem.hessian[(self.from + at + i) * columns..][..columns];
            let row = &row[self.from..self.from + self.gradient.len()];
            for (gradient, h) in self.gradient.iter_mut().zip(row) {
                *gradient -= change * h;
            }
        }
    }
}

/// The stored weights of a part.
fn values<const N: usize>(layout: &Layout, block: &Block, part: usize) -> [f32; N] {
    let (scale, minimum) = (block.part_scale(part), block.part_minimum(part));
    let codes = &block.codes[part * N..][..N];
    std::array::from_fn(|i| scale * layout.levels.value(codes[i]) - minimum)
}

/// What a part stores now, as a choice of unknown loss.
fn current<const N: usize>(block: &Block, part: usize) -> Choice<N> {
    let codes = &block.codes[part * N..][..N];
    Choice {
        loss: f32::INFINITY,
        scale: block.part_scale(part),
        minimum: block.part_minimum(part),
        scale_code: block.scales[part],
        minimum_code: block.minimums[part],
        codes: std::array::from_fn(|i| codes[i]),
    }
}
