//! Classes of architecture: decoder, encoder, or both.
//!
//! Told from a GGUF's metadata alone, so that it is known before llama.cpp loads anything; what
//! llama.cpp itself says of a loaded model (`llama::model`) is the same for every family it knows.

use super::gguf::{Header, Tensor, Value};
use serde::{Deserialize, Serialize};

/// Which parts of a transformer a model has.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "kebab-case")]
pub enum ArchitectureClass {
    /// Predicts the next token from those before it (GPT, Llama).
    #[default]
    DecoderOnly,
    /// Turns a whole text into vectors (BERT); generates nothing.
    EncoderOnly,
    /// Encodes a whole text, then generates another one from it (T5).
    EncoderDecoder,
}

/// Families for which llama.cpp keeps no cache of earlier tokens and that are made to embed.
///
/// Source: llama.cpp, `llama_model::create_memory` in src/llama-model.cpp; `t5encoder` is the encoder
/// of a T5 alone.
const ENCODERS: [&str; 10] = [
    "bert",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "t5encoder",
];

impl ArchitectureClass {
    /// The class of a family, `general.architecture`.
    pub fn of_family(family: &str) -> Self {
        match family {
            "t5" => Self::EncoderDecoder,
            family if ENCODERS.contains(&family) => Self::EncoderOnly,
            _ => Self::DecoderOnly,
        }
    }

    /// Whether a model of the class writes text.
    pub fn generates(self) -> bool {
        self != Self::EncoderOnly
    }
}

/// The experts of a mixture: feed-forward parts of a layer, of which a router chooses some for every
/// token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experts {
    /// Experts in a layer.
    pub total: u32,
    /// Experts that compute a token.
    pub used: u32,
}

/// What stands in the names of tensors that hold the weights of all experts of a layer.
///
/// Source: llama.cpp, src/llama-arch.cpp (`ffn_gate_exps`, `ffn_up_exps`, `ffn_down_exps`,
/// `ffn_gate_up_exps`); `_shexp`, experts that compute every token, is another name.
const EXPERT_TENSORS: &str = "_exps.";

impl Header {
    /// The class of the model's family.
    pub fn architecture_class(&self) -> ArchitectureClass {
        ArchitectureClass::of_family(self.architecture())
    }

    /// The experts of a mixture of experts; `None` if the model is none.
    pub fn experts(&self) -> Option<Experts> {
        let count = |key| u32::try_from(self.get_own(key).and_then(Value::as_count)?).ok();
        let experts = Experts { total: count("expert_count")?, used: count("expert_used_count")? };
        (experts.total > 1 && (1..=experts.total).contains(&experts.used)).then_some(experts)
    }

    /// Bytes of weights that are read for every token that a decoder generates: all tensors, but of the experts only those
    /// that the router chooses, and of embeddings that are looked up only a row, which is left out.
    pub fn bytes_per_token(&self) -> u64 {
        let read =
            self.tensors.iter().filter(|tensor| self.is_computed(tensor)).map(|tensor| match self
                .experts()
            {
                Some(Experts { total, used }) if tensor.is_of_experts() => {
                    tensor.bytes / u64::from(total) * u64::from(used)
                }
                _ => tensor.bytes,
            });
        read.fold(0, u64::saturating_add)
    }

    /// Whether tokens are computed with a tensor: embeddings are looked up, unless the output has no matrix of its own.
    pub fn is_computed(&self, tensor: &Tensor) -> bool {
        match tensor.name.as_str() {
            "token_embd.weight" => !self.tensors.iter().any(|it| it.name == "output.weight"),
            "per_layer_token_embd.weight" | "position_embd.weight" | "token_types.weight" => false,
            _ => true,
        }
    }

    /// Weights that compute a token: all of them but those of the experts that the router leaves
    /// out. Embeddings count whole, as they do where model makers name the figure.
    pub fn active_parameters(&self) -> u64 {
        let Some(experts) = self.experts() else { return self.parameters() };
        let idle = u64::from(experts.total - experts.used);
        let left_out = self
            .tensors
            .iter()
            .filter(|tensor| tensor.is_of_experts())
            // Each tensor holds the same number of weights for every expert.
            .map(|tensor| tensor.weights / u64::from(experts.total) * idle)
            .fold(0, u64::saturating_add);
        self.parameters().saturating_sub(left_out)
    }
}

impl Tensor {
    /// Whether it holds the weights of a layer's experts.
    pub fn is_of_experts(&self) -> bool {
        self.name.contains(EXPERT_TENSORS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn demo(name: &str) -> Header {
        let file = format!("demo/model/quantbench-demo-{name}F16.gguf");
        Header::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    }

    /// Bytes of the token embeddings, if the output has a matrix of its own.
    fn looked_up(header: &Header) -> u64 {
        let bytes = |name: &str| {
            header.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.bytes)
        };
        bytes("output.weight").and_then(|_| bytes("token_embd.weight")).unwrap_or(0)
    }

    #[test]
    fn a_file_says_of_which_class_its_model_is() {
        assert_eq!(demo("").architecture_class(), ArchitectureClass::DecoderOnly);
        assert_eq!(demo("embed-").architecture_class(), ArchitectureClass::EncoderOnly);
        assert_eq!(demo("translate-").architecture_class(), ArchitectureClass::EncoderDecoder);
        assert_eq!(demo("experts-").architecture_class(), ArchitectureClass::DecoderOnly);
    }

    #[test]
    fn the_experts_that_a_token_does_not_use_are_not_active() {
        let header = demo("experts-");
        assert_eq!(header.experts(), Some(Experts { total: 4, used: 2 }));
        assert_eq!(header.parameters(), 2_133_248);
        // Two layers with three matrices of 256 × 256 for each of the two experts left out.
        assert_eq!(header.active_parameters(), 2_133_248 - 2 * 3 * 2 * 256 * 256);
        let left_out = 2 * 3 * 2 * 256 * 256 * 2;
        assert_eq!(header.bytes_per_token(), header.tensor_bytes() - left_out - looked_up(&header));
        let dense = demo("");
        assert_eq!(dense.bytes_per_token(), dense.tensor_bytes() - looked_up(&dense));
        assert_eq!(dense.experts(), None);
        assert_eq!(dense.active_parameters(), dense.parameters());
    }
}
