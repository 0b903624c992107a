//! A vocabulary of any size, of which llama.cpp makes a tokenizer that reads every text.

use crate::model::gguf::RawKey;

/// The fewest tokens: three that are special, and every byte.
pub(super) const FEWEST: u64 = 3 + 256;

/// llama.cpp's numbers of kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

/// What pieces of words are made of; the first stands for a space.
const LETTERS: &str = "▁etaoinshrdlcumwfgypbvkjxqz";

/// The keys of a vocabulary: bytes, then all pieces of one letter, of two, and so on, as many as there are tokens.
pub(super) fn keys(size: u64) -> Vec<RawKey> {
    let letters: Vec<char> = LETTERS.chars().collect();
    let mut tokens: Vec<(String, i32)> = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
        .map(|(text, kind)| (text.to_owned(), kind))
        .to_vec();
    tokens.extend((0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
    let pieces = usize::try_from(size.saturating_sub(FEWEST)).unwrap_or(0);
    tokens.extend((0..pieces).map(|number| (piece(number, &letters), NORMAL)));
    // Frequent pieces are joined first.
    let scores = std::iter::successors(Some(0.0_f32), |score| Some(score - 1.0));
    let scores: Vec<f32> = scores.take(tokens.len()).collect();
    let (texts, kinds): (Vec<String>, Vec<i32>) = tokens.into_iter().unzip();
    vec![
        RawKey::text("tokenizer.ggml.model", "llama"),
        RawKey::texts("tokenizer.ggml.tokens", &texts),
        RawKey::f32s("tokenizer.ggml.scores", &scores),
        RawKey::i32s("tokenizer.ggml.token_type", &kinds),
        RawKey::u32("tokenizer.ggml.token_type_count", 2),
        RawKey::u32("tokenizer.ggml.bos_token_id", 1),
        RawKey::u32("tokenizer.ggml.eos_token_id", 2),
        RawKey::u32("tokenizer.ggml.unknown_token_id", 0),
    ]
}

/// The piece of this number: shorter ones first.
fn piece(mut number: usize, letters: &[char]) -> String {
    let mut text = Vec::new();
    loop {
        text.push(letters[number % letters.len()]);
        number /= letters.len();
        if number == 0 {
            break;
        }
        number -= 1;
    }
    text.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn pieces_are_all_words_of_the_letters_the_short_ones_first() {
        let letters: Vec<char> = LETTERS.chars().collect();
        let pieces: Vec<String> = (0..30_000).map(|number| piece(number, &letters)).collect();
        assert_eq!(
            (pieces[0].as_str(), pieces[26].as_str(), pieces[27].as_str()),
            ("▁", "z", "▁▁")
        );
        assert_eq!(pieces[27 + 27 * 27].chars().count(), 3);
        assert_eq!(pieces.iter().collect::<HashSet<_>>().len(), pieces.len());
    }
}
