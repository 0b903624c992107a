//! The memory that GPTQ takes, told before it is taken.

use super::{Match, Request};
use crate::llama::gguf_file::GgufInput;
use crate::model::gguf::Value;
use std::collections::BTreeMap;

/// Bytes per element of a Hessian: its sums in f32 and f64, those of the drift, and what factorising takes.
const HESSIAN_BYTES: u64 = 36;

/// What for, and bytes: an upper estimate from the sizes of the tensors.
pub(super) fn needed(
    source: &GgufInput,
    draft: &GgufInput,
    tokens: usize,
    request: &Request<'_>,
) -> Vec<(String, u64)> {
    let width = source.header().get_own("embedding_length").and_then(Value::as_count).unwrap_or(0);
    let models = if request.parameters.matching == Match::Nothing { 1 } else { 2 };
    let hidden = models * width * tokens as u64 * size_of::<f32>() as u64;
    let layers = largest_layer(source) + 2 * largest_layer(draft);
    let widest = matrices(source).map(|(columns, _)| columns).max().unwrap_or(0);
    let weights = matrices(source).map(|(_, weights)| weights).max().unwrap_or(0);
    vec![
        (format!("the states of {tokens} tokens between layers"), hidden),
        ("a layer of each model".to_owned(), layers),
        // The weights, their target, and two steps between.
        (
            format!("a Hessian of {widest} inputs and the largest matrix"),
            HESSIAN_BYTES * widest * widest + 4 * weights * size_of::<f32>() as u64,
        ),
    ]
}

/// Columns and weights of the layers' matrices.
fn matrices(model: &GgufInput) -> impl Iterator<Item = (u64, u64)> {
    let of_layers = model.tensors().iter().filter(|tensor| {
        tensor.entry.name.starts_with("blk.") && tensor.entry.dimensions.len() == 2
    });
    of_layers.map(|tensor| (tensor.entry.dimensions[0], tensor.entry.weights))
}

fn largest_layer(model: &GgufInput) -> u64 {
    let mut layers: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in model.tensors() {
        let mut parts = tensor.entry.name.split('.');
        if let (Some("blk"), Some(layer)) = (parts.next(), parts.next()) {
            *layers.entry(layer).or_default() += tensor.entry.bytes;
        }
    }
    layers.into_values().max().unwrap_or(0)
}
