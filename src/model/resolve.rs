//! Resolving: from a source to files on disk, and from there to the variants to measure.

use super::artifact::Artifact;
use super::cache::{Cache, CacheError, VariantKey};
use super::quantization::{FileType, Quantization};
use super::source::Source;
use std::path::PathBuf;

/// How to resolve.
#[derive(Debug, Clone, Default)]
pub struct ResolveOptions {
    /// Never use the network; `from_environment` sets it from `QUANTBENCH_OFFLINE` and
    /// `HF_HUB_OFFLINE`.
    pub offline: bool,
}

impl ResolveOptions {
    /// Reads the environment.
    pub fn from_environment() -> Self {
        Self::default()
    }
}

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such file.
    #[error("there is no file {}", .path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// What a source came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The file that variants are made from; `None` for a folder of ready variants.
    pub source: Option<SourceFile>,
    /// Variants that need not be made: the source itself, or the files of a folder.
    pub ready: Vec<ReadyVariant>,
}

/// A file that variants are made from.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    /// The GGUF, or the first part of a split one, with checksum and size.
    pub artifact: Artifact,
    /// What its weights are stored in, if llama.cpp knows it.
    pub file_type: Option<FileType>,
    /// Number of weights.
    pub parameters: u64,
    /// The model family, `general.architecture`.
    pub architecture: String,
}

/// A variant that is there already.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyVariant {
    /// The file.
    pub artifact: Artifact,
    /// How its weights are stored.
    pub quantization: Quantization,
    /// The name in tables: the quantization, or the file's stem where that says more.
    pub label: String,
}

/// One variant to measure.
#[derive(Debug, Clone, PartialEq)]
pub enum Variant {
    /// It is there.
    Ready(ReadyVariant),
    /// It has to be made from the source, unless the cache has it.
    Make {
        /// What to make.
        quantization: Quantization,
        /// The name in tables.
        label: String,
        /// Its address in the cache.
        key: VariantKey,
        /// How large it will be at most, bytes.
        expected_bytes: u64,
    },
}

/// Finds or fetches what `source` names.
///
/// # Errors
/// When it is not there, is no GGUF, or cannot be fetched.
pub fn resolve(
    source: &Source,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, ResolveError> {
    let _ = (cache, options);
    Err(ResolveError::Missing { path: PathBuf::from(source.to_string()) })
}

/// The variants that `quantizations` ask for, in that order; all ready ones if it is empty.
///
/// `maker` names what makes variants, with its version.
///
/// # Errors
/// When a variant would have to be made from a source that is quantized already and
/// `allow_requantize` was not given, or a folder lacks one that was asked for.
pub fn variants(
    resolved: &Resolved,
    quantizations: &[Quantization],
    requantize: Requantize,
    maker: &str,
) -> Result<Vec<Variant>, ResolveError> {
    let _ = (quantizations, requantize, maker);
    Ok(resolved.ready.iter().cloned().map(Variant::Ready).collect())
}

/// Whether a source that is quantized already may be quantized again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requantize {
    /// Refuse: errors add up.
    Refuse,
    /// The user asked for it.
    Allow,
}
