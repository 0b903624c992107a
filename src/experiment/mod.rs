//! Experiments: what the user wrote in TOML (`file`), and what it means (`resolved`).
//!
//! Uses `model` for the names of quantizations and sources; used by everything that runs or shows
//! an experiment. Nothing here touches llama.cpp.

pub mod calibration;
mod diagnostic;
mod expand;
mod file;
pub mod inputs;
pub mod keys;
mod load;
pub mod metric;
mod models;
mod overrides;
pub mod parameters;
pub(crate) mod reader;
pub mod recommend;
pub mod requirements;
pub mod resolved;
pub mod settings;
pub mod tasks;
pub mod tuning;
pub mod workloads;
pub mod written;

pub use diagnostic::Diagnostics;
pub use load::{ExperimentError, built_in, load, parse};
pub(crate) use models::default_quantizations;
pub use models::not_makeable;
pub use overrides::Overrides;

#[cfg(test)]
mod tests;
