//! AWQ (Lin et al. 2023, arXiv:2306.00978): channels with large inputs get larger weights before rounding.
//!
//! Columns of a product are multiplied by scales that are taken out of whatever made its inputs, so that the
//! scaled model is the same model and the file an ordinary GGUF. Where that is possible is read from the graph
//! that llama.cpp computes. llama.cpp then rounds the scaled model, with the importance matrix scaled likewise. docs/AWQ.md
//! defines what is computed.
//!
//! Runs inside the worker process. Uses `llama` and `model::gguf`; used by `quantize`.

mod change;
mod clip;
mod inputs;
mod lanes;
mod relations;
mod report;
mod scaling;
mod search;
mod statistics;

pub use clip::Grid as LimitGrid;
pub use relations::Unscaled;
pub use report::{Clipped, Group, Report, Times};
pub use search::Grid as ScaleGrid;

use super::Told;
use crate::engine::LoadExtent;
use crate::engine::Model as _;
use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::{GgufFileError, GgufInput};
use crate::engine::llama::model::Model;
use crate::engine::llama::quantize::{
    FormatOverride, Importance, OverrideValue, Rounding, quantize_file,
};
use crate::experiment::settings::Settings;
use crate::model::quantization::FileType;
use scaling::Scaling;
use std::fmt;
use std::path::Path;
use std::time::Instant;

/// Why AWQ could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AwqError {
    /// A native call failed.
    #[error(transparent)]
    Llama(#[from] EngineError),
    /// A model could not be read or written.
    #[error(transparent)]
    File(#[from] GgufFileError),
    /// The calibration text is too short.
    #[error(
        "the calibration text has {tokens} tokens for this model; AWQ needs at least {context}"
    )]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of one piece.
        context: usize,
    },
    /// A floating point type, whose rounding has nothing to gain.
    #[error("AWQ prepares a model for rounding to few bits; {file_type} needs none of it")]
    Float {
        /// The type.
        file_type: FileType,
    },
    /// A weight of the graph got no inputs.
    #[error("'{weight}' was multiplied with nothing while the calibration text was evaluated")]
    Unseen {
        /// Its name.
        weight: String,
    },
    /// The system gave no threads.
    #[error("cannot start threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// How AWQ is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Exponents that are tried; no steps: no scaling.
    pub scales: ScaleGrid,
    /// Limits that are tried; no steps: no clipping.
    pub limits: LimitGrid,
    /// Whether scales are also put from one matrix's rows into the next one's columns, not only from norms.
    pub through_matrices: bool,
    /// Rows of a matrix that the search for scales looks at.
    pub rows: usize,
    /// Bytes of sums over inputs kept at once.
    pub memory: u64,
}

impl fmt::Display for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scales, limits, through_matrices, rows, .. } = self;
        let sizes = if scales.weights { "inputs and weights" } else { "inputs" };
        let from = if *through_matrices { "norms and matrices" } else { "norms" };
        write!(
            formatter,
            "exponents {} of {sizes}, from {from}, rows {rows}, limits {} of {} %",
            scales.steps, limits.steps, limits.percent
        )
    }
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            scales: ScaleGrid { steps: 20, weights: true },
            limits: LimitGrid { steps: 10, percent: 5 },
            through_matrices: true,
            rows: 1024,
            memory: 2 << 30,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The original.
    pub source: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// What to make.
    pub file_type: FileType,
    /// Types of single tensors, in place of the file type's.
    pub overrides: &'a [FormatOverride],
    /// The calibration text.
    pub text: &'a str,
    /// Tokens that are evaluated together.
    pub context: usize,
    /// At most this many pieces of that many tokens.
    pub chunks: Option<usize>,
    /// Importance of the columns in the original, if rounding is to be weighted.
    pub importance: Option<&'a [Importance]>,
    /// Keys to add to the file's metadata.
    pub metadata: &'a [(String, OverrideValue)],
    /// Folder for the scaled model and a first rounding of the original.
    pub folder: &'a Path,
    /// Threads.
    pub threads: u32,
    /// Accept an original that is quantized already.
    pub allow_requantize: bool,
    /// How.
    pub parameters: Parameters,
}

/// Share of the whole that is done after each stage, for the display of progress.
const DRAFTED: f64 = 0.15;
const SEARCHED: f64 = 0.85;

/// Writes a model rounded after scaling; `told` hears what memory is needed and what is done.
///
/// # Errors
/// See [`AwqError`]; what is then at the output's place is of no use.
pub fn quantize(
    backend: Backend,
    request: &Request<'_>,
    mut told: impl FnMut(Told),
) -> Result<Report, AwqError> {
    if request.file_type.is_float() {
        return Err(AwqError::Float { file_type: request.file_type });
    }
    let tokens = calibration_tokens(backend, request)?;
    let began = Instant::now();
    let draft = request.folder.join("draft.gguf");
    let round = |input: &Path, output: &Path, importance, metadata| {
        let rounding = Rounding {
            input,
            output,
            file_type: request.file_type,
            threads: request.threads,
            allow_requantize: request.allow_requantize,
            importance,
            overrides: request.overrides,
            metadata,
        };
        quantize_file(backend, &rounding)
    };
    // What llama.cpp chooses for each tensor is known once it has chosen.
    round(request.source, &draft, request.importance, &[])?;
    let mut report = Report::default();
    report.times.rounding += began.elapsed();
    told(Told::Progress(DRAFTED, String::new()));
    let source = GgufInput::open(backend, request.source)?;
    let formats = GgufInput::open(backend, &draft)?;
    let scaled = request.folder.join("scaled.gguf");
    let threads = usize::try_from(request.threads).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let scaling = Scaling { backend, request, source: &source, formats: &formats, pool: &pool };
    let (changes, importance) = scaling.run(&tokens, &mut report, |news| match news {
        Told::Progress(fraction, what) => {
            told(Told::Progress(DRAFTED + (SEARCHED - DRAFTED) * fraction, what));
        }
        other @ (Told::Memory(_) | Told::Note(_)) => told(other),
    })?;
    let began = Instant::now();
    change::write(&source, &changes, &scaled)?;
    report.times.writing = began.elapsed();
    let began = Instant::now();
    round(&scaled, request.output, importance.as_deref(), request.metadata)?;
    report.times.rounding += began.elapsed();
    told(Told::Progress(1.0, String::new()));
    Ok(report)
}

/// The text's tokens in whole pieces of `context`, each begun as llama-imatrix begins them.
fn calibration_tokens(backend: Backend, request: &Request<'_>) -> Result<Vec<i32>, AwqError> {
    let settings = Settings::default();
    let vocabulary = Model::load(backend, request.source, &settings, LoadExtent::Vocabulary)?;
    let mut tokens = vocabulary.tokenize(request.text, true, false)?;
    let context = request.context.max(1);
    if tokens.len() < context {
        return Err(AwqError::TextTooShort { tokens: tokens.len(), context });
    }
    let pieces = (tokens.len() / context).min(request.chunks.unwrap_or(usize::MAX).max(1));
    tokens.truncate(pieces * context);
    if let Some(beginning) = vocabulary.beginning_token() {
        tokens.iter_mut().step_by(context).for_each(|token| *token = beginning);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests;
