//! The JSON form of `quantbench inspect`.

use super::{InspectError, Memory, Origin};
use crate::model::architecture::{ArchitectureClass, Experts};
use crate::model::gguf::{FormatSummary, Header, Value};
use crate::model::quantization::FileType;
use crate::model::stored_types::StoredTypes;
use serde::Serialize;
use serde_json::{Map, json};
use std::path::Path;

/// Rises when a field changes its meaning or goes away.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'all> {
    version: u32,
    path: String,
    file_bytes: u64,
    parts: u32,
    gguf_version: u32,
    architecture: &'all str,
    architecture_class: ArchitectureClass,
    experts: Option<Experts>,
    name: Option<&'all str>,
    file_type: Option<&'static str>,
    parameters: u64,
    active_parameters: u64,
    tensor_bytes: u64,
    bits_per_weight: Option<f64>,
    context_length: Option<u64>,
    layers: Option<u64>,
    vocabulary: Option<u64>,
    formats: Vec<FormatRow>,
    /// What was put in place of the file type's own types, and why.
    types: StoredTypes,
    memory: MemoryDocument,
    metadata: Map<String, serde_json::Value>,
    tensors: Vec<TensorRow<'all>>,
}

#[derive(Serialize)]
struct FormatRow {
    format: &'static str,
    tensors: usize,
    weights: u64,
    bytes: u64,
    bits_per_weight: f64,
}

#[derive(Serialize)]
struct TensorRow<'all> {
    name: &'all str,
    format: &'static str,
    dimensions: &'all [u64],
    bytes: u64,
}

#[derive(Serialize)]
struct MemoryDocument {
    /// `llama.cpp` or `header`.
    origin: &'static str,
    /// Why the figures do not come from llama.cpp.
    reason: Option<String>,
    /// Why the KV cache could not be computed.
    kv_unknown: Option<String>,
    contexts: Vec<MemoryRow>,
}

#[derive(Serialize)]
struct MemoryRow {
    context: u32,
    weights_bytes: u64,
    kv_bytes: Option<u64>,
    compute_bytes: Option<u64>,
    total_bytes: Option<u64>,
}

/// The file as JSON, with a line break at the end.
pub(super) fn json(path: &Path, header: &Header, memory: &Memory) -> Result<String, InspectError> {
    let document = Document {
        version: VERSION,
        path: path.display().to_string(),
        file_bytes: header.file_bytes,
        parts: header.parts,
        gguf_version: header.version,
        architecture: header.architecture(),
        architecture_class: header.architecture_class(),
        experts: header.experts(),
        name: header.name(),
        file_type: header.file_type().map(FileType::name),
        parameters: header.parameters(),
        active_parameters: header.active_parameters(),
        tensor_bytes: header.tensor_bytes(),
        bits_per_weight: header.bits_per_weight(),
        context_length: header.context_length(),
        layers: header.layers(),
        vocabulary: header.vocabulary(),
        formats: formats(header),
        types: StoredTypes::of(header),
        memory: memory_document(memory),
        metadata: header.metadata.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        tensors: tensors(header),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn formats(header: &Header) -> Vec<FormatRow> {
    let summaries = header.by_format().into_iter();
    let row = |summary: FormatSummary| FormatRow {
        format: summary.format.name(),
        tensors: summary.tensors,
        weights: summary.weights,
        bytes: summary.bytes,
        bits_per_weight: summary.format.bits_per_weight(),
    };
    summaries.map(row).collect()
}

fn tensors(header: &Header) -> Vec<TensorRow<'_>> {
    let rows = header.tensors.iter().map(|tensor| TensorRow {
        name: &tensor.name,
        format: tensor.format.name(),
        dimensions: &tensor.dimensions,
        bytes: tensor.bytes,
    });
    rows.collect()
}

fn memory_document(memory: &Memory) -> MemoryDocument {
    let (origin, reason, kv_unknown) = match &memory.origin {
        Origin::LlamaCpp => ("llama.cpp", None, None),
        Origin::Header { reason, kv } => {
            ("header", Some(reason.clone()), kv.as_ref().map(ToString::to_string))
        }
    };
    let contexts = memory
        .rows
        .iter()
        .map(|row| MemoryRow {
            context: row.context,
            weights_bytes: row.weights,
            kv_bytes: row.kv,
            compute_bytes: row.compute,
            total_bytes: row.total(),
        })
        .collect();
    MemoryDocument { origin, reason, kv_unknown, contexts }
}

/// A metadata value as JSON; of a long array its number of elements and the first of them.
fn plain(value: &Value) -> serde_json::Value {
    match value {
        Value::Unsigned(value) => json!(value),
        Value::Signed(value) => json!(value),
        Value::Float(value) => json!(value),
        Value::Bool(value) => json!(value),
        Value::Text(text) => json!(text),
        Value::Array { kind, count, first } => json!({
            "type": kind.name(),
            "count": count,
            "first": first.iter().map(plain).collect::<Vec<_>>(),
        }),
    }
}
