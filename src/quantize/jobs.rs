//! Jobs of this folder, as the orchestrator sends them to a worker.

use super::types::TensorTypes;
use crate::experiment::calibration::CalibrationPlan;
use crate::model::artifact::ArtifactRef;
use crate::model::file_type::FileType;
use crate::model::quantization::{Method, Quantization};
use crate::model::stored_types::StoredTypes;
use crate::quantize::import::CheckpointKind;
use crate::quantize::onnx::Target;
use serde::{Deserialize, Serialize};

/// Make one quantized file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantizeJob {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub input: ArtifactRef,
    /// The file to write; the caller chose a temporary name.
    pub output: ArtifactRef,
    /// llama.cpp's file type.
    pub file_type: FileType,
    /// Types of single tensors, in place of the file type's.
    pub types: Option<TensorTypes>,
    /// How the weights are chosen.
    pub method: Method,
    /// Number of threads; `None`: all.
    pub threads: Option<u32>,
    /// Accept an input that is quantized already.
    pub allow_requantize: bool,
    /// Required by every method but `rtn`.
    pub calibration: Option<CalibrationInput>,
    /// `input` is the header of a shape, whose weights are generated.
    pub generates: bool,
}

impl QuantizeJob {
    /// Its files, to be given a place.
    pub fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        let mut files = vec![&mut self.input, &mut self.output];
        if let Some(CalibrationInput { importance, folder, .. }) = &mut self.calibration {
            files.extend([importance, folder]);
        }
        files
    }
}

/// What a calibrated method needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationInput {
    /// Path of the importance matrix.
    pub importance: ArtifactRef,
    /// The text, and parameters of methods. Methods that need only the matrix do without.
    pub plan: Option<CalibrationPlan>,
    /// A folder for files that are needed meanwhile.
    pub folder: ArtifactRef,
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

/// Write a model as an ONNX file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportJob {
    /// The model (first part, if split).
    pub input: ArtifactRef,
    /// How its weights are stored.
    pub target: Target,
    /// Round weights that are quantized already.
    pub allow_requantize: bool,
    /// Where to write the graph; the caller chose a temporary name.
    pub output: ArtifactRef,
    /// Where to write weights that do not fit in it.
    pub data: ArtifactRef,
    /// Bytes of weights that go into the graph; `None`: as many as the format allows.
    #[serde(default)]
    pub most_inside: Option<u64>,
}

/// Make the importance matrix of a model from a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrateJob {
    /// The model (first part, if split). A partial matrix of another one is not resumed.
    pub model: ArtifactRef,
    /// The text, its name, which the matrix records, and how it is split.
    pub plan: CalibrationPlan,
    /// Include `output.weight`, as llama-imatrix's `--process-output`.
    pub output_weight: bool,
    /// Number of threads; `None`: llama-bench's default.
    pub threads: Option<u32>,
    /// The file to write, which gets this name when it is whole. The partial matrix has the same name with `.partial`
    /// appended.
    pub output: ArtifactRef,
}

/// Find the types that quantizations would give the tensors of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanTypesJob {
    /// The model (first part, if split).
    pub input: ArtifactRef,
    /// What would be made of it.
    pub quantizations: Vec<Quantization>,
    /// Where to write each as it would be, with everything but weights: sparse files; empty: nowhere.
    #[serde(default)]
    pub outlines: Vec<ArtifactRef>,
}

impl PlanTypesJob {
    /// Its files, to be given a place.
    pub fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        std::iter::once(&mut self.input).chain(&mut self.outlines).collect()
    }
}

/// A variant that is not made yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedVariant {
    /// Bytes of the file, but for what its method adds to the metadata.
    pub bytes: u64,
    /// The types of its tensors.
    pub types: StoredTypes,
}
