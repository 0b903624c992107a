//! ROUGE-1, ROUGE-2 and ROUGE-L, F-measure, as package `rouge_score` computes them without its stemmer
//! (its default): lower case, only ASCII letters and digits.
//!
//! Source: Lin 2004; google-research/rouge, whose values these are.

use super::ngrams::{self, f_measure};
use crate::statistics::sample::to_f64;

/// F-measure of the n-grams of one order that answer and reference share, 0 to 1; of several
/// references the best counts.
pub fn rouge_n(order: usize, answer: &str, references: &[String]) -> f64 {
    let answer = tokens(answer);
    let of_one = |reference: &String| ngrams::shared(&answer, &tokens(reference), order);
    references.iter().map(of_one).fold(0.0, f64::max)
}

/// F-measure of the longest common subsequence of answer and reference, 0 to 1; of several
/// references the best counts.
pub fn rouge_l(answer: &str, references: &[String]) -> f64 {
    let answer = tokens(answer);
    let of_one = |reference: &String| {
        let reference = tokens(reference);
        let shared = to_f64(longest_common_subsequence(&answer, &reference));
        f_measure(shared, to_f64(answer.len()), to_f64(reference.len()))
    };
    references.iter().map(of_one).fold(0.0, f64::max)
}

fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|character: char| !character.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn longest_common_subsequence(one: &[String], other: &[String]) -> usize {
    let mut lengths = vec![0; other.len() + 1];
    for word in one {
        let mut diagonal = 0;
        for (column, candidate) in other.iter().enumerate() {
            let above = lengths[column + 1];
            lengths[column + 1] =
                if word == candidate { diagonal + 1 } else { above.max(lengths[column]) };
            diagonal = above;
        }
    }
    lengths[other.len()]
}
