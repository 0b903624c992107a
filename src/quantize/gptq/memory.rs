//! The memory that GPTQ takes: told before it is taken, and kept within a budget where there are many experts.

use super::hessian::Moments;
use super::lanes::Lanes;
use super::{Match, Request};
use crate::engine::llama::gguf_file::GgufInput;
use crate::model::gguf::Value;
use std::ops::Range;

/// Bytes per element of a Hessian while it is factorised: two matrices in f64, and what is made of them in f32.
const FACTOR_BYTES: u64 = 24;

/// Divides matrices whose sums take so many bytes each into passes that fit a budget. A matrix that alone does not fit
/// has a pass of its own.
#[must_use]
pub fn passes(matrices: usize, bytes: u64, budget: u64) -> Vec<Range<usize>> {
    let most = usize::try_from(budget / bytes.max(1)).unwrap_or(usize::MAX).max(1);
    (0..matrices).step_by(most).map(|from| from..matrices.min(from.saturating_add(most))).collect()
}

/// What for, and bytes: an upper estimate from the sizes of the tensors.
pub(super) fn needed(
    source: &GgufInput,
    draft: &GgufInput,
    tokens: usize,
    request: &Request<'_>,
    lanes: &Lanes,
) -> Vec<(String, u64)> {
    let own = |key: &str| source.header().get_own(key).and_then(Value::as_count).unwrap_or(0);
    let matched = request.parameters.matching != Match::Nothing;
    let models = 1 + u64::from(matched);
    let single = size_of::<f32>() as u64;
    let hidden = models * own("embedding_length") * tokens as u64 * single;
    let bytes =
        |model: &GgufInput| model.tensors().iter().map(|tensor| tensor.entry.bytes).sum::<u64>();
    let weights = bytes(draft) + if matched { bytes(source) } else { 0 };
    let sums = matrices(source)
        .map(|(columns, rows, matrices)| {
            let columns = usize::try_from(columns).unwrap_or(0);
            let rows = usize::try_from(rows).unwrap_or(0);
            let one = Moments::bytes(columns, matched, matched.then_some(rows));
            let all = one.saturating_mul(matrices).min(request.parameters.memory).max(one);
            // The weights, their target, and two steps between.
            let solving = 4 * (columns * rows) as u64 * single;
            all + FACTOR_BYTES * (columns * columns) as u64 + solving
        })
        .max();
    vec![
        ("the weights of the models".to_owned(), weights),
        (format!("the hidden states of {tokens} tokens"), hidden),
        (format!("{} texts of {} tokens side by side", lanes.count, request.context), lanes.bytes),
        ("sums over inputs and the largest matrix".to_owned(), sums.unwrap_or(0)),
    ]
}

/// Columns, rows and number of the layers' matrices.
fn matrices(model: &GgufInput) -> impl Iterator<Item = (u64, u64, u64)> {
    let of_layers = model.tensors().iter().map(|tensor| &tensor.entry);
    of_layers.filter(|entry| entry.name.starts_with("blk.") && entry.dimensions.len() >= 2).map(
        |entry| {
            let dimensions = &entry.dimensions;
            (dimensions[0], dimensions[1], dimensions.iter().skip(2).product())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_fit_the_budget_and_take_every_matrix_once() {
        let ranges = |matrices, bytes: u64| -> Vec<(usize, usize)> {
            passes(matrices, bytes, 600).into_iter().map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(ranges(8, 200), [(0, 3), (3, 6), (6, 8)]);
        assert_eq!(ranges(2, 1200), [(0, 1), (1, 2)]);
        assert_eq!(ranges(128, 4), [(0, 128)]);
    }
}
