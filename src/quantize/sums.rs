//! Sums of outer products, and what of them is in memory at a time.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};
use std::ops::Range;

/// Adds `xᵀx` to the lower triangle of `sums`.
pub(super) fn add_gram(sums: MatMut<'_, f32>, x: MatRef<'_, f32>, parallel: Par) {
    triangular::matmul(
        sums,
        BlockStructure::TriangularLower,
        Accum::Add,
        x.transpose(),
        BlockStructure::Rectangular,
        x,
        BlockStructure::Rectangular,
        1.0,
        parallel,
    );
}

/// Divides items of these sizes, in their order, into runs within a budget. A larger item is a run of its own.
pub(super) fn runs(bytes: &[u64], budget: u64) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut sum = 0;
    for (index, bytes) in bytes.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if sum + bytes <= budget => run.end = index + 1,
            _ => {
                runs.push(index..index + 1);
                sum = 0;
            }
        }
        sum += bytes;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_fit_the_budget_unless_one_thing_alone_does_not() {
        let ends = |bytes: &[u64], budget| -> Vec<(usize, usize)> {
            runs(bytes, budget).into_iter().map(|run| (run.start, run.end)).collect()
        };
        assert_eq!(ends(&[3, 3, 3], 6), [(0, 2), (2, 3)]);
        assert_eq!(ends(&[9, 1, 1, 9], 2), [(0, 1), (1, 3), (3, 4)]);
        assert_eq!(ends(&[1, 2], 100), [(0, 2)]);
        assert_eq!(ends(&[200; 8], 600), [(0, 3), (3, 6), (6, 8)]);
        assert!(ends(&[], 100).is_empty());
    }
}
