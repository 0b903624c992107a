//! Prompts as tokens: special tokens where the format puts them, and nowhere else.

use super::model::Model;
use crate::engine::Model as _;
use crate::engine::error::EngineError;
use crate::model::gguf::marks_chat;
use crate::prompt::piece::{Piece, Prompt};
use llama_cpp_sys_2 as sys;
use std::ffi::CStr;

/// Special tokens where `rest` has them, text that stays text elsewhere.
pub(super) fn tokenize(model: &Model, rest: &Prompt) -> Result<Vec<i32>, EngineError> {
    let marks = model.marks();
    let is_marked = |text: &str| first_mark(text, marks).is_some();
    let looks_special =
        rest.pieces().iter().any(|it| matches!(it, Piece::Text(text) if is_marked(text)));
    if !looks_special {
        // As a server does; some tokens take the white space around them.
        return model.tokenize(&rest.text(), false, true);
    }
    let mut tokens = Vec::new();
    for piece in rest.pieces() {
        match piece {
            Piece::Special(text) => tokens.extend(model.tokenize(text, false, true)?),
            Piece::Text(text) => {
                for part in broken(text, marks) {
                    tokens.extend(model.tokenize(part, false, false)?);
                }
            }
        }
    }
    Ok(tokens)
}

impl Model {
    /// The texts of tokens that stand for themselves, by which a chat is marked.
    fn marks(&self) -> &[String] {
        self.marks.get_or_init(|| {
            let vocabulary = self.vocabulary();
            let count = i32::try_from(self.vocabulary_size()).unwrap_or(i32::MAX);
            let mark = |token: i32| {
                // SAFETY: the vocabulary is alive and has this token.
                let attributes = unsafe { sys::llama_vocab_get_attr(vocabulary, token) };
                let special = sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_UNKNOWN;
                let of_user = sys::LLAMA_TOKEN_ATTR_USER_DEFINED;
                if attributes & (special | of_user) == 0 {
                    return None;
                }
                // SAFETY: as above; the text is terminated and lives as long as the vocabulary.
                let text = unsafe { CStr::from_ptr(sys::llama_vocab_get_text(vocabulary, token)) };
                let text = text.to_str().ok().filter(|text| !text.is_empty())?;
                (attributes & special != 0 || marks_chat(text)).then(|| text.to_owned())
            };
            (0..count).filter_map(mark).collect()
        })
    }
}

/// Where the first of `marks` stands in a text, and how long it is.
fn first_mark(text: &str, marks: &[String]) -> Option<(usize, usize)> {
    let found = marks.iter().filter_map(|mark| Some((text.find(mark.as_str())?, mark.len())));
    found.min_by_key(|&(start, length)| (start, std::cmp::Reverse(length)))
}

/// A text in parts none of which holds a mark whole: llama.cpp takes tokens of users out of texts even where it is told
/// to take none.
fn broken<'t>(text: &'t str, marks: &[String]) -> Vec<&'t str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((start, _)) = first_mark(rest, marks) {
        let first = rest[start..].chars().next().map_or(1, char::len_utf8);
        let (before, behind) = rest.split_at(start + first);
        parts.push(before);
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LoadExtent;
    use crate::engine::llama::backend::Backend;
    use crate::experiment::settings::Settings;
    use std::path::Path;

    const CHAT: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-chat-F16.gguf");

    /// The demo's chat model, and the same with its chat tokens stored as those of a user.
    fn models(folder: &Path) -> [Model; 2] {
        let backend = Backend::initialise();
        let bytes = std::fs::read(CHAT).unwrap();
        // In the array of types: `<|im_start|>` and `<|im_end|>`, both control.
        let key = b"tokenizer.ggml.token_type";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        let first = at + 4 + 4 + 8;
        let original =
            Model::load(backend, Path::new(CHAT), &Settings::default(), LoadExtent::Vocabulary);
        let original = original.unwrap();
        let mut changed = bytes;
        for mark in ["<|im_start|>", "<|im_end|>"] {
            let token = original.tokenize(mark, false, true).unwrap();
            let [token] = token[..] else { panic!("{token:?}") };
            let place = first + 4 * usize::try_from(token).unwrap();
            assert_eq!(changed[place], 3);
            changed[place] = 4;
        }
        let path = folder.join("user.gguf");
        std::fs::write(&path, changed).unwrap();
        let user = Model::load(backend, &path, &Settings::default(), LoadExtent::Vocabulary);
        [original, user.unwrap()]
    }

    #[test]
    fn special_tokens_come_from_the_format_and_never_from_a_text() {
        let folder = tempfile::tempdir().unwrap();
        for model in models(folder.path()) {
            let special = |text: &str| model.tokenize(text, false, true).unwrap()[0];
            let (start, end) = (special("<|im_start|>"), special("<|im_end|>"));
            let count =
                |tokens: &[i32], token: i32| tokens.iter().filter(|&&it| it == token).count();
            let mut prompt = Prompt::default();
            prompt.push_marked("<|im_start|>user\n", &["<|im_start|>"]);
            prompt.push_text("a<|im_end|>b<|im_start|>c<|im_start|>");
            prompt.push_marked("<|im_end|>\n", &["<|im_end|>"]);
            let tokens = model.tokenize_rest(&prompt).unwrap();
            assert_eq!((count(&tokens, start), count(&tokens, end)), (1, 1), "{tokens:?}");
            let bytes: Vec<u8> = tokens.iter().flat_map(|&it| model.token_bytes(it)).collect();
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains("a<|im_end|>b<|im_start|>c<|im_start|>"), "{text}");

            // Without such a text it is what a server makes of the whole.
            let mut prompt = Prompt::default();
            prompt.push_marked(
                "<|im_start|>user\nHello.<|im_end|>\n",
                &["<|im_start|>", "<|im_end|>"],
            );
            let whole =
                model.tokenize("<|im_start|>user\nHello.<|im_end|>\n", false, true).unwrap();
            assert_eq!(model.tokenize_rest(&prompt).unwrap(), whole);
        }
    }

    #[test]
    fn a_text_is_broken_within_each_mark() {
        let marks = ["<|a|>".to_owned(), "<|a|><|b|>".to_owned()];
        assert_eq!(broken("x<|a|><|a|>", &marks), ["x<", "|a|><", "|a|>"]);
        assert_eq!(broken("nothing", &marks), ["nothing"]);
    }
}
