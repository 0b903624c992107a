//! GPTQ (Frantar et al. 2022, arXiv:2210.17323) in ggml's block formats.
//!
//! llama.cpp first makes the file with an importance matrix, so that every tensor has the type it would have
//! anyway; then matrix after matrix is chosen anew in place, with the inputs that the model being made gives it,
//! in the order of llama.cpp's own graph. What GPTQ cannot do stays as the importance matrix rounded it, and the report says why. docs/GPTQ.md
//! defines what is computed.
//!
//! Runs inside the worker process. Uses `llama` and `model::gguf`; used by `quantize`.

mod block;
mod factor;
mod hessian;
mod lanes;
mod layout;
mod memory;
mod part;
mod plan;
mod report;
mod sequence;
mod side;
mod solve;
mod sweep;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trial;

pub use block::Effort;
pub use report::{Matrix, Outcome, Report, Times};
pub use solve::Work;

use crate::engine::LoadExtent;
use crate::engine::Model as _;
use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::{GgufFileError, GgufInput, InputTensor};
use crate::engine::llama::model::Model;
use crate::engine::llama::tensors::Weights;
use crate::experiment::settings::Settings;
use crate::model::architecture::ArchitectureClass;
use lanes::Lanes;
use plan::Plan;
use sequence::Sequence;
use side::Side;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Why GPTQ could not be done.
#[derive(Debug, thiserror::Error)]
pub enum GptqError {
    /// A native call failed.
    #[error(transparent)]
    Llama(#[from] EngineError),
    /// A model could not be read.
    #[error(transparent)]
    File(#[from] GgufFileError),
    /// The calibration text is too short.
    #[error(
        "the calibration text has {tokens} tokens for this model; GPTQ needs at least {context}"
    )]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of one text.
        context: usize,
    },
    /// The model is no decoder.
    #[error("GPTQ evaluates decoder-only models, and this one is {class}; use the method imatrix")]
    Class {
        /// What it is.
        class: ArchitectureClass,
    },
    /// llama.cpp computes the two models differently.
    #[error(
        "llama.cpp computes {} and {} differently, so that GPTQ cannot compare their values",
        source_path.display(),
        output.display()
    )]
    Graphs {
        /// The original.
        source_path: std::path::PathBuf,
        /// The model being made.
        output: std::path::PathBuf,
    },
    /// The file being made could not be changed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What the outputs of a matrix are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Match {
    /// The original matrix on the inputs in the model being made: GPTQ as published.
    Nothing,
    /// The original matrix on the inputs in the original.
    Outputs,
    /// That, and the residual stream that they are added to.
    #[default]
    Stream,
}

/// How GPTQ is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Part of the mean diagonal added to the Hessian's diagonal.
    pub damping: f64,
    /// What outputs are compared with.
    pub matching: Match,
    /// How much work is put into each matrix.
    pub work: Work,
    /// Bytes that the sums over the inputs of one group of products may take together. What needs more, as tables of
    /// many experts do, takes several passes over the text.
    pub memory: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            damping: 0.01,
            matching: Match::Stream,
            work: Work { effort: Effort { units: 2 }, sweeps: 4 },
            memory: 2 << 30,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The original, in floating point.
    pub source: &'a Path,
    /// The file that llama.cpp made of it with the importance matrix; changed in place.
    pub output: &'a Path,
    /// The calibration text.
    pub text: &'a str,
    /// Tokens that are evaluated together.
    pub context: usize,
    /// At most this many times so many tokens; `None`: all of the text.
    pub chunks: Option<usize>,
    /// Threads.
    pub threads: u32,
    /// How.
    pub parameters: Parameters,
}

/// What happens meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Memory that will be taken, before it is: what for, and bytes.
    Memory(Vec<(String, u64)>),
    /// A fraction from 0 to 1 is done, and where it is.
    Progress(f64, String),
}

/// Chooses the weights of a file anew.
///
/// # Errors
/// See [`GptqError`]; the file is then of no use.
pub fn quantize(
    backend: Backend,
    request: &Request<'_>,
    told: impl FnMut(Told),
) -> Result<Report, GptqError> {
    let tokens = calibration_tokens(backend, request)?;
    run(backend, request, &tokens, told)
}

