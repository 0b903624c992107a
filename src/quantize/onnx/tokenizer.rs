//! `tokenizer.json` of a GGUF's vocabulary, as the crate and the package `tokenizers` read it.
//!
//! What splits a text before pairs of bytes are joined is named by `tokenizer.ggml.pre`; the expressions are those of
//! llama.cpp's llama-vocab.cpp (0.1.161 of llama-cpp-sys-2), as `tokenizers` spells them.

use super::word_pieces::word_pieces;
use crate::causes::Problem;
use crate::model::gguf::{Header, Tokens, Value};
use serde_json::{Map, Value as Json, json};

/// Types of tokens, by llama.cpp's numbers.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const OF_USER: u64 = 4;

/// Whether a token of this type is none of a text's words.
pub(super) const fn is_apart(kind: u64) -> bool {
    matches!(kind, UNKNOWN | CONTROL | OF_USER)
}

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
    /// Whether a text ends with the token for it.
    pub(super) ends: bool,
}

/// How texts become tokens, in the parts of `tokenizer.json`.
pub(super) struct Parts {
    pub(super) normalizer: Json,
    pub(super) pre_tokenizer: Json,
    pub(super) decoder: Json,
    pub(super) model: Json,
    /// Tokens before and after a text, by what they are for.
    pub(super) around: (Option<&'static str>, Option<&'static str>),
}

/// The tokenizer of a GGUF.
///
/// # Errors
/// It is of a kind that is not exported, by name, or contradicts itself.
pub(super) fn tokenizer(header: &Header, tokens: &Tokens) -> Result<Tokenizer, Problem> {
    let model = header.get("tokenizer.ggml.model").and_then(Value::as_text).unwrap_or_default();
    let parts = match model {
        "gpt2" => byte_pairs(header, tokens)?,
        "bert" => word_pieces(header, tokens)?,
        _ => {
            return Err(Problem::new(format!(
                "the tokenizer is of the kind '{model}'; what is exported is gpt2 (byte-pair encoding of bytes) and bert \
                 (WordPiece)"
            )));
        }
    };
    let Parts { normalizer, pre_tokenizer, decoder, model, around: (before, after) } = parts;
    let named = |purpose: Option<&str>| special(header, tokens, purpose?);
    let (beginning, end) = (named(before), named(after));
    let post_processor = if beginning.is_none() && end.is_none() {
        bytes_as_letters(true)
    } else {
        around(beginning.as_ref(), end.as_ref())
    };
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(tokens),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    });
    Ok(Tokenizer { json, begins: beginning.is_some(), ends: end.is_some() })
}

/// Byte-pair encoding of bytes.
fn byte_pairs(header: &Header, tokens: &Tokens) -> Result<Parts, Problem> {
    let pre = header.get("tokenizer.ggml.pre").and_then(Value::as_text).unwrap_or_default();
    let splitting = splitting(pre).ok_or_else(|| {
        Problem::new(format!(
            "the tokenizer splits texts as '{pre}' does, which is not exported; known are gpt-2, smollm, llama-bpe, qwen2 \
             and those that split as they do"
        ))
    })?;
    let vocabulary = vocabulary(tokens.texts.iter().cloned())?;
    let merge = |pair: &String| match pair.split_once(' ') {
        Some((left, right)) => Ok(json!([left, right])),
        None => Err(Problem::new(format!("'{pair}' is no pair of tokens to be joined"))),
    };
    let merges: Vec<Json> = tokens.merges.iter().map(merge).collect::<Result<_, _>>()?;
    let before = flag(header, "add_bos_token").unwrap_or(splitting.begins).then_some("bos");
    let after = flag(header, "add_eos_token").unwrap_or(false).then_some("eos");
    let model = json!({
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
    });
    Ok(Parts {
        normalizer: Json::Null,
        pre_tokenizer: splitting.json,
        decoder: bytes_as_letters(true),
        model,
        around: (before, after),
    })
}

/// Something that the tokenizer does or does not; `None`: the file does not say.
pub(super) fn flag(header: &Header, key: &str) -> Option<bool> {
    match header.get(&format!("tokenizer.ggml.{key}"))? {
        Value::Bool(set) => Some(*set),
        _ => None,
    }
}

/// Texts of tokens with their numbers.
///
/// # Errors
/// A text is there twice.
pub(super) fn vocabulary(
    texts: impl Iterator<Item = String>,
) -> Result<Map<String, Json>, Problem> {
    let mut vocabulary = Map::new();
    for (id, text) in texts.enumerate() {
        if vocabulary.insert(text.clone(), id.into()).is_some() {
            return Err(Problem::new(format!("token '{text}' is twice in the vocabulary")));
        }
    }
    Ok(vocabulary)
}

/// Puts tokens before and after texts.
fn around(before: Option<&(u64, String)>, after: Option<&(u64, String)>) -> Json {
    let token = |kind: u8, token: Option<&(u64, String)>| {
        token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": kind}}))
    };
    let text =
        |kind: u8| json!({"Sequence": {"id": if kind == 0 { "A" } else { "B" }, "type_id": kind}});
    let single = || token(0, before).into_iter().chain([text(0)]).chain(token(0, after));
    let pair = single().chain([text(1)]).chain(token(1, after));
    let known = before.into_iter().chain(after);
    let known =
        known.map(|(id, text)| (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]})));
    json!({
        "type": "TemplateProcessing",
        "single": single().collect::<Vec<_>>(),
        "pair": pair.collect::<Vec<_>>(),
        "special_tokens": known.collect::<Map<_, _>>(),
    })
}

/// Tokens that are found in a text before it is split.
fn added(tokens: &Tokens) -> Vec<Json> {
    let all = tokens.texts.iter().zip(&tokens.types).enumerate();
    let added = all.filter(|(_, (text, kind))| is_apart(**kind) && !text.is_empty());
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
