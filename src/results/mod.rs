//! Results: records of what was measured, their statistics, and the store that keeps them.
//!
//! `record` is what a run measured; `store` keeps it in SQLite; `summary` compares and judges it,
//! out of `metric` (what a column shows), `figure` (a value with what a comparison needs), `extract`
//! (from record to figures), `task_figure` (those of tasks), `format_test` (formats of a task against each other), `baseline` (with the reference), `verdict` (against the requirements), `proof` (the same
//! with confidence, out of `spread`) and `recommendation` (what that comes to),
//! `other_time` (what a trial took besides its visits), `annotations` (what people keep with it), `exchange` (runs as documents), `long` (as tables with a row per figure) and
//! `query` (SQL over those), `trend` (one figure over runs), `gain` (how much faster other settings are), `choice` (the best trade-off) and `judge` (all of it for one model); `change/` compares runs with each other, which may measure trials of others again (`repeats`).
//! Uses everything that describes or measures; used by the orchestrator (to store) and by `report`.

pub mod annotations;
mod baseline;
pub mod change;
pub mod choice;
pub mod domain;
pub mod exchange;
mod extract;
pub mod figure;
pub mod format_test;
pub mod gain;
mod judge;
pub mod long;
#[cfg(test)]
pub(crate) mod made_up;
mod other_time;
pub mod proof;
pub mod query;
pub mod recommendation;
pub mod record;
pub mod repeats;
pub mod separation;
pub mod spread;
pub mod store;
pub mod summary;
pub mod task_figure;
#[cfg(test)]
mod tests;
pub mod trend;
pub mod verdict;
pub mod words;

pub use crate::experiment::metric;

/// What has the same key together, in the order in which keys come first.
pub(crate) fn grouped<K: PartialEq, V>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Vec<(K, Vec<V>)> {
    let mut groups: Vec<(K, Vec<V>)> = Vec::new();
    for (key, value) in pairs {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// Everything once, in the order in which it comes first.
pub(crate) fn each_once<T: PartialEq>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut once = Vec::new();
    for item in all {
        if !once.contains(&item) {
            once.push(item);
        }
    }
    once
}
