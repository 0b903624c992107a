//! Models as ONNX files, in the layout of optimum and onnx-community.
//!
//! `network` reads what a GGUF's model is, `forms` decides how each weight is stored, `decoder` or `encoder` builds the
//! graph (`plan`) from nodes (`graph`) and weights (`weight`, made of `blocks` and `search`), `tokenizer` and `texts` make
//! the files beside it. Graphs are made inside the worker process.

mod blocks;
mod decoder;
mod encoder;
mod forms;
mod graph;
mod network;
mod plan;
mod search;
mod target;
#[cfg(test)]
mod tests;
mod texts;
mod tokenizer;
mod weight;
mod word_pieces;

pub use network::Network;
pub use target::Target;
pub use texts::texts;

use super::jobs::ExportJob;
use crate::causes::Problem;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::blocks as ggml;
use crate::engine::llama::gguf_file::GgufInput;
use crate::onnx::proto::Tensor;
use crate::onnx::storage::Storage;
use crate::onnx::writing::{MOST_INSIDE, Writer};
use crate::quantize::fraction;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportReport {
    /// How the weights are stored, as the graph says it.
    pub storage: Storage,
    /// Weights lie in a file beside the graph.
    pub is_split: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Writes a graph with its weights; `progress` is told the fraction of weights that are done.
///
/// # Errors
/// The model is none that is exported, a weight cannot be stored as asked for, or a file cannot be written; the outputs
/// may then hold part of it.
pub fn export(
    backend: Backend,
    job: &ExportJob,
    progress: impl Fn(f64),
) -> Result<ExportReport, Problem> {
    let unreadable = |error| Problem::because("the model cannot be read", error);
    let input = GgufInput::open(backend, &job.input.path).map_err(unreadable)?;
    let header = input.header();
    let network = Network::of(header)?;
    let factors = match &network {
        Network::Llama(network) => {
            decoder::rope_factors(header, network, |name| values(&input, name))?
        }
        Network::Bert(_) => None,
    };
    let plan::Planned { mut model, weights, notes } =
        plan::plan(header, &network, factors.as_deref(), job.target, job.allow_requantize)?;
    let tensors: Vec<_> = weights.iter().flat_map(weight::Weight::tensors).collect();
    let bytes = tensors.iter().filter_map(Tensor::bytes).fold(0, u64::saturating_add);
    let is_split = bytes > job.most_inside.unwrap_or(MOST_INSIDE);
    let location = format!("{}_data", job.target.file_name());
    let data = if is_split { Some((create(&job.data.path)?, location.as_str())) } else { None };
    let mut writer = Writer::create(&model, tensors.clone(), create(&job.output.path)?, data)?;
    for (done, weight) in weights.iter().enumerate() {
        for (tensor, data) in weight.tensors().iter().zip(weight.data(&input)?) {
            writer.write(&tensor.name, &data)?;
        }
        progress(fraction(done + 1, 0.0, weights.len()));
    }
    writer.finish()?;
    if let Some(graph) = &mut model.graph {
        graph.initializer.extend(tensors);
    }
    Ok(ExportReport { storage: Storage::of(&model), is_split, notes })
}

fn create(path: &Path) -> Result<BufWriter<File>, Problem> {
    let failed = |error| Problem::because(format!("{} cannot be written", path.display()), error);
    File::create(path).map(BufWriter::new).map_err(failed)
}

/// The values of a small tensor.
fn values(input: &GgufInput, name: &str) -> Result<Vec<f32>, Problem> {
    let tensor =
        input.find(name).ok_or_else(|| Problem::new(format!("tensor '{name}' is missing")))?;
    let failed = |error| Problem::because(format!("tensor '{name}' cannot be read"), error);
    ggml::values(tensor.entry.format, input.bytes(tensor)).map_err(failed)
}
