//! Why a checkpoint cannot be imported.

use crate::engine::llama::gguf_file::GgufFileError;
use std::fmt::Display;
use std::path::{Path, PathBuf};

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
    /// The checkpoint is none, is damaged or is not read, or BASE is of another model.
    #[error("{0}")]
    Refused(String),
    /// BASE or the result.
    #[error(transparent)]
    Gguf(#[from] GgufFileError),
}

impl ImportError {
    /// An error about a file of the checkpoint.
    pub(super) fn file(path: &Path, problem: impl Display) -> Self {
        Self::Refused(format!("{}: {problem}", path.display()))
    }

    /// An error about a tensor of the checkpoint.
    pub(super) fn tensor(name: &str, problem: impl Display) -> Self {
        Self::Refused(format!("tensor '{name}' of the checkpoint {problem}"))
    }

    /// An error about a module that BASE has no place for.
    pub(super) fn mismatch(module: &str, problem: impl Display) -> Self {
        Self::Refused(format!("'{module}' does not fit BASE: {problem}"))
    }
}
