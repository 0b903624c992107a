//! The special tokens of a GGUF's vocabulary, which its header alone keeps too few of.

use super::cursor::Cursor;
use super::error::GgufError;
use super::value::Value;
use super::{FileStart, LONGEST_KEY};
use std::path::Path;

/// Token types that stand for themselves and not for text: unknown (2) and control (3), by
/// llama.cpp's numbers.
const SPECIAL_TYPES: [u64; 2] = [2, 3];

/// Tokens that the user of a tokenizer added (4): mostly text that is one token, such as indentation or HTML, but
/// converters have stored the marks of chat formats so as well.
const USER_TYPE: u64 = 4;

/// Marks of chat formats that do not look like one, `<|…|>`.
const CHAT_MARKS: [&str; 6] = [
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
];

/// Whether a token that a user added marks the parts of a chat.
pub fn marks_chat(text: &str) -> bool {
    (text.len() > 4 && text.starts_with("<|") && text.ends_with("|>")) || CHAT_MARKS.contains(&text)
}

/// The special tokens of a vocabulary, by their texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// All of them.
    pub all: Vec<String>,
    /// The one that begins a text.
    pub beginning: Option<String>,
    /// The one that ends a text.
    pub end: Option<String>,
}

impl SpecialTokens {
    /// Reads them from a GGUF; none if it has no vocabulary.
    ///
    /// # Errors
    /// [`GgufError`] for what is no whole GGUF.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let mut cursor = Cursor::open(path)?;
        let FileStart { keys, .. } = super::read_start(&mut cursor)?;
        let mut texts: Vec<String> = Vec::new();
        let mut types: Vec<u64> = Vec::new();
        let (mut beginning, mut end) = (None, None);
        for _ in 0..keys {
            let key = cursor.short_text(LONGEST_KEY, "a metadata key")?;
            match key.as_str() {
                "tokenizer.ggml.tokens" => texts = Value::read_texts(&mut cursor, &key)?,
                "tokenizer.ggml.token_type" => types = Value::read_counts(&mut cursor, &key)?,
                _ => {
                    let value = Value::read(&mut cursor, &key)?;
                    match key.as_str() {
                        "tokenizer.ggml.bos_token_id" => beginning = value.as_count(),
                        "tokenizer.ggml.eos_token_id" => end = value.as_count(),
                        _ => {}
                    }
                }
            }
        }
        let text_of = |token: Option<u64>| {
            token.and_then(|token| texts.get(usize::try_from(token).ok()?).cloned())
        };
        let (beginning, end) = (text_of(beginning), text_of(end));
        let all = texts
            .iter()
            .zip(&types)
            .filter(|(text, kind)| {
                let special = SPECIAL_TYPES.contains(kind) && !text.is_empty();
                special || (**kind == USER_TYPE && marks_chat(text))
            })
            .map(|(text, _)| text.clone())
            .collect();
        Ok(Self { all, beginning, end })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Builder;
    use super::*;

    fn types(types: &[i32]) -> Vec<u8> {
        let mut bytes = 5_u32.to_le_bytes().to_vec();
        bytes.extend((types.len() as u64).to_le_bytes());
        bytes.extend(types.iter().flat_map(|kind| kind.to_le_bytes()));
        bytes
    }

    #[test]
    fn control_tokens_are_told_from_text_and_from_tokens_of_the_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        Builder::model(1)
            .key("tokenizer.ggml.token_type", 9, &types(&[2, 3, 3, 1, 4, 6, 1, 1, 1, 1]))
            .u32("tokenizer.ggml.bos_token_id", 1)
            .u32("tokenizer.ggml.eos_token_id", 77)
            .write(&path);
        let tokens = SpecialTokens::read(&path).unwrap();
        assert_eq!(tokens.all, ["<s>", "a", "b"]);
        assert_eq!((tokens.beginning.as_deref(), tokens.end), (Some("a"), None));
    }

    #[test]
    fn a_mark_of_a_chat_format_is_one_whatever_its_type() {
        for mark in ["<|im_start|>", "<|user|>", "[/INST]", "<end_of_turn>"] {
            assert!(marks_chat(mark), "{mark}");
        }
        for text in ["<table>", "<||>", "    ", "[x]", "im_start"] {
            assert!(!marks_chat(text), "{text}");
        }
    }

    #[test]
    fn a_file_without_types_has_no_special_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        Builder::model(1).write(&path);
        assert_eq!(SpecialTokens::read(&path).unwrap(), SpecialTokens::default());
    }
}
