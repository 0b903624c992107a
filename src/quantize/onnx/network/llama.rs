//! Decoders of the architecture llama.

use super::{Expected, check, count, layers, number, rows};
use crate::causes::Problem;
use crate::model::gguf::{Header, Value};

/// A decoder of the llama architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama {
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

impl Llama {
    /// Reads it from a header.
    ///
    /// # Errors
    /// It has something that is not exported, by name.
    pub(super) fn of(header: &Header) -> Result<Self, Problem> {
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
            layers: layers(header)?,
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
    fn tensors(&self) -> Expected {
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

    fn check(&self, header: &Header) -> Result<(), Problem> {
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
        check(header, &self.tensors(), |name| name == ROPE_FACTORS)
    }
}

/// What the wave lengths of positions are divided by, one by one (Llama 3).
pub(in super::super) const ROPE_FACTORS: &str = "rope_freqs.weight";

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
