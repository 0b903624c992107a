//! Quantization methods, behind one call: [`quantize`].
//!
//! `rtn` is llama.cpp's own rounding of a whole file; `importance` makes the matrix that such rounding can be
//! weighted with; `gptq` replaces such a file's weights by GPTQ's; `awq` scales a model before it is rounded; `provenance` is what a file says about how it
//! was made; `import` takes what GPTQ and AWQ checkpoints hold.
//!
//! Runs inside the worker process. Uses `llama` and `experiment::calibration`; used by `worker`.

pub mod awq;
pub mod gptq;
pub mod import;
pub mod importance;
mod provenance;
pub mod rtn;
#[cfg(test)]
pub(crate) mod testing;

use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::{GgufFileError, GgufInput};
use crate::engine::llama::quantize::{FormatOverride, Rounding};
use crate::experiment::calibration::{GptqSettings, Matching};
use crate::model::artifact::KeptTensor;
use crate::model::gguf::Header;
use crate::model::quantization::{FileType, Method};
use awq::AwqError;
use gptq::GptqError;
use importance::{Coverage, ImportanceError, ImportanceMatrix};
use std::path::Path;

/// Part of the work that llama.cpp's rounding is, where GPTQ follows.
const DRAFT_SHARE: f64 = 0.03;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub input: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// What to make.
    pub file_type: FileType,
    /// Types of single tensors, in place of the file type's.
    pub types: Option<TensorTypes<'a>>,
    /// How its weights are chosen.
    pub method: Method,
    /// Threads.
    pub threads: u32,
    /// Accept an input that is quantized already.
    pub allow_requantize: bool,
    /// What a calibrated method needs.
    pub calibration: Option<Calibration<'a>>,
}

/// Types of single tensors.
#[derive(Debug, Clone, Copy)]
pub struct TensorTypes<'a> {
    /// The types.
    pub overrides: &'a [FormatOverride],
    /// SHA-256 of them, hex, which the file says.
    pub checksum: &'a str,
}

impl<'a> Request<'a> {
    fn overrides(&self) -> &'a [FormatOverride] {
        self.types.map_or(&[], |types| types.overrides)
    }
}

/// What a calibrated method needs.
#[derive(Debug, Clone, Copy)]
pub struct Calibration<'a> {
    /// The importance matrix.
    pub importance: &'a Path,
    /// The text; methods that need only the matrix do without.
    pub text: Option<&'a str>,
    /// The text's name.
    pub dataset: &'a str,
    /// Tokens of a chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// How GPTQ is done.
    pub gptq: GptqSettings,
    /// A folder for files that are needed meanwhile.
    pub folder: &'a Path,
}

/// What happens meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Memory that will be taken, before it is: what for, and bytes.
    Memory(Vec<(String, u64)>),
    /// A fraction from 0 to 1 is done, and what is being done, in a few words.
    Progress(f64, String),
    /// Something that the user should know of the result.
    Note(String),
}

