//! What engine measured a trial, as it stands in identities and records.

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
    /// ONNX Runtime.
    #[serde(rename = "onnxruntime")]
    OnnxRuntime,
    /// The model of the tests.
    #[cfg(test)]
    Toy,
}

impl fmt::Display for EngineName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::LlamaCpp => "llama.cpp",
            Self::OnnxRuntime => "ONNX Runtime",
            #[cfg(test)]
            Self::Toy => "toy",
        })
    }
}

/// An engine in one version; figures of two are not the same measurement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EngineIdentity {
    /// Which engine.
    pub name: EngineName,
    /// Its version, as its package names it; empty in runs stored before trials had it.
    pub version: String,
}

impl fmt::Display for EngineIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name, self.version)
    }
}
