//! The vocabulary of a GGUF whole, for what is made from it: its header alone keeps the first tokens.

use super::cursor::Cursor;
use super::error::GgufError;
use super::value::Value;
use super::{FileStart, LONGEST_KEY};
use std::path::Path;

/// Tokens in the order of their numbers, and how they are joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Their texts, as the tokenizer's model spells them.
    pub texts: Vec<String>,
    /// Their types, by llama.cpp's numbers: 1 text, 2 unknown, 3 control, 4 added by a user, 5 unused, 6 a byte.
    pub types: Vec<u64>,
    /// Pairs that byte-pair encoding joins, the first one first: `Ġ t`.
    pub merges: Vec<String>,
}

impl Tokens {
    /// Reads them from a GGUF (first part, if split); empty if it has none.
    ///
    /// # Errors
    /// [`GgufError`] for what is no whole GGUF.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let mut cursor = Cursor::open(path)?;
        let FileStart { keys, .. } = super::read_start(&mut cursor)?;
        let mut tokens = Self::default();
        for _ in 0..keys {
            let key = cursor.short_text(LONGEST_KEY, "a metadata key")?;
            match key.as_str() {
                "tokenizer.ggml.tokens" => tokens.texts = Value::read_texts(&mut cursor, &key)?,
                "tokenizer.ggml.merges" => tokens.merges = Value::read_texts(&mut cursor, &key)?,
                "tokenizer.ggml.token_type" => {
                    tokens.types = Value::read_counts(&mut cursor, &key)?;
                }
                _ => {
                    Value::read(&mut cursor, &key)?;
                }
            }
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_of_the_demo_is_read_whole() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");
        let tokens = Tokens::read(&Path::new(folder).join("quantbench-demo-F16.gguf")).unwrap();
        assert_eq!(
            (tokens.texts.len(), tokens.types.len(), tokens.merges.len()),
            (4096, 4096, 3838)
        );
        assert_eq!((tokens.texts[0].as_str(), tokens.types[..3].to_vec()), ("<s>", vec![3, 3, 1]));
        assert_eq!(tokens.merges[0], "Ġ t");
    }
}
