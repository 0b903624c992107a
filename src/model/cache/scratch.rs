//! Scratch files: for the time of one process, such as the reference's log-probabilities.

use super::error::{CacheError, io_error};
use super::importance::is_free;
use super::{Cache, open_lock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Name of the lock within a scratch folder.
const LOCK: &str = "lock";

/// How the names of scratch folders begin.
const PREFIX: &str = "quantbench-scratch-";

/// A file name for the time of this process; the file is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    // What cannot be removed with it is removed by the next process that opens the cache.
    _folder: TempDir,
    // Held until the folder is gone; tells others that this process lives.
    _lock: File,
}

impl Scratch {
    pub(super) fn new(cache: &Cache, name: &str) -> Result<Self, CacheError> {
        // Nobody may sweep between folder and lock.
        match cache.enter().and_then(|_entered| Self::within(&cache.scratches(), name)) {
            // A cache that may only be read serves all the same.
            Err(CacheError::NotWritable(_)) => {
                let folder = std::env::temp_dir();
                sweep(&folder);
                Self::within(&folder, name)
            }
            made => made,
        }
    }

    fn within(parent: &Path, name: &str) -> Result<Self, CacheError> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(parent)
            .map_err(io_error("write to", parent))?;
        let lock_path = folder.path().join(LOCK);
        let lock = open_lock(&lock_path)?;
        lock.lock().map_err(io_error("lock", &lock_path))?;
        let plain: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
            .collect();
        // "lock" is taken, and names of dots alone lead elsewhere.
        let plain = if plain.trim_matches('.').is_empty() || plain == LOCK {
            format!("file-{plain}")
        } else {
            plain
        };
        Ok(Self { path: folder.path().join(plain), _folder: folder, _lock: lock })
    }

    /// Where to write. The folder around it is this scratch file's own.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes the scratch folders of dead processes. One that has no lock yet is not
/// touched: its process may be about to make it.
pub(super) fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_own = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let lock = entry.path().join(LOCK);
        if is_folder && is_own && lock.exists() && is_free(&lock) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
