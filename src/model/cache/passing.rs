//! Passing files: what a run fetches or makes and does not keep, written down so that another process can go on with it.
//!
//! A file is noted before it is begun, and only if it was not there then. So whatever of a note is there later is
//! the run's own, and what others had before is never in one.

use super::error::{CacheError, io_error};
use super::{Cache, inventory, write_whole};
use crate::model::hub;
use crate::model::repository::RemoteVariant;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The file of a variant, or of a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassingFile {
    /// A variant in the cache.
    Made(PathBuf),
    /// A file in the hub's cache: its name in a commit, and its content.
    Fetched {
        /// What jobs read.
        pointer: PathBuf,
        /// What it leads to.
        blob: PathBuf,
    },
}

impl PassingFile {
    /// What jobs read.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Made(path) | Self::Fetched { pointer: path, .. } => path,
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Self::Made(path) => path.exists(),
            Self::Fetched { pointer, blob } => pointer.exists() || blob.exists(),
        }
    }
}

/// The files of a run that do not stay.
#[derive(Debug)]
pub struct PassingFiles {
    cache: Cache,
    note: PathBuf,
    files: Vec<PassingFile>,
}

impl Cache {
    /// Those of a run, with what an earlier process noted of it.
    pub fn passing(&self, run: &str) -> PassingFiles {
        let note = self.notes().join(format!("{run}.json"));
        let files = super::place::read_record(&note).unwrap_or_default();
        PassingFiles { cache: self.clone(), note, files }
    }

    /// Keeps another process from deleting a file that was fetched, as long as this one has the cache open.
    pub fn hold_fetched(&self, remote: &RemoteVariant, options: &hub::HubOptions) {
        for part in &remote.parts {
            let path = hub::place(&remote.repository, &remote.commit, &part.path, options);
            let lock = File::open(&path).ok().filter(|file| file.try_lock_shared().is_ok());
            if let Some(lock) = lock {
                self.in_use.hold(path, lock);
            }
        }
    }
}

impl PassingFiles {
    /// Notes a file that is about to be made, unless it is there.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn add(&mut self, file: PassingFile) -> Result<(), CacheError> {
        if file.is_there() || self.files.contains(&file) {
            return Ok(());
        }
        self.files.push(file);
        self.write()
    }

    /// Deletes the files that nothing needs any more, and returns their paths. One that another process uses stays,
    /// and is that one's from now on.
    ///
    /// # Errors
    /// A file cannot be deleted, or the note not be written.
    pub fn delete_but(
        &mut self,
        is_needed: impl Fn(&Path) -> bool,
    ) -> Result<Vec<PathBuf>, CacheError> {
        let mut deleted = Vec::new();
        let all = self.files.clone();
        for file in all.into_iter().filter(|file| !is_needed(file.path())) {
            if file.is_there() && self.delete(&file)? {
                deleted.push(file.path().to_owned());
            }
            self.files.retain(|other| *other != file);
            self.write()?;
        }
        Ok(deleted)
    }

    fn delete(&self, file: &PassingFile) -> Result<bool, CacheError> {
        match file {
            PassingFile::Made(path) => {
                self.cache.in_use.let_go(&path.with_extension("lock"));
                inventory::remove_variant(path)
            }
            PassingFile::Fetched { pointer, blob } => {
                self.cache.in_use.let_go(pointer);
                let content = if blob.exists() { blob } else { pointer };
                let lock = File::open(content).map_err(io_error("read", content))?;
                if lock.try_lock().is_err() {
                    return Ok(false);
                }
                for path in [pointer, blob, &blob.with_extension("lock")] {
                    inventory::remove(path)?;
                }
                Ok(true)
            }
        }
    }

    /// The files that stay are like all others from now on.
    ///
    /// # Errors
    /// The note cannot be removed.
    pub fn forget(self) -> Result<(), CacheError> {
        inventory::remove(&self.note)
    }

    fn write(&self) -> Result<(), CacheError> {
        let text = serde_json::to_vec_pretty(&self.files).map_err(std::io::Error::from);
        let text = text.map_err(io_error("write", &self.note))?;
        super::made(self.cache.notes())?;
        let _entered = self.cache.enter()?;
        write_whole(&self.note, &text)
    }
}
