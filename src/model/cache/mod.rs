//! The cache: variants made once and kept, addressed by what they were made from.
//!
//! ```text
//! variants/<address>.gguf            a variant
//! variants/<address>.json            its record: size, checksum, what it was made from
//! variants/<address>.lock            held alone by the process that makes it, shared by those that use it
//! variants/<address>.<random>.partial   what that process has written so far
//! importance/<address>.gguf  an importance matrix; beside it what is done of one, to be gone on with
//! importance/<address>.json  its record, as that of a variant
//! importance/<address>.lock  held by the process that makes it
//! scratch/quantbench-scratch-<random>/   files for the time of one process, with its lock
//! measurements/<address>.jsonl       what was measured to choose a mix
//! converter/<version>/               llama.cpp's converter, with the Python environment that it runs in
//! demo/                              the demo model, written from the program
//! shapes/<checksum>.header           the header of a shape, by its checksum
//! shapes/<checksum>.gguf             the same with its length and no data, which takes no room: what llama.cpp plans with
//! indexes/<address>.index            vector indexes of passages
//! artifacts/<checksum>/              files that another machine sent to this one's agent
//! checksums.json                     checksums of large files that were hashed before
//! passing/<run>.json                 files of a run that are deleted after their last visit
//! cache.lock                         held shared while something begins, alone while sweeping
//! use.lock                           held shared by every process that has the cache open
//! CACHEDIR.TAG                       says that the folder is a cache, and of quantbench
//! ```
//!
//! The locks of a dead process are free; the next process that opens the cache removes the files that
//! belonged to them. Only what has such a name is ever removed. Nothing is ever visible under its final name
//! before it is whole.

mod checksum;
mod error;
mod importance;
mod in_use;
mod inventory;
mod ownership;
mod passing;
mod place;
mod scratch;
#[cfg(test)]
mod tests;
mod variant;

pub use checksum::{hex, of_bytes};
pub(in crate::model) use checksum::{of_reader, of_texts};
pub use error::CacheError;
pub use importance::{ImportanceKey, ImportanceSlot, PendingImportance};
pub use inventory::{CachedVariant, Cleaned, VariantFilter};
pub use passing::{PassingFile, PassingFiles};
pub use scratch::Scratch;
pub use variant::{CalibrationKey, PendingVariant, Reserved, VariantKey, VariantSlot};

use crate::causes::Problem;
use crate::files;
use crate::units::format_bytes;
use error::io_error;
use in_use::InUse;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Environment variable that names the folder.
pub const FOLDER_VARIABLE: &str = "QUANTBENCH_CACHE";

/// Folder of what was measured to choose mixes.
const MEASUREMENTS: &str = "measurements";

/// The folder with everything quantbench keeps between runs.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    in_use: Arc<InUse>,
}

