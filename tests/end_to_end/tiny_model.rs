//! Models small enough to be made by a test, with 288 tokens and random weights, under 600 kB: one layer in
//! the Llama architecture in F32 or F16; two layers in Gemma's, one of which attends to a sliding window;
//! one in GPT-2's, which has learnt its positions. Also the bytes that hostile files are made from.

use std::fs;
use std::path::Path;

const EMBEDDING: u64 = 64;
const FEED_FORWARD: u64 = 128;
const TOKENS: usize = 288;

/// Number format of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weights {
    F32,
    F16,
}

/// Writes the model to a file.
pub(crate) fn write(path: &Path, weights: Weights) {
    fs::write(path, bytes(weights)).unwrap();
}

/// Writes the model with a chat template.
pub(crate) fn write_with_template(path: &Path, template: &str) {
    fs::write(path, bytes_with(Weights::F16, 512, Some(template))).unwrap();
}

/// The model as the bytes of a GGUF.
pub(crate) fn bytes(weights: Weights) -> Vec<u8> {
    bytes_with(weights, 512, None)
}

/// The same, as if it had been trained with a context of so many tokens.
pub(crate) fn bytes_with_context(weights: Weights, context: u32) -> Vec<u8> {
    bytes_with(weights, context, None)
}

fn bytes_with(weights: Weights, context: u32, template: Option<&str>) -> Vec<u8> {
    let mut metadata = metadata("llama", context, 1);
    metadata.number("general.file_type", u32::from(weights == Weights::F16));
    if let Some(template) = template {
        metadata.text("tokenizer.chat_template", template);
    }
    file(&metadata, &tensors(), weights)
}

/// Tokens that the first layer of [`write_with_window`] attends to; the second attends to all.
pub(crate) const WINDOW: u32 = 64;

/// Writes a model with layers that attend to a sliding window, in F32.
pub(crate) fn write_with_window(path: &Path) {
    let mut metadata = metadata("gemma2", 2048, 2);
    metadata.number("general.file_type", 0);
    metadata.number("gemma2.attention.key_length", 32);
    metadata.number("gemma2.attention.value_length", 32);
    metadata.number("gemma2.attention.sliding_window", WINDOW);
    let square: &[u64] = &[EMBEDDING, EMBEDDING];
    let layer: [(&str, &[u64]); 11] = [
        ("attn_norm.weight", &[EMBEDDING]),
        ("attn_q.weight", square),
        ("attn_k.weight", square),
        ("attn_v.weight", square),
        ("attn_output.weight", square),
        ("post_attention_norm.weight", &[EMBEDDING]),
        ("ffn_norm.weight", &[EMBEDDING]),
        ("ffn_gate.weight", &[EMBEDDING, FEED_FORWARD]),
        ("ffn_up.weight", &[EMBEDDING, FEED_FORWARD]),
        ("ffn_down.weight", &[FEED_FORWARD, EMBEDDING]),
        ("post_ffw_norm.weight", &[EMBEDDING]),
    ];
    let mut tensors = vec![
        tensor("token_embd.weight", &[EMBEDDING, TOKENS as u64]),
        tensor("output_norm.weight", &[EMBEDDING]),
    ];
    for nth in 0..2 {
        tensors.extend(layer.map(|(name, shape)| tensor(&format!("blk.{nth}.{name}"), shape)));
    }
    fs::write(path, file(&metadata, &tensors, Weights::F32)).unwrap();
}

/// Writes a model that has learnt the embeddings of `positions` positions, in F32.
pub(crate) fn write_with_positions(path: &Path, positions: u32) {
    let mut metadata = metadata("gpt2", positions, 1);
    metadata.number("general.file_type", 0);
    metadata.float("gpt2.attention.layer_norm_epsilon", 1e-5);
    let tensors: [(&str, &[u64]); 17] = [
        ("token_embd.weight", &[EMBEDDING, TOKENS as u64]),
        ("position_embd.weight", &[EMBEDDING, positions.into()]),
        ("output_norm.weight", &[EMBEDDING]),
        ("output_norm.bias", &[EMBEDDING]),
        ("output.weight", &[EMBEDDING, TOKENS as u64]),
        ("blk.0.attn_norm.weight", &[EMBEDDING]),
        ("blk.0.attn_norm.bias", &[EMBEDDING]),
        ("blk.0.attn_qkv.weight", &[EMBEDDING, 3 * EMBEDDING]),
        ("blk.0.attn_qkv.bias", &[3 * EMBEDDING]),
        ("blk.0.attn_output.weight", &[EMBEDDING, EMBEDDING]),
        ("blk.0.attn_output.bias", &[EMBEDDING]),
        ("blk.0.ffn_norm.weight", &[EMBEDDING]),
        ("blk.0.ffn_norm.bias", &[EMBEDDING]),
        ("blk.0.ffn_up.weight", &[EMBEDDING, FEED_FORWARD]),
        ("blk.0.ffn_up.bias", &[FEED_FORWARD]),
        ("blk.0.ffn_down.weight", &[FEED_FORWARD, EMBEDDING]),
        ("blk.0.ffn_down.bias", &[EMBEDDING]),
    ];
    let tensors = tensors.map(|(name, shape)| tensor(name, shape));
    fs::write(path, file(&metadata, &tensors, Weights::F32)).unwrap();
}

