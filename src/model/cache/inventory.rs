//! What is in the cache, and removing it: `quantbench cache list|clean`, and the sweep at opening.

use super::error::{CacheError, io_error};
use super::importance::is_free;
use super::place::read_record;
use super::variant::Record;
use super::{Cache, is_hex, open_lock, scratch, split_address};
use crate::files;
use crate::model::demo;
use crate::model::gguf::Header;
use crate::model::quantization::Quantization;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// One variant in the cache.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedVariant {
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
pub struct VariantFilter {
    /// Only these quantizations.
    pub quantizations: Vec<Quantization>,
    /// Only what was not used for this long.
    pub unused_for: Option<Duration>,
}

impl VariantFilter {
    fn matches(&self, entry: &CachedVariant) -> bool {
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
    pub removed: Vec<CachedVariant>,
    /// Their bytes.
    pub bytes: u64,
    /// How many were left because another process makes or uses them.
    pub in_use: usize,
}

impl Cache {
    /// Every variant in the cache, the one last used first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<CachedVariant>, CacheError> {
        let folder = self.variants();
        let files = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(io_error("read", &folder))?,
        };
        let mut entries: Vec<CachedVariant> =
            files.flatten().filter_map(|file| entry(&file)).collect();
        entries.sort_by(|one, other| {
            other.last_used.cmp(&one.last_used).then_with(|| one.path.cmp(&other.path))
        });
        Ok(entries)
    }

    /// How many files another machine sent or had made here, and their bytes.
    pub fn artifact_size(&self) -> (usize, u64) {
        let folders = fs::read_dir(self.artifact_folder()).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten());
        files.flatten().fold((0, 0), |(count, bytes), file| {
            (count + 1, bytes + file.metadata().map_or(0, |metadata| metadata.len()))
        })
    }

    /// The variants that [`Cache::clean`] would remove.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn matching(&self, filter: &VariantFilter) -> Result<Vec<CachedVariant>, CacheError> {
        self.in_use.let_go_of_all();
        let entries = self.list()?.into_iter().filter(|entry| filter.matches(entry));
        Ok(entries.filter(|entry| is_free(&entry.path.with_extension("lock"))).collect())
    }

    /// Removes the variants that match; without a condition also whatever else is made again when it is
    /// needed. What another process makes or uses is left alone.
    ///
    /// # Errors
    /// When a file cannot be removed; what was removed before it is gone.
    pub fn clean(&self, filter: &VariantFilter) -> Result<Cleaned, CacheError> {
        let mut cleaned = Cleaned::default();
        self.in_use.let_go_of_all();
        for entry in self.list()?.into_iter().filter(|entry| filter.matches(entry)) {
            if !remove_variant(&entry.path)? {
                cleaned.in_use += 1;
                continue;
            }
            cleaned.bytes += entry.bytes;
            cleaned.removed.push(entry);
        }
        if *filter == VariantFilter::default() {
            self.remove_importance()?;
            let in_use = open_lock(&self.use_lock())?;
            if in_use.try_lock().is_ok() {
                self.remove_shared_files()?;
            }
        }
        Ok(cleaned)
    }

    /// Removes what has no lock of its own; files that quantbench did not write stay.
    fn remove_shared_files(&self) -> Result<(), CacheError> {
        remove(&self.checksums())?;
        let is_index = |name: &str| name.strip_suffix(".index").is_some_and(|it| is_hex(it, 32));
        remove_named(&self.index_folder(), is_index)?;
        let is_ledger = |name: &str| name.strip_suffix(".jsonl").is_some_and(|it| is_hex(it, 64));
        remove_named(&self.root.join(super::MEASUREMENTS), is_ledger)?;
        for (parent, digits) in [(self.artifact_folder(), 64), (self.converters(), 16)] {
            for folder in fs::read_dir(&parent).into_iter().flatten().flatten() {
                if is_hex(&folder.file_name().to_string_lossy(), digits) {
                    fs::remove_dir_all(folder.path())
                        .map_err(io_error("remove", &folder.path()))?;
                }
            }
            let _ = fs::remove_dir(parent);
        }
        for folder in fs::read_dir(self.demo()).into_iter().flatten().flatten() {
            if is_hex(&folder.file_name().to_string_lossy(), 16) {
                remove_named(&folder.path(), |name| name == demo::FILE_NAME)?;
            }
        }
        let _ = fs::remove_dir(self.demo());
        let is_header = |name: &str| {
            let stem = name.strip_suffix(".header").or_else(|| name.strip_suffix(".gguf"));
            stem.is_some_and(|it| is_hex(it, 64))
        };
        remove_named(&self.shapes(), is_header)?;
        let is_note = |name: &str| name.strip_suffix(".json").is_some();
        remove_named(&self.notes(), is_note)?;
        Ok(())
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
            let Some((address, rest)) = split_address(&name) else { continue };
            let lacks = |extension: &str| !path.with_extension(extension).exists();
            let is_leftover = match rest {
                "gguf" => lacks("json"),
                "json" => lacks("gguf"),
                "lock" => lacks("gguf") && lacks("json"),
                _ => rest.ends_with(".partial"),
            };
            let lock = self.variants().join(format!("{address}.lock"));
            if is_leftover && is_free(&lock) {
                let _ = fs::remove_file(&path);
            }
        }
        let in_demo = fs::read_dir(self.demo()).into_iter().flatten().flatten();
        let folders =
            [self.root.clone(), self.variants(), self.importance_matrices(), self.shapes()];
        let folders = folders.into_iter();
        // Indexes are not written under the gate: another process may be at it.
        for folder in folders.chain(in_demo.map(|folder| folder.path())) {
            for file in fs::read_dir(folder).into_iter().flatten().flatten() {
                let is_file = file.file_type().is_ok_and(|kind| kind.is_file());
                if is_file && files::is_unfinished(&file.file_name().to_string_lossy()) {
                    let _ = fs::remove_file(file.path());
                }
            }
        }
        scratch::sweep(&self.scratches());
    }
}

/// Removes the files of a folder whose names are quantbench's, and the folder if nothing is left in it.
fn remove_named(folder: &Path, is_own: impl Fn(&str) -> bool) -> Result<(), CacheError> {
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_own(&file.file_name().to_string_lossy()) {
            remove(&file.path())?;
        }
    }
    let _ = fs::remove_dir(folder);
    Ok(())
}

/// Removes a variant, unless another process makes or uses it.
pub(super) fn remove_variant(path: &Path) -> Result<bool, CacheError> {
    let lock_path = path.with_extension("lock");
    let lock = open_lock(&lock_path)?;
    if lock.try_lock().is_err() {
        return Ok(false);
    }
    // The record first: a variant without one is not served.
    for path in [&path.with_extension("json"), path, &lock_path] {
        remove(path)?;
    }
    Ok(true)
}

pub(super) fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn entry(file: &DirEntry) -> Option<CachedVariant> {
    let record_path = file.path();
    let (_, extension) = split_address(record_path.file_name()?.to_str()?)?;
    if extension != "json" {
        return None;
    }
    let record: Record = read_record(&record_path)?;
    let path = record_path.with_extension("gguf");
    let metadata = fs::metadata(&path).ok()?;
    let model = Header::read(&path).ok().and_then(|header| header.name().map(str::to_owned));
    Some(CachedVariant {
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
