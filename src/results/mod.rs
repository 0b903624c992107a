//! Results: records of what was measured, their statistics, and the store that keeps them.
//!
//! `record` is what a run measured; `store` keeps it in SQLite; `summary` compares and judges it.
//! Uses everything that describes or measures; used by the orchestrator (to store) and by `report`.

pub mod metric;
pub mod record;
pub mod store;
pub mod summary;
