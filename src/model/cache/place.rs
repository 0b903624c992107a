//! The place of one file in the cache: the file, its record and its lock, all named by an address.

use super::error::{CacheError, io_error};
use super::{Cache, open_lock, write_whole};
use crate::causes::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) cache: Cache,
    /// The folder of files of this kind.
    pub(super) folder: PathBuf,
    pub(super) address: String,
}

impl Place {
    /// The file that ends so: `gguf`, `json` (its record) or `lock`.
    pub(super) fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.address))
    }

    /// What `look` finds here. Until this process lets go of the cache no other removes it.
    pub(super) fn use_found<T>(
        &self,
        look: impl FnOnce() -> Result<Option<T>, CacheError>,
    ) -> Result<Option<T>, CacheError> {
        let lock_path = self.file("lock");
        // Locked before it is looked at: it may be about to be removed.
        let lock = if self.file("json").exists() { Cache::lock_for_use(&lock_path) } else { None };
        let found = look()?;
        if let (Some(_), Some(lock)) = (&found, lock) {
            self.cache.in_use.hold(lock_path, lock);
        }
        Ok(found)
    }

    /// Locks the place for whoever makes its file, which `what` names. The caller has entered the cache.
    pub(super) fn lock(&self, what: &str) -> Result<File, CacheError> {
        let lock_path = self.file("lock");
        // What this process used and is not whole any more is not in use any more.
        self.cache.in_use.let_go(&lock_path);
        let lock = open_lock(&lock_path)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(CacheError::Busy(Problem::new(format!(
                "another quantbench is making {what} ({}); wait for it to end",
                self.file("gguf").display()
            )))),
            Err(TryLockError::Error(error)) => Err(io_error("lock", &lock_path)(error)),
        }
    }

    /// The place is filled: nobody may empty it while this process uses it, but others may use it too.
    pub(super) fn keep_for_use(&self, lock: File) {
        if lock.lock_shared().is_ok() {
            self.cache.in_use.hold(self.file("lock"), lock);
        }
    }

    pub(super) fn record<T: DeserializeOwned>(&self) -> Option<T> {
        read_record(&self.file("json"))
    }

    /// The caller has entered the cache.
    pub(super) fn write_record(&self, record: &impl Serialize) -> Result<(), CacheError> {
        let path = self.file("json");
        let text = serde_json::to_vec_pretty(record).map_err(std::io::Error::from);
        write_whole(&path, &text.map_err(io_error("write", &path))?)
    }
}

/// The record at `path`; none if it is missing or no record.
pub(super) fn read_record<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
