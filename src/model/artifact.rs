//! Artifacts: variant files that are present on disk.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One variant file, present on disk: what the orchestrator hands to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// The GGUF, or the first part of a split one.
    pub path: PathBuf,
    /// SHA-256 of the file, or of the checksums of its parts if it is split; hex.
    pub checksum: String,
    /// Bytes of all parts.
    pub file_bytes: u64,
    /// Seconds it took to make, now or when it was put into the cache, calibration apart; `None` if it was
    /// not made by quantbench.
    pub quantize_seconds: Option<f64>,
    /// Tensors that its method left to simpler rounding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptTensor>,
}

/// A tensor that a method could not choose the weights of: it is stored as llama.cpp rounds it with the
/// importance matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTensor {
    /// Its name.
    pub tensor: String,
    /// ggml's name of the format that it is stored in.
    pub format: String,
    /// Why.
    pub reason: String,
}
