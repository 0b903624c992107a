//! The networks that are exported, by their dimensions: what a GGUF says of them, and what of it is not understood.

mod bert;
mod llama;

pub(super) use bert::{Bert, Pooling};
pub(super) use llama::{Llama, ROPE_FACTORS};

use crate::causes::Problem;
use crate::model::gguf::{Header, Tensor, Value};
use std::collections::HashMap;

/// Keys of the architecture that change what is computed in ways that are not exported, unless they are 0.
const NOT_EXPORTED: [&str; 6] = [
    "expert_count",
    "attention.sliding_window",
    "attention.scale",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
];

/// Names of tensors with their dimensions, the row length first.
type Expected = Vec<(String, Vec<usize>)>;

/// A network that is exported.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// A decoder.
    Llama(Llama),
    /// An encoder.
    Bert(Bert),
}

impl Network {
    /// Reads it from a header.
    ///
    /// # Errors
    /// It is of another architecture, or has something that is not exported, by name.
    pub fn of(header: &Header) -> Result<Self, Problem> {
        match header.architecture() {
            "llama" => Llama::of(header).map(Self::Llama),
            "bert" => Bert::of(header).map(Self::Bert),
            other => Err(Problem::new(format!(
                "the model is of the architecture '{other}'; what is exported is llama (Llama 2 and 3, SmolLM2, TinyLlama, \
                 Mistral without a sliding window) and bert (all-MiniLM-L6-v2, BGE, E5)"
            ))),
        }
    }

    /// Rows of the embedding.
    #[must_use]
    pub const fn vocabulary(&self) -> usize {
        match self {
            Self::Llama(network) => network.vocabulary,
            Self::Bert(network) => network.vocabulary,
        }
    }

    /// Tokens that it was trained to remember.
    #[must_use]
    pub const fn context(&self) -> usize {
        match self {
            Self::Llama(network) => network.context,
            Self::Bert(network) => network.context,
        }
    }
}

/// Everything that the file has is used or `may_be` there, and everything that is used is there.
fn check(
    header: &Header,
    expected: &Expected,
    may_be: impl Fn(&str) -> bool,
) -> Result<(), Problem> {
    for key in NOT_EXPORTED {
        let is_set = match header.get_own(key) {
            None => false,
            Some(Value::Float(value)) => *value != 0.0,
            Some(value) => value.as_count() != Some(0),
        };
        if is_set {
            return Err(Problem::new(format!("the model has '{key}', which is not exported")));
        }
    }
    let mut there: HashMap<&str, &Tensor> =
        header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for (name, dimensions) in expected {
        let tensor = there.remove(name.as_str());
        let tensor = tensor.ok_or_else(|| Problem::new(format!("tensor '{name}' is missing")))?;
        let dimensions: Vec<u64> = dimensions.iter().map(|&length| length as u64).collect();
        if tensor.dimensions != dimensions {
            return Err(Problem::new(format!(
                "tensor '{name}' is {:?}, what its model says needs {dimensions:?}",
                tensor.dimensions
            )));
        }
    }
    let is_unknown =
        |tensor: &&Tensor| there.contains_key(tensor.name.as_str()) && !may_be(&tensor.name);
    match header.tensors.iter().find(is_unknown) {
        None => Ok(()),
        Some(Tensor { name, .. }) => {
            Err(Problem::new(format!("the model has a tensor '{name}', which is not exported")))
        }
    }
}

/// Layers, no more than there are tensors: a header may say any number, and their tensors are listed.
fn layers(header: &Header) -> Result<usize, Problem> {
    let (layers, tensors) = (count(header, "block_count")?, header.tensors.len());
    if layers > tensors {
        return Err(Problem::new(format!(
            "the model says {layers} layers and has {tensors} tensors"
        )));
    }
    Ok(layers)
}

fn rows(header: &Header, name: &str) -> Option<usize> {
    let tensor = header.tensors.iter().find(|tensor| tensor.name == name)?;
    tensor.dimensions.get(1).and_then(|&rows| usize::try_from(rows).ok())
}

/// A number that counts something and is at least 1 and, since tensors have to fit it, at most 2³¹.
fn count(header: &Header, key: &str) -> Result<usize, Problem> {
    let value = header.get_own(key).and_then(Value::as_count);
    let count = value.and_then(|it| u32::try_from(it).ok()).filter(|&it| it > 0 && it < 1 << 31);
    count.map(|count| count as usize).ok_or_else(|| {
        Problem::new(format!("the model does not say '{key}' as one number above 0"))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "GGUF stores these numbers as f32")]
fn number(header: &Header, key: &str) -> Option<f32> {
    match header.get_own(key)? {
        Value::Float(value) => Some(*value as f32),
        _ => None,
    }
}
