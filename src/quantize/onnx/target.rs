//! What a model can be written as.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// How the weights of a graph are stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum, Display, EnumString,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Target {
    /// 32 bits, floating point
    Fp32,
    /// 16 bits, floating point, and so are activations and the key-value cache
    Fp16,
    /// 8 bits in blocks of 32: MatMulNBits
    Int8,
    /// 8 bits, a scale per row, and activations rounded by the range that each has: MatMulInteger
    Int8Dynamic,
    /// 4 bits in blocks of 32, and 8 bits for the embedding and the output: MatMulNBits
    Int4,
    /// The same with zero points, scales searched for as K-quants do
    Int4Kquant,
}

impl Target {
    /// The name of the graph's file, by which programs for this layout find it.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Fp32 => "model.onnx",
            Self::Fp16 => "model_fp16.onnx",
            Self::Int8 => "model_int8.onnx",
            Self::Int8Dynamic => "model_quantized.onnx",
            Self::Int4 => "model_q4.onnx",
            Self::Int4Kquant => "model_q4_kquant.onnx",
        }
    }

    /// Whether weights are rounded.
    #[must_use]
    pub const fn rounds(self) -> bool {
        !matches!(self, Self::Fp32 | Self::Fp16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_name_and_a_file_of_its_own() {
        let all = Target::value_variants();
        for target in all {
            assert_eq!(target.to_string().parse(), Ok(*target));
            assert_eq!(target.to_possible_value().unwrap().get_name(), target.to_string());
            let same = all.iter().filter(|it| it.file_name() == target.file_name());
            assert_eq!(same.count(), 1, "{target}");
        }
    }
}
