//! Importance matrices: mean squares of what flows into each weight, over a calibration text.
//!
//! [`calibrate`] runs a text through a model (`collect` sums, `lanes` evaluate chunks side by side) and
//! writes llama.cpp's importance-matrix GGUF (`file`), which `llama-quantize --imatrix` reads; files of
//! `llama-imatrix` are read alike. `coverage` tells whether a matrix is of a model. Runs inside the worker process. Uses `llama`; used by `quantize` and
//! `worker`.

mod calibration;
mod collect;
mod coverage;
mod file;
mod lanes;
#[cfg(test)]
mod tests;

pub use calibration::{Calibration, Report, Told, calibrate};
pub use coverage::Coverage;
pub use file::MODEL_CHECKSUM;
pub use file::files_written;

use crate::engine::error::EngineError;
use crate::engine::llama::gguf_file::GgufFileError;
use crate::engine::llama::quantize::Importance;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Least tokens of a chunk: llama-imatrix ignores products of fewer rows.
pub const SHORTEST_CONTEXT: u32 = 16;

/// Sums of squares of the inputs of one weight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums<Number> {
    /// Length of a row of inputs.
    pub columns: usize,
    /// Sum of squares of each column, `[matrices, columns]`.
    pub squares: Vec<Number>,
    /// Rows that were summed, of each matrix: tokens, for an expert those that chose it.
    pub counts: Vec<u64>,
}

/// An importance matrix: what `llama-imatrix` writes and `llama-quantize` reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImportanceMatrix {
    /// Names of the calibration texts.
    pub datasets: Vec<String>,
    /// Chunks of text that were evaluated.
    pub chunks: u32,
    /// Tokens of a chunk.
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
    /// Whether `output.weight` was asked for.
    pub output_weight: bool,
}

impl ImportanceMatrix {
    /// Mean squares, as llama.cpp's quantization wants them. Columns of an expert that no token chose
    /// count alike.
    #[must_use]
    pub fn importance(&self) -> Vec<Importance> {
        let entries = self.weights.iter().filter(|(_, sums)| sums.counts.iter().any(|&n| n > 0));
        entries
            .map(|(weight, sums)| Importance { weight: weight.clone(), values: sums.means() })
            .collect()
    }
}

impl Sums<f32> {
    /// Mean square of each column, `[matrices, columns]`; 1 where nothing was summed.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "as llama.cpp divides")]
    pub fn means(&self) -> Vec<f32> {
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
    /// A native call failed.
    #[error(transparent)]
    Llama(#[from] EngineError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] GgufFileError),
    /// A file holds something else.
    #[error("{} is no importance matrix: {reason}", path.display())]
    NoMatrix {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The matrix is of another model.
    #[error(
        "the importance matrix {} is of another model: its sums for '{weight}' do not fit this one",
        path.display()
    )]
    OtherModel {
        /// The matrix.
        path: PathBuf,
        /// The first weight that is missing in the model, or has another size there.
        weight: String,
    },
    /// The matrix has sums for hardly any weight.
    #[error(
        "{}: {found}; at least {} % are needed, or nearly everything would be rounded as rtn rounds it: \
         make it anew with 'quantbench calibrate'",
        path.display(), coverage::LEAST_PERCENT
    )]
    Part {
        /// The matrix.
        path: PathBuf,
        /// What it covers.
        found: String,
    },
    /// A file cannot be written, renamed or removed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is too short.
    #[error(
        "the calibration text has {tokens} tokens for this model; with a context of {context} it needs at least that many"
    )]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens per chunk.
        context: u32,
    },
    /// Chunks this short are no calibration.
    #[error(
        "a context of {context} tokens is too short for calibration; use at least {SHORTEST_CONTEXT}"
    )]
    ContextTooShort {
        /// Tokens per chunk.
        context: u32,
    },
    /// The model does not predict tokens.
    #[error("calibration needs a decoder-only model")]
    NoDecoder,
    /// What flows into a weight is not finite.
    #[error(
        "what flows into '{weight}' is not finite in chunk {chunk}: the model computes nonsense there"
    )]
    NotFinite {
        /// The weight.
        weight: String,
        /// Chunk, from 1.
        chunk: u32,
    },
    /// No weight of the model was seen.
    #[error("no weight of a layer was used while the text was evaluated")]
    NoWeights,
    /// Whoever was told about it wanted no more; what was done can be gone on with.
    #[error("calibration was stopped")]
    Stopped,
}