impl Cache {
    /// Opens the cache in `QUANTBENCH_CACHE` or the platform's cache folder, and removes what dead
    /// processes left in it.
    ///
    /// # Errors
    /// When there is no such folder and it cannot be made.
    pub fn open() -> Result<Self, CacheError> {
        let named = std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty());
        if let Some(folder) = named {
            return Self::at(Path::new(&folder));
        }
        let folders = directories::ProjectDirs::from("", "", "quantbench").ok_or_else(|| {
            CacheError::Unusable(Problem::new(
                "this system names no cache folder; set QUANTBENCH_CACHE to one",
            ))
        })?;
        Self::at(folders.cache_dir())
    }

    /// Opens the cache in `root`, and removes what dead processes left in it.
    ///
    /// # Errors
    /// When the folder is not there and cannot be made, or has other things than a cache in it.
    pub fn at(root: &Path) -> Result<Self, CacheError> {
        // Workers are started elsewhere than where the user was; a relative path would move.
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        ownership::claim(&root)?;
        let cache = Self { root, in_use: Arc::default() };
        for folder in [cache.variants(), cache.importance_matrices(), cache.scratches()] {
            match made(folder) {
                // A read-only cache still serves what it has; writing to it fails later.
                Ok(_) | Err(CacheError::NotWritable(_)) => {}
                Err(error) => return Err(error),
            }
        }
        cache.sweep();
        cache.use_shared_files();
        Ok(cache)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place of the variant that `key` describes.
    pub fn variant(&self, key: &VariantKey) -> VariantSlot {
        VariantSlot::new(self.clone(), key.clone())
    }

    /// The place of the importance matrix that `key` describes.
    pub fn importance(&self, key: &ImportanceKey) -> ImportanceSlot {
        ImportanceSlot::new(self.clone(), key)
    }

    /// A new file name for the time of this process; the file is not made.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn scratch(&self, name: &str) -> Result<Scratch, CacheError> {
        Scratch::new(self, name)
    }

    /// SHA-256 of a file, hex. Remembered with the file's stamp, so that a file of
    /// 40 GB is not read on every run. `progress` is called with the number of bytes read so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn checksum(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<String, CacheError> {
        checksum::remembered(self, path, checksum::SETTLED, progress)
    }

    /// Where measurements are kept that `parts` describe; its folder is made.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn measurements(&self, parts: &[&str]) -> Result<PathBuf, CacheError> {
        let folder = made(self.root.join(MEASUREMENTS))?;
        Ok(folder.join(format!("{}.jsonl", of_texts(parts.iter().copied()))))
    }

    /// Fails unless `needed_bytes` and a little more are free on the cache's disk.
    ///
    /// # Errors
    /// There is less.
    pub fn check_space(&self, needed_bytes: u64) -> Result<(), CacheError> {
        /// What else a run writes: the store, logs, the reference's probabilities begin small.
        const MARGIN: u64 = 32 << 20;
        // A file system that does not tell is not asked again: writing will show.
        let available_bytes = fs4::available_space(&self.root).unwrap_or(u64::MAX);
        let needed_bytes = needed_bytes.saturating_add(MARGIN);
        if needed_bytes > available_bytes {
            return Err(CacheError::File(Problem::new(format!(
                "the disk with the cache at {} has {} free, but {} are needed; free some with \
                 'quantbench cache clean' or set QUANTBENCH_CACHE to another disk",
                self.root.display(),
                format_bytes(available_bytes),
                format_bytes(needed_bytes)
            ))));
        }
        Ok(())
    }

    /// The folder of vector indexes of passages, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn indexes(&self) -> Result<PathBuf, CacheError> {
        made(self.index_folder())
    }

    /// The folder of what other machines sent to be measured here, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn artifacts(&self) -> Result<PathBuf, CacheError> {
        made(self.artifact_folder())
    }

    /// The folder of converters, each by its version; it may not be there.
    pub(in crate::model) fn converters(&self) -> PathBuf {
        self.root.join("converter")
    }

    fn artifact_folder(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    fn index_folder(&self) -> PathBuf {
        self.root.join("indexes")
    }

    fn variants(&self) -> PathBuf {
        self.root.join("variants")
    }

    fn importance_matrices(&self) -> PathBuf {
        self.root.join("importance")
    }

    fn scratches(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The folder of the demo model.
    pub(in crate::model) fn demo(&self) -> PathBuf {
        self.root.join("demo")
    }

    /// The folder of headers of shapes.
    pub(in crate::model) fn shapes(&self) -> PathBuf {
        self.root.join("shapes")
    }

    /// Writes a small file whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::model) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
        self.write_long(path, bytes, bytes.len() as u64)
    }

    /// As `write`, a file of `length` of which no more than its beginning takes room.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::model) fn write_long(
        &self,
        path: &Path,
        bytes: &[u8],
        length: u64,
    ) -> Result<(), CacheError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
        }
        let _entered = self.enter()?;
        write_file(path, bytes, length)
    }

    fn notes(&self) -> PathBuf {
        self.root.join("passing")
    }

    fn checksums(&self) -> PathBuf {
        self.root.join("checksums.json")
    }

    /// Keeps others from removing what has no lock of its own.
    fn use_shared_files(&self) {
        if let Some(lock) = Self::lock_for_use(&self.use_lock()) {
            self.in_use.hold(self.use_lock(), lock);
        }
    }

    /// The lock of the whole cache, not locked yet.
    fn gate(&self) -> Result<File, CacheError> {
        open_lock(&self.root.join("cache.lock"))
    }

    /// While this is kept nobody sweeps. Many may keep it at a time; keep it briefly.
    fn enter(&self) -> Result<File, CacheError> {
        let gate = self.gate()?;
        gate.lock_shared().map_err(io_error("lock", &self.root))?;
        Ok(gate)
    }
}

/// A folder, made if it is not there.
fn made(folder: PathBuf) -> Result<PathBuf, CacheError> {
    fs::create_dir_all(&folder).map_err(io_error("make the folder", &folder))?;
    Ok(folder)
}

/// Opens a lock file, making it if need be. One that may only be read can be locked all the same.
fn open_lock(path: &Path) -> Result<File, CacheError> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    opened
        .or_else(|error| match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                File::open(path).map_err(|_| error)
            }
            _ => Err(error),
        })
        .map_err(io_error("make the lock", path))
}

/// Whether a name begins with an address, as [`VariantKey::address`] makes it, and what follows the dot.
fn split_address(name: &str) -> Option<(&str, &str)> {
    let (address, rest) = name.split_once('.')?;
    is_hex(address, 32).then_some((address, rest))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Writes a small file under a temporary name and renames it, so that it is never seen half written.
/// The caller has entered the cache.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    write_file(path, bytes, bytes.len() as u64)
}

fn write_file(path: &Path, bytes: &[u8], length: u64) -> Result<(), CacheError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = files::named(folder).map_err(io_error("write", path))?;
    std::io::Write::write_all(&mut file, bytes).map_err(io_error("write", path))?;
    file.as_file().set_len(length).map_err(io_error("write", path))?;
    file.as_file().sync_all().map_err(io_error("write", path))?;
    file.persist(path).map_err(|error| io_error("write", path)(error.error))?;
    Ok(())
}
