//! Jobs that write files with a chosen type for every tensor, as the orchestrator sends them to a worker.

use super::Target;
use super::recipe::{Checksums, Recipe};
use crate::experiment::settings::Settings;
use crate::model::gguf::GgmlType;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Measure what each type does to each tensor, choose, and write the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixJob {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: PathBuf,
    /// Where to write; the caller chose a temporary name.
    pub output: PathBuf,
    /// A folder for files that are needed meanwhile.
    pub scratch: PathBuf,
    /// Bytes that the original's log-probabilities may take.
    pub reference_budget_bytes: u64,
    /// Where what was measured is kept.
    pub ledger: PathBuf,
    /// The text itself that divergence is measured on.
    pub text: String,
    /// Tokens per chunk.
    pub context: u32,
    /// Chunks of the text that are used.
    pub chunks: u32,
    /// The types to choose from.
    pub types: Vec<GgmlType>,
    /// Those whose divergence is measured, not interpolated; empty: all.
    pub measured_types: Vec<GgmlType>,
    /// An importance matrix; `None`: round to nearest.
    pub importance: Option<PathBuf>,
    /// What the mix must keep to.
    pub target: Target,
    /// Neighbouring layers whose tensors of one kind get one type.
    pub layers_per_group: u32,
    /// How many times the choice is revised around the mix itself.
    pub revisions: u32,
    /// How the model is evaluated.
    pub settings: Settings,
    /// What makes the file, for its metadata.
    pub maker: String,
    /// Checksums of what goes in, for the recipe.
    pub checksums: Checksums,
}

/// Write a file with the types of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyRecipeJob {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: PathBuf,
    /// Where to write; the caller chose a temporary name.
    pub output: PathBuf,
    /// The recipe.
    pub recipe: Recipe,
    /// The importance matrix that the recipe was made with; `None`: round to nearest.
    pub importance: Option<PathBuf>,
    /// Threads; `None`: all.
    pub threads: Option<u32>,
    /// What makes the file, for its metadata.
    pub maker: String,
}
