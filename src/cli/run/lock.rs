//! Locks of runs: a run that is under way is not resumed by a second process.

use super::resume::RunError;
use crate::files::folder_of;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Held while a run is under way; however the process ends, the system lets go of it.
#[derive(Debug)]
pub(in crate::cli) struct RunLock {
    path: PathBuf,
    /// `None` where the cache may only be read: what is there is measured without a lock.
    _file: Option<File>,
}

impl RunLock {
    /// Takes the lock of a run, in a folder of the cache.
    pub(in crate::cli) fn take(cache: &Path, run: &str) -> Result<Self, RunError> {
        let path = place(cache, run);
        let failed = |source| RunError::Lock { path: path.clone(), source };
        let made = fs::create_dir_all(folder_of(&path)).and_then(|()| File::create(&path));
        let file = match made {
            Err(error) if may_only_be_read(&error) => return Ok(Self { path, _file: None }),
            file => file.map_err(failed)?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Self { path, _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(RunError::UnderWay { run: run.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

fn place(cache: &Path, run: &str) -> PathBuf {
    cache.join("runs").join(format!("{run}.lock"))
}

/// Whether some process holds the lock of a run.
pub(in crate::cli) fn is_under_way(cache: &Path, run: &str) -> bool {
    let is_held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(place(cache, run)).is_ok_and(is_held)
}

fn may_only_be_read(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Left behind, it would be in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_locked_until_it_ends() {
        let cache = tempfile::tempdir().unwrap();
        let lock = RunLock::take(cache.path(), "a").unwrap();
        let second = RunLock::take(cache.path(), "a").unwrap_err();
        assert!(second.to_string().contains("run a is still under way"), "{second}");
        assert!(RunLock::take(cache.path(), "b").is_ok());
        assert!(is_under_way(cache.path(), "a") && !is_under_way(cache.path(), "b"));
        drop(lock);
        assert!(!is_under_way(cache.path(), "a"));
        assert!(RunLock::take(cache.path(), "a").is_ok());
    }
}
