//! What AWQ did to every weight, and how long it took.

use super::relations::Unscaled;
use std::time::Duration;

/// Weights that share scales.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaledGroup {
    /// The weight that is divided by the scales.
    pub producer: String,
    /// The weights whose columns are multiplied by them.
    pub products: Vec<String>,
    /// The exponent of each set of scales.
    pub exponents: Vec<f64>,
    /// Loss of rounding without scales, relative to the mean square of the outputs.
    pub before: f64,
    /// Loss with scales.
    pub scaled: f64,
}

/// A weight that was clipped.
#[derive(Debug, Clone, PartialEq)]
pub struct Clipped {
    /// Name of the weight.
    pub weight: String,
    /// Loss of rounding without limits.
    pub before: f64,
    /// Loss with limits.
    pub after: f64,
}

/// Duration of each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AwqTimes {
    /// llama.cpp's rounding of whole files.
    pub rounding: Duration,
    /// Evaluation of the text, including the sums over inputs.
    pub evaluating: Duration,
    /// Search for scales.
    pub scales: Duration,
    /// Search for limits.
    pub limits: Duration,
    /// Writing the scaled model.
    pub writing: Duration,
}

/// What AWQ did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AwqReport {
    /// Weights that were scaled.
    pub groups: Vec<ScaledGroup>,
    /// Weights that were not scaled.
    pub unscaled: Vec<Unscaled>,
    /// Weights that were clipped.
    pub clipped: Vec<Clipped>,
    /// Tokens of calibration.
    pub tokens: usize,
    /// Evaluations of the text.
    pub passes: usize,
    /// Duration of each stage.
    pub times: AwqTimes,
}
