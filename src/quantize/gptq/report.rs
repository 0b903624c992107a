//! What GPTQ did to every matrix, and how long it took.

use crate::model::gguf::{GgmlType, Tensor};
use std::time::Duration;

/// Whether a matrix was replaced.
#[derive(Debug, Clone, PartialEq)]
pub enum MatrixOutcome {
    /// Replaced.
    Stored {
        /// Loss of the importance matrix's rounding.
        before: f64,
        /// Loss of GPTQ after its pass from left to right.
        passed: f64,
        /// Loss of GPTQ after the sweeps.
        after: f64,
        /// Damping that the Hessian needed.
        damping: f64,
    },
    /// Left as llama.cpp rounded it with the importance matrix.
    Kept {
        /// The obstacle, as a clause.
        reason: String,
    },
}

/// A matrix of the model, or a table of experts' matrices.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixReport {
    /// Name of the tensor.
    pub name: String,
    /// Which of the experts, if not all.
    pub part: Option<String>,
    /// The format it is stored in.
    pub format: GgmlType,
    /// Number of weights.
    pub weights: u64,
    /// Whether it was replaced.
    pub outcome: MatrixOutcome,
}

impl MatrixReport {
    pub(super) fn kept(entry: &Tensor, reason: String) -> Self {
        Self {
            name: entry.name.clone(),
            part: None,
            format: entry.format,
            weights: entry.weights,
            outcome: MatrixOutcome::Kept { reason },
        }
    }
}

/// Duration of each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GptqTimes {
    /// Evaluation of both models.
    pub forward: Duration,
    /// Sums over inputs.
    pub moments: Duration,
    /// Factorisations and targets.
    pub factors: Duration,
    /// Scales and codes.
    pub rows: Duration,
}

/// What GPTQ did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GptqReport {
    /// Every quantized matrix.
    pub matrices: Vec<MatrixReport>,
    /// Duration of each stage.
    pub times: GptqTimes,
}
