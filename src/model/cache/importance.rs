//! An importance matrix's place in the cache: made by one process at a time, gone on with if one dies.

use super::checksum;
use super::error::{CacheError, io_error};
use super::place::Place;
use super::{Cache, split_address};
use crate::model::artifact::ArtifactRef;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What an importance matrix is made from: its address in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImportanceKey {
    /// SHA-256 of the model, hex.
    pub source_checksum: String,
    /// SHA-256 of the text, hex.
    pub text_checksum: String,
    /// Tokens of a chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// What makes it: name and version, since another version may compute otherwise.
    pub maker: String,
}

impl ImportanceKey {
    fn address(&self) -> String {
        let amount = format!("{} {:?}", self.context, self.chunks);
        let Self { source_checksum, text_checksum, maker, .. } = self;
        let texts = ["importance 1", source_checksum, text_checksum, &amount, maker];
        checksum::of_texts(texts)[..32].to_owned()
    }
}

/// The place of one importance matrix, filled or not.
#[derive(Debug, Clone)]
pub struct ImportanceSlot(Place);

/// Held by the process that makes a matrix.
#[derive(Debug)]
pub struct PendingImportance {
    slot: ImportanceSlot,
    lock: File,
}

/// What is recorded beside a matrix.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    sha256: String,
}

impl ImportanceSlot {
    pub(super) fn new(cache: Cache, key: &ImportanceKey) -> Self {
        Self(Place { folder: cache.importance_matrices(), address: key.address(), cache })
    }

    /// Where the matrix is once it is made. A file has this name only when it is complete.
    pub fn path(&self) -> PathBuf {
        self.0.file("gguf")
    }

    /// The matrix, if it was made before and is as it was then: all that is made with a damaged one would
    /// be wrong. Until this process lets go of the cache no other removes it.
    pub fn existing(&self) -> Option<PathBuf> {
        self.0.use_found(|| Ok(self.served())).ok().flatten()
    }

    /// The matrix, once it is made, as a job reads it.
    pub fn as_input(&self, path: &Path) -> ArtifactRef {
        let record: Option<Record> = self.0.record();
        record.map_or_else(|| ArtifactRef::here(path), |it| ArtifactRef::input(&it.sha256, path, 0))
    }

    fn served(&self) -> Option<PathBuf> {
        let record: Record = self.0.record()?;
        let path = self.path();
        // It is small beside a model, so that it is read each time.
        let checksum = checksum::of_file(&path, &mut |_| ()).ok()?;
        (checksum == record.sha256).then_some(path)
    }

    /// Reserves the place.
    ///
    /// # Errors
    /// [`CacheError::Busy`] while another process makes it; when the folder cannot be written to.
    pub fn reserve(&self) -> Result<PendingImportance, CacheError> {
        let _entered = self.0.cache.enter()?;
        let lock = self.0.lock("an importance matrix")?;
        Ok(PendingImportance { slot: self.clone(), lock })
    }
}

impl PendingImportance {
    /// `None` if another process has made the matrix while this one waited for its place.
    #[must_use]
    pub fn unless_made(self) -> Option<Self> {
        if self.slot.served().is_none() {
            return Some(self);
        }
        self.slot.0.keep_for_use(self.lock);
        None
    }

    /// Records the matrix that now has its name.
    ///
    /// # Errors
    /// When it cannot be read, or the record not be written.
    pub fn commit(self) -> Result<(), CacheError> {
        let sha256 = checksum::of_file(&self.slot.path(), &mut |_| ())?;
        let _entered = self.slot.0.cache.enter()?;
        self.slot.0.write_record(&Record { sha256 })?;
        self.slot.0.keep_for_use(self.lock);
        Ok(())
    }
}

impl Cache {
    /// How many importance matrices there are, and the bytes of all files that belong to them.
    pub fn importance_size(&self) -> (usize, u64) {
        let files = fs::read_dir(self.importance_matrices()).into_iter().flatten().flatten();
        files.fold((0, 0), |(count, bytes), file| {
            let name = file.file_name().to_string_lossy().into_owned();
            let Some((_, rest)) = split_address(&name) else { return (count, bytes) };
            let whole = rest == "gguf";
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            (count + usize::from(whole), bytes + size)
        })
    }

    /// Removes all importance matrices but those that are being made.
    pub(super) fn remove_importance(&self) -> Result<(), CacheError> {
        for file in fs::read_dir(self.importance_matrices()).into_iter().flatten().flatten() {
            let path = file.path();
            let name = file.file_name().to_string_lossy().into_owned();
            let Some((address, _)) = split_address(&name) else { continue };
            let lock_path = self.importance_matrices().join(format!("{address}.lock"));
            if is_free(&lock_path) {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Whether no living process holds the lock at `path`. A lock that is not there is held by nobody.
pub(super) fn is_free(path: &Path) -> bool {
    match File::options().write(true).open(path) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
