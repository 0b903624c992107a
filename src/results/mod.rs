//! Results: records of what was measured, their statistics, and the store that keeps them.

pub mod record;
