//! quantbench measures every quantization of a language model on one machine and says which to run.
//!
//! The modules below form a line: each may use those listed before it and none after it. That order
//! is checked by `tests/architecture.rs`; docs/ARCHITECTURE.md tells what lives in each.

pub mod units;
pub mod files;
pub mod causes;
pub mod statistics;
pub mod metrics;
pub mod dataset;
pub mod onnx;
pub mod model;
pub mod prompt;
pub mod retrieval;
pub mod experiment;
pub mod engine;
pub mod quantize;
pub mod workload;
pub mod mix;
pub mod hardware;
pub mod worker;
pub mod results;
pub mod host;
pub mod orchestrator;
pub mod decide;
pub mod report;
pub mod deploy;
pub mod error;
pub mod cli;
