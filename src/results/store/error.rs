//! What can go wrong with the store.

use crate::files;
use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};

/// Why the store could not do what was asked. Each message names the file and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The platform names no folder for data.
    #[error(
        "this system names no folder for data (no home folder); set QUANTBENCH_STORE to the file where runs are to be stored"
    )]
    NoFolder,
    /// The folder of the database could not be made.
    #[error(
        "cannot make the folder {} for stored runs; set QUANTBENCH_STORE to a file in a folder that can be written", path.display()
    )]
    CreateFolder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file could not be opened.
    #[error(
        "cannot open the store {}; set QUANTBENCH_STORE to a file that can be read and written", path.display()
    )]
    Open {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The name is that of a folder, a pipe or a device.
    #[error("the store {} cannot be used: it is {kind}; set QUANTBENCH_STORE to a file", path.display())]
    NoFile {
        /// What was named.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A store that may not be written could not be copied either.
    #[error("the store {} may not be written, and cannot be copied to be read", path.display())]
    Copy {
        /// The database file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file would be larger than this process may make one.
    #[error("the store {} cannot grow: {limit}", path.display())]
    SizeLimit {
        /// The database file.
        path: PathBuf,
        /// What is allowed.
        limit: String,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file is no database, or a damaged one.
    #[error(
        "the store {} is damaged or no database; move it away to begin a new one (sqlite3's '.recover' may save old runs)", path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file is a database of another program.
    #[error(
        "{} is a database of another program; set QUANTBENCH_STORE to another file", path.display()
    )]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The file was written by a later version of quantbench.
    #[error(
        "the store {} has schema version {found}, this quantbench knows up to {known}; update quantbench or set QUANTBENCH_STORE to another file", path.display()
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The file system or its permissions do not allow writing.
    #[error(
        "the store {} cannot be written; set QUANTBENCH_STORE to a file in a folder that can be", path.display()
    )]
    ReadOnly {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// No space is left.
    #[error("no space is left for the store {}; free some: a run that had begun goes on with --resume", path.display())]
    DiskFull {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Another process kept the file locked.
    #[error("the store {} is locked by another process", path.display())]
    Busy {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Anything else SQLite reports.
    #[error("the store {} could not be used", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A record holds a value that would not read back (such as NaN where a number must be).
    #[error("{what} of run '{run}' holds a value that cannot be stored")]
    Unstorable {
        /// The run.
        run: String,
        /// Which part of it.
        what: String,
        /// What serde says.
        source: serde_json::Error,
    },
    /// A stored record does not read back.
    #[error("{what} of stored run '{run}' cannot be read: it was damaged or changed by hand")]
    Unreadable {
        /// The run.
        run: String,
        /// Which part of it.
        what: String,
        /// What serde says.
        source: serde_json::Error,
    },
    /// A run of this name is stored already.
    #[error("a run named '{run}' is stored already")]
    Exists {
        /// The run.
        run: String,
    },
    /// No run has this name.
    #[error("no stored run is named '{name}'{}; 'quantbench list' shows all", nearest_words(.nearest.as_deref()))]
    NoSuchRun {
        /// What was asked for.
        name: String,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// Several runs are meant.
    #[error("'{prefix}' may be any of several runs: {}; write more of the name", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// Runs that it may be, newest first, at most eight.
        candidates: Vec<String>,
    },
    /// Nothing is stored.
    #[error("no run is stored yet; 'quantbench run' makes one")]
    Empty,
}

fn nearest_words(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

impl StoreError {
    /// The same of another file: the one that the user knows of.
    pub(super) fn at(mut self, other: &Path) -> Self {
        if let Self::Open { path, .. }
        | Self::Damaged { path, .. }
        | Self::Foreign { path }
        | Self::NewerSchema { path, .. }
        | Self::ReadOnly { path, .. }
        | Self::DiskFull { path, .. }
        | Self::Busy { path, .. }
        | Self::SizeLimit { path, .. }
        | Self::Database { path, .. } = &mut self
        {
            other.clone_into(path);
        }
        self
    }

    /// Sorts what SQLite says into what the user can do about it.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, source }
            }
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path, source },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Busy { path, source }
            }
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::Open { path, source }
            }
            Some(ErrorCode::SystemIoFailure) => match size_limit_met(&path) {
                Some(limit) => Self::SizeLimit { path, limit, source },
                None => Self::Database { path, source },
            },
            _ => Self::Database { path, source },
        }
    }
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
