//! Retrieval: where among the passages found the right ones stand.
//!
//! Ranks count from 1. Relevance is yes or no. Source: Järvelin & Kekäläinen 2002 (nDCG, gain 1,
//! discount log₂(rank + 1)); Voorhees 1999 (reciprocal rank).

use crate::statistics::sample::to_f64;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};

/// 1 if a relevant item is among the first `k` found, else 0.
pub fn hit<T: Hash + Eq, S: BuildHasher>(found: &[T], relevant: &HashSet<T, S>, k: usize) -> f64 {
    f64::from(u8::from(found.iter().take(k).any(|item| relevant.contains(item))))
}

/// 1 over the rank of the first relevant item; 0 if none was found.
pub fn reciprocal_rank<T: Hash + Eq, S: BuildHasher>(found: &[T], relevant: &HashSet<T, S>) -> f64 {
    let first = found.iter().position(|item| relevant.contains(item));
    first.map_or(0.0, |position| 1.0 / (to_f64(position) + 1.0))
}

/// Discounted gain of the relevant items among the first `k` found, over the highest possible one;
/// 0 if nothing is relevant.
pub fn ndcg<T: Hash + Eq, S: BuildHasher>(found: &[T], relevant: &HashSet<T, S>, k: usize) -> f64 {
    let gain = |position: usize| 1.0 / (to_f64(position) + 2.0).log2();
    let ideal: f64 = (0..relevant.len().min(k)).map(gain).sum();
    if ideal == 0.0 {
        return 0.0;
    }
    let first = found.iter().take(k).enumerate();
    let won: f64 =
        first.filter(|(_, item)| relevant.contains(item)).map(|(position, _)| gain(position)).sum();
    won / ideal
}
