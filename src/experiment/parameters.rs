//! Parameters of methods: as the user writes them in `[calibration]` or as flags, and as the method is given them.
//!
//! The keys of the experiment are in `keys/table.rs`.

use super::reader::Located;
use crate::model::quantization::Method;
use crate::units::parse_within;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How methods are set. Whoever carries it passes it on as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// How GPTQ is done.
    pub gptq: GptqSettings,
}

impl Parameters {
    /// Those of one method in words; variants and files are told apart by them. `None`: it has none.
    pub fn of(&self, method: Method) -> Option<String> {
        match method {
            Method::Gptq => Some(self.gptq.to_string()),
            _ => None,
        }
    }
}

/// Flags of `quantbench quantize` for single methods.
#[derive(Debug, Clone, Args)]
pub struct ParameterFlags {
    /// GPTQ: part of the mean diagonal added to the Hessian's diagonal [0.01]
    #[arg(long, value_name = "X", value_parser = fraction)]
    damping: Option<f64>,
    /// GPTQ: times that every part of every block is chosen anew afterwards [4]
    #[arg(long, value_name = "N", value_parser = parse_within(0_u32..=100))]
    sweeps: Option<u32>,
}

impl ParameterFlags {
    /// The flags that were given, with their methods.
    pub fn given(&self) -> Vec<(&'static str, Method)> {
        let flags = [
            (self.damping.is_some(), "--damping", Method::Gptq),
            (self.sweeps.is_some(), "--sweeps", Method::Gptq),
        ];
        flags.into_iter().filter(|(given, ..)| *given).map(|(_, flag, it)| (flag, it)).collect()
    }

    /// What they come to.
    pub fn read(&self) -> Parameters {
        let mut parameters = Parameters::default();
        let gptq = &mut parameters.gptq;
        gptq.damping = self.damping.unwrap_or(gptq.damping);
        gptq.sweeps = self.sweeps.unwrap_or(gptq.sweeps);
        parameters
    }
}

/// A part of a whole, as a flag has it.
fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to 1".to_owned()),
    }
}

/// How GPTQ is done; docs/GPTQ.md defines what each part means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GptqSettings {
    /// Part of the mean diagonal that is added to the Hessian's diagonal.
    pub damping: f64,
    /// Times that every part of every block is chosen anew after GPTQ's own pass.
    pub sweeps: u32,
    /// What outputs are compared with.
    pub matching: Matching,
}

impl Default for GptqSettings {
    fn default() -> Self {
        Self { damping: 0.01, sweeps: 4, matching: Matching::Stream }
    }
}

impl fmt::Display for GptqSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { damping, sweeps, matching } = self;
        write!(formatter, "damping {damping}, sweeps {sweeps}, matching {matching}")
    }
}

/// What GPTQ compares the outputs of a matrix with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(strum::Display, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Matching {
    /// With those of the original matrix on the same inputs, as published.
    Nothing,
    /// With those of the original model.
    Outputs,
    /// And with the residual stream of the original model.
    #[default]
    Stream,
}

/// `[calibration.gptq]`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct GptqFile {
    damping: Located<f64>,
    sweeps: Located<u32>,
    matching: Located<Matching>,
}

impl GptqFile {
    pub(super) fn read(&self) -> GptqSettings {
        let Self { damping, sweeps, matching } = self;
        GptqSettings { damping: **damping, sweeps: **sweeps, matching: **matching }
    }
}
