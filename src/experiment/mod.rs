//! Experiments: what the user wrote in TOML (`file`), and what it means (`resolved`).
//!
//! Uses `model` for the names of quantizations and sources; used by everything that runs or shows
//! an experiment. Nothing here touches llama.cpp.

pub mod requirements;
pub mod resolved;
pub mod settings;
pub mod workloads;
