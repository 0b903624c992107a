//! The files beside the graphs: what the model is, its tokenizer, how it is talked to.

use super::network::Network;
use super::tokenizer::{special, tokenizer};
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
    if tokens.texts.len() != network.vocabulary {
        return Err(Problem::new(format!(
            "the vocabulary has {} tokens and the embedding {} rows",
            tokens.texts.len(),
            network.vocabulary
        )));
    }
    let tokenizer = tokenizer(header, tokens)?;
    let text = |json: &Json| {
        let written = serde_json::to_string_pretty(json);
        written.map_err(|error| Problem::because("the tokenizer cannot be written", error))
    };
    let configuration = configuration(header, network, tokens);
    let of_tokenizer = of_tokenizer(header, network, tokens, tokenizer.begins);
    Ok(vec![
        ("config.json", text(&configuration)? + "\n"),
        ("generation_config.json", text(&generation(header, tokens))? + "\n"),
        ("tokenizer.json", text(&tokenizer.json)? + "\n"),
        ("tokenizer_config.json", text(&of_tokenizer)? + "\n"),
    ])
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

/// `config.json`, with the names of transformers.
fn configuration(header: &Header, network: &Network, tokens: &Tokens) -> Json {
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
fn of_tokenizer(header: &Header, network: &Network, tokens: &Tokens, begins: bool) -> Json {
    let token = |purpose| special(header, tokens, purpose).map(|(_, text)| text);
    let mut map = Map::new();
    let mut set = |key: &str, value: Json| map.insert(key.to_owned(), value);
    set("add_bos_token", begins.into());
    set("add_prefix_space", false.into());
    set("bos_token", json!(token("bos")));
    set("clean_up_tokenization_spaces", false.into());
    set("eos_token", json!(token("eos")));
    set("model_max_length", network.context.into());
    set("pad_token", json!(token("padding")));
    set("tokenizer_class", "PreTrainedTokenizerFast".into());
    set("unk_token", json!(token("unknown")));
    if let Some(template) = header.chat_template() {
        set("chat_template", template.into());
    }
    Json::Object(map)
}
