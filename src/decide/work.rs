//! What a model computes for a token, by its header: what its speed is predicted from.

use crate::model::architecture::ArchitectureClass;
use crate::model::gguf::{Header, Tensor, Value};
use crate::units::to_f64;
use std::collections::BTreeMap;

/// Families of which only every so many layers attend to the whole context, the others to a window.
///
/// Source: llama.cpp, `set_swa_pattern` in src/models/*.cpp.
const WINDOWED: [(&str, u64); 5] =
    [("gemma2", 2), ("gemma3", 6), ("gpt-oss", 2), ("cohere2", 4), ("gemma3n", 5)];

/// Parts of names of tensors that another kind of layer than attention has: recurrent and convolutional ones.
const OTHER_LAYERS: [&str; 4] = ["ssm_", "time_mix", "shortconv", "lerp"];

/// Numbers of a layer's width that pass between its matrices: norms, sums, rotations, what is turned into blocks for
/// the matrices. Fitted with what a number takes (`ComputeRates::element_seconds`), so that only ratios count.
const PASSES: f64 = 8.0;

/// The same of the width of its feed-forward part, for each of its two sides.
const FEED_FORWARD_PASSES: f64 = 2.0;

/// Numbers of a token's key in the KV cache, over all heads, up to which processors read the next token's ahead (a row of
/// 1 KiB in F16), and from which on they do not (2 KiB: a page has two).
const NEAR: f64 = 512.0;
const FAR: f64 = 1024.0;

/// What is computed for a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// The class of the model.
    pub class: ArchitectureClass,
    /// Layers.
    pub layers: f64,
    /// Bytes of weights that a generated token is computed with, by type.
    pub bytes: BTreeMap<&'static str, f64>,
    /// Floating point operations of every token of a prompt, by type.
    pub operations: BTreeMap<&'static str, f64>,
    /// Bytes of weights that only the last token of a prompt is computed with, by type.
    pub last_bytes: BTreeMap<&'static str, f64>,
    /// Numbers that flow between matrices, for a token.
    pub elements: f64,
    /// Heads and what they attend to.
    attention: Vec<Attention>,
    /// How much of what is kept in the KV cache is read without being read ahead, from 0 to 1.
    scattered: f64,
    /// Whether it is a mixture of experts.
    pub has_experts: bool,
}

/// Layers that attend alike.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Attention {
    /// Numbers of a key and a value, halved, over all heads and layers.
    numbers: f64,
    /// The same over what heads share: as many as the KV cache has.
    kept: f64,
    /// Tokens that they attend to at most.
    window: Option<f64>,
}

impl Work {
    /// Of a file's header.
    ///
    /// # Errors
    /// What of it is not known; in words.
    pub fn of(header: &Header) -> Result<Self, String> {
        let class = header.architecture_class();
        if class == ArchitectureClass::EncoderDecoder {
            return Err("a model with encoder and decoder is not predicted".to_owned());
        }
        let is_other = |it: &Tensor| OTHER_LAYERS.iter().any(|part| it.name.contains(part));
        if header.tensors.iter().any(is_other) {
            return Err("layers other than attention are not predicted".to_owned());
        }
        let own = |key: &str| header.get_own(key).and_then(Value::as_count).map(to_f64);
        let missing = |key: &str| format!("the file does not say '{key}' as one number");
        let needed = |key: &str| own(key).ok_or_else(|| missing(key));
        let (layers, width) = (needed("block_count")?, needed("embedding_length")?);
        let heads = needed("attention.head_count")?;
        let used = header.experts().map_or(1.0, |it| f64::from(it.used) / f64::from(it.total));
        let mut work = Self {
            class,
            layers,
            bytes: BTreeMap::new(),
            operations: BTreeMap::new(),
            last_bytes: BTreeMap::new(),
            elements: PASSES * width * layers,
            attention: Vec::new(),
            scattered: 0.0,
            has_experts: header.experts().is_some(),
        };
        let last = format!("blk.{}.ffn_", layers - 1.0);
        let is_decoder = class == ArchitectureClass::DecoderOnly;
        // Of an encoder what is not in a layer is looked up.
        let counts = |it: &Tensor| is_decoder || it.name.starts_with("blk.");
        let counts = |it: &&Tensor| is_matrix(it) && header.is_computed(it) && counts(it);
        for tensor in header.tensors.iter().filter(counts) {
            let share = if tensor.is_of_experts() { used } else { 1.0 };
            let (name, bytes) = (tensor.format.name(), to_f64(tensor.bytes) * share);
            *work.bytes.entry(name).or_default() += bytes;
            // Logits, and the last layer behind its attention, are computed for the tokens alone whose logits are asked for.
            let is_last =
                is_decoder && (tensor.name.starts_with(&last) || !tensor.name.starts_with("blk."));
            if is_last {
                *work.last_bytes.entry(name).or_default() += bytes;
            } else {
                let weights = to_f64(tensor.weights) * share;
                *work.operations.entry(name).or_default() += 2.0 * weights;
                if tensor.name.contains(".ffn_up") || tensor.name.contains(".ffn_gate") {
                    let row = tensor.dimensions.first().copied().unwrap_or(1).max(1);
                    work.elements += FEED_FORWARD_PASSES * weights / to_f64(row);
                }
            }
        }
        let key = own("attention.key_length").unwrap_or(width / heads);
        let value = own("attention.value_length").unwrap_or(key);
        let numbers = f64::midpoint(key, value);
        // Latent attention keeps one for all heads.
        let latent = own("attention.kv_lora_rank").map(|_| 1.0);
        let kept = latent.or_else(|| own("attention.head_count_kv")).unwrap_or(heads);
        work.attend(header, numbers * heads, numbers * kept);
        work.scattered = ((numbers * kept - NEAR) / (FAR - NEAR)).clamp(0.0, 1.0);
        Ok(work)
    }

