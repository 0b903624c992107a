//! Quantization methods behind one call: [`quantize`].
//!
//! `rtn` is llama.cpp's own rounding of a whole file; `importance` makes the matrix that rounding can be weighted
//! with; `gptq` replaces the weights of a rounded file; `awq` scales a model before it is rounded; `import` converts
//! GPTQ and AWQ checkpoints. `provenance` makes the metadata keys that say how a file was made, `streams` evaluates
//! calibration texts in parallel.
//!
//! Runs inside the worker process. Uses `engine::llama` and `experiment::calibration`; used by `worker`.

pub mod awq;
pub mod gptq;
mod graph;
pub mod import;
pub mod importance;
pub mod jobs;
mod provenance;
pub mod rtn;
mod streams;
mod sums;
#[cfg(test)]
pub(crate) mod testing;

pub use streams::CalibrationText;

use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::{GgufFileError, GgufInput};
use crate::engine::llama::quantize::{FormatOverride, Importance, OverrideValue, Rounding};
use crate::experiment::calibration::GptqSettings;
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::KeptTensor;
use crate::model::gguf::{Header, Tensor};
use crate::model::quantization::{FileType, Method};
use crate::statistics::sample::to_f64;
use awq::{AwqParameters, AwqRequest};
use gptq::GptqRequest;
use importance::{Coverage, ImportanceError, ImportanceMatrix};
use std::path::{Path, PathBuf};

/// Share of GPTQ's progress that llama.cpp's rounding before it is.
const DRAFT_SHARE: f64 = 0.03;

/// A file to make.
#[derive(Debug, Clone, Copy)]
pub struct QuantizeRequest<'a> {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub input: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// llama.cpp's file type.
    pub file_type: FileType,
    /// Types of single tensors, in place of the file type's.
    pub types: Option<TensorTypes<'a>>,
    /// How the weights are chosen.
    pub method: Method,
    /// Number of threads.
    pub threads: u32,
    /// Accept an input that is quantized already.
    pub allow_requantize: bool,
    /// Required by every method but `rtn`.
    pub calibration: Option<Calibration<'a>>,
}

/// Types of single tensors.
#[derive(Debug, Clone, Copy)]
pub struct TensorTypes<'a> {
    /// One per tensor.
    pub overrides: &'a [FormatOverride],
    /// SHA-256 of the types, hex; stored in the file.
    pub checksum: &'a str,
}

/// What a calibrated method needs.
#[derive(Debug, Clone, Copy)]
pub struct Calibration<'a> {
    /// Path of the importance matrix.
    pub importance: &'a Path,
    /// The text itself. Not needed by `imatrix`.
    pub text: Option<&'a str>,
    /// The text's name, stored in the file.
    pub dataset: &'a str,
    /// Tokens per chunk.
    pub context: u32,
    /// Maximum number of chunks; `None`: the whole text.
    pub chunks: Option<u32>,
    /// For the method `gptq`.
    pub gptq: GptqSettings,
    /// Folder for temporary files.
    pub folder: &'a Path,
}

/// Progress of a method.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// Memory that will be allocated: purpose and bytes of each part.
    Memory(Vec<(String, u64)>),
    /// Fraction done, from 0 to 1, and what is being done, in a few words.
    Fraction(f64, String),
    /// What the user should know about the result.
    Note(String),
}

impl Progress {
    /// As progress of a whole in which this stage goes from fraction `start` to `end`.
    fn scaled(self, start: f64, end: f64) -> Self {
        match self {
            Self::Fraction(fraction, note) => {
                Self::Fraction(start + (end - start) * fraction, note)
            }
            other @ (Self::Memory(_) | Self::Note(_)) => other,
        }
    }
}

/// Which tensors `gptq` and `awq` handled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MethodReport {
    /// Number of tensors whose weights the method chose.
    pub chosen: u64,
    /// Tensors left as the importance matrix rounds them.
    pub kept: Vec<KeptTensor>,
}

impl MethodReport {
    /// Adds a tensor, or a part of one, that is left. What is not quantized at all, as the router of experts, is not listed.
    fn keep(&mut self, tensor: &Tensor, part: Option<String>, reason: String) {
        if tensor.format.block_weights() > 1 {
            let name = tensor.name.clone();
            self.kept.push(KeptTensor {
                tensor: part.map_or(name, |part| format!("{}: {part}", tensor.name)),
                format: tensor.format.to_string(),
                reason,
            });
        }
    }
}

