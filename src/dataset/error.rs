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
    /// The file is too large to be meant.
    #[error("is {}, which is larger than {}", .path.display(), crate::units::format_bytes(*.limit))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Largest, bytes.
        limit: u64,
    },
    /// The file's name does not say how to read it.
    #[error("is {}; data sets are read from .jsonl, .json (a list of objects), .csv and .tsv", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// There is no example in the file.
    #[error("is {}, which has no example in it", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// One example is wrong.
    #[error("has a wrong example at {}:{}: {}", .path.display(), .fault.line, .fault.reason)]
    Example {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        fault: Fault,
    },
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
    #[must_use]
    pub fn within(self, path: &Path) -> DatasetError {
        DatasetError::Example { path: path.to_owned(), fault: self }
    }
}
