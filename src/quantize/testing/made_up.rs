//! Small models of several architectures with random weights, for tests of what their graphs say.

use crate::engine::llama::gguf_file::{GgufOutput, Metadata, MetadataValue, TensorPlan};
use crate::model::gguf::GgmlType;
use std::path::Path;

pub(crate) const WIDTH: u64 = 64;
pub(crate) const HEADS: u64 = 4;
pub(crate) const VALUE_HEADS: u64 = 2;
pub(crate) const HEAD: u64 = 16;
pub(crate) const FEED_FORWARD: u64 = 96;
pub(crate) const EXPERTS: u64 = 3;
pub(crate) const LAYERS: u64 = 2;
pub(crate) const VOCABULARY: u64 = 40;

/// What a layer has besides norms, queries, keys, values and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// llama.cpp's name.
    pub name: &'static str,
    /// Tensors of a layer, without `blk.N.`.
    layer: &'static [(&'static str, &'static [u64])],
    /// Tensors of the model.
    whole: &'static [(&'static str, &'static [u64])],
}

const QUERIES: u64 = HEADS * HEAD;
const VALUES: u64 = VALUE_HEADS * HEAD;

const NORM: (&str, &[u64]) = ("attn_norm.weight", &[WIDTH]);
const NORM_BIAS: (&str, &[u64]) = ("attn_norm.bias", &[WIDTH]);
const Q: (&str, &[u64]) = ("attn_q.weight", &[WIDTH, QUERIES]);
const K: (&str, &[u64]) = ("attn_k.weight", &[WIDTH, VALUES]);
const V: (&str, &[u64]) = ("attn_v.weight", &[WIDTH, VALUES]);
const O: (&str, &[u64]) = ("attn_output.weight", &[QUERIES, WIDTH]);
const Q_BIAS: (&str, &[u64]) = ("attn_q.bias", &[QUERIES]);
const K_BIAS: (&str, &[u64]) = ("attn_k.bias", &[VALUES]);
const V_BIAS: (&str, &[u64]) = ("attn_v.bias", &[VALUES]);
const Q_NORM: (&str, &[u64]) = ("attn_q_norm.weight", &[HEAD]);
const K_NORM: (&str, &[u64]) = ("attn_k_norm.weight", &[HEAD]);
const QKV: (&str, &[u64]) = ("attn_qkv.weight", &[WIDTH, QUERIES + 2 * VALUES]);
const QKV_BIAS: (&str, &[u64]) = ("attn_qkv.bias", &[QUERIES + 2 * VALUES]);
const O_BIAS: (&str, &[u64]) = ("attn_output.bias", &[WIDTH]);
const FEED_NORM: (&str, &[u64]) = ("ffn_norm.weight", &[WIDTH]);
const GATE: (&str, &[u64]) = ("ffn_gate.weight", &[WIDTH, FEED_FORWARD]);
const UP: (&str, &[u64]) = ("ffn_up.weight", &[WIDTH, FEED_FORWARD]);
const UP_BIAS: (&str, &[u64]) = ("ffn_up.bias", &[FEED_FORWARD]);
const GATE_UP: (&str, &[u64]) = ("ffn_up.weight", &[WIDTH, 2 * FEED_FORWARD]);
const DOWN: (&str, &[u64]) = ("ffn_down.weight", &[FEED_FORWARD, WIDTH]);
const DOWN_BIAS: (&str, &[u64]) = ("ffn_down.bias", &[WIDTH]);
const AFTER_ATTENTION: (&str, &[u64]) = ("post_attention_norm.weight", &[WIDTH]);
const AFTER_FEED: (&str, &[u64]) = ("post_ffw_norm.weight", &[WIDTH]);
const ROUTER: (&str, &[u64]) = ("ffn_gate_inp.weight", &[WIDTH, EXPERTS]);
const GATE_EXPERTS: (&str, &[u64]) = ("ffn_gate_exps.weight", &[WIDTH, FEED_FORWARD, EXPERTS]);
const UP_EXPERTS: (&str, &[u64]) = ("ffn_up_exps.weight", &[WIDTH, FEED_FORWARD, EXPERTS]);
const DOWN_EXPERTS: (&str, &[u64]) = ("ffn_down_exps.weight", &[FEED_FORWARD, WIDTH, EXPERTS]);
const SHARED_ROUTER: (&str, &[u64]) = ("ffn_gate_inp_shexp.weight", &[WIDTH]);
const SHARED_GATE: (&str, &[u64]) = ("ffn_gate_shexp.weight", &[WIDTH, FEED_FORWARD]);
const SHARED_UP: (&str, &[u64]) = ("ffn_up_shexp.weight", &[WIDTH, FEED_FORWARD]);
const SHARED_DOWN: (&str, &[u64]) = ("ffn_down_shexp.weight", &[FEED_FORWARD, WIDTH]);

const EMBEDDING: (&str, &[u64]) = ("token_embd.weight", &[WIDTH, VOCABULARY]);
const LAST_NORM: (&str, &[u64]) = ("output_norm.weight", &[WIDTH]);
const OUTPUT: (&str, &[u64]) = ("output.weight", &[WIDTH, VOCABULARY]);
const TIED: &[(&str, &[u64])] = &[EMBEDDING, LAST_NORM];
const UNTIED: &[(&str, &[u64])] = &[EMBEDDING, LAST_NORM, OUTPUT];

