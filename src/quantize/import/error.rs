//! Why a checkpoint cannot be imported.

use crate::engine::llama::gguf_file::GgufFileError;
use std::path::PathBuf;

/// Why a checkpoint cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file of the checkpoint cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file is not what it has to be.
    #[error("{}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The folder has no description of how it was quantized.
    #[error(
        "{} has neither quantize_config.json nor a quantization_config in config.json: it is no GPTQ or AWQ checkpoint; one that is not quantized becomes a GGUF by llama.cpp's convert_hf_to_gguf.py", .0.display()
    )]
    NoConfiguration(PathBuf),
    /// The folder was quantized in a way that is not read.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// What is not read, and what is.
        what: String,
    },
    /// A safetensors file is damaged.
    #[error("{} is no usable safetensors file: {problem}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There are no weights.
    #[error("{} has neither model.safetensors nor model.safetensors.index.json", .0.display())]
    NoWeights(PathBuf),
    /// A tensor of the checkpoint is missing or not what it has to be.
    #[error("tensor '{name}' of the checkpoint {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A module and BASE do not go together.
    #[error("'{module}' does not fit BASE: {problem}")]
    Mismatch {
        /// The module of the checkpoint.
        module: String,
        /// What does not fit.
        problem: String,
    },
    /// The names of this architecture's tensors are not known.
    #[error(
        "BASE is of the architecture '{0}'; checkpoints are imported for llama (with mistral and mixtral), qwen2, qwen2moe, qwen3, qwen3moe, gemma, gemma2, gemma3 and phi3"
    )]
    Architecture(String),
    /// BASE or the result.
    #[error(transparent)]
    Gguf(#[from] GgufFileError),
}

impl ImportError {
    /// An error about a tensor of the checkpoint.
    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { name: name.to_owned(), problem: problem.into() }
    }

    /// An error about a module that BASE has no place for.
    pub(super) fn mismatch(module: &str, problem: impl Into<String>) -> Self {
        Self::Mismatch { module: module.to_owned(), problem: problem.into() }
    }
}