    /// The same without the weights that every token is computed with.
    pub(super) fn without_weights(&self) -> Self {
        Self { bytes: BTreeMap::new(), operations: BTreeMap::new(), ..self.clone() }
    }

    fn attend(&mut self, header: &Header, numbers: f64, kept: f64) {
        let family = header.architecture();
        let pattern = WINDOWED.iter().find(|(name, _)| *name == family).map(|it| to_f64(it.1));
        let window = header.get_own("attention.sliding_window").and_then(Value::as_count);
        let window = window.filter(|&window| window > 0).map(to_f64);
        let whole = match (pattern, window) {
            (Some(pattern), Some(_)) => (self.layers / pattern).floor(),
            _ => self.layers,
        };
        let of = |layers: f64, window| Attention {
            numbers: numbers * layers,
            kept: kept * layers,
            window,
        };
        self.attention.push(of(whole, None));
        if whole < self.layers {
            self.attention.push(of(self.layers - whole, window));
        }
    }

    /// Numbers of keys that the heads of a token attend to behind so many others.
    pub fn attended(&self, tokens: f64) -> f64 {
        self.attention.iter().map(|it| it.numbers * it.tokens(tokens)).sum()
    }

    /// Numbers of keys that are read from memory for it without being read ahead.
    pub fn scattered(&self, tokens: f64) -> f64 {
        let kept = self.attention.iter().map(|it| it.kept * it.tokens(tokens));
        kept.sum::<f64>() * self.scattered
    }
}

impl Attention {
    /// How many of the tokens before it one attends to.
    fn tokens(self, before: f64) -> f64 {
        self.window.map_or(before, |most| before.min(most))
    }
}

/// A weight that tokens are multiplied with: what has one dimension is added or scaled with.
fn is_matrix(tensor: &Tensor) -> bool {
    tensor.name.ends_with("weight") && tensor.dimensions.iter().skip(1).any(|&rows| rows > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn of(name: &str) -> (Header, Result<Work, String>) {
        let file = format!("demo/model/quantbench-demo-{name}F16.gguf");
        let header = Header::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let work = Work::of(&header);
        (header, work)
    }

    #[test]
    fn every_byte_that_a_token_reads_is_of_a_matrix_or_next_to_nothing() {
        for name in ["", "experts-"] {
            let (header, work) = of(name);
            let bytes: f64 = work.unwrap().bytes.values().sum();
            let all = to_f64(header.bytes_per_token());
            assert!(bytes <= all && bytes > 0.98 * all, "{name}: {bytes} of {all}");
        }
    }

    #[test]
    fn a_prompt_computes_the_last_feed_forward_part_and_the_output_once() {
        let (header, work) = of("");
        let work = work.unwrap();
        let last = format!("blk.{}.ffn_", header.layers().unwrap() - 1);
        let once: u64 = header
            .tensors
            .iter()
            .filter(|it| it.name.starts_with(&last) && it.dimensions.len() > 1)
            .map(|it| it.bytes)
            .sum();
        let output = header.tensors.iter().find(|it| it.name == "output.weight");
        let output =
            output.or_else(|| header.tensors.iter().find(|it| it.name == "token_embd.weight"));
        let expected = to_f64(once + output.unwrap().bytes);
        assert!((work.last_bytes.values().sum::<f64>() - expected).abs() < 1.0);
    }

    #[test]
    fn attention_grows_with_what_was_read_up_to_a_window() {
        let (_, work) = of("");
        let mut work = work.unwrap();
        assert!((work.attended(200.0) / work.attended(100.0) - 2.0).abs() < 1e-9);
        work.attention[0].window = Some(150.0);
        assert!((work.attended(200.0) / work.attended(100.0) - 1.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_predicted_says_so() {
        assert!(of("translate-").1.unwrap_err().contains("encoder and decoder"));
    }
}
