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
    /// Seconds it took to make; `None` if it was there already.
    pub quantize_seconds: Option<f64>,
}
