//! Jobs of this folder, as the orchestrator sends them to a worker.

use crate::experiment::calibration::GptqSettings;
use crate::model::artifact::ArtifactRef;
use crate::model::quantization::Quantization;
use crate::model::stored_types::StoredTypes;
use crate::quantize::import::CheckpointKind;
use serde::{Deserialize, Serialize};

/// What a calibrated method needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationInput {
    /// The importance matrix.
    pub importance: ArtifactRef,
    /// File with the text; methods that need only the matrix do without.
    pub text: Option<ArtifactRef>,
    /// The text's name.
    pub dataset: String,
    /// Tokens of a chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// How GPTQ is done.
    pub gptq: GptqSettings,
    /// A folder for files that are needed meanwhile.
    pub folder: ArtifactRef,
}

impl CalibrationInput {
    /// Its files, to be given a place.
    pub fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        let mut files = vec![&mut self.importance, &mut self.folder];
        files.extend(&mut self.text);
        files
    }
}

/// Write a GPTQ or AWQ checkpoint as a GGUF, without rounding its weights again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportJob {
    /// The folder of the checkpoint.
    pub checkpoint: ArtifactRef,
    /// What it is.
    pub kind: CheckpointKind,
    /// A GGUF of the same model (first part, if split).
    pub base: ArtifactRef,
    /// Where to write; the caller chose a temporary name.
    pub output: ArtifactRef,
}

/// Make the importance matrix of a model from a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrateJob {
    /// The model (first part, if split).
    pub model: ArtifactRef,
    /// File with the text.
    pub text: ArtifactRef,
    /// The text's name, which the matrix records.
    pub dataset: String,
    /// Tokens per chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// Also for `output.weight`.
    pub output_weight: bool,
    /// Threads; `None`: llama-bench's default.
    pub threads: Option<u32>,
    /// The file to write. The worker gives it its name when it is whole, and keeps what is done so far
    /// beside it.
    pub output: ArtifactRef,
}

/// Find the types that quantizations would give the tensors of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanTypesJob {
    /// The model (first part, if split).
    pub input: ArtifactRef,
    /// What would be made of it.
    pub quantizations: Vec<Quantization>,
}

/// A variant that is not made yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedVariant {
    /// Bytes of the file, but for what its method adds to the metadata.
    pub bytes: u64,
    /// The types of its tensors.
    pub types: StoredTypes,
}
