//! `quantbench inspect FILE`: what a GGUF says about itself, and the memory it will take; what an ONNX graph says.

mod graph;
mod report;
mod table;
#[cfg(test)]
mod tests;

use super::output::{self, Format};
use super::session::resolve_options;
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::experiment::settings::{CacheType, Settings};
use crate::model::artifact::ArtifactRef;
use crate::model::cache::Cache;
use crate::model::engine_name::EngineName;
use crate::model::gguf::{GgmlType, Header};
use crate::model::memory::{IMPOSSIBLE, kv_bytes};
use crate::model::repository::RemoteVariant;
use crate::model::resolve::{checkpoint_in, resolve};
use crate::model::source::{Source, SourceError};
use crate::units::parse_within;
use crate::workload::jobs::{MemoryQuestion, PredictJob};
use crate::workload::measured::PredictedMemory;
use clap::Args;
use std::path::{Path, PathBuf};

/// Contexts that memory is shown at, as far as the model was trained for them.
const CONTEXTS: [u32; 5] = [512, 2048, 8192, 32_768, 131_072];

/// Flags of `quantbench inspect`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// A GGUF file, any part of a split one, an ONNX file, `hf://owner/name/file.gguf`, `ollama:name`,
    /// `shape:name`, or `demo`
    #[arg(value_name = "FILE")]
    pub source: String,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Contexts to show memory at, tokens; by default several up to the model's own
    #[arg(long = "context", value_name = "TOKENS", value_delimiter = ',',
          value_parser = parse_within(1_u32..=16_777_216))]
    pub contexts: Vec<u32>,
    /// Format of the K cache
    #[arg(long, value_name = "TYPE", ignore_case = true, default_value = "f16")]
    pub cache_type_k: CacheType,
    /// Format of the V cache
    #[arg(long, value_name = "TYPE", ignore_case = true, default_value = "f16")]
    pub cache_type_v: CacheType,
    /// Keep the whole context in the KV cache of layers that attend to a sliding window
    #[arg(long)]
    pub swa_full: bool,
    /// List every tensor too (JSON always does)
    #[arg(long)]
    pub tensors: bool,
}

/// Predicts memory, or says why it cannot.
pub type Predict<'a> =
    dyn Fn(PredictJob) -> Result<Vec<Result<PredictedMemory, String>>, String> + 'a;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The argument is no source.
    #[error("FILE {0}")]
    Source(SourceError),
    /// The argument is a folder.
    #[error(
        "{} is a folder{}", .path.display(),
        if instead.is_empty() { "; name one of its GGUF files" } else { instead.as_str() }
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What it holds instead of GGUF files, if anything.
        instead: String,
    },
    /// The argument is a repository of several variants.
    #[error("{repository} holds {labels}; name one, as in '{repository}:Q4_K_M'")]
    Several {
        /// The repository.
        repository: Source,
        /// What it holds.
        labels: String,
    },
}

