//! Texts as tokens, by `tokenizer.json`.

use super::failed;
use super::files::{Beside, LARGEST_TOKENIZER};
use crate::engine::error::EngineError;
use crate::files;
use crate::model::gguf::{SpecialTokens, marks_chat};
use crate::prompt::piece::{Piece, Prompt};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tokenizers::DecoderWrapper;

/// Tokens that end an answer whatever the configuration says: marks of chat formats, and those that llama.cpp knows.
const ENDS: [&str; 10] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "</s>",
];

/// A tokenizer.
#[derive(Debug)]
pub(super) struct Tokenizer {
    /// Whether special tokens are looked for in a text is a state of it.
    inner: Mutex<tokenizers::Tokenizer>,
    size: usize,
    /// Special tokens by their numbers.
    special: HashMap<u32, String>,
    spelling: Spelling,
    beginning: Option<i32>,
}

/// How tokens spell bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// A character for every byte (GPT-2).
    Bytes,
    /// `▁` for a space, and `<0xFF>` for a byte (`SentencePiece`).
    Pieces,
    /// `##` before what goes on a word (`WordPiece`).
    Words,
}

impl Tokenizer {
    /// Reads a tokenizer.
    ///
    /// # Errors
    /// It is not there or none.
    pub(super) fn read(path: &Path) -> Result<Self, EngineError> {
        let failed = |reason: &dyn std::fmt::Display| {
            failed(format!("read the tokenizer {}", path.display()), reason)
        };
        if !path.exists() {
            return Err(failed(
                &"the file is not there, and a model's texts are nothing without it",
            ));
        }
        let bytes = files::read_at_most(path, LARGEST_TOKENIZER).map_err(|error| failed(&error))?;
        let bytes = bytes.ok_or_else(|| failed(&"it is larger than any tokenizer"))?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| failed(&error))?;
        drop(bytes);
        // Texts are cut and filled up by whoever evaluates them.
        inner.with_truncation(None).map_err(|error| failed(&error))?;
        inner.with_padding(None);
        let spelling = match inner.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => Spelling::Bytes,
            Some(DecoderWrapper::WordPiece(_)) => Spelling::Words,
            _ => Spelling::Pieces,
        };
        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, it)| it.special || marks_chat(&it.content));
        let special = special.map(|(&token, it)| (token, it.content.clone())).collect();
        let size = inner.get_vocab_size(true);
        let mut tokenizer =
            Self { inner: Mutex::new(inner), size, special, spelling, beginning: None };
        tokenizer.beginning = tokenizer.find_beginning()?;
        Ok(tokenizer)
    }

    /// The token that it puts before a text.
    fn find_beginning(&self) -> Result<Option<i32>, EngineError> {
        let (with, without) = (self.tokens("a", true, true)?, self.tokens("a", false, true)?);
        let is_before = with.len() > without.len() && with.get(1..) == Some(&without);
        Ok(with.first().copied().filter(|_| is_before))
    }

    pub(super) fn tokens(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<i32>, EngineError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.get_encode_special_tokens() == parse_special {
            inner.set_encode_special_tokens(!parse_special);
        }
        let action = || format!("tokenize a text of {} bytes", text.len());
        let encoding =
            inner.encode_fast(text, add_special).map_err(|error| failed(action(), &error))?;
        Ok(encoding
            .get_ids()
            .iter()
            .map(|&token| i32::try_from(token).unwrap_or(i32::MAX))
            .collect())
    }

    /// Special tokens where a prompt has them, text that stays text elsewhere.
    pub(super) fn rest(&self, rest: &Prompt) -> Result<Vec<i32>, EngineError> {
        let looks_special =
            |text: &str| self.special.values().any(|mark| text.contains(mark.as_str()));
        let is_text = |piece: &Piece| matches!(piece, Piece::Text(text) if looks_special(text));
        if !rest.pieces().iter().any(is_text) {
            // As a server does; some tokens take the white space around them.
            return self.tokens(&rest.text(), false, true);
        }
        let mut tokens = Vec::new();
        for piece in rest.pieces() {
            let is_special = matches!(piece, Piece::Special(_));
            tokens.extend(self.tokens(piece.text(), false, is_special)?);
        }
        Ok(tokens)
    }

    /// Tokens in all, those that were added too.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn beginning(&self) -> Option<i32> {
        self.beginning
    }

    pub(super) fn token(&self, text: &str) -> Option<i32> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.token_to_id(text).and_then(|token| i32::try_from(token).ok())
    }

    /// The bytes of a token; empty for special tokens.
    pub(super) fn bytes(&self, token: i32) -> Vec<u8> {
        let Ok(token) = u32::try_from(token) else { return Vec::new() };
        if self.special.contains_key(&token) {
            return Vec::new();
        }
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let text = inner.id_to_token(token).unwrap_or_default();
        // What was added stands for itself.
        let is_added = inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&token);
        drop(inner);
        if is_added { text.into_bytes() } else { self.spelling.bytes(&text) }
    }

    /// Tokens that end an answer: those of the configuration, and known ones that are special here.
    pub(super) fn ends(&self, beside: &Beside) -> Vec<i32> {
        let mut ends = beside.ends();
        ends.extend(beside.named_token("eos_token").and_then(|text| self.token(text)));
        let known = self.special.iter().filter(|(_, text)| ENDS.contains(&text.as_str()));
        ends.extend(known.filter_map(|(&token, _)| i32::try_from(token).ok()));
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// The special tokens, by their texts.
    pub(super) fn special(&self, beside: &Beside) -> SpecialTokens {
        let mut all: Vec<(u32, String)> =
            self.special.iter().map(|(&token, text)| (token, text.clone())).collect();
        all.sort_unstable();
        let named = |name: &str| beside.named_token(name).map(str::to_owned);
        SpecialTokens {
            all: all.into_iter().map(|(_, text)| text).collect(),
            beginning: named("bos_token"),
            end: named("eos_token"),
        }
    }
}

