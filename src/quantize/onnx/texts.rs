//! The files beside the graphs: what the model is, its tokenizer, how it is talked to.

use super::network::{Bert, Llama, Network, Pooling};
use super::tokenizer::{Tokenizer, special, tokenizer};
use super::word_pieces;
use crate::causes::Problem;
use crate::model::gguf::{Header, Tokens};
use serde_json::{Map, Value as Json, json};

/// Files by their names.
///
/// # Errors
/// The tokenizer is none that is exported.
pub fn texts(
    header: &Header,
    network: &Network,
    tokens: &Tokens,
) -> Result<Vec<(&'static str, String)>, Problem> {
    if tokens.texts.len() != network.vocabulary() {
        return Err(Problem::new(format!(
            "the vocabulary has {} tokens and the embedding {} rows",
            tokens.texts.len(),
            network.vocabulary()
        )));
    }
    let tokenizer = tokenizer(header, tokens)?;
    let text = |json: &Json| {
        let written = serde_json::to_string_pretty(json);
        written.map_err(|error| Problem::because("the tokenizer cannot be written", error))
    };
    let of_tokenizer = of_tokenizer(header, network, tokens, &tokenizer);
    let mut files = match network {
        Network::Llama(network) => vec![
            ("config.json", of_decoder(header, network, tokens)),
            ("generation_config.json", generation(header, tokens)),
        ],
        Network::Bert(network) => vec![("config.json", of_encoder(header, network, tokens))],
    };
    if let Network::Bert(network @ Bert { pooling: Some(pooling), .. }) = network {
        files.extend([
            ("modules.json", modules()),
            (POOLING, of_pooling(network, *pooling)),
            ("sentence_bert_config.json", json!({"max_seq_length": network.context})),
        ]);
    }
    files.extend([("tokenizer.json", tokenizer.json), ("tokenizer_config.json", of_tokenizer)]);
    files.into_iter().map(|(name, json)| Ok((name, text(&json)? + "\n"))).collect()
}

/// The file that says how an encoder pools, and its folder.
const POOLING: &str = "1_Pooling/config.json";
const POOLING_FOLDER: &str = "1_Pooling";

/// `modules.json` of sentence-transformers: the network, then pooling.
fn modules() -> Json {
    let module = |at: usize, path: &str, kind: &str| {
        let kind = format!("sentence_transformers.models.{kind}");
        json!({"idx": at, "name": at.to_string(), "path": path, "type": kind})
    };
    json!([module(0, "", "Transformer"), module(1, POOLING_FOLDER, "Pooling")])
}

fn of_pooling(network: &Bert, pooling: Pooling) -> Json {
    json!({
        "word_embedding_dimension": network.width,
        "pooling_mode_cls_token": pooling == Pooling::First,
        "pooling_mode_mean_tokens": pooling == Pooling::Mean,
        "pooling_mode_max_tokens": false,
        "pooling_mode_mean_sqrt_len_tokens": false,
    })
}

/// `config.json` of an encoder, with the names of transformers.
fn of_encoder(header: &Header, network: &Bert, tokens: &Tokens) -> Json {
    let filling = special(header, tokens, "padding").map(|(id, _)| id);
    json!({
        "architectures": ["BertModel"],
        "model_type": "bert",
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": network.width,
        "initializer_range": 0.02,
        "intermediate_size": network.feed_forward,
        "layer_norm_eps": short(network.epsilon),
        "max_position_embeddings": network.context,
        "num_attention_heads": network.heads,
        "num_hidden_layers": network.layers,
        "pad_token_id": filling,
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "type_vocab_size": network.segments,
        "vocab_size": network.vocabulary,
    })
}

/// Numbers of the tokens for the beginning, the end and the filling of texts.
fn of_tokens(header: &Header, tokens: &Tokens) -> Map<String, Json> {
    let id = |purpose| special(header, tokens, purpose).map(|(id, _)| id);
    let mut map = Map::new();
    map.insert("bos_token_id".to_owned(), json!(id("bos")));
    let ends: Vec<u64> = [id("eos"), id("eot")].into_iter().flatten().collect();
    let end = match ends.as_slice() {
        [first, second] if first != second => json!([first, second]),
        _ => json!(ends.first()),
    };
    map.insert("eos_token_id".to_owned(), end);
    map.insert("pad_token_id".to_owned(), json!(id("padding")));
    map
}

/// `config.json` of a decoder, with the names of transformers.
fn of_decoder(header: &Header, network: &Llama, tokens: &Tokens) -> Json {
    let mut map = of_tokens(header, tokens);
    let scaling = match network.rope_factor {
        1.0 => Json::Null,
        factor => json!({"type": "linear", "factor": factor}),
    };
    let rest = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "head_dim": network.head,
        "hidden_act": "silu",
        "hidden_size": network.width,
        "initializer_range": 0.02,
        "intermediate_size": network.feed_forward,
        "max_position_embeddings": network.context,
        "mlp_bias": false,
        "num_attention_heads": network.heads,
        "num_hidden_layers": network.layers,
        "num_key_value_heads": network.key_value_heads,
        "rms_norm_eps": short(network.epsilon),
        "rope_scaling": scaling,
        "rope_theta": short(network.rope_base),
        "tie_word_embeddings": network.tied,
        "torch_dtype": "float32",
        "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
        "use_cache": true,
        "vocab_size": network.vocabulary,
    });
    if let Json::Object(rest) = rest {
        map.extend(rest);
    }
    Json::Object(map)
}

/// The number a person wrote, not the one that 32 bits make of it.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

/// `generation_config.json`.
fn generation(header: &Header, tokens: &Tokens) -> Json {
    let mut map = of_tokens(header, tokens);
    map.insert("_from_model_config".to_owned(), true.into());
    Json::Object(map)
}

/// `tokenizer_config.json`, with the chat template.
fn of_tokenizer(
    header: &Header,
    network: &Network,
    tokens: &Tokens,
    tokenizer: &Tokenizer,
) -> Json {
    let token = |purpose| special(header, tokens, purpose).map(|(_, text)| text);
    let mut map = Map::new();
    let mut set = |key: &str, value: Json| map.insert(key.to_owned(), value);
    let is_word_piece = tokenizer.json["model"]["type"] == "WordPiece";
    set("add_bos_token", tokenizer.begins.into());
    set("add_eos_token", tokenizer.ends.into());
    set("add_prefix_space", false.into());
    set("bos_token", json!(token("bos")));
    set("clean_up_tokenization_spaces", false.into());
    set("eos_token", json!(token("eos")));
    set("model_max_length", network.context().into());
    set("pad_token", json!(token("padding")));
    let class = if is_word_piece { "BertTokenizer" } else { "PreTrainedTokenizerFast" };
    set("tokenizer_class", class.into());
    set("unk_token", json!(token("unknown")));
    if is_word_piece {
        set("do_lower_case", tokenizer.json["normalizer"]["lowercase"].clone());
        for (key, value) in word_pieces::named(header, tokens) {
            set(key, value);
        }
    }
    if let Some(template) = header.chat_template() {
        set("chat_template", template.into());
    }
    Json::Object(map)
}
