//! Encoders of the architecture bert.

use super::{Expected, check, count, layers, number, rows};
use crate::causes::Problem;
use crate::model::gguf::{Header, Value};

/// What classifies with it, which a graph of vectors does without.
const CLASSIFIER: &str = "cls.";

/// How the vectors of tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first of them.
    First,
}

/// An encoder of the architecture bert.
#[derive(Debug, Clone, PartialEq)]
pub struct Bert {
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
    /// Tokens that it has positions for.
    pub context: usize,
    /// Added to the variance of norms.
    pub epsilon: f32,
    /// Kinds of segments that a text may have; 0: it does not know any.
    pub segments: usize,
    /// `None`: it does not say.
    pub pooling: Option<Pooling>,
    /// It has weights that classify, which are not exported.
    pub classifies: bool,
}

impl Bert {
    /// Reads it from a header.
    ///
    /// # Errors
    /// It has something that is not exported, by name.
    pub(super) fn of(header: &Header) -> Result<Self, Problem> {
        let pooling = match header.get_own("pooling_type").and_then(Value::as_count) {
            None | Some(0) => None,
            Some(1) => Some(Pooling::Mean),
            Some(2) => Some(Pooling::First),
            Some(other) => {
                return Err(Problem::new(format!(
                    "the model pools by the number {other} of 'pooling_type'; what is exported is 1 (mean) and 2 (first token)"
                )));
            }
        };
        let network = Self {
            vocabulary: rows(header, "token_embd.weight").unwrap_or(0),
            width: count(header, "embedding_length")?,
            layers: layers(header)?,
            feed_forward: count(header, "feed_forward_length")?,
            heads: count(header, "attention.head_count")?,
            context: count(header, "context_length")?,
            epsilon: number(header, "attention.layer_norm_epsilon").unwrap_or(1e-12),
            segments: rows(header, "token_types.weight").unwrap_or(0),
            pooling,
            classifies: header.tensors.iter().any(|it| it.name.starts_with(CLASSIFIER)),
        };
        if matches!(header.get_own("attention.causal"), Some(Value::Bool(true))) {
            return Err(Problem::new(
                "the model's tokens see those before them alone ('attention.causal'), which is not exported",
            ));
        }
        if !network.width.is_multiple_of(network.heads) {
            let (width, heads) = (network.width, network.heads);
            return Err(Problem::new(format!(
                "the model has {heads} heads and a width of {width}, which cannot be"
            )));
        }
        check(header, &network.tensors(), |name| name.starts_with(CLASSIFIER))?;
        Ok(network)
    }

    /// The tensors that it consists of.
    fn tensors(&self) -> Expected {
        let Self { vocabulary, width, feed_forward, context, segments, .. } = *self;
        let mut tensors = vec![
            ("token_embd.weight".to_owned(), vec![width, vocabulary]),
            ("position_embd.weight".to_owned(), vec![width, context]),
        ];
        if segments > 0 {
            tensors.push(("token_types.weight".to_owned(), vec![width, segments]));
        }
        let mut pair = |name: &str, dimensions: Vec<usize>| {
            let rows = dimensions.last().copied().unwrap_or(0);
            tensors.push((format!("{name}.weight"), dimensions));
            tensors.push((format!("{name}.bias"), vec![rows]));
        };
        pair("token_embd_norm", vec![width]);
        for layer in 0..self.layers {
            for (name, dimensions) in [
                ("attn_q", vec![width, width]),
                ("attn_k", vec![width, width]),
                ("attn_v", vec![width, width]),
                ("attn_output", vec![width, width]),
                ("attn_output_norm", vec![width]),
                ("ffn_up", vec![width, feed_forward]),
                ("ffn_down", vec![feed_forward, width]),
                ("layer_output_norm", vec![width]),
            ] {
                pair(&format!("blk.{layer}.{name}"), dimensions);
            }
        }
        tensors
    }
}
