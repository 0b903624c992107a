//! The JSON form of `quantbench inspect`.

use super::{Memory, MemoryRow, Origin};
use crate::cli::output;
use crate::error::Error;
use crate::model::architecture::{ArchitectureClass, Experts};
use crate::model::file_type::FileType;
use crate::model::gguf::{FormatSummary, Header, Tensor, Value};
use crate::model::stored_types::StoredTypes;
use serde::Serialize;
use serde_json::{Map, json};
use std::path::Path;

#[derive(Serialize)]
struct Document<'all> {
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
    formats: Vec<serde_json::Value>,
    /// What was put in place of the file type's own types, and why.
    types: StoredTypes,
    memory: serde_json::Value,
    metadata: Map<String, serde_json::Value>,
    tensors: Vec<serde_json::Value>,
}

/// The file as JSON, with a line break at the end.
pub(super) fn json(path: &Path, header: &Header, memory: &Memory) -> Result<String, Error> {
    let document = Document {
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
        formats: header.by_format().iter().map(format_row).collect(),
        types: StoredTypes::of(header),
        memory: memory_document(memory),
        metadata: header.metadata.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        tensors: header.tensors.iter().map(tensor_row).collect(),
    };
    output::json("quantbench.inspect", &document)
}

fn format_row(summary: &FormatSummary) -> serde_json::Value {
    json!({
        "format": summary.format.name(),
        "tensors": summary.tensors,
        "weights": summary.weights,
        "bytes": summary.bytes,
        "bits_per_weight": summary.format.bits_per_weight(),
    })
}

fn tensor_row(tensor: &Tensor) -> serde_json::Value {
    json!({
        "name": tensor.name,
        "format": tensor.format.name(),
        "dimensions": tensor.dimensions,
        "bytes": tensor.bytes,
    })
}

/// Where the figures come from (`llama.cpp` or `header`, and then why), and memory by context.
fn memory_document(memory: &Memory) -> serde_json::Value {
    let (origin, reason, kv_unknown) = match &memory.origin {
        Origin::LlamaCpp => ("llama.cpp", None, None),
        Origin::Header { reason, kv } => ("header", Some(reason), kv.as_ref()),
    };
    let row = |row: &MemoryRow| {
        json!({
            "context": row.context,
            "weights_bytes": row.weights,
            "kv_bytes": row.kv,
            "compute_bytes": row.compute,
            "total_bytes": row.total(),
        })
    };
    json!({
        "origin": origin,
        "reason": reason,
        "kv_unknown": kv_unknown,
        "contexts": memory.rows.iter().map(row).collect::<Vec<_>>(),
    })
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
            "type": kind.to_string(),
            "count": count,
            "first": first.iter().map(plain).collect::<Vec<_>>(),
        }),
    }
}
