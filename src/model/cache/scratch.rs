//! Scratch files: for the time of one process, such as the reference's log-probabilities.

use super::error::{CacheError, io_error};
use super::{Cache, open_lock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Name of the lock within a scratch folder.
pub(super) const LOCK: &str = "lock";

/// A file name for the time of this process; the file is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    folder: PathBuf,
    // Held until the folder is gone; tells others that this process lives.
    _lock: File,
}

impl Scratch {
    pub(super) fn new(cache: &Cache, name: &str) -> Result<Self, CacheError> {
        let scratches = cache.scratches();
        // Nobody may sweep between folder and lock.
        let _entered = cache.enter()?;
        let folder = tempfile::Builder::new()
            .prefix("")
            .tempdir_in(&scratches)
            .map_err(io_error("write to", &scratches))?
            .keep();
        let lock_path = folder.join(LOCK);
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
        Ok(Self { path: folder.join(plain), folder, _lock: lock })
    }

    /// Where to write. The folder around it is this scratch file's own.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next process that opens the cache.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
