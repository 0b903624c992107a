//! What GPTQ did to every matrix, and where the time went.

use crate::model::gguf::GgmlType;
use std::time::Duration;

/// What became of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Stored anew.
    Stored {
        /// What the errors of the importance matrix's rounding cost.
        before: f64,
        /// What GPTQ's errors cost after its pass.
        passed: f64,
        /// What they cost in the end.
        after: f64,
        /// Damping that the Hessian took.
        damping: f64,
    },
    /// Left as llama.cpp rounded it with the importance matrix.
    Kept {
        /// Why.
        reason: String,
    },
}

/// A matrix of the model, or a table of experts' matrices.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Its name.
    pub name: String,
    /// Which of a table's matrices, where not all are meant.
    pub part: Option<String>,
    /// The format it is stored in.
    pub format: GgmlType,
    /// Number of weights.
    pub weights: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Evaluating both models.
    pub forward: Duration,
    /// Sums over inputs.
    pub moments: Duration,
    /// Factorisations and targets.
    pub factors: Duration,
    /// Scales and codes.
    pub rows: Duration,
}

/// What was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Every matrix that the calibration's tokens pass through.
    pub matrices: Vec<Matrix>,
    /// Tokens of calibration.
    pub tokens: usize,
    /// Where the time went.
    pub times: Times,
}