/// What a method did that may leave tensors to simpler rounding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Tensors whose weights it chose.
    pub chosen: u64,
    /// Those it left as llama.cpp rounds them with the importance matrix.
    pub kept: Vec<KeptTensor>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// llama.cpp's rounding failed.
    #[error(transparent)]
    Llama(#[from] EngineError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] GgufFileError),
    /// The importance matrix cannot be used.
    #[error(transparent)]
    Importance(#[from] ImportanceError),
    /// GPTQ failed.
    #[error(transparent)]
    Gptq(#[from] GptqError),
    /// AWQ failed.
    #[error(transparent)]
    Awq(#[from] AwqError),
    /// Something that the method needs was not given.
    #[error("the method {method} needs {what}")]
    Missing {
        /// The method.
        method: Method,
        /// What.
        what: &'static str,
    },
}

/// Makes a file. A report comes from methods that may leave tensors to simpler rounding.
///
/// # Errors
/// See [`MethodError`]; the output is then of no use.
pub fn quantize(
    backend: Backend,
    request: &Request<'_>,
    told: impl Fn(Told) + Clone + Send + 'static,
) -> Result<Option<Report>, MethodError> {
    let method = request.method;
    if method == Method::Rtn {
        round(backend, request, None, &provenance::of_types(request), 1.0, told)?;
        return Ok(None);
    }
    let calibration = request.calibration.ok_or(MethodError::Missing {
        method,
        what: "a calibration text or an importance matrix",
    })?;
    let matrix = ImportanceMatrix::read(backend, calibration.importance)?;
    let model = Header::read(request.input).map_err(GgufFileError::from)?;
    matrix.check(calibration.importance, &model)?;
    let metadata = provenance::keys(request, &calibration, &matrix);
    let importance = matrix.importance();
    let report = if method == Method::Awq {
        Some(run_awq(backend, request, &calibration, &importance, &metadata, told.clone())?)
    } else {
        let share = if method == Method::Imatrix { 1.0 } else { DRAFT_SHARE };
        round(backend, request, Some(&importance), &metadata, share, told.clone())?;
        match method {
            Method::Gptq => Some(run_gptq(backend, request, &calibration, told.clone())?),
            Method::Rtn | Method::Imatrix | Method::Awq => None,
        }
    };
    let made = Header::read(request.output).map_err(GgufFileError::from)?;
    if let Some(note) = Coverage::note(&matrix, &model, &made) {
        told(Told::Note(note));
    }
    Ok(report)
}

fn round(
    backend: Backend,
    request: &Request<'_>,
    importance: Option<&[crate::engine::llama::quantize::Importance]>,
    metadata: &[(String, crate::engine::llama::quantize::OverrideValue)],
    share: f64,
    told: impl Fn(Told) + Send + 'static,
) -> Result<(), EngineError> {
    let rounding = Rounding {
        input: request.input,
        output: request.output,
        file_type: request.file_type,
        threads: request.threads,
        allow_requantize: request.allow_requantize,
        importance,
        overrides: request.overrides(),
        metadata,
    };
    rtn::quantize(backend, &rounding, move |fraction| {
        told(Told::Progress(fraction * share, String::new()));
    })
}

fn run_gptq(
    backend: Backend,
    request: &Request<'_>,
    calibration: &Calibration<'_>,
    told: impl Fn(Told),
) -> Result<Report, MethodError> {
    let missing = MethodError::Missing { method: Method::Gptq, what: "a calibration text" };
    let text = calibration.text.ok_or(missing)?;
    let settings = calibration.gptq;
    let default = gptq::Parameters::default();
    let gptq_request = gptq::Request {
        source: request.input,
        output: request.output,
        text,
        context: usize::try_from(calibration.context).unwrap_or(usize::MAX),
        chunks: calibration.chunks.and_then(|chunks| usize::try_from(chunks).ok()),
        threads: request.threads,
        parameters: gptq::Parameters {
            damping: settings.damping,
            matching: match settings.matching {
                Matching::Nothing => gptq::Match::Nothing,
                Matching::Outputs => gptq::Match::Outputs,
                Matching::Stream => gptq::Match::Stream,
            },
            work: gptq::Work {
                sweeps: usize::try_from(settings.sweeps).unwrap_or(usize::MAX),
                ..default.work
            },
            ..default
        },
    };
    let report = gptq::quantize(backend, &gptq_request, |news| match news {
        gptq::Told::Memory(parts) => told(Told::Memory(parts)),
        gptq::Told::Progress(fraction, layer) => {
            let fraction = DRAFT_SHARE + (1.0 - DRAFT_SHARE) * fraction;
            told(Told::Progress(fraction, layer));
        }
    })?;
    let mut summary = Report::default();
    for matrix in report.matrices {
        match matrix.outcome {
            gptq::Outcome::Stored { .. } => summary.chosen += 1,
            // Not rounded at all, as the choice of experts.
            gptq::Outcome::Kept { .. } if matrix.format.block_weights() == 1 => {}
            gptq::Outcome::Kept { reason } => summary.kept.push(KeptTensor {
                tensor: match matrix.part {
                    Some(part) => format!("{}: {part}", matrix.name),
                    None => matrix.name,
                },
                format: matrix.format.to_string(),
                reason,
            }),
        }
    }
    Ok(summary)
}

fn run_awq(
    backend: Backend,
    request: &Request<'_>,
    calibration: &Calibration<'_>,
    importance: &[crate::engine::llama::quantize::Importance],
    metadata: &[(String, crate::engine::llama::quantize::OverrideValue)],
    told: impl Fn(Told),
) -> Result<Report, MethodError> {
    let missing = MethodError::Missing { method: Method::Awq, what: "a calibration text" };
    let awq_request = awq::Request {
        source: request.input,
        output: request.output,
        file_type: request.file_type,
        overrides: request.overrides(),
        text: calibration.text.ok_or(missing)?,
        context: usize::try_from(calibration.context).unwrap_or(usize::MAX),
        chunks: calibration.chunks.and_then(|chunks| usize::try_from(chunks).ok()),
        importance: Some(importance),
        metadata,
        folder: calibration.folder,
        threads: request.threads,
        allow_requantize: request.allow_requantize,
        parameters: awq::Parameters::default(),
    };
    let report = awq::quantize(backend, &awq_request, told)?;
    let made = GgufInput::open(backend, request.output)?;
    let format = |name: &str| {
        let format = made.find(name)?.entry.format;
        (format.block_weights() > 1).then_some(format)
    };
    let products = report.groups.iter().flat_map(|group| &group.products);
    let kept = report.unscaled.iter().filter_map(|unscaled| {
        Some(KeptTensor {
            tensor: unscaled.weight.clone(),
            format: format(&unscaled.weight)?.to_string(),
            reason: unscaled.reason.clone(),
        })
    });
    Ok(Report {
        chosen: products.filter(|name| format(name).is_some()).count() as u64,
        kept: kept.collect(),
    })
}

#[cfg(test)]
mod tests;
