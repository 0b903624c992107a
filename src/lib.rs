//! quantbench measures every quantization of a language model on one machine and says which to run.
//!
//! The modules below form a line: each may use those listed before it and none after it. That order
//! is checked by `tests/architecture.rs`; docs/ARCHITECTURE.md tells the same story with reasons.

pub mod causes;
pub mod cli;
pub mod dataset;
pub mod engine;
pub mod error;
pub mod experiment;
pub mod files;
pub mod hardware;
pub mod metrics;
pub mod mix;
pub mod model;
pub mod orchestrator;
pub mod prompt;
pub mod quantize;
pub mod report;
pub mod results;
pub mod retrieval;
pub mod statistics;
pub mod units;
pub mod worker;
pub mod workload;
