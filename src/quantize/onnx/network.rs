//! The networks that are exported, by their dimensions: what a GGUF says of them, and what of it is not understood.

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

/// A decoder of the llama architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Width of the stream between layers.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Width of the feed-forward networks.
    pub feed_forward: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub key_value_heads: usize,
    /// Width of a head.
    pub head: usize,
    /// Tokens that it was trained to remember.
    pub context: usize,
    /// Added to the mean square of norms.
    pub epsilon: f32,
    /// The base of the wave lengths of positions.
    pub rope_base: f32,
    /// What positions are divided by.
    pub rope_factor: f32,
    /// The output has no weights of its own: it is the embedding.
    pub tied: bool,
}

impl Network {
    /// Reads it from a header.
    ///
    /// # Errors
    /// It is of another architecture, or has something that is not exported, by name.
    pub fn of(header: &Header) -> Result<Self, Problem> {
        let architecture = header.architecture();
        if architecture != "llama" {
            return Err(Problem::new(format!(
                "the model is of the architecture '{architecture}'; what is exported is llama (Llama 2 and 3, SmolLM2, \
                 TinyLlama, Mistral without a sliding window)"
            )));
        }
        let vocabulary = rows(header, "token_embd.weight").unwrap_or(0);
        let (width, heads) =
            (count(header, "embedding_length")?, count(header, "attention.head_count")?);
        let key_value_heads = match header.get_own("attention.head_count_kv") {
            None => heads,
            Some(_) => count(header, "attention.head_count_kv")?,
        };
        let head = match header.get_own("attention.key_length") {
            None => width / heads,
            Some(_) => count(header, "attention.key_length")?,
        };
        let network = Self {
            vocabulary,
            width,
            layers: count(header, "block_count")?,
            feed_forward: count(header, "feed_forward_length")?,
            heads,
            key_value_heads,
            head,
            context: count(header, "context_length")?,
            epsilon: number(header, "attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
            rope_base: number(header, "rope.freq_base").unwrap_or(10_000.0),
            rope_factor: rope_factor(header)?,
            tied: !header.tensors.iter().any(|tensor| tensor.name == "output.weight"),
        };
        network.check(header)?;
        Ok(network)
    }

    /// The tensors that it consists of, with their dimensions, the row length first.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (width, queries) = (self.width, self.heads * self.head);
        let keys = self.key_value_heads * self.head;
        let mut tensors = vec![
            ("token_embd.weight".to_owned(), vec![width, self.vocabulary]),
            ("output_norm.weight".to_owned(), vec![width]),
        ];
        if !self.tied {
            tensors.push(("output.weight".to_owned(), vec![width, self.vocabulary]));
        }
        for layer in 0..self.layers {
            let of_layer = [
                ("attn_norm", vec![width]),
                ("attn_q", vec![width, queries]),
                ("attn_k", vec![width, keys]),
                ("attn_v", vec![width, keys]),
                ("attn_output", vec![queries, width]),
                ("ffn_norm", vec![width]),
                ("ffn_gate", vec![width, self.feed_forward]),
                ("ffn_up", vec![width, self.feed_forward]),
                ("ffn_down", vec![self.feed_forward, width]),
            ];
            let named = of_layer.map(|(name, dims)| (format!("blk.{layer}.{name}.weight"), dims));
            tensors.extend(named);
        }
        tensors
    }

    /// Everything that the file has is used, and everything that is used is there.
    fn check(&self, header: &Header) -> Result<(), Problem> {
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
        if self.head < 2 || self.head % 2 == 1 || !self.heads.is_multiple_of(self.key_value_heads) {
            return Err(Problem::new(format!(
                "the model has {} heads of {} and {} for keys and values, which cannot be",
                self.heads, self.head, self.key_value_heads
            )));
        }
        let rotated = header.get_own("rope.dimension_count").and_then(Value::as_count);
        if rotated.is_some_and(|rotated| rotated != self.head as u64) {
            return Err(Problem::new("the model turns a part of each head, which is not exported"));
        }
        // Before they are listed: a header may say any number.
        if self.layers > header.tensors.len() {
            let (layers, tensors) = (self.layers, header.tensors.len());
            return Err(Problem::new(format!(
                "the model says {layers} layers and has {tensors} tensors"
            )));
        }
        let there: HashMap<&str, &Tensor> =
            header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut used = 0;
        for (name, dimensions) in self.tensors() {
            let tensor = there.get(name.as_str());
            let tensor =
                tensor.ok_or_else(|| Problem::new(format!("tensor '{name}' is missing")))?;
            let dimensions: Vec<u64> = dimensions.iter().map(|&length| length as u64).collect();
            if tensor.dimensions != dimensions {
                return Err(Problem::new(format!(
                    "tensor '{name}' is {:?}, what its model says needs {dimensions:?}",
                    tensor.dimensions
                )));
            }
            used += 1;
        }
        let is_used =
            |name: &str| name == ROPE_FACTORS || self.tensors().iter().any(|(it, _)| it == name);
        used += usize::from(there.contains_key(ROPE_FACTORS));
        if used == there.len() {
            return Ok(());
        }
        let unknown = header.tensors.iter().find(|tensor| !is_used(&tensor.name));
        let name = unknown.map(|tensor| tensor.name.as_str()).unwrap_or_default();
        Err(Problem::new(format!("the model has a tensor '{name}', which is not exported")))
    }
}

/// What the wave lengths of positions are divided by, one by one (Llama 3).
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

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

fn rope_factor(header: &Header) -> Result<f32, Problem> {
    let kind = header.get_own("rope.scaling.type").and_then(Value::as_text).unwrap_or("none");
    let factor = number(header, "rope.scaling.factor").or(number(header, "rope.scale_linear"));
    match (kind, factor) {
        ("none", None) => Ok(1.0),
        ("linear" | "none", Some(factor)) if factor > 0.0 => Ok(factor),
        _ => Err(Problem::new(format!(
            "the model scales positions by '{kind}', which is not exported"
        ))),
    }
}
