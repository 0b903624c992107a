//! What can go wrong with the store, in words that name the file and what would be right.

use crate::causes::Problem;
use crate::files;
use rusqlite::ErrorCode;
use std::path::Path;

/// Said where nothing is stored.
pub const NO_RUN: &str = "no run is stored yet; 'quantbench run' makes one";

/// Sorts what SQLite says into what the user can do about it.
pub(super) fn of_sqlite(path: &Path, source: rusqlite::Error) -> Problem {
    let store = path.display();
    let message = match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => format!(
            "the store {store} is damaged or no database; move it away to begin a new one \
             (sqlite3's '.recover' may save old runs)"
        ),
        Some(ErrorCode::ReadOnly) => format!(
            "the store {store} cannot be written; set QUANTBENCH_STORE to a file in a folder that can be"
        ),
        Some(ErrorCode::DiskFull) => format!(
            "no space is left for the store {store}; free some: a run that had begun goes on with --resume"
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("the store {store} is locked by another process")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => format!(
            "cannot open the store {store}; set QUANTBENCH_STORE to a file that can be read and written"
        ),
        Some(ErrorCode::SystemIoFailure) if let Some(limit) = size_limit_met(path) => {
            format!("the store {store} cannot grow: {limit}")
        }
        _ => format!("the store {store} could not be used"),
    };
    Problem::because(message, source)
}

/// What is said where the database, or what SQLite keeps beside it, is about as large as a file may be.
fn size_limit_met(path: &Path) -> Option<String> {
    /// SQLite writes in pages, and some of them at once.
    const NEAR: u64 = 256 << 10;
    let bytes = ["", "-wal", "-shm", "-journal"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        std::fs::metadata(name).map_or(0, |metadata| metadata.len())
    });
    let largest = bytes.into_iter().max()?;
    let is_near = files::size_limit().is_some_and(|limit| largest.saturating_add(NEAR) > limit);
    if is_near { files::in_words_of_size_limit() } else { None }
}
