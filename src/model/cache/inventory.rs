//! What is in the cache, and removing it: `quantbench cache list|clean`, and the sweep at opening.

use super::error::{CacheError, io_error};
use super::importance::is_free;
use super::scratch::LOCK;
use super::variant::read_record;
use super::{Cache, open_lock};
use crate::model::gguf::Header;
use crate::model::quantization::Quantization;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// One variant in the cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// The model's name, as its metadata has it.
    pub model: Option<String>,
    /// How its weights are stored.
    pub quantization: Quantization,
    /// SHA-256 of the source it was made from.
    pub source_checksum: String,
    /// What made it.
    pub maker: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Seconds it took to make.
    pub quantize_seconds: f64,
    /// When it was last used or made.
    pub last_used: SystemTime,
}

/// Which variants to remove; a condition that is empty matches every variant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these quantizations.
    pub quantizations: Vec<Quantization>,
    /// Only what was not used for this long.
    pub unused_for: Option<Duration>,
}

impl Filter {
    fn matches(&self, entry: &Entry) -> bool {
        let named =
            self.quantizations.is_empty() || self.quantizations.contains(&entry.quantization);
        let old = self.unused_for.is_none_or(|least| {
            SystemTime::now().duration_since(entry.last_used).is_ok_and(|age| age >= least)
        });
        named && old
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cleaned {
    /// The variants that are gone.
    pub removed: Vec<Entry>,
    /// Their bytes.
    pub bytes: u64,
}

impl Cache {
    /// Every variant in the cache, the one last used first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, CacheError> {
        let folder = self.variants();
        let files = fs::read_dir(&folder).map_err(io_error("read", &folder))?;
        let mut entries: Vec<Entry> = files.flatten().filter_map(|file| entry(&file)).collect();
        entries.sort_by(|one, other| {
            other.last_used.cmp(&one.last_used).then_with(|| one.path.cmp(&other.path))
        });
        Ok(entries)
    }

    /// The variants that [`Cache::clean`] would remove.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn matching(&self, filter: &Filter) -> Result<Vec<Entry>, CacheError> {
        Ok(self.list()?.into_iter().filter(|entry| filter.matches(entry)).collect())
    }

    /// Removes the variants that match. A variant that is being made is left alone.
    ///
    /// # Errors
    /// When a file cannot be removed; what was removed before it is gone.
    pub fn clean(&self, filter: &Filter) -> Result<Cleaned, CacheError> {
        let mut cleaned = Cleaned::default();
        for entry in self.matching(filter)? {
            let lock_path = entry.path.with_extension("lock");
            let lock = open_lock(&lock_path)?;
            if lock.try_lock().is_err() {
                continue;
            }
            // The record first: a variant without one is not served.
            for path in [entry.path.with_extension("json"), entry.path.clone(), lock_path] {
                remove(&path)?;
            }
            cleaned.bytes += entry.bytes;
            cleaned.removed.push(entry);
        }
        if *filter == Filter::default() {
            remove(&self.checksums())?;
            self.remove_importance()?;
            // Made anew when they are needed.
            let folders = [self.demo(), self.index_folder(), self.root.join(super::MEASUREMENTS)];
            for folder in folders.into_iter().filter(|folder| folder.exists()) {
                fs::remove_dir_all(&folder).map_err(io_error("remove", &folder))?;
            }
        }
        Ok(cleaned)
    }

    /// Removes what dead processes left: partial variants, variants without a record, scratch files.
    ///
    /// Does nothing while another process begins something, or where it may not: leftovers cost
    /// space, not correctness.
    pub(super) fn sweep(&self) {
        let Ok(gate) = self.gate() else { return };
        if gate.try_lock().is_err() {
            return;
        }
        for file in fs::read_dir(self.variants()).into_iter().flatten().flatten() {
            let path = file.path();
            let name = file.file_name().to_string_lossy().into_owned();
            let Some((address, rest)) = name.split_once('.') else { continue };
            let lacks = |extension: &str| !path.with_extension(extension).exists();
            let is_leftover = rest.ends_with("partial")
                || (rest == "gguf" && lacks("json"))
                || (rest == "json" && lacks("gguf"))
                // A record that was being written.
                || address.is_empty();
            let lock = self.variants().join(format!("{address}.lock"));
            if is_leftover && is_free(&lock) {
                let _ = fs::remove_file(&path);
            }
        }
        let folders = [self.root.clone(), self.demo()];
        for file in folders.iter().flat_map(fs::read_dir).flatten().flatten() {
            if file.file_name().to_string_lossy().starts_with('.') && file.path().is_file() {
                let _ = fs::remove_file(file.path());
            }
        }
        for folder in fs::read_dir(self.scratches()).into_iter().flatten().flatten() {
            let path = folder.path();
            if is_free(&path.join(LOCK)) {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn entry(file: &DirEntry) -> Option<Entry> {
    let record_path = file.path();
    if record_path.extension()? != "json" {
        return None;
    }
    let record = read_record(&record_path)?;
    let path = record_path.with_extension("gguf");
    let metadata = fs::metadata(&path).ok()?;
    let model = Header::read(&path).ok().and_then(|header| header.name().map(str::to_owned));
    Some(Entry {
        model,
        quantization: record.key.quantization,
        source_checksum: record.key.source_checksum,
        maker: record.key.maker,
        bytes: metadata.len(),
        quantize_seconds: record.quantize_seconds,
        last_used: file.metadata().and_then(|metadata| metadata.modified()).ok()?,
        path,
    })
}
