//! GPTQ and AWQ checkpoints as GGUF files, without rounding their weights a second time.
//!
//! `config` and `checkpoint` read the folder, `unpack` takes the codes out of its words, `names` says
//! where a module belongs, `plan` decides what every tensor is made from, `reading` what zero points
//! mean, `store` makes blocks. The
//! vocabulary, embeddings and all else come from a GGUF of the same model. Runs inside the worker
//! process. Uses `llama::gguf_file`; used by `worker`.

mod checkpoint;
mod config;
mod error;
mod names;
mod plan;
mod reading;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

pub use config::CheckpointKind;
pub use error::ImportError;

use super::jobs::ImportJob;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{GgufInput, GgufOutput, Metadata, MetadataValue, TensorPlan};
use crate::model::file_type::FileType;
use crate::model::gguf::GgmlType;
use crate::quantize::shape;
use crate::statistics::sample::to_f64;
use checkpoint::Checkpoint;
use config::Configuration;
use half::{bf16, f16};
use plan::{ImportPlan, TensorOrigin};
use std::collections::BTreeMap;
use unpack::{Layer, Module};

/// Below this cosine a layer and BASE's tensor have nothing in common.
const LEAST_COSINE: f64 = 0.2;

/// Writes a checkpoint as a GGUF; `progress` is told the fraction of tensors that are done. Returns what
/// the user should know of how the checkpoint was read.
///
/// # Errors
/// When the checkpoint is damaged or packed in a way that is not read, it and BASE are not of the
/// same model, or the file cannot be written; the output may then hold part of a file.
pub fn import(
    backend: Backend,
    job: &ImportJob,
    progress: impl Fn(f64),
) -> Result<Option<String>, ImportError> {
    let configuration = Configuration::read(&job.checkpoint.path, job.kind)?;
    let checkpoint = Checkpoint::open(&job.checkpoint.path)?;
    let base = GgufInput::open(backend, &job.base.path)?;
    let ImportPlan { origins, configuration, note } =
        plan::plan(&base, &checkpoint, configuration)?;
    let mut metadata = base.metadata()?;
    describe(&mut metadata, job, configuration, &origins)?;
    let plans: Vec<TensorPlan> = origins.iter().map(|(plan, _)| plan.clone()).collect();
    let mut output = GgufOutput::create(&job.output.path, &metadata, &plans)?;
    for (done, (tensor, (planned, origin))) in base.tensors().iter().zip(&origins).enumerate() {
        let original = base.bytes(tensor);
        let made = match origin {
            TensorOrigin::Base => None,
            TensorOrigin::Plain { name, heads, offset } => {
                Some(plain_bytes(&checkpoint, name, *heads, *offset, planned.format.name())?)
            }
            TensorOrigin::Quantized { modules, storage, heads } => {
                let mut bytes = Vec::new();
                let share = original.len() / modules.len().max(1);
                let [columns, ..] = shape(&tensor.entry);
                for (expert, name) in modules.iter().enumerate() {
                    let configuration = configuration.of_module(&checkpoint, name, columns)?;
                    let module = Module { checkpoint: &checkpoint, configuration, name };
                    let layer = module.layer()?;
                    let order = names::row_order(layer.shape.rows, *heads).unwrap_or_default();
                    let twin = original.get(expert * share..(expert + 1) * share);
                    check_resemblance(&layer, &order, twin, tensor.entry.format.name(), name)?;
                    bytes.extend(store::store(&layer, name, &order, *storage)?);
                }
                Some(bytes)
            }
        };
        output.write_tensor(&planned.name, made.as_deref().unwrap_or(original))?;
        progress(to_f64(done + 1) / to_f64(origins.len()));
    }
    output.finish()?;
    Ok(note)
}