/// As [`quantize`], with the text's tokens, in whole texts of the context's length.
fn run(
    backend: Backend,
    request: &Request<'_>,
    tokens: &[i32],
    mut told: impl FnMut(Told),
) -> Result<Report, GptqError> {
    let source = GgufInput::open(backend, request.source)?;
    let draft = GgufInput::open(backend, request.output)?;
    let texts: Vec<&[i32]> = tokens.chunks(request.context.max(1)).collect();
    let lanes = Lanes::find(backend, request, texts.len())?;
    told(Told::Memory(memory::needed(&source, &draft, tokens.len(), request, &lanes)));
    let load = |path: &Path, extent| {
        let settings = Settings { gpu_layers: 0, ..Settings::default() };
        Model::load(backend, path, &settings, extent)
    };
    let made = load(request.output, LoadExtent::Overwritable)?;
    if made.class() != ArchitectureClass::DecoderOnly {
        return Err(GptqError::Class { class: made.class() });
    }
    let original = match request.parameters.matching {
        Match::Nothing => None,
        Match::Outputs | Match::Stream => Some(load(request.source, LoadExtent::Everything)?),
    };
    let contexts = lanes.open(&made)?;
    let plan = Plan::new(contexts[0].graph());
    let made_side = Side::new(contexts, &texts);
    let original = match &original {
        None => None,
        Some(original) => {
            let contexts = lanes.open(original)?;
            if Plan::new(contexts[0].graph()) != plan {
                return Err(GptqError::Graphs {
                    source_path: request.source.to_owned(),
                    output: request.output.to_owned(),
                });
            }
            Some(Side::new(contexts, &texts))
        }
    };
    let mut sequence = Sequence {
        source: &source,
        draft: &draft,
        plan: &plan,
        original,
        made: made_side,
        weights: Weights::of(&made)?,
        texts: texts.len(),
        parameters: request.parameters,
        threads: request.threads,
        times: Times::default(),
    };
    let mut report = Report { matrices: Vec::new(), tokens: tokens.len(), times: Times::default() };
    let layers = made.layers();
    let file = OpenOptions::new().write(true).open(request.output);
    let mut file = file.map_err(|source| write_error(request, source))?;
    for (index, group) in plan.groups.iter().enumerate() {
        let layer = group.layer().map_or(layers, |layer| layer + 1);
        let mut heartbeat = |part: f64| {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand groups")]
            let fraction = (index as f64 + part) / plan.groups.len() as f64;
            told(Told::Progress(fraction, format!("layer {layer} of {layers}")));
        };
        let done = sequence.group(index, &mut heartbeat)?;
        for (name, bytes) in &done.replaced {
            let Some(tensor) = draft.find(name) else { continue };
            overwrite(&mut file, &draft, tensor, bytes)
                .map_err(|source| write_error(request, source))?;
        }
        report.matrices.extend(done.matrices);
    }
    file.sync_all().map_err(|source| write_error(request, source))?;
    report.times = sequence.times;
    list_untouched(&draft, &plan, &mut report);
    Ok(report)
}

/// Adds the matrices that are in no group of the plan.
fn list_untouched(draft: &GgufInput, plan: &Plan, report: &mut Report) {
    for tensor in draft.tensors() {
        let entry = &tensor.entry;
        let listed = report.matrices.iter().any(|matrix| matrix.name == entry.name);
        if listed || entry.format.block_weights() == 1 {
            continue;
        }
        let left = plan.left.iter().find(|(name, _)| *name == entry.name);
        let reason = match left {
            Some((_, reason)) => reason,
            None if entry.name.starts_with("blk.") => "the model multiplies nothing with it",
            None => "it belongs to no layer",
        };
        report.matrices.push(Matrix {
            name: entry.name.clone(),
            part: None,
            format: entry.format,
            weights: entry.weights,
            outcome: Outcome::Kept { reason: reason.to_owned() },
        });
    }
}

fn write_error(request: &Request<'_>, source: std::io::Error) -> GptqError {
    GptqError::Write { path: request.output.to_owned(), source }
}

fn overwrite(
    file: &mut File,
    draft: &GgufInput,
    tensor: &InputTensor,
    bytes: &[u8],
) -> std::io::Result<()> {
    debug_assert_eq!(bytes.len(), draft.bytes(tensor).len());
    file.seek(SeekFrom::Start(tensor.file_offset()))?;
    file.write_all(bytes)
}

/// The text's tokens in whole pieces of `context`, each begun as llama-imatrix begins them.
fn calibration_tokens(backend: Backend, request: &Request<'_>) -> Result<Vec<i32>, GptqError> {
    let settings = Settings::default();
    let vocabulary = Model::load(backend, request.source, &settings, LoadExtent::Vocabulary)?;
    let mut tokens = vocabulary.tokenize(request.text, true, false)?;
    let context = request.context.max(1);
    if tokens.len() < context {
        return Err(GptqError::TextTooShort { tokens: tokens.len(), context });
    }
    let available = tokens.len() / context;
    let chunks = request.chunks.map_or(available, |limit| limit.clamp(1, available));
    tokens.truncate(chunks * context);
    if let Some(beginning) = vocabulary.beginning_token() {
        tokens.iter_mut().step_by(context).for_each(|token| *token = beginning);
    }
    Ok(tokens)
}
