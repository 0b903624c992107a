//! Sums of outer products.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};

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
