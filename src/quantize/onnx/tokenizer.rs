//! `tokenizer.json` of a GGUF's vocabulary, as the crate and the package `tokenizers` read it.
//!
//! What splits a text before pairs of bytes are joined is named by `tokenizer.ggml.pre`; the expressions are those of
//! llama.cpp's llama-vocab.cpp (0.1.161 of llama-cpp-sys-2), as `tokenizers` spells them.

use crate::causes::Problem;
use crate::model::gguf::{Header, Tokens, Value};
use serde_json::{Map, Value as Json, json};

/// Types of tokens, by llama.cpp's numbers.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const OF_USER: u64 = 4;

/// Contractions, words, numbers, signs and spaces, as Llama 3 and those after it split them; numbers of up to so many digits.
fn split_of_llama3(digits: &str) -> Json {
    let pattern = format!(
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{{L}}\\p{{N}}]?\\p{{L}}+|\\p{{N}}{digits}| ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n]*|\
         \\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    );
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        bytes_as_letters(false),
    ]})
}

fn bytes_as_letters(splits: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": splits})
}

/// What a pre-tokenizer of llama.cpp means: how a text is split, whether whole tokens are taken without joining, and
/// whether a text begins with the token for it where the file does not say.
struct Splitting {
    json: Json,
    ignore_merges: bool,
    begins: bool,
}

fn splitting(name: &str) -> Option<Splitting> {
    let (json, ignore_merges) = match name {
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "jina-v2-es" | "jina-v2-de" | "gigachat"
        | "a.x-4.0" | "mellum" | "modern-bert" | "exaone4" | "mpt" | "olmo" => {
            (bytes_as_letters(true), false)
        }
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            let both = json!([digits, bytes_as_letters(true)]);
            (json!({"type": "Sequence", "pretokenizers": both}), false)
        }
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" => (split_of_llama3("{1,3}"), true),
        "smaug-bpe" | "dbrx" => (split_of_llama3("{1,3}"), false),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" => (split_of_llama3(""), false),
        _ => return None,
    };
    Some(Splitting { json, ignore_merges, begins: ignore_merges })
}

/// A vocabulary, as it is written.
#[derive(Debug)]
pub(super) struct Tokenizer {
    /// `tokenizer.json`.
    pub(super) json: Json,
    /// Whether a text begins with the token for it.
    pub(super) begins: bool,
}

/// The tokenizer of a GGUF.
///
/// # Errors
/// It is of a kind that is not exported, by name, or contradicts itself.
pub(super) fn tokenizer(header: &Header, tokens: &Tokens) -> Result<Tokenizer, Problem> {
    let text = |key: &str| header.get(key).and_then(Value::as_text).unwrap_or_default();
    let (model, pre) = (text("tokenizer.ggml.model"), text("tokenizer.ggml.pre"));
    if model != "gpt2" {
        return Err(Problem::new(format!(
            "the tokenizer is of the kind '{model}'; what is exported is gpt2 (byte-pair encoding of bytes)"
        )));
    }
    let splitting = splitting(pre).ok_or_else(|| {
        Problem::new(format!(
            "the tokenizer splits texts as '{pre}' does, which is not exported; known are gpt-2, smollm, llama-bpe, qwen2 \
             and those that split as they do"
        ))
    })?;
    let mut vocabulary = Map::new();
    for (id, text) in tokens.texts.iter().enumerate() {
        if vocabulary.insert(text.clone(), id.into()).is_some() {
            return Err(Problem::new(format!("token '{text}' is twice in the vocabulary")));
        }
    }
    let merge = |pair: &String| match pair.split_once(' ') {
        Some((left, right)) => Ok(json!([left, right])),
        None => Err(Problem::new(format!("'{pair}' is no pair of tokens to be joined"))),
    };
    let merges: Vec<Json> = tokens.merges.iter().map(merge).collect::<Result<_, _>>()?;
    let begins = match header.get("tokenizer.ggml.add_bos_token") {
        Some(Value::Bool(begins)) => *begins,
        _ => splitting.begins,
    };
    let beginning = special(header, tokens, "bos").filter(|_| begins);
    let post_processor = match &beginning {
        None => bytes_as_letters(true),
        Some((id, text)) => {
            let token = json!({"SpecialToken": {"id": text, "type_id": 0}});
            let a = json!({"Sequence": {"id": "A", "type_id": 0}});
            let b = json!({"Sequence": {"id": "B", "type_id": 1}});
            let mut known = Map::new();
            known.insert(text.clone(), json!({"id": text, "ids": [id], "tokens": [text]}));
            json!({"type": "TemplateProcessing", "single": [token, a], "pair": [token, a, b],
                "special_tokens": known})
        }
    };
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(tokens),
        "normalizer": null,
        "pre_tokenizer": splitting.json,
        "post_processor": post_processor,
        "decoder": bytes_as_letters(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": splitting.ignore_merges,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    Ok(Tokenizer { json, begins: beginning.is_some() })
}

/// Tokens that are found in a text before it is split.
fn added(tokens: &Tokens) -> Vec<Json> {
    let all = tokens.texts.iter().zip(&tokens.types).enumerate();
    let added = all.filter(|(_, (text, kind))| {
        matches!(**kind, UNKNOWN | CONTROL | OF_USER) && !text.is_empty()
    });
    added
        .map(|(id, (text, kind))| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind != OF_USER})
        })
        .collect()
}

/// A special token by what it is for, such as `bos`: its number and its text.
pub(super) fn special(header: &Header, tokens: &Tokens, purpose: &str) -> Option<(u64, String)> {
    let id = header.get(&format!("tokenizer.ggml.{purpose}_token_id"))?.as_count()?;
    Some((id, tokens.texts.get(usize::try_from(id).ok()?)?.clone()))
}
