//! From the logits of one chunk to the scores of its tokens.

use crate::workload::divergence::{TokenComparison, TokenScore};
use crate::workload::reference::{Reader, ReferenceError, Rows, Writer};
use crate::workload::softmax::{divergence, index_of_maximum, log_softmax, log_sum_exp};
use crate::workload::top_row::TopRow;
use rayon::prelude::*;

/// What is done with a chunk besides scoring it.
#[derive(Debug)]
pub(super) enum Sink {
    /// Nothing.
    None,
    /// Its log-probabilities are written: this is the reference.
    Write(Writer),
    /// It is compared with the reference's.
    Read(Reader),
}

/// Scores one chunk's `logits`, `[rows, vocabulary]`, given the token that is `following` each row; the
/// logits may be overwritten. `first_row` is its place in the reference's file.
pub(super) fn score_chunk(
    first_row: u64,
    logits: &mut [f32],
    following: &[i32],
    vocabulary: usize,
    sink: &Sink,
) -> Result<Vec<TokenScore>, ReferenceError> {
    let rows = logits.par_chunks_mut(vocabulary).zip(following);
    Ok(match sink {
        Sink::None => rows.map(|(row, &token)| score_alone(row, token)).collect(),
        Sink::Write(writer) => {
            let scores = rows.map(|(row, &token)| score_in_place(row, token)).collect();
            writer.add(first_row, logits, following)?;
            scores
        }
        Sink::Read(reader) => match reader.rows(first_row, following.len())? {
            Rows::Whole(mut reference) if reader.vocabulary() != vocabulary => rows
                .zip(reference.par_chunks_mut(reader.vocabulary()))
                .map(|((row, &token), reference)| score_common(row, token, reference))
                .collect(),
            Rows::Whole(reference) => rows
                .zip(reference.par_chunks(vocabulary))
                .map(|((row, &token), reference)| score_against(row, token, reference))
                .collect(),
            Rows::Top(reference) => rows
                .zip(&reference)
                .map(|((row, &token), reference)| score_against_top(row, token, reference))
                .collect(),
        },
    })
}

/// The value at a token's place; NaN for a token that does not exist.
fn at(row: &[f32], token: i32) -> f32 {
    usize::try_from(token).ok().and_then(|token| row.get(token).copied()).unwrap_or(f32::NAN)
}

/// Negative log-likelihood of `token`, with the log of the sum of exponentials.
fn nll(row: &[f32], token: i32) -> (f64, f32) {
    let normaliser = log_sum_exp(row);
    (f64::from(normaliser - at(row, token)), normaliser)
}

fn score_alone(row: &[f32], token: i32) -> TokenScore {
    TokenScore { nll: nll(row, token).0, comparison: None }
}

/// As [`score_alone`], and leaves the row's log-probabilities in its place.
pub(in crate::workload) fn score_in_place(row: &mut [f32], token: i32) -> TokenScore {
    log_softmax(row);
    TokenScore { nll: -f64::from(at(row, token)), comparison: None }
}

pub(in crate::workload) fn score_against(row: &[f32], token: i32, reference: &[f32]) -> TokenScore {
    let (nll, normaliser) = nll(row, token);
    TokenScore {
        nll,
        comparison: Some(TokenComparison {
            reference_nll: -f64::from(at(reference, token)),
            kld: divergence(reference, row, normaliser),
            kld_error_bound: 0.0,
            same_top: index_of_maximum(row) == index_of_maximum(reference),
        }),
    }
}

/// As [`score_against`], over the tokens that both have.
fn score_common(row: &[f32], token: i32, reference: &mut [f32]) -> TokenScore {
    let common = row.len().min(reference.len());
    let reference = &mut reference[..common];
    log_softmax(reference);
    score_against(&row[..common], token, reference)
}

fn score_against_top(row: &[f32], token: i32, reference: &TopRow) -> TokenScore {
    let (nll, normaliser) = nll(row, token);
    let bounded = reference.divergence(row, normaliser);
    TokenScore {
        nll,
        comparison: Some(TokenComparison {
            reference_nll: -f64::from(reference.following),
            kld: bounded.value,
            kld_error_bound: bounded.error_bound,
            same_top: index_of_maximum(row) == reference.most_probable(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_scores_the_same_whether_its_log_probabilities_are_kept_or_not() {
        let mut row = vec![0.25_f32, 3.5, -1.0, 0.125];
        let alone = score_alone(&row, 2);
        assert_eq!(score_in_place(&mut row, 2), alone);
        let total: f32 = row.iter().map(|log_p| log_p.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6);
    }

    #[test]
    fn what_fills_a_vocabulary_up_is_left_out_of_a_comparison() {
        let whole = [0.25_f32, 3.5, -1.0, 0.125];
        let mut reference = [whole.as_slice(), &[-2.0, -3.0]].concat();
        log_softmax(&mut reference);
        let score = score_common(&whole, 2, &mut reference);
        let comparison = score.comparison.unwrap();
        assert!(comparison.kld.abs() < 1e-6 && comparison.same_top, "{comparison:?}");
        assert!((score.nll - comparison.reference_nll).abs() < 1e-6);
        let mut short = whole[..3].to_vec();
        log_softmax(&mut short);
        assert!(score_common(&whole, 2, &mut short).comparison.unwrap().kld.abs() < 1e-6);
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_not_a_number() {
        assert!(score_alone(&[1.0, 2.0], 2).nll.is_nan());
        assert!(score_alone(&[1.0, 2.0], -1).nll.is_nan());
    }
}
