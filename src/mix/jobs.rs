//! Jobs that write files with a chosen type for every tensor, as the orchestrator sends them to a worker.

use super::Target;
use super::recipe::{Checksums, Recipe};
use crate::experiment::settings::Settings;
use crate::model::artifact::ArtifactRef;
use crate::model::quantization::{FileType, Method};
use crate::quantize::jobs::CalibrationInput;
use serde::{Deserialize, Serialize};

/// Make one variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantizeJob {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub input: ArtifactRef,
    /// Where to write; the caller chose a temporary name.
    pub output: ArtifactRef,
    /// What to make.
    pub file_type: FileType,
    /// Threads; `None`: all.
    pub threads: Option<u32>,
    /// Accept an input that is quantized already.
    pub allow_requantize: bool,
    /// Types of single tensors, in place of the file type's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Box<Recipe>>,
    /// How its weights are chosen.
    #[serde(default)]
    pub method: Method,
    /// What a method that is calibrated needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationInput>,
}

impl QuantizeJob {
    /// Its files, to be given a place.
    pub fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        let mut files = vec![&mut self.input, &mut self.output];
        files.extend(self.calibration.iter_mut().flat_map(CalibrationInput::files_mut));
        files
    }
}

/// Measure what each type does to each tensor, choose, and write the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixJob {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: ArtifactRef,
    /// Where to write; the caller chose a temporary name.
    pub output: ArtifactRef,
    /// A folder for files that are needed meanwhile.
    pub scratch: ArtifactRef,
    /// Bytes that the original's log-probabilities may take.
    pub reference_budget_bytes: u64,
    /// Where what was measured is kept.
    pub ledger: ArtifactRef,
    /// File with the text.
    pub text: ArtifactRef,
    /// Tokens per chunk.
    pub context: u32,
    /// Chunks of the text that are used.
    pub chunks: u32,
    /// ggml's names of the types to choose from.
    pub types: Vec<String>,
    /// Those that are measured; empty: all.
    pub measured_types: Vec<String>,
    /// An importance matrix; `None`: round to nearest.
    pub importance: Option<ArtifactRef>,
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

impl MixJob {
    /// Its files, to be given a place.
    pub fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        let Self { source, output, scratch, ledger, text, importance, .. } = self;
        let mut files = vec![source, output, scratch, ledger, text];
        files.extend(importance);
        files
    }
}

/// Write a file with the types of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyRecipeJob {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: ArtifactRef,
    /// Where to write; the caller chose a temporary name.
    pub output: ArtifactRef,
    /// The recipe.
    pub recipe: Recipe,
    /// The importance matrix that the recipe was made with; `None`: round to nearest.
    pub importance: Option<ArtifactRef>,
    /// Threads; `None`: all.
    pub threads: Option<u32>,
    /// What makes the file, for its metadata.
    pub maker: String,
}

impl ApplyRecipeJob {
    /// Its files, to be given a place.
    pub fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        let mut files = vec![&mut self.source, &mut self.output];
        files.extend(&mut self.importance);
        files
    }
}
