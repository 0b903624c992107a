//! The benchmark sequence: for each variant start a worker, watch it, record what it says.
//!
//! `sequence` is the whole story; `strategy` says after every visit what comes next, from what `plan` and
//! `schedule` lay out; `cost` says what visits will take. `maker` makes the files that are measured, and those of other commands. Workers are known
//! through the traits of `host`, whoever listens through the events of `event`. Uses everything that measures or
//! records; used by the command line only.

pub mod cost;
pub mod worker_run;
pub mod display;
pub mod event;
mod store_writer;
pub mod maker;
pub mod plan;
pub mod reason;
pub mod replay;
pub mod schedule;
#[cfg(test)]
mod scripted;
pub mod sequence;
pub mod sources;
pub mod strategy;
#[cfg(test)]
mod tests;