/// Shows a GGUF. Memory comes from `predict`; where that fails it is computed from the header, and
/// the result says so.
///
/// # Errors
/// The file cannot be had or is no whole GGUF, or standard output does not take the result.
pub fn run(arguments: &Arguments, predict: &Predict<'_>) -> Result<Outcome, Error> {
    if let Some(path) = graph_of(&arguments.source) {
        if arguments.format == Format::Json {
            return Err(Problem::new(
                "of an ONNX graph there is a table alone; leave --format out",
            )
            .into());
        }
        output::print(graph::render(&path)?.as_bytes())?;
        return Ok(Outcome::Done);
    }
    let (path, header) = read(&arguments.source)?;
    let memory = memory(&path, &header, arguments, predict);
    let text = match arguments.format {
        Format::Table => table::render(&path, &header, &memory, arguments.tensors),
        Format::Json => report::json(&path, &header, &memory)?,
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

/// The ONNX file that is named.
fn graph_of(source: &str) -> Option<PathBuf> {
    match Source::parse(source, Path::new("")) {
        Ok(Source::File(path)) if Source::File(path.clone()).may_hold_onnx() => Some(path),
        _ => None,
    }
}

fn read(source: &str) -> Result<(PathBuf, Header), Error> {
    let Named { path, remote } = named(source)?;
    let header = match &remote {
        Some(remote) => remote.header(&resolve_options(false).hub)?,
        None => Header::read(&path)?,
    };
    Ok((path, header))
}

/// The one file that is named.
pub(super) struct Named {
    pub(super) path: PathBuf,
    /// What would come to lie there: it is not fetched.
    pub(super) remote: Option<RemoteVariant>,
}

/// # Errors
/// The name is none, means several files, or cannot be had.
pub(super) fn named(source: &str) -> Result<Named, Error> {
    let source = Source::parse(source, Path::new(""));
    let source = source.map_err(|error| Error::command(InspectError::Source(error)))?;
    match &source {
        Source::File(path) => Ok(Named { path: path.clone(), remote: None }),
        Source::Directory(path) if source.holds_variants() => {
            let instead = checkpoint_in(path);
            Err(Error::command(InspectError::Folder { path: path.clone(), instead }))
        }
        _ => {
            let resolved = resolve(&source, &Cache::open()?, &resolve_options(false))?;
            if let (Source::Shape(shape), Some(file)) = (&source, &resolved.source) {
                if shape.quantization.is_some_and(|it| it != file.quantization) {
                    output::tell(
                        "note: shown in F16; 'quantbench run MODEL --dry-run' has the sizes of others",
                    );
                }
                return Ok(Named { path: file.artifact.path.clone(), remote: None });
            }
            let [only] = resolved.ready.as_slice() else {
                let labels: Vec<&str> = resolved.ready.iter().map(|it| it.label.as_str()).collect();
                let several =
                    InspectError::Several { repository: source.clone(), labels: labels.join(", ") };
                return Err(Error::command(several));
            };
            let path = only.artifact.path.clone();
            let remote = only.remote.clone().filter(|_| !path.exists());
            Ok(Named { path, remote })
        }
    }
}

/// Memory at several contexts, and where the figures come from.
#[derive(Debug, Clone, PartialEq)]
struct Memory {
    origin: Origin,
    rows: Vec<MemoryRow>,
}

/// Where figures of memory come from.
#[derive(Debug, Clone, PartialEq)]
enum Origin {
    /// llama.cpp's own planning of buffers.
    LlamaCpp,
    /// The header, because llama.cpp was of no help.
    Header {
        /// Why llama.cpp was not.
        reason: String,
        /// Why the KV cache is missing, if it is.
        kv: Option<String>,
    },
}

/// Memory at one context, bytes; `None` is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MemoryRow {
    context: u32,
    weights: u64,
    kv: Option<u64>,
    compute: Option<u64>,
}

impl MemoryRow {
    /// Everything, if everything is known.
    fn total(self) -> Option<u64> {
        Some(self.weights.saturating_add(self.kv?).saturating_add(self.compute?))
    }
}

fn memory(path: &Path, header: &Header, arguments: &Arguments, predict: &Predict<'_>) -> Memory {
    let contexts = contexts(header, &arguments.contexts);
    let Arguments { cache_type_k, cache_type_v, swa_full, .. } = *arguments;
    let settings = Settings { cache_type_k, cache_type_v, swa_full, ..Settings::default() };
    let question = |&tokens: &u32| MemoryQuestion {
        settings: settings.clone(),
        tokens,
        sequences: 1,
        all_logits: true,
        experts_on_host: false,
    };
    let job = PredictJob {
        engine: EngineName::LlamaCpp,
        model: ArtifactRef::here(path),
        questions: contexts.iter().map(question).collect(),
    };
    let predicted = predict(job).and_then(|all| all.into_iter().collect::<Result<Vec<_>, _>>());
    match predicted {
        Ok(predicted) => {
            Memory { origin: Origin::LlamaCpp, rows: predicted.iter().map(sum).collect() }
        }
        Err(reason) => estimate(header, &contexts, arguments, reason),
    }
}

fn sum(predicted: &PredictedMemory) -> MemoryRow {
    let add = |part: fn(&crate::workload::measured::BufferMemory) -> u64| {
        predicted.buffers.iter().fold(0_u64, |sum, buffer| sum.saturating_add(part(buffer)))
    };
    MemoryRow {
        context: predicted.context,
        weights: add(|buffer| buffer.weights_bytes),
        kv: Some(add(|buffer| buffer.kv_bytes)),
        compute: Some(add(|buffer| buffer.compute_bytes)),
    }
}

fn estimate(header: &Header, contexts: &[u32], arguments: &Arguments, reason: String) -> Memory {
    // Every cache type is a ggml type by name; a test holds that.
    let format = |cache_type: CacheType| GgmlType::from_name(cache_type.into());
    let kv_at = |context| match (format(arguments.cache_type_k), format(arguments.cache_type_v)) {
        (Some(k), Some(v)) => kv_bytes(header, context, k, v),
        _ => Err(IMPOSSIBLE.to_owned()),
    };
    let kv = contexts.first().and_then(|&context| kv_at(context).err());
    let rows = contexts
        .iter()
        .map(|&context| MemoryRow {
            context,
            weights: header.tensor_bytes(),
            kv: kv_at(context).ok(),
            compute: None,
        })
        .collect();
    Memory { origin: Origin::Header { reason, kv }, rows }
}

/// The contexts asked for, or the usual ones below the model's own, and that.
fn contexts(header: &Header, asked: &[u32]) -> Vec<u32> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let own = header.context_length().and_then(|own| u32::try_from(own).ok());
    // A length that no model has is a lie; memory for it would be nonsense, or refused.
    let own = own.filter(|&own| (1..=1 << 24).contains(&own));
    let limit = own.unwrap_or(8192);
    let mut contexts: Vec<u32> = CONTEXTS.into_iter().filter(|&context| context < limit).collect();
    contexts.push(limit);
    contexts
}