/// Says in the file what it is.
fn describe(
    metadata: &mut Metadata,
    job: &ImportJob,
    configuration: Configuration,
    origins: &[(TensorPlan, TensorOrigin)],
) -> Result<(), ImportError> {
    let mut weights: BTreeMap<&str, u64> = BTreeMap::new();
    for (plan, origin) in origins {
        if let TensorOrigin::Quantized { storage, .. } = origin {
            *weights.entry((*storage).into()).or_default() +=
                plan.dimensions.iter().product::<u64>();
        }
    }
    let most = weights.iter().max_by_key(|(_, weights)| **weights).map(|(name, _)| *name);
    if let Some(file_type) = most.and_then(|name| name.parse::<FileType>().ok()) {
        metadata.set("general.file_type", MetadataValue::U32(file_type.number()))?;
    }
    // ggml's GGML_QNT_VERSION: the layout of blocks since 2023.
    metadata.set("general.quantization_version", MetadataValue::U32(2))?;
    let folder = job.checkpoint.path.file_name().unwrap_or_default().to_string_lossy();
    let group = configuration.group.and_then(|group| u32::try_from(group).ok()).unwrap_or(0);
    let method = format!("{}-import", job.kind);
    for (key, value) in [
        ("quantbench.method", MetadataValue::Text(&method)),
        ("quantbench.import.checkpoint", MetadataValue::Text(&folder)),
        ("quantbench.import.packing", MetadataValue::Text(configuration.packing.into())),
        ("quantbench.import.bits", MetadataValue::U32(configuration.bits)),
        // 0: a row is one group.
        ("quantbench.import.group_size", MetadataValue::U32(group)),
    ] {
        metadata.set(key, value)?;
    }
    Ok(())
}

/// A plain tensor of the checkpoint in a format of floating point.
fn plain_bytes(
    checkpoint: &Checkpoint,
    name: &str,
    heads: Option<usize>,
    offset: f32,
    format: &str,
) -> Result<Vec<u8>, ImportError> {
    let numbers = checkpoint.numbers(name)?;
    let rows = numbers.shape.first().copied().unwrap_or(0);
    let columns = numbers.values.len().checked_div(rows).unwrap_or(0);
    let order = names::row_order(rows, heads).unwrap_or_default();
    let values =
        order.into_iter().flat_map(|row| &numbers.values[row * columns..(row + 1) * columns]);
    let values = values.map(|value| value + offset);
    match format {
        "F16" => {
            let halves: Vec<f16> = values.map(f16::from_f32).collect();
            if halves.iter().any(|half| !half.is_finite()) {
                return Err(ImportError::tensor(
                    name,
                    "holds values that F16, which BASE has it in, cannot",
                ));
            }
            Ok(halves.into_iter().flat_map(f16::to_le_bytes).collect())
        }
        "BF16" => Ok(values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect()),
        _ => Ok(values.flat_map(f32::to_le_bytes).collect()),
    }
}

/// Weights of another model, or rows in another order, have nothing in common with BASE's tensor.
/// Only a BASE in floating point is asked.
fn check_resemblance(
    layer: &Layer,
    order: &[usize],
    original: Option<&[u8]>,
    format: &str,
    module: &str,
) -> Result<(), ImportError> {
    let Some(base) = float_weights(original.unwrap_or_default(), format) else { return Ok(()) };
    let columns = layer.shape.columns;
    let (mut product, mut own, mut other) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (&row, base) in order.iter().zip(base.chunks_exact(columns)) {
        for (column, &weight) in base.iter().enumerate() {
            let (mine, weight) = (f64::from(layer.weight(row, column)), f64::from(weight));
            product += mine * weight;
            own += mine * mine;
            other += weight * weight;
        }
    }
    let cosine = product / (own * other).sqrt();
    if own > 0.0 && other > 0.0 && cosine < LEAST_COSINE {
        let problem = format!(
            "its weights and BASE's have a cosine of {cosine:.3}; BASE is of another model"
        );
        return Err(ImportError::mismatch(module, problem));
    }
    Ok(())
}

/// The weights of a tensor that is stored in floating point.
fn float_weights(bytes: &[u8], format: &str) -> Option<Vec<f32>> {
    let format =
        GgmlType::from_name(format).filter(|_| matches!(format, "F32" | "F16" | "BF16"))?;
    blocks::values(format, bytes).ok()
}
