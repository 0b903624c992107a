//! What can go wrong with the cache.

use crate::causes::{self, Problem};
use crate::model::gguf::GgufError;
use crate::units::format_bytes;
use std::io;
use std::path::{Path, PathBuf};

/// Why the cache could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The platform names no cache folder.
    #[error("this system names no cache folder; set QUANTBENCH_CACHE to one")]
    NoFolder,
    /// The folder may not be written to.
    #[error(
        "cannot write to the cache at {}; make it writable or set QUANTBENCH_CACHE to another folder",
        .path.display()
    )]
    NotWritable {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder is somebody else's.
    #[error(
        "{} is no cache of quantbench: it holds other things, such as '{found}'; set \
         QUANTBENCH_CACHE to a folder that is empty or not there yet",
        .root.display()
    )]
    Foreign {
        /// The folder.
        root: PathBuf,
        /// Something in it.
        found: String,
    },
    /// The disk is too full.
    #[error(
        "the disk with the cache at {} has {} free, but {} are needed; free some with \
         'quantbench cache clean' or set QUANTBENCH_CACHE to another disk",
        .root.display(), format_bytes(*available_bytes), format_bytes(*needed_bytes)
    )]
    NoSpace {
        /// The cache.
        root: PathBuf,
        /// What is needed, bytes.
        needed_bytes: u64,
        /// What is free, bytes.
        available_bytes: u64,
    },
    /// Another process makes this variant.
    #[error(
        "another quantbench is making {} ({}); wait for it to end",
        .quantization, .path.display()
    )]
    Busy {
        /// What it makes.
        quantization: String,
        /// The variant's place.
        path: PathBuf,
    },
    /// What was written is no whole model.
    #[error("the variant that was made is not whole")]
    NotWhole {
        /// What is wrong with it.
        #[source]
        source: GgufError,
    },
    /// Another file operation failed.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl From<CacheError> for Problem {
    fn from(error: CacheError) -> Self {
        Self::new(causes::in_words(&error))
    }
}

/// Turns what the system said about writing into the cache into an error with a remedy.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| match source.kind() {
        // Reading is refused for other reasons and has other remedies.
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem if action != "read" => {
            CacheError::NotWritable { path: path.clone(), source }
        }
        _ => CacheError::Io { action, path: path.clone(), source },
    }
}
