//! The sums of one chunk: what a lane hears while it evaluates.

use super::Sums;
use crate::engine::llama::capture::{Flow, NodeOutput, Sink, WeightInput};
use std::collections::BTreeMap;

/// Sums of one chunk, by the name of the weight.
pub(super) type ChunkSums = BTreeMap<String, Sums<f64>>;

/// The node behind the last layer: all that follows is the output matrix.
const BEHIND_LAYERS: &str = "result_norm";

/// Sums squares of what flows into weights.
#[derive(Debug)]
pub(super) struct Collector {
    sums: ChunkSums,
    /// Also of the output matrix, where it is not the token embeddings.
    output_weight: bool,
}

impl Collector {
    pub(super) fn new(output_weight: bool) -> Self {
        Self { sums: ChunkSums::new(), output_weight }
    }

    /// The sums since the last call.
    pub(super) fn take(&mut self) -> ChunkSums {
        std::mem::take(&mut self.sums)
    }
}

impl Sink for Collector {
    fn wants_weight(&mut self, weight: &str) -> bool {
        weight.starts_with("blk.") || (self.output_weight && weight == "output.weight")
    }

    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow {
        // A weight may be used by several products, and a chunk be evaluated in parts.
        if !self.sums.contains_key(input.weight) {
            let empty = Sums {
                columns: input.columns,
                squares: vec![0.0; input.columns * input.matrices],
                counts: vec![0; input.matrices],
            };
            self.sums.insert(input.weight.to_owned(), empty);
        }
        let Some(sums) = self.sums.get_mut(input.weight) else { return Flow::Continue };
        for (matrix, row) in input.rows_with_matrix() {
            let squares = sums.squares.chunks_exact_mut(input.columns.max(1)).nth(matrix);
            let (Some(squares), Some(count)) = (squares, sums.counts.get_mut(matrix)) else {
                continue;
            };
            *count += 1;
            for (sum, value) in squares.iter_mut().zip(row) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
        Flow::Continue
    }

    fn wants_node(&mut self, name: &str) -> bool {
        !self.output_weight && name == BEHIND_LAYERS
    }

    fn node_output(&mut self, _output: &NodeOutput<'_>) -> Flow {
        Flow::Stop
    }
}