pub(crate) const ARCHITECTURES: [Architecture; 9] = [
    Architecture {
        name: "llama",
        layer: &[NORM, Q, K, V, O, FEED_NORM, GATE, UP, DOWN],
        whole: TIED,
    },
    Architecture {
        name: "qwen2",
        layer: &[NORM, Q, K, V, Q_BIAS, K_BIAS, V_BIAS, O, FEED_NORM, GATE, UP, DOWN],
        whole: UNTIED,
    },
    Architecture {
        name: "qwen3",
        layer: &[NORM, Q, K, V, Q_NORM, K_NORM, O, FEED_NORM, GATE, UP, DOWN],
        whole: UNTIED,
    },
    Architecture {
        name: "gemma2",
        layer: &[NORM, Q, K, V, O, AFTER_ATTENTION, FEED_NORM, GATE, UP, DOWN, AFTER_FEED],
        whole: TIED,
    },
    Architecture {
        name: "gemma3",
        layer: &[
            NORM,
            Q,
            K,
            V,
            Q_NORM,
            K_NORM,
            O,
            AFTER_ATTENTION,
            FEED_NORM,
            GATE,
            UP,
            DOWN,
            AFTER_FEED,
        ],
        whole: TIED,
    },
    Architecture {
        name: "phi2",
        layer: &[NORM, NORM_BIAS, QKV, QKV_BIAS, O, O_BIAS, UP, UP_BIAS, DOWN, DOWN_BIAS],
        whole: &[
            EMBEDDING,
            LAST_NORM,
            ("output_norm.bias", &[WIDTH]),
            OUTPUT,
            ("output.bias", &[VOCABULARY]),
        ],
    },
    Architecture { name: "phi3", layer: &[NORM, QKV, O, FEED_NORM, GATE_UP, DOWN], whole: UNTIED },
    Architecture {
        name: "qwen2moe",
        layer: &[
            NORM,
            Q,
            K,
            V,
            Q_BIAS,
            K_BIAS,
            V_BIAS,
            O,
            FEED_NORM,
            ROUTER,
            GATE_EXPERTS,
            UP_EXPERTS,
            DOWN_EXPERTS,
            SHARED_ROUTER,
            SHARED_GATE,
            SHARED_UP,
            SHARED_DOWN,
        ],
        whole: UNTIED,
    },
    Architecture {
        name: "qwen3moe",
        layer: &[
            NORM,
            Q,
            K,
            V,
            Q_NORM,
            K_NORM,
            O,
            FEED_NORM,
            ROUTER,
            GATE_EXPERTS,
            UP_EXPERTS,
            DOWN_EXPERTS,
        ],
        whole: UNTIED,
    },
];

/// Writes a model of an architecture in F32.
pub(crate) fn write(architecture: Architecture, path: &Path) {
    let tensors: Vec<TensorPlan> = architecture
        .whole
        .iter()
        .map(|&(name, dimensions)| plan(name.to_owned(), dimensions))
        .chain((0..LAYERS).flat_map(|layer| {
            architecture
                .layer
                .iter()
                .map(move |&(name, dimensions)| plan(format!("blk.{layer}.{name}"), dimensions))
        }))
        .collect();
    let mut random = fastrand::Rng::with_seed(11);
    let mut output = GgufOutput::create(path, &keys(architecture.name), &tensors).unwrap();
    for tensor in &tensors {
        let count = tensor.dimensions.iter().product::<u64>();
        // Norms near 1, everything else so large that every part of the model matters.
        let (middle, width) = match tensor.dimensions.len() {
            1 if tensor.name.ends_with("norm.weight") => (1.0, 0.5),
            1 => (0.0, 1.0),
            _ => (0.0, 0.3),
        };
        let values = (0..count).map(|_| middle + width * (2.0 * random.f32() - 1.0));
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        output.write_tensor(&tensor.name, &bytes).unwrap();
    }
    output.finish().unwrap();
}

fn plan(name: String, dimensions: &[u64]) -> TensorPlan {
    let format = GgmlType::from_name("F32").unwrap();
    TensorPlan { name, dimensions: dimensions.to_vec(), format }
}

fn keys(architecture: &str) -> Metadata {
    let mut keys = Metadata::new();
    let mut set = |key: &str, value| keys.set(key, value).unwrap();
    set("general.architecture", MetadataValue::Text(architecture));
    set("general.file_type", MetadataValue::U32(0));
    set("tokenizer.ggml.model", MetadataValue::Text("no_vocab"));
    let numbers = [
        ("vocab_size", VOCABULARY),
        ("context_length", 128),
        ("embedding_length", WIDTH),
        ("block_count", LAYERS),
        ("feed_forward_length", FEED_FORWARD),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", VALUE_HEADS),
        ("attention.key_length", HEAD),
        ("attention.value_length", HEAD),
        ("attention.sliding_window", 64),
        ("rope.dimension_count", HEAD),
        ("rope.scaling.original_context_length", 128),
    ];
    for (key, number) in numbers {
        set(&format!("{architecture}.{key}"), MetadataValue::U32(u32::try_from(number).unwrap()));
    }
    if architecture.ends_with("moe") {
        let experts = [
            ("expert_count", EXPERTS),
            ("expert_used_count", 2),
            ("expert_feed_forward_length", FEED_FORWARD),
            ("expert_shared_feed_forward_length", FEED_FORWARD),
        ];
        for (key, number) in experts {
            let number = MetadataValue::U32(u32::try_from(number).unwrap());
            set(&format!("{architecture}.{key}"), number);
        }
    }
    for key in ["layer_norm_rms_epsilon", "layer_norm_epsilon"] {
        set(&format!("{architecture}.attention.{key}"), MetadataValue::F32(1e-5));
    }
    keys
}
