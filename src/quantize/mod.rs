//! Quantization methods behind one call: [`quantize`].
//!
//! `rtn` is llama.cpp's own rounding of a whole file; `importance` makes the matrix that rounding can be weighted
//! with; `gptq` replaces the weights of a rounded file; `awq` scales a model before it is rounded; `import` converts
//! GPTQ and AWQ checkpoints; `generate` makes up the weights of a shape. `provenance` makes the metadata keys that say how a file was made, `streams` evaluates
//! calibration texts in parallel.
//!
//! Runs inside the worker process. Uses `engine::llama` and `experiment::calibration`; used by `worker`.

pub mod awq;
mod generate;
pub mod gptq;
mod graph;
pub mod import;
pub mod importance;
pub mod jobs;
pub mod onnx;
mod provenance;
pub mod rtn;
mod streams;
mod sums;
#[cfg(test)]
pub(crate) mod testing;
pub mod types;

pub use crate::model::progress::Progress;

use crate::engine::Engine as _;
use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::{GgufFileError, GgufInput};
use crate::engine::llama::quantize::Rounding;
use crate::model::architecture::ArchitectureClass;
use crate::model::artifact::KeptTensor;
use crate::model::gguf::{Header, Tensor};
use crate::model::quantization::Method;
use crate::statistics::sample::to_f64;
use awq::{AwqParameters, AwqRequest};
use gptq::GptqRequest;
use importance::{Coverage, ImportanceError, ImportanceMatrix};
use jobs::QuantizeJob;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use types::{TensorTypes, TypesError};

/// Share of GPTQ's progress that llama.cpp's rounding before it is.
const DRAFT_SHARE: f64 = 0.03;

/// Which tensors `gptq` and `awq` handled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The method cannot be applied to this model or file, or lacks an input.
    #[error("{0}")]
    Refused(String),
    /// GPTQ could not write to the quantized file.
    #[error("cannot write {}", path.display())]
    Write {
        /// Path of the quantized model.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file has other types than were asked for.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// The system gave no threads.
    #[error("cannot start threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Makes a file. There is a report for methods that may leave tensors to plain rounding.
///
/// # Errors
/// See [`MethodError`]; the output is then incomplete.
pub fn quantize(
    backend: Backend,
    job: &QuantizeJob,
    on_progress: impl Fn(Progress) + Clone + Send + 'static,
) -> Result<Option<MethodReport>, MethodError> {
    if job.generates {
        generate::generate(backend, job, |done| {
            on_progress(Progress::Fraction(done, String::new()));
        })?;
        return Ok(None);
    }
    let round = |rounding: Rounding<'_>, share: f64| {
        let on_progress = on_progress.clone();
        rtn::quantize(backend, &rounding, move |fraction| {
            on_progress(Progress::Fraction(fraction * share, String::new()));
        })
    };
    let method = job.method;
    let threads = job.threads.unwrap_or_else(|| backend.default_threads());
    let overrides = job.types.as_ref().map(TensorTypes::overrides).unwrap_or_default();
    let plain = Rounding {
        input: &job.input.path,
        output: &job.output.path,
        file_type: job.file_type,
        threads,
        allow_requantize: job.allow_requantize,
        importance: None,
        overrides: &overrides,
        metadata: &provenance::of_types(job),
    };
    let check_types = || match &job.types {
        Some(types) => types.check(&job.output.path).map(|_| ()).map_err(MethodError::from),
        None => Ok(()),
    };
    if method == Method::Rtn {
        round(plain, 1.0)?;
        check_types()?;
        return Ok(None);
    }
    let missing = |what| MethodError::Refused(format!("the method {method} needs {what}"));
    let calibration = job
        .calibration
        .as_ref()
        .ok_or_else(|| missing("a calibration text or an importance matrix"))?;
    let matrix = ImportanceMatrix::read(backend, &calibration.importance.path)?;
    let model = Header::read(&job.input.path).map_err(GgufFileError::from)?;
    check_class(method, model.architecture_class())?;
    matrix.check(&calibration.importance.path, &model)?;
    let metadata = provenance::keys(job, calibration, &matrix);
    let importance = matrix.importance();
    let rounding = Rounding { importance: Some(&importance), metadata: &metadata, ..plain };
    let plan = || calibration.plan.as_ref().ok_or_else(|| missing("a calibration text"));
    let report = match method {
        Method::Rtn | Method::Imatrix => {
            round(rounding, 1.0)?;
            None
        }
        Method::Awq => {
            let (folder, parameters) = (&*calibration.folder.path, AwqParameters::default());
            let awq = AwqRequest { rounding, plan: plan()?, folder, parameters };
            Some(awq::quantize(backend, &awq, on_progress.clone())?)
        }
        Method::Gptq => {
            let plan = plan()?;
            let gptq = GptqRequest {
                source: &job.input.path,
                output: &job.output.path,
                plan,
                threads,
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
    check_types()?;
    let made = Header::read(&job.output.path).map_err(GgufFileError::from)?;
    if let Some(note) = Coverage::note(&matrix, &model, &made) {
        on_progress(Progress::Note(note));
    }
    Ok(report)
}

fn check_class(method: Method, class: ArchitectureClass) -> Result<(), MethodError> {
    match method.facts().class {
        Some(only) if only != class => Err(MethodError::Refused(format!(
            "{} evaluates {only} models, and this one is {class}; use the method imatrix",
            method.facts().title
        ))),
        _ => Ok(()),
    }
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
