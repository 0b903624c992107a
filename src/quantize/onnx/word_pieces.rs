//! `WordPiece`, the tokenizer of BERT, as `tokenizers` reads it.

use super::tokenizer::{Parts, flag, is_apart, special, vocabulary};
use crate::causes::Problem;
use crate::model::gguf::{Header, Tokens};
use serde_json::{Value as Json, json};

/// What a GGUF has before the pieces that begin a word; checkpoints have something before the others.
const BEGINS_WORD: &str = "▁";
const GOES_ON: &str = "##";

/// Words of more characters are unknown: BERT's number, which GGUFs do not have.
const LONGEST_WORD: usize = 100;

/// # Errors
/// There is no token for what is unknown, or two pieces are spelled alike.
pub(super) fn word_pieces(header: &Header, tokens: &Tokens) -> Result<Parts, Problem> {
    let spelled = tokens.texts.iter().zip(&tokens.types).map(|(text, &kind)| spelled(text, kind));
    let vocabulary = vocabulary(spelled)?;
    let (_, unknown) = special(header, tokens, "unknown").ok_or_else(|| {
        Problem::new("the tokenizer has no token for unknown words ('unknown_token_id')")
    })?;
    let lowercase = flag(header, "normalizer.lowercase").unwrap_or(true);
    let model = json!({
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": GOES_ON,
        "max_input_chars_per_word": LONGEST_WORD,
        "vocab": vocabulary,
    });
    Ok(Parts {
        normalizer: json!({
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": true,
            "strip_accents": flag(header, "normalizer.strip_accents").unwrap_or(lowercase),
            "lowercase": lowercase,
        }),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "WordPiece", "prefix": GOES_ON, "cleanup": true}),
        model,
        // llama.cpp puts both there whatever the file says of the second.
        around: (flag(header, "add_bos_token").unwrap_or(true).then_some("bos"), Some(SEPARATOR)),
    })
}

/// The name that GGUF's key has for the token after a text.
pub(super) const SEPARATOR: &str = "seperator";

/// A piece as checkpoints spell it.
fn spelled(text: &str, kind: u64) -> String {
    // Old converters leave `[unused0]` as it is.
    let is_whole = is_apart(kind) || text.starts_with('[') && text.ends_with(']') && text.len() > 2;
    match text.strip_prefix(BEGINS_WORD) {
        Some(word) => word.to_owned(),
        None if is_whole => text.to_owned(),
        None => format!("{GOES_ON}{text}"),
    }
}

/// The tokens that `tokenizer_config.json` names.
pub(super) fn named(header: &Header, tokens: &Tokens) -> [(&'static str, Json); 3] {
    let text = |purpose| json!(special(header, tokens, purpose).map(|(_, text)| text));
    [("cls_token", text("bos")), ("sep_token", text(SEPARATOR)), ("mask_token", text("mask"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_spelled_as_checkpoints_do() {
        for (text, kind, expected) in [
            ("▁the", 1, "the"),
            ("ing", 1, "##ing"),
            ("[CLS]", 3, "[CLS]"),
            ("▁[unused0]", 1, "[unused0]"),
            ("[unused0]", 1, "[unused0]"),
            ("▁[", 1, "["),
            ("]", 1, "##]"),
        ] {
            assert_eq!(spelled(text, kind), expected, "{text}");
        }
    }
}
