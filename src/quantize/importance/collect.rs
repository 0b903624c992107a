//! The sums of one chunk, collected while it is evaluated.

use super::Sums;
use crate::engine::llama::capture::{Flow, NodeOutput, Sink, WeightInput};
use std::collections::BTreeMap;

/// Sums of one chunk, by the name of the weight.
pub(super) type ChunkSums = BTreeMap<String, Sums<f64>>;

/// llama.cpp's name of the node after the last layer. Only the output matrix follows.
const AFTER_LAYERS: &str = "result_norm";

/// Sums the squares of the inputs of weights.
#[derive(Debug)]
pub(super) struct Collector {
    sums: ChunkSums,
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
        // A weight may be used by several products, and a chunk be evaluated in several batches.
        let entry = self.sums.entry(input.weight.to_owned());
        let sums = entry.or_insert_with(|| Sums::zeros(input.columns, input.matrices));
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
        !self.output_weight && name == AFTER_LAYERS
    }

    fn node_output(&mut self, _output: &NodeOutput<'_>) -> Flow {
        Flow::Stop
    }
}