/// Writes an adapter of rank 2 for the attention of the model of [`write`], in F32.
pub(crate) fn write_adapter(path: &Path, architecture: &str) {
    let mut metadata = Metadata::default();
    metadata.text("general.type", "adapter");
    metadata.text("general.architecture", architecture);
    metadata.text("adapter.type", "lora");
    metadata.float("adapter.lora.alpha", 40.0);
    let tensors = ["attn_q", "attn_v", "attn_output"].into_iter().flat_map(|name| {
        let name = format!("blk.0.{name}.weight");
        [
            tensor(&format!("{name}.lora_a"), &[EMBEDDING, 2]),
            tensor(&format!("{name}.lora_b"), &[2, EMBEDDING]),
        ]
    });
    fs::write(path, file(&metadata, &tensors.collect::<Vec<_>>(), Weights::F32)).unwrap();
}

/// What all have in common.
fn metadata(architecture: &str, context: u32, layers: u32) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.text("general.architecture", architecture);
    metadata.text("general.name", "tiny");
    let mut number = |key: &str, value| metadata.number(&format!("{architecture}.{key}"), value);
    number("context_length", context);
    number("embedding_length", 64);
    number("block_count", layers);
    number("feed_forward_length", 128);
    number("attention.head_count", 2);
    number("attention.head_count_kv", 2);
    number("rope.dimension_count", 32);
    metadata.float(&format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5);
    metadata.text("tokenizer.ggml.model", "llama");
    let (tokens, types) = vocabulary();
    metadata.texts("tokenizer.ggml.tokens", &tokens);
    metadata.floats("tokenizer.ggml.scores", &vec![0.0; TOKENS]);
    metadata.integers("tokenizer.ggml.token_type", &types);
    metadata.number("tokenizer.ggml.bos_token_id", 1);
    metadata.number("tokenizer.ggml.eos_token_id", 2);
    metadata
}

/// The unknown token, two control tokens, every byte, and letters.
fn vocabulary() -> (Vec<String>, Vec<i32>) {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    let mut types = vec![2, 3, 3];
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    types.extend([6; 256]);
    let letters = (b'a'..).map(|letter| char::from(letter).to_string());
    tokens.extend(letters.take(26));
    tokens.extend(["\u{2581}", ".", ","].map(str::to_owned));
    types.resize(TOKENS, 1);
    (tokens, types)
}

struct Tensor {
    name: String,
    shape: Vec<u64>,
}

fn tensors() -> Vec<Tensor> {
    let square = [EMBEDDING, EMBEDDING];
    let shapes: [(&str, &[u64]); 11] = [
        ("token_embd", &[EMBEDDING, TOKENS as u64]),
        ("output_norm", &[EMBEDDING]),
        ("blk.0.attn_norm", &[EMBEDDING]),
        ("blk.0.attn_q", &square),
        ("blk.0.attn_k", &square),
        ("blk.0.attn_v", &square),
        ("blk.0.attn_output", &square),
        ("blk.0.ffn_norm", &[EMBEDDING]),
        ("blk.0.ffn_gate", &[EMBEDDING, FEED_FORWARD]),
        ("blk.0.ffn_up", &[EMBEDDING, FEED_FORWARD]),
        ("blk.0.ffn_down", &[FEED_FORWARD, EMBEDDING]),
    ];
    shapes.into_iter().map(|(name, shape)| tensor(&format!("{name}.weight"), shape)).collect()
}

fn tensor(name: &str, shape: &[u64]) -> Tensor {
    Tensor { name: name.to_owned(), shape: shape.to_vec() }
}

fn file(metadata: &Metadata, tensors: &[Tensor], weights: Weights) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend(metadata.count.to_le_bytes());
    bytes.extend(&metadata.bytes);
    let mut data = Vec::new();
    let mut random = Random(1);
    for tensor in tensors {
        // Norms stay in F32, as llama.cpp's own converter leaves them.
        let half = weights == Weights::F16 && tensor.shape.len() > 1;
        put_text(&mut bytes, &tensor.name);
        bytes.extend(u32::try_from(tensor.shape.len()).unwrap().to_le_bytes());
        for size in &tensor.shape {
            bytes.extend(size.to_le_bytes());
        }
        bytes.extend(u32::from(half).to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        for _ in 0..tensor.shape.iter().product::<u64>() {
            let value = if tensor.shape.len() > 1 { random.next() * 0.2 } else { 1.0 };
            if half {
                data.extend(half_bits(value).to_le_bytes());
            } else {
                data.extend(value.to_le_bytes());
            }
        }
        data.resize(data.len().next_multiple_of(32), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    bytes
}

/// F16 of a value below 1 in size, cut off.
fn half_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff).saturating_sub(112);
    if exponent == 0 {
        return 0;
    }
    u16::try_from(bits >> 16 & 0x8000 | exponent << 10 | bits >> 13 & 0x3ff).unwrap()
}

#[derive(Default)]
struct Metadata {
    count: u64,
    bytes: Vec<u8>,
}

impl Metadata {
    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        put_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.bytes.extend(value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        put_text(&mut self.bytes, value);
    }

    fn array(&mut self, key: &str, kind: u32, length: usize) {
        self.key(key, 9);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((length as u64).to_le_bytes());
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        self.array(key, 8, values.len());
        for value in values {
            put_text(&mut self.bytes, value);
        }
    }

    fn floats(&mut self, key: &str, values: &[f32]) {
        self.array(key, 6, values.len());
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn integers(&mut self, key: &str, values: &[i32]) {
        self.array(key, 5, values.len());
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Numbers that are the same on every machine (Knuth's MMIX generator).
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.bits()).unwrap() % limit
    }

    /// From -0.5 to 0.5.
    fn next(&mut self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "any number will do")]
        let fraction = self.bits() as f32 / (1_u64 << 31) as f32;
        fraction - 0.5
    }
}
