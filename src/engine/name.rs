//! Names of engines, as they stand in trials and records.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// llama.cpp.
    #[default]
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// The model of the tests.
    #[cfg(test)]
    Toy,
}

impl fmt::Display for EngineName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::LlamaCpp => "llama.cpp",
            #[cfg(test)]
            Self::Toy => "toy",
        })
    }
}
