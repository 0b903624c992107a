//! GPTQ (Frantar et al. 2022, arXiv:2210.17323) in ggml's block formats.
//!
//! llama.cpp first makes the file with an importance matrix, so that every tensor has the type it would have
//! anyway; then matrix after matrix is chosen anew in place, with the inputs that the model being made gives it.
//! What GPTQ cannot do stays as the importance matrix rounded it, and the report says why. docs/GPTQ.md
//! defines what is computed.
//!
//! Runs inside the worker process. Uses `llama` and `model::gguf`; used by `quantize`.

mod block;
mod factor;
mod hessian;
mod layer;
mod layout;
mod memory;
mod part;
mod report;
mod sequence;
mod solve;
mod sweep;
#[cfg(test)]
mod testing;
mod trial;

pub use block::Effort;
pub use report::{Matrix, Outcome, Report, Times};
pub use solve::Work;

use crate::experiment::settings::Settings;
use crate::llama::backend::Backend;
use crate::llama::error::LlamaError;
use crate::llama::gguf_file::{GgufFileError, GgufInput, InputTensor};
use crate::llama::model::{LoadExtent, Model};
use crate::model::gguf::Value;
use sequence::{Hidden, Sequence};
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Why GPTQ could not be done.
#[derive(Debug, thiserror::Error)]
pub enum GptqError {
    /// A native call failed.
    #[error(transparent)]
    Llama(#[from] LlamaError),
    /// A model could not be read, or a lone layer not written.
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
    /// A model without the usual token embeddings.
    #[error("GPTQ needs a model with a plain table of token embeddings, 'token_embd.weight'")]
    NoEmbedding,
    /// The layers cannot be evaluated one by one.
    #[error("GPTQ cannot evaluate this model's layers one by one: {reason}")]
    Layers {
        /// What stands in the way.
        reason: String,
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

/// Architectures whose layers are all alike and whose first layer takes the token embeddings as they are, so
/// that a layer can be evaluated alone.
const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

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
    /// Whether a layer's later products see what became of its earlier ones.
    pub within_layer: bool,
    /// How much work is put into each matrix.
    pub work: Work,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            damping: 0.01,
            matching: Match::Stream,
            within_layer: true,
            work: Work { effort: Effort { units: 2 }, sweeps: 4 },
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
    /// Folder for one layer of each model.
    pub folder: &'a Path,
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
    mut told: impl FnMut(Told),
) -> Result<Report, GptqError> {
    let source = GgufInput::open(backend, request.source)?;
    let draft = GgufInput::open(backend, request.output)?;
    let architecture = source.header().architecture();
    if !ARCHITECTURES.contains(&architecture) {
        let reason = format!(
            "'{architecture}' is not among {}, whose layers are known to be alike",
            ARCHITECTURES.join(", ")
        );
        return Err(GptqError::Layers { reason });
    }
    let tokens = calibration_tokens(backend, request)?;
    let count = |key: &str| source.header().get_own(key).and_then(Value::as_count).unwrap_or(0);
    let sequence = Sequence {
        backend,
        source: &source,
        draft: &draft,
        context: request.context,
        width: usize::try_from(count("embedding_length")).unwrap_or(0),
        parameters: request.parameters,
        folder: request.folder,
        threads: request.threads,
    };
    let matched = request.parameters.matching != Match::Nothing;
    told(Told::Memory(memory::needed(&source, &draft, tokens.len(), request)));
    let mut hidden = Hidden {
        original: if matched { sequence.embed(&source, &tokens)? } else { Vec::new() },
        made: sequence.embed(&draft, &tokens)?,
    };
    let mut report = Report { matrices: Vec::new(), tokens: tokens.len(), times: Times::default() };
    let layers = count("block_count");
    let file = OpenOptions::new().write(true).open(request.output);
    let mut file = file.map_err(|source| write_error(request, source))?;
    for layer in 0..layers {
        let mut heartbeat = |part: f64| {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand layers")]
            let fraction = (layer as f64 + part) / layers as f64;
            told(Told::Progress(fraction, format!("layer {} of {layers}", layer + 1)));
        };
        let done = sequence.layer(layer, &mut hidden, &mut report.times, &mut heartbeat)?;
        for (name, bytes) in &done.replaced {
            let Some(tensor) = draft.find(name) else { continue };
            overwrite(&mut file, &draft, tensor, bytes)
                .map_err(|source| write_error(request, source))?;
        }
        report.matrices.extend(done.matrices);
    }
    file.sync_all().map_err(|source| write_error(request, source))?;
    list_untouched(&draft, &mut report);
    Ok(report)
}

/// Adds the matrices that no product of a layer was seen with.
fn list_untouched(draft: &GgufInput, report: &mut Report) {
    for tensor in draft.tensors() {
        let entry = &tensor.entry;
        let listed = report.matrices.iter().any(|matrix| matrix.name == entry.name);
        if listed || entry.format.block_weights() == 1 {
            continue;
        }
        let reason = if entry.name.starts_with("blk.") {
            "no plain product of a layer uses it, as with the tables of experts"
        } else {
            "it belongs to no layer"
        };
        report.matrices.push(Matrix {
            name: entry.name.clone(),
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
