//! AWQ (Lin et al. 2023, arXiv:2306.00978): weights of channels with large inputs are scaled up before rounding.
//!
//! Columns of a weight are multiplied by scales, and whatever makes its inputs is divided by them, so the scaled model
//! is the same function and the file an ordinary GGUF. The graph that llama.cpp computes says where that is possible.
//! llama.cpp then rounds the scaled model, with the importance matrix scaled to match. docs/AWQ.md defines what is
//! computed.
//!
//! Runs inside the worker process. Uses `engine::llama` and `model::gguf`; used by `quantize`.

mod change;
mod clip;
mod inputs;
mod relations;
mod scaling;
mod search;
mod statistics;
mod streams;

pub use clip::LimitGrid;

use super::streams::chunk_tokens;
use super::{MethodError, MethodReport, Progress};
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::GgufInput;
use crate::engine::llama::quantize::{Rounding, quantize_file};
use crate::experiment::calibration::CalibrationPlan;
use scaling::{Scaled, Scaling};
use std::fmt;
use std::path::Path;

/// Settings of the search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AwqParameters {
    /// Steps of the exponent from 0 to 1 to try; 0: no scaling.
    pub exponents: u16,
    /// Also try scales divided by the size of the weights to the power of 1 minus the exponent.
    pub weights: bool,
    /// Limits to try; no steps: no clipping.
    pub limits: LimitGrid,
    /// Also scale the rows of one matrix against the columns of the next, not only norms.
    pub through_matrices: bool,
    /// Rows of a matrix that the search for scales samples.
    pub rows: usize,
    /// Maximum size of the sums over inputs, bytes.
    pub memory: u64,
}

impl fmt::Display for AwqParameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exponents, limits: LimitGrid { steps, percent }, rows, .. } = self;
        let sizes = if self.weights { "inputs and weights" } else { "inputs" };
        let from = if self.through_matrices { "norms and matrices" } else { "norms" };
        write!(
            formatter,
            "exponents {exponents} of {sizes}, coarse first, from {from}, rows {rows}, limits {steps} of {percent} %"
        )
    }
}

impl Default for AwqParameters {
    fn default() -> Self {
        Self {
            exponents: 20,
            weights: true,
            limits: LimitGrid { steps: 10, percent: 5 },
            through_matrices: true,
            rows: 1024,
            memory: 2 << 30,
        }
    }
}

/// A file to make.
#[derive(Debug, Clone, Copy)]
pub struct AwqRequest<'a> {
    /// How llama.cpp rounds the original. The scaled model is rounded likewise.
    pub rounding: Rounding<'a>,
    /// The calibration text.
    pub plan: &'a CalibrationPlan,
    /// Folder for the scaled model and a first rounding of the original.
    pub folder: &'a Path,
    /// Settings of the search.
    pub parameters: AwqParameters,
}

/// Progress once the original is rounded, and once the scales are found.
const DRAFTED: f64 = 0.15;
const SEARCHED: f64 = 0.85;

/// Writes a model rounded after scaling.
///
/// # Errors
/// See [`MethodError`]; the output is then incomplete.
pub fn quantize(
    backend: Backend,
    request: &AwqRequest<'_>,
    mut on_progress: impl FnMut(Progress),
) -> Result<MethodReport, MethodError> {
    let rounding = request.rounding;
    if rounding.file_type.is_float() {
        return Err(MethodError::Refused(format!(
            "AWQ prepares a model for rounding to few bits; {} needs none of it",
            rounding.file_type
        )));
    }
    let tokens = chunk_tokens(request.plan, backend, rounding.input)?;
    let draft = request.folder.join("draft.gguf");
    // Shows the type that llama.cpp chooses for each tensor.
    quantize_file(backend, &Rounding { output: &draft, metadata: &[], ..rounding })?;
    on_progress(Progress::Fraction(DRAFTED, String::new()));
    let source = GgufInput::open(backend, rounding.input)?;
    let draft = GgufInput::open(backend, &draft)?;
    let threads = usize::try_from(rounding.threads).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let scaling = Scaling { backend, request, source: &source, draft: &draft, pool: &pool };
    let Scaled { changes, importance, report } =
        scaling.run(&tokens, |event| on_progress(event.scaled(DRAFTED, SEARCHED)))?;
    let scaled = request.folder.join("scaled.gguf");
    change::write(&source, &changes, &scaled)?;
    let importance = importance.as_deref();
    quantize_file(backend, &Rounding { input: &scaled, importance, ..rounding })?;
    on_progress(Progress::Fraction(1.0, String::new()));
    Ok(report)
}

#[cfg(test)]
mod tests;
