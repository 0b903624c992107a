//! Why a data set cannot be used.

use std::path::{Path, PathBuf};

/// Why a data set cannot be used; `Display` is a fragment that follows the key's name.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file cannot be read.
    #[error("cannot be read from {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It, or one of its examples, is wrong.
    #[error("{0}")]
    Wrong(String),
}

impl DatasetError {
    /// There is no example in the file.
    pub fn empty(path: &Path) -> Self {
        Self::Wrong(format!("is {}, which has no example in it", path.display()))
    }
}

/// What is wrong with one example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl Fault {
    /// In this file.
    pub fn within(self, path: &Path) -> DatasetError {
        let (path, Self { line, reason }) = (path.display(), self);
        DatasetError::Wrong(format!("has a wrong example at {path}:{line}: {reason}"))
    }
}
