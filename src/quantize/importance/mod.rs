//! Importance matrices: mean squares of the inputs of each weight, over a calibration text.
//!
//! [`calibrate`] evaluates a text and writes llama.cpp's importance-matrix GGUF (`file`), which `llama-quantize
//! --imatrix` reads; files of `llama-imatrix` are read too. `coverage` tells whether a matrix fits a model.
//! Runs inside the worker process. Uses `engine::llama`; used by the other methods, `mix` and `worker`.

mod calibration;
mod coverage;
mod file;
#[cfg(test)]
mod tests;

pub use calibration::{CalibrationReport, calibrate};
pub use coverage::Coverage;
pub use file::{MODEL_CHECKSUM, files_written};

use crate::engine::error::EngineError;
use crate::engine::llama::gguf_file::GgufFileError;
use crate::engine::llama::quantize::Importance;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Sums of squares of the inputs of one weight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums<Number> {
    /// Length of a row of inputs.
    pub columns: usize,
    /// Sum of squares of each column, `[matrices, columns]`.
    pub squares: Vec<Number>,
    /// Rows summed for each matrix: all tokens, or those routed to the expert.
    pub counts: Vec<u64>,
}

/// An importance matrix: what `llama-imatrix` writes and `llama-quantize` reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImportanceMatrix {
    /// Names of the calibration texts.
    pub datasets: Vec<String>,
    /// Number of chunks evaluated.
    pub chunks: u32,
    /// Tokens per chunk.
    pub chunk_size: u32,
    /// What the sums were made from; `None` in files of llama-imatrix.
    pub origin: Option<Origin>,
    /// By the name of the weight: `blk.0.attn_q.weight`.
    pub weights: BTreeMap<String, Sums<f32>>,
}

/// What an importance matrix was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// SHA-256 of the model, hex.
    pub model_checksum: String,
    /// SHA-256 of the calibration text, hex.
    pub text_checksum: String,
    /// Whether `output.weight` is included.
    pub output_weight: bool,
}

impl ImportanceMatrix {
    /// Mean squares, as llama.cpp's quantization takes them. An expert without tokens has 1 in every column.
    pub fn importance(&self) -> Vec<Importance> {
        let entries = self.weights.iter().filter(|(_, sums)| sums.counts.iter().any(|&n| n > 0));
        entries
            .map(|(weight, sums)| Importance { weight: weight.clone(), values: sums.means() })
            .collect()
    }
}

impl<Number: Clone + Default> Sums<Number> {
    fn zeros(columns: usize, matrices: usize) -> Self {
        let squares = vec![Number::default(); columns * matrices];
        Self { columns, squares, counts: vec![0; matrices] }
    }
}

impl Sums<f32> {
    /// Mean square of each column, `[matrices, columns]`; 1 where nothing was summed.
    #[expect(clippy::cast_precision_loss, reason = "as llama.cpp divides")]
    fn means(&self) -> Vec<f32> {
        let per_count = self.squares.len() / self.counts.len().max(1);
        let rows = self.squares.chunks(per_count.max(1)).zip(&self.counts);
        rows.flat_map(|(squares, &count)| {
            let mean = move |sum: &f32| if count == 0 { 1.0 } else { sum / count as f32 };
            squares.iter().map(mean)
        })
        .collect()
    }
}

/// Why there is no importance matrix.
#[derive(Debug, thiserror::Error)]
pub enum ImportanceError {
    /// A llama.cpp call failed.
    #[error(transparent)]
    Llama(#[from] EngineError),
    /// A GGUF cannot be read or written.
    #[error(transparent)]
    File(#[from] GgufFileError),
    /// The matrix is of no use for the model, or none can be made.
    #[error("{0}")]
    Refused(String),
    /// A file cannot be written, renamed or removed.
    #[error("cannot write {}", path.display())]
    Write {
        /// Path of the matrix or the partial matrix.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The caller stopped it; the partial matrix can be resumed.
    #[error("calibration was stopped")]
    Stopped,
}
