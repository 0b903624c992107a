//! Quality of a model with an encoder: how its variants differ from the reference over the pieces of
//! a text.
//!
//! A piece is a line of the text, cut where it is longer than the workload's context or the model's.
//! `embeddings` compares the vectors that an encoder-only model makes of them, `answers` the
//! probabilities with which an encoder-decoder writes what the reference answers to them. `reference_file` carries the
//! reference's side from its worker to the others'. Uses `embedder`, `batched` and the arithmetic of `quality`; used by
//! `worker`.

pub mod answers;
pub mod embeddings;
mod reference_file;

use super::quality::{QualityError, QualityRequest};
use crate::engine::Model;

/// The pieces of the text as the model reads them, special tokens included, at most as many as the
/// request has chunks; and how many the whole text has.
fn pieces(
    model: &dyn Model,
    request: &QualityRequest<'_>,
) -> Result<(Vec<Vec<i32>>, usize), QualityError> {
    let most = request.chunks.map_or(usize::MAX, |chunks| chunks as usize);
    let longest = request.context.min(model.context_length().max(8)) as usize;
    let mut pieces = Vec::new();
    let mut available = 0;
    for line in request.text.lines().filter(|line| !line.trim().is_empty()) {
        let whole = model.tokenize(line, true, false)?;
        let plain = model.tokenize(line, false, false)?;
        let (before, after) = around(&whole, &plain);
        let room = longest.saturating_sub(before.len() + after.len()).max(1);
        available += plain.chunks(room).len();
        let kept = plain.chunks(room).take(most - pieces.len());
        pieces.extend(kept.map(|part| [before, part, after].concat()));
    }
    // One piece says nothing about how pieces differ.
    if pieces.len() < 2 {
        return Err(QualityError::TooFewPieces(pieces.len()));
    }
    Ok((pieces, available))
}

/// The special tokens that stand before and after a text.
fn around<'a>(whole: &'a [i32], plain: &[i32]) -> (&'a [i32], &'a [i32]) {
    let added = whole.len().saturating_sub(plain.len());
    let starts = |at: usize| whole[at..].starts_with(plain);
    let before = (0..=added).find(|&at| starts(at)).unwrap_or(0);
    (&whole[..before], &whole[(before + plain.len()).min(whole.len())..])
}

/// Longest of some pieces, tokens.
fn longest(pieces: &[Vec<i32>]) -> u32 {
    let longest = pieces.iter().map(Vec::len).max().unwrap_or(0);
    u32::try_from(longest).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_are_found_on_both_sides_of_a_text() {
        assert_eq!(around(&[0, 7, 8, 1], &[7, 8]), (&[0][..], &[1][..]));
        assert_eq!(around(&[7, 8, 1], &[7, 8]), (&[][..], &[1][..]));
        assert_eq!(around(&[7, 8], &[7, 8]), (&[][..], &[][..]));
    }
}
