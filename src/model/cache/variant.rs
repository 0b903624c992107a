//! One variant's place in the cache: served if it is whole, made by one process at a time if not.

use super::Cache;
use super::checksum;
use super::error::{CacheError, io_error};
use super::place::Place;
use crate::causes::Problem;
use crate::files::Stamp;
use crate::model::artifact::{Artifact, KeptTensor};
use crate::model::gguf::Header;
use crate::model::quantization::Quantization;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempPath;

/// What a variant is made from and how: its address in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VariantKey {
    /// SHA-256 of the source, hex.
    pub source_checksum: String,
    /// What is made.
    pub quantization: Quantization,
    /// What makes it: name and version, since another version may round otherwise.
    pub maker: String,
    /// What it is calibrated on and how its method is set; `None` for methods that need neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationKey>,
}

/// What a calibrated variant depends on besides its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CalibrationKey {
    /// SHA-256 of the text, hex.
    pub text_checksum: String,
    /// Tokens of a chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// The method's parameters in words; empty if it has none.
    pub parameters: String,
}

impl VariantKey {
    /// The address: a name for files, different for every key.
    pub fn address(&self) -> String {
        let quantization = self.quantization.to_string();
        let mut texts = vec!["variant 1", &self.source_checksum, &quantization, &self.maker];
        let calibration = self.calibration.as_ref().map(|calibration| {
            let CalibrationKey { text_checksum, context, chunks, parameters } = calibration;
            [text_checksum.clone(), format!("{context} {chunks:?}"), parameters.clone()]
        });
        texts.extend(calibration.iter().flatten().map(String::as_str));
        // 128 bits: enough that no two keys ever meet, and paths stay short.
        checksum::of_texts(texts)[..32].to_owned()
    }
}

/// What is recorded beside a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) key: VariantKey,
    pub(super) bytes: u64,
    /// Of the file when its checksum was last computed; `None` in records of earlier versions.
    #[serde(default)]
    pub(super) stamp: Option<Stamp>,
    pub(super) sha256: String,
    pub(super) quantize_seconds: f64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) kept: Vec<KeptTensor>,
}

/// The place of one variant, filled or not.
#[derive(Debug, Clone)]
pub struct VariantSlot {
    place: Place,
    key: VariantKey,
}

/// Whether a reserved place still has to be filled.
#[derive(Debug)]
pub enum Reserved {
    /// Nobody makes it: this process does.
    Pending(PendingVariant),
    /// Another process has made it in the meantime.
    Made(Artifact),
}

/// A variant being made; what was written is removed when this is dropped before
/// [`PendingVariant::commit`].
#[derive(Debug)]
pub struct PendingVariant {
    slot: VariantSlot,
    path: TempPath,
    // Held until the variant is in its place; tells others that this process lives.
    lock: File,
}

impl VariantSlot {
    pub(super) fn new(cache: Cache, key: VariantKey) -> Self {
        Self { place: Place { folder: cache.variants(), address: key.address(), cache }, key }
    }

    /// Where the variant is, once it is made.
    pub fn path(&self) -> PathBuf {
        self.place.file("gguf")
    }

    /// The variant, if it was made before and is whole: a file of another size than recorded is not
    /// served, nor one that was changed since. Until this process lets go of the cache no other removes it.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn existing(&self) -> Result<Option<Artifact>, CacheError> {
        self.place.use_found(|| self.served())
    }

    fn served(&self) -> Result<Option<Artifact>, CacheError> {
        let Some(mut record) = self.place.record::<Record>() else { return Ok(None) };
        let path = self.path();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        if record.key != self.key || record.bytes != metadata.len() {
            return Ok(None);
        }
        let stamp = Some(Stamp::of(&metadata));
        // The record's time says when the variant was last used; in a read-only cache it stays.
        if record.stamp == stamp {
            if let Ok(file) = File::options().write(true).open(self.place.file("json")) {
                let _ = file.set_modified(SystemTime::now());
            }
        } else {
            if checksum::of_file(&path, &mut |_| ())? != record.sha256 {
                return Ok(None);
            }
            record.stamp = stamp;
            if let Ok(_entered) = self.place.cache.enter() {
                let _ = self.place.write_record(&record);
            }
        }
        Ok(Some(Artifact {
            path,
            checksum: record.sha256,
            file_bytes: record.bytes,
            quantize_seconds: Some(record.quantize_seconds),
            kept: record.kept,
            deleted: false,
        }))
    }

    /// Reserves the place for making a variant of at most `needed_bytes`.
    ///
    /// # Errors
    /// When another process makes it, the disk is too full, or the folder cannot be written to.
    pub fn reserve(&self, needed_bytes: u64) -> Result<PendingVariant, CacheError> {
        let Place { cache, address, .. } = &self.place;
        let _entered = cache.enter()?;
        let lock = self.place.lock(&self.key.quantization.to_string())?;
        cache.check_space(needed_bytes)?;
        // Made now, so that a folder that cannot be written to is found before minutes of work; the
        // name is new each time, since a worker of a dead process may still write to its own.
        let path = tempfile::Builder::new()
            .prefix(&format!("{address}."))
            .suffix(".partial")
            .make_in(&self.place.folder, |path| File::create_new(path))
            .map_err(io_error("write to", &self.place.folder))?
            .into_temp_path();
        Ok(PendingVariant { slot: self.clone(), path, lock })
    }
}

impl PendingVariant {
    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether another process has made the variant while this one waited for its place.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn unless_made(self) -> Result<Reserved, CacheError> {
        Ok(match self.slot.served()? {
            Some(artifact) => {
                self.slot.place.keep_for_use(self.lock);
                Reserved::Made(artifact)
            }
            None => Reserved::Pending(self),
        })
    }

    /// Makes what was written the variant: checks that it is a whole GGUF, sees it to the disk and
    /// gives it its name. `quantize_seconds` is how long making it took, `kept` what its method left to
    /// simpler rounding.
    ///
    /// # Errors
    /// When the file is not whole, or cannot be read, synced or renamed.
    pub fn commit(
        self,
        quantize_seconds: f64,
        kept: Vec<KeptTensor>,
    ) -> Result<Artifact, CacheError> {
        Header::read(&self.path).map_err(|source| {
            CacheError::File(Problem::because("the variant that was made is not whole", source))
        })?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(io_error("read", &self.path))?;
        file.sync_all().map_err(io_error("write", &self.path))?;
        let sha256 = checksum::of_file(&self.path, &mut |_| ())?;
        let path = self.slot.path();
        let _entered = self.slot.place.cache.enter()?;
        fs::rename(&self.path, &path).map_err(io_error("write", &path))?;
        // Renaming changes the stamp.
        let metadata = file.metadata().map_err(io_error("read", &path))?;
        let record = Record {
            key: self.slot.key.clone(),
            bytes: metadata.len(),
            stamp: Some(Stamp::of(&metadata)),
            sha256: sha256.clone(),
            quantize_seconds,
            kept: kept.clone(),
        };
        self.slot.place.write_record(&record)?;
        self.slot.place.keep_for_use(self.lock);
        Ok(Artifact {
            path,
            checksum: sha256,
            file_bytes: record.bytes,
            quantize_seconds: Some(quantize_seconds),
            kept,
            deleted: false,
        })
    }
}
