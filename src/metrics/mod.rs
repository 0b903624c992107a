//! Metrics of tasks: how well answers match what is right, with the field's definitions.
//!
//! Pure functions over texts and ranks. Each metric turns one question's answer into a few counts,
//! and counts of any selection of questions into a value; so figures of a whole data set and of
//! redrawn ones come from the same place. `metric` lists the metrics and aggregates, `squad`,
//! `bleu`, `chrf`, `rouge` and `ranking` compare. Uses `statistics`; used by `experiment` (names),
//! `workload` (counts) and `results` (values). docs/TASKS.md gives every definition and its source.

pub mod bleu;
pub mod chrf;
mod metric;
pub mod ngrams;
pub mod ranking;
pub mod rouge;
pub mod squad;
#[cfg(test)]
mod tests;

pub use metric::{Aggregation, TaskMetric, TaskMetricError};