/// Why no file was made.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// A llama.cpp call failed.
    #[error(transparent)]
    Llama(#[from] EngineError),
    /// A GGUF cannot be read or written.
    #[error(transparent)]
    File(#[from] GgufFileError),
    /// The importance matrix or the calibration text cannot be used.
    #[error(transparent)]
    Importance(#[from] ImportanceError),
    /// The request lacks an input of the method.
    #[error("the method {method} needs {what}")]
    Missing {
        /// The method asked for.
        method: Method,
        /// The input it lacks.
        what: &'static str,
    },
    /// GPTQ evaluates decoder-only models.
    #[error("GPTQ evaluates decoder-only models, and this one is {0}; use the method imatrix")]
    NoDecoder(ArchitectureClass),
    /// llama.cpp computes the original and the quantized model differently.
    #[error(
        "llama.cpp computes {} and {} differently, so that GPTQ cannot compare their values",
        original.display(),
        output.display()
    )]
    Graphs {
        /// Path of the original.
        original: PathBuf,
        /// Path of the quantized model.
        output: PathBuf,
    },
    /// GPTQ could not write to the quantized file.
    #[error("cannot write {}", path.display())]
    Write {
        /// Path of the quantized model.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Rounding to a floating-point type has no error worth reducing.
    #[error("AWQ prepares a model for rounding to few bits; {0} needs none of it")]
    Float(FileType),
    /// A weight of the graph got no inputs.
    #[error("'{0}' was multiplied with nothing while the calibration text was evaluated")]
    NoInputs(String),
    /// The system gave no threads.
    #[error("cannot start threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl<'a> QuantizeRequest<'a> {
    fn rounding(
        &self,
        importance: Option<&'a [Importance]>,
        metadata: &'a [(String, OverrideValue)],
    ) -> Rounding<'a> {
        Rounding {
            input: self.input,
            output: self.output,
            file_type: self.file_type,
            threads: self.threads,
            allow_requantize: self.allow_requantize,
            importance,
            overrides: self.types.map_or(&[], |types| types.overrides),
            metadata,
        }
    }
}

/// Makes a file. There is a report for methods that may leave tensors to plain rounding.
///
/// # Errors
/// See [`MethodError`]; the output is then incomplete.
pub fn quantize(
    backend: Backend,
    request: &QuantizeRequest<'_>,
    on_progress: impl Fn(Progress) + Clone + Send + 'static,
) -> Result<Option<MethodReport>, MethodError> {
    let round = |rounding: Rounding<'_>, share: f64| {
        let on_progress = on_progress.clone();
        rtn::quantize(backend, &rounding, move |fraction| {
            on_progress(Progress::Fraction(fraction * share, String::new()));
        })
    };
    let method = request.method;
    if method == Method::Rtn {
        round(request.rounding(None, &provenance::of_types(request)), 1.0)?;
        return Ok(None);
    }
    let missing = |what| MethodError::Missing { method, what };
    let calibration =
        request.calibration.ok_or_else(|| missing("a calibration text or an importance matrix"))?;
    let matrix = ImportanceMatrix::read(backend, calibration.importance)?;
    let model = Header::read(request.input).map_err(GgufFileError::from)?;
    matrix.check(calibration.importance, &model)?;
    let metadata = provenance::keys(request, &calibration, &matrix);
    let importance = matrix.importance();
    let rounding = request.rounding(Some(&importance), &metadata);
    let text = || {
        let text = calibration.text.ok_or_else(|| missing("a calibration text"))?;
        let Calibration { context, chunks, .. } = calibration;
        Ok::<_, MethodError>(CalibrationText { text, context, chunks })
    };
    let report = match method {
        Method::Rtn | Method::Imatrix => {
            round(rounding, 1.0)?;
            None
        }
        Method::Awq => {
            let (folder, parameters) = (calibration.folder, AwqParameters::default());
            let awq = AwqRequest { rounding, text: text()?, folder, parameters };
            Some(awq::quantize(backend, &awq, on_progress.clone())?)
        }
        Method::Gptq => {
            let gptq = GptqRequest {
                source: request.input,
                output: request.output,
                text: text()?,
                threads: request.threads,
                settings: calibration.gptq,
                units: gptq::UNITS,
                memory: gptq::SUMS_BYTES,
            };
            round(rounding, DRAFT_SHARE)?;
            let report = gptq::quantize(backend, &gptq, |event| {
                on_progress(event.scaled(DRAFT_SHARE, 1.0));
            })?;
            Some(report)
        }
    };
    let made = Header::read(request.output).map_err(GgufFileError::from)?;
    if let Some(note) = Coverage::note(&matrix, &model, &made) {
        on_progress(Progress::Note(note));
    }
    Ok(report)
}

/// Columns, rows and matrices of a tensor: 1 matrix, or the number of experts.
pub(crate) fn shape(tensor: &Tensor) -> [usize; 3] {
    let dimensions = &tensor.dimensions;
    let size = |index: usize| dimensions.get(index).copied().unwrap_or(1);
    let matrices = dimensions.iter().skip(2).product();
    [size(0), size(1), matrices].map(|size| usize::try_from(size).unwrap_or(0))
}

/// Shapes of the layers' matrices.
fn layer_shapes(model: &GgufInput) -> impl Iterator<Item = [usize; 3]> {
    let tensors = model.tensors().iter().map(|tensor| &tensor.entry);
    let of_layers = tensors.filter(|tensor| tensor.name.starts_with("blk."));
    of_layers.filter(|tensor| tensor.dimensions.len() > 1).map(shape)
}

/// Fraction of `all` steps that is done: `done` steps and `part` of the next one.
pub(crate) fn fraction(done: usize, part: f64, all: usize) -> f64 {
    (to_f64(done) + part) / to_f64(all)
}

#[cfg(test)]
mod tests;
