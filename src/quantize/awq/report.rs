//! What AWQ did to every weight, and where the time went.

use super::relations::Unscaled;
use std::time::Duration;

/// Weights that were scaled together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What the scale was taken out of.
    pub producer: String,
    /// What it was put into.
    pub products: Vec<String>,
    /// The exponent of each set of scales.
    pub exponents: Vec<f64>,
    /// Loss of rounding without scales, in units of the outputs' mean square.
    pub before: f64,
    /// Loss with scales.
    pub scaled: f64,
}

/// Limits of a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Clipped {
    /// Its name.
    pub weight: String,
    /// Loss of rounding without limits.
    pub before: f64,
    /// Loss with them.
    pub after: f64,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// llama.cpp's rounding of whole files.
    pub rounding: Duration,
    /// Evaluating the text, with sums over inputs.
    pub evaluating: Duration,
    /// Searching scales.
    pub scales: Duration,
    /// Searching limits.
    pub limits: Duration,
    /// Writing the scaled model.
    pub writing: Duration,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Weights that were scaled.
    pub groups: Vec<Group>,
    /// Weights that were not, and why.
    pub unscaled: Vec<Unscaled>,
    /// Weights that were clipped.
    pub clipped: Vec<Clipped>,
    /// Tokens of calibration.
    pub tokens: usize,
    /// Evaluations of the text.
    pub passes: usize,
    /// Where the time went.
    pub times: Times,
}
