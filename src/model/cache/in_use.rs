//! What this process uses of the cache: locked, so that another one does not remove it meanwhile.

use super::{Cache, open_lock};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Locks that are held until the last copy of the [`Cache`] is gone, by their paths.
#[derive(Debug, Default)]
pub(super) struct InUse(Mutex<HashMap<PathBuf, File>>);

impl InUse {
    pub(super) fn hold(&self, path: PathBuf, lock: File) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path, lock);
    }

    pub(super) fn let_go(&self, path: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    pub(super) fn let_go_of_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Cache {
    /// Locks something for use together with others. `None` where that is not possible: in a folder that
    /// may only be read nobody removes anything, and what is being made anew is locked by its maker.
    pub(super) fn lock_for_use(path: &Path) -> Option<File> {
        let lock = open_lock(path).ok()?;
        lock.try_lock_shared().is_ok().then_some(lock)
    }

    /// The lock of all that has none of its own: the demo, indexes, measurements.
    pub(super) fn use_lock(&self) -> PathBuf {
        self.root.join("use.lock")
    }
}
