//! N-grams: how often each sequence of n units occurs in a text.

use std::collections::HashMap;
use std::hash::Hash;

/// How often each n-gram occurs.
pub type NgramCounts<'t, T> = HashMap<&'t [T], u32>;

/// Counts the n-grams of `units`; none if there are fewer than `order` units or `order` is 0.
pub fn count<T: Hash + Eq>(units: &[T], order: usize) -> NgramCounts<'_, T> {
    let mut counts = NgramCounts::new();
    if order > 0 {
        for ngram in units.windows(order) {
            *counts.entry(ngram).or_default() += 1;
        }
    }
    counts
}

/// How many n-grams there are in all.
pub fn total<T>(counts: &NgramCounts<'_, T>) -> u32 {
    counts.values().sum()
}

/// How many n-grams of `one` occur in `other` too, each counted as often as in the one that has
/// fewer of it.
pub fn overlap<T: Hash + Eq>(one: &NgramCounts<'_, T>, other: &NgramCounts<'_, T>) -> u32 {
    one.iter().map(|(ngram, &count)| count.min(other.get(ngram).copied().unwrap_or(0))).sum()
}

/// The F-measure of the n-grams that answer and reference share, 0 to 1.
pub fn shared<T: Hash + Eq>(answer: &[T], reference: &[T], order: usize) -> f64 {
    let (own, other) = (count(answer, order), count(reference, order));
    f_measure(overlap(&own, &other).into(), total(&own).into(), total(&other).into())
}

/// The F-measure (harmonic mean of precision and recall), 0 to 1, from the number of units in both, in the answer and
/// in the reference.
pub fn f_measure(shared: f64, answer: f64, reference: f64) -> f64 {
    if shared == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (shared / answer, shared / reference);
    2.0 * precision * recall / (precision + recall)
}
