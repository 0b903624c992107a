//! An importance matrix's place in the cache: made by one process at a time, gone on with if one dies.

use super::checksum;
use super::error::{CacheError, io_error};
use super::{Cache, open_lock};
use std::fs::{self, File, TryLockError};
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
pub struct ImportanceSlot {
    cache: Cache,
    address: String,
}

/// Held by the process that makes a matrix.
#[derive(Debug)]
pub struct ImportanceLock {
    _lock: File,
}

impl ImportanceSlot {
    pub(super) fn new(cache: Cache, key: &ImportanceKey) -> Self {
        Self { cache, address: key.address() }
    }

    /// Where the matrix is, once it is made. Whoever makes it gives it this name only when it is whole.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.cache.importance_matrices().join(format!("{}.gguf", self.address))
    }

    /// Reserves the place.
    ///
    /// # Errors
    /// [`CacheError::Busy`] while another process makes it; when the folder cannot be written to.
    pub fn reserve(&self) -> Result<ImportanceLock, CacheError> {
        let _entered = self.cache.enter()?;
        let path = self.path();
        let lock_path = path.with_extension("lock");
        let lock = open_lock(&lock_path)?;
        match lock.try_lock() {
            Ok(()) => Ok(ImportanceLock { _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(CacheError::Busy { quantization: "an importance matrix".to_owned(), path })
            }
            Err(TryLockError::Error(error)) => Err(io_error("lock", &lock_path)(error)),
        }
    }
}

impl Cache {
    /// How many importance matrices there are, and the bytes of all files that belong to them.
    #[must_use]
    pub fn importance_size(&self) -> (usize, u64) {
        let files = fs::read_dir(self.importance_matrices()).into_iter().flatten().flatten();
        files.fold((0, 0), |(count, bytes), file| {
            let whole = file.path().extension().is_some_and(|extension| extension == "gguf");
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            (count + usize::from(whole), bytes + size)
        })
    }

    /// Removes all importance matrices but those that are being made.
    pub(super) fn remove_importance(&self) -> Result<(), CacheError> {
        for file in fs::read_dir(self.importance_matrices()).into_iter().flatten().flatten() {
            let path = file.path();
            let name = file.file_name().to_string_lossy().into_owned();
            let address = name.split('.').next().unwrap_or_default();
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