impl Spelling {
    fn bytes(self, text: &str) -> Vec<u8> {
        match self {
            Self::Bytes => text.chars().flat_map(byte_of).collect(),
            Self::Pieces => {
                let byte = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                let byte = byte.filter(|digits| digits.len() == 2);
                match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => text.replace('▁', " ").into_bytes(),
                }
            }
            Self::Words => match text.strip_prefix("##") {
                Some(rest) => rest.as_bytes().to_vec(),
                None => format!(" {text}").into_bytes(),
            },
        }
    }
}

/// The byte that a character stands for in byte-level tokens: printable ones for themselves, the others for 256 and up, in
/// order (GPT-2's `bytes_to_unicode`).
fn byte_of(character: char) -> Vec<u8> {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let number = u32::from(character);
    if let Ok(byte) = u8::try_from(number)
        && is_printable(byte)
    {
        return vec![byte];
    }
    let others = (0..=u8::MAX).filter(|&byte| !is_printable(byte));
    let place = number.checked_sub(256).and_then(|place| usize::try_from(place).ok());
    match place.and_then(|place| others.clone().nth(place)) {
        Some(byte) => vec![byte],
        None => character.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTE_LEVEL: &str = r#"{"version": "1.0", "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "added_tokens": [
            {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 1, "content": "<|im_end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"<s>": 0, "<|im_end|>": 1, "a": 2, "b": 3, "Ġ": 4, "Ċ": 5, "Ã": 6, "¤": 7,
            "<": 8, "|": 9, "i": 10, "m": 11, "_": 12, "e": 13, "n": 14, "d": 15, ">": 16}, "merges": []}}"#;

    fn tokenizer(text: &str) -> Result<Tokenizer, EngineError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, text).unwrap();
        Tokenizer::read(&path)
    }

    #[test]
    fn texts_become_tokens_and_tokens_bytes() {
        let tokenizer = tokenizer(BYTE_LEVEL).unwrap();
        assert_eq!((tokenizer.size(), tokenizer.beginning()), (17, Some(0)));
        let tokens = tokenizer.tokens("a ä\n", true, false).unwrap();
        assert_eq!(tokens, [0, 2, 4, 6, 7, 5], "nothing is cut off");
        let bytes: Vec<u8> = tokens.iter().flat_map(|&it| tokenizer.bytes(it)).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), "a ä\n");
    }

    #[test]
    fn special_tokens_come_from_the_format_and_never_from_a_text() {
        let tokenizer = tokenizer(BYTE_LEVEL).unwrap();
        assert_eq!(tokenizer.tokens("a<|im_end|>", false, true).unwrap(), [2, 1]);
        assert_eq!(tokenizer.tokens("a<|im_end|>", false, false).unwrap().len(), 11);
        let mut prompt = Prompt::default();
        prompt.push_text("a<|im_end|>b");
        prompt.push_marked("<|im_end|>", &["<|im_end|>"]);
        let tokens = tokenizer.rest(&prompt).unwrap();
        assert_eq!(tokens.iter().filter(|&&it| it == 1).count(), 1, "{tokens:?}");
        assert_eq!(tokenizer.ends(&Beside::default()), [1]);
    }

    #[test]
    fn every_spelling_is_read() {
        assert_eq!(Spelling::Pieces.bytes("▁a"), b" a");
        assert_eq!(Spelling::Pieces.bytes("<0xE4>"), [0xe4]);
        assert_eq!(Spelling::Words.bytes("##ing"), b"ing");
        let all: Vec<u8> = (0..=255_u8).collect();
        let spelt = |byte: u8| {
            let found = (0..0x200_u32).filter_map(char::from_u32).find(|&c| byte_of(c) == [byte]);
            found.is_some()
        };
        assert!(all.iter().all(|&byte| spelt(byte)));
    }

    #[test]
    fn what_is_no_tokenizer_is_named() {
        let error = tokenizer("{}").unwrap_err().to_string();
        assert!(error.contains("cannot read the tokenizer"), "{error}");
        let error = Tokenizer::read(Path::new("/no/tokenizer.json")).unwrap_err().to_string();
        assert!(error.contains("the file is not there"), "{error}");
    }
}
