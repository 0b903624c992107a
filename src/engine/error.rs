//! Errors of engines, with the engine's own words where it gave any.

use super::onnxruntime::library::LibraryError;
use crate::model::engine_name::EngineName;
use std::path::PathBuf;

/// Why an engine could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A path or text holds a zero byte and cannot be handed to C.
    #[error("'{0}' holds a zero byte")]
    ZeroByte(String),
    /// A model file could not be loaded.
    #[error("llama.cpp cannot load {}: {reason}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// The engine's last error lines.
        reason: String,
    },
    /// A model cannot be divided over the GPUs as asked.
    #[error("{setting} cannot be used here: {reason}")]
    Division {
        /// The setting with its value.
        setting: String,
        /// Why, in words.
        reason: String,
    },
    /// No context could be made for a model.
    #[error("no context of {context} tokens can be made: {reason}")]
    Context {
        /// Tokens of context asked for.
        context: u32,
        /// The engine's last error lines.
        reason: String,
    },
    /// Tokens could not be evaluated.
    #[error("llama.cpp cannot evaluate {tokens} tokens (code {code}): {reason}")]
    Decode {
        /// Size of the batch.
        tokens: usize,
        /// `llama_decode`'s code; 1: no room in the KV cache, 2: aborted, below 0: an error.
        code: i32,
        /// The engine's last error lines.
        reason: String,
    },
    /// A text could not be turned into tokens.
    #[error("llama.cpp cannot tokenize a text of {bytes} bytes")]
    Tokenize {
        /// Size of the text.
        bytes: usize,
    },
    /// More tokens were put into a batch than it holds.
    #[error("a batch of {capacity} tokens is full")]
    BatchFull {
        /// Size of the batch.
        capacity: usize,
    },
    /// There is no output for a position.
    #[error("there are no logits for output {index}")]
    NoLogits {
        /// The output asked for.
        index: i32,
    },
    /// There is no embedding of a sequence.
    #[error("there is no embedding of sequence {sequence}")]
    NoEmbedding {
        /// The sequence asked for.
        sequence: i32,
    },
    /// An encoder-decoder's answers cannot be begun.
    #[error("the model names no token that its decoder begins with")]
    NoStartToken,
    /// A variant could not be made.
    #[error("llama.cpp cannot quantize {} to {file_type}: {reason}", input.display())]
    Quantize {
        /// The input file.
        input: PathBuf,
        /// The file type's name.
        file_type: String,
        /// The engine's last error lines.
        reason: String,
    },
    /// Rows of weights could not be read or rounded.
    #[error("rows of {format} cannot be read or written: {reason}")]
    Blocks {
        /// ggml's name of the format.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A weight of a loaded model could not be read or overwritten.
    #[error("the weight '{name}' cannot be used: {reason}")]
    Weight {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// What flows into a weight could not be captured.
    #[error("the inputs of '{name}' cannot be captured: {reason}")]
    Capture {
        /// The name of the weight or node.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A picture could not be prepared, encoded or put into a context.
    #[error("llama.cpp cannot {action} a picture of {width} × {height} pixels: {reason}")]
    Picture {
        /// What was to be done with it.
        action: &'static str,
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The engine's last error lines.
        reason: String,
    },
    /// The sampler could not be made.
    #[error("there is no memory for a sampler")]
    NoSampler,
    /// Something that needs more words than the others have.
    #[error("{engine} cannot {action}: {reason}")]
    Failed {
        /// Which engine.
        engine: EngineName,
        /// What was to be done.
        action: String,
        /// Why not, in the engine's words where it has some.
        reason: String,
    },
    /// A setting is another engine's.
    #[error("{engine} has no setting '{setting}': {reason}")]
    Setting {
        /// Which engine has it not.
        engine: EngineName,
        /// Its key.
        setting: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// There is no library of the engine, or none that can be used.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// This build is without it.
    #[error("this build is without {0}: its feature is switched off")]
    NotBuilt(EngineName),
    /// The engine, or this build of it, cannot do it at all.
    #[error("this engine cannot {0}")]
    Unsupported(&'static str),
    /// The state of a context could not be saved or restored.
    #[error("the state of a context cannot be {0}d")]
    State(&'static str),
}
