//! What can go wrong with the cache.

use crate::causes::Problem;
use std::io;
use std::path::Path;

/// Why the cache could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Nothing can be kept in it.
    #[error(transparent)]
    Unusable(Problem),
    /// The folder may not be written to; what is in it can be used.
    #[error(transparent)]
    NotWritable(Problem),
    /// Another process makes the same file.
    #[error(transparent)]
    Busy(Problem),
    /// One file cannot be had; another may, if only because it is smaller.
    #[error(transparent)]
    File(Problem),
}

impl From<CacheError> for Problem {
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::Unusable(problem)
            | CacheError::NotWritable(problem)
            | CacheError::Busy(problem)
            | CacheError::File(problem) => problem,
        }
    }
}

/// Turns what the system said about writing into the cache into an error with a remedy.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> CacheError {
    let shown = path.display().to_string();
    move |source| match source.kind() {
        // Reading is refused for other reasons and has other remedies.
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem if action != "read" => {
            let message = format!(
                "cannot write to the cache at {shown}; make it writable or set QUANTBENCH_CACHE to \
                 another folder"
            );
            CacheError::NotWritable(Problem::because(message, source))
        }
        _ => CacheError::File(Problem::because(format!("cannot {action} {shown}"), source)),
    }
}
