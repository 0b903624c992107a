//! What a variant scored, from one of its visits to the next.
//!
//! A text may be evaluated in parts, each in a visit of its own. Every token's score is kept, not their sums: whoever
//! goes on adds them up from the first, and comes to the same figures as in one visit, to the last bit.

use crate::statistics::sample::to_f64;
use crate::workload::divergence::{TokenComparison, TokenScore};
use crate::workload::reference::{ReferenceError, io, mismatch};
use std::path::Path;

/// Numbers that a token's score is kept in.
const NUMBERS: usize = 5;

/// Where its comparison would be, of a token that was not compared.
const NOT_COMPARED: f64 = -1.0;

/// The chunks that were scored.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Kept {
    /// How long they took.
    pub(super) seconds: f64,
    /// The scores of each.
    pub(super) chunks: Vec<Vec<TokenScore>>,
}

impl Kept {
    /// Reads what [`Self::write`] wrote; it must be of so many chunks.
    pub(super) fn read(path: &Path, chunks: u32) -> Result<Self, ReferenceError> {
        let bytes = std::fs::read(path).map_err(|source| io("read", path, source))?;
        let numbers: Vec<f64> = bytemuck::pod_collect_to_vec(&bytes);
        let wrong = || mismatch(path, "they are not those of the chunks before");
        let (&seconds, mut rest) = numbers.split_first().ok_or_else(wrong)?;
        let mut kept = Self { seconds, chunks: Vec::new() };
        while let Some((&rows, after)) = rest.split_first() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let numbers = (rows as usize).saturating_mul(NUMBERS);
            let (scores, after) = after.split_at_checked(numbers).ok_or_else(wrong)?;
            rest = after;
            kept.chunks.push(scores.as_chunks::<NUMBERS>().0.iter().map(decoded).collect());
        }
        if kept.chunks.len() == chunks as usize { Ok(kept) } else { Err(wrong()) }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), ReferenceError> {
        let mut numbers = vec![self.seconds];
        for chunk in &self.chunks {
            numbers.push(to_f64(chunk.len()));
            numbers.extend(chunk.iter().flat_map(encoded));
        }
        std::fs::write(path, bytemuck::cast_slice::<f64, u8>(&numbers))
            .map_err(|source| io("write", path, source))
    }
}

fn encoded(score: &TokenScore) -> [f64; NUMBERS] {
    let comparison = score.comparison.unwrap_or_default();
    let TokenComparison { reference_nll, kld, kld_error_bound, same_top } = comparison;
    let same_top = score.comparison.map_or(NOT_COMPARED, |_| f64::from(u8::from(same_top)));
    [score.nll, reference_nll, kld, kld_error_bound, same_top]
}

fn decoded(numbers: &[f64; NUMBERS]) -> TokenScore {
    let &[nll, reference_nll, kld, kld_error_bound, same_top] = numbers;
    let same_top = (same_top >= 0.0).then_some(same_top > 0.0);
    let comparison = |same_top| TokenComparison { reference_nll, kld, kld_error_bound, same_top };
    TokenScore { nll, comparison: same_top.map(comparison) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores");
        let compared = TokenComparison {
            reference_nll: 0.1,
            kld: 1.0 / 3.0,
            kld_error_bound: 1e-300,
            same_top: true,
        };
        let other = TokenComparison { same_top: false, ..compared };
        let score = |comparison| TokenScore { nll: 2.0 / 3.0, comparison };
        let chunk = vec![score(None), score(Some(compared)), score(Some(other))];
        let short = chunk[..2].to_vec();
        let kept = Kept { seconds: 0.7, chunks: vec![chunk.clone(), short, chunk] };
        kept.write(&path).unwrap();
        assert_eq!(Kept::read(&path, 3).unwrap(), kept);
        assert!(Kept::read(&path, 2).is_err(), "of another number of chunks");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
        assert!(Kept::read(&path, 3).is_err(), "it is cut off");
        std::fs::write(&path, []).unwrap();
        assert!(Kept::read(&path, 0).is_err());
    }
}
