//! ggml's number formats: names, block sizes and bytes per block.

use crate::units::to_f64;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A number format that tensors are stored in, as ggml 0.26 knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GgmlType(&'static Format);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Format {
    number: u32,
    name: &'static str,
    block_weights: u64,
    block_bytes: u64,
}

const fn format(number: u32, name: &'static str, block_weights: u64, block_bytes: u64) -> Format {
    Format { number, name, block_weights, block_bytes }
}

/// Source: ggml 0.26, `enum ggml_type` in ggml.h and the `static_assert`s on block sizes in
/// ggml-common.h. Numbers that are missing were removed from ggml.
static FORMATS: [Format; 35] = [
    format(0, "F32", 1, 4),
    format(1, "F16", 1, 2),
    format(2, "Q4_0", 32, 18),
    format(3, "Q4_1", 32, 20),
    format(6, "Q5_0", 32, 22),
    format(7, "Q5_1", 32, 24),
    format(8, "Q8_0", 32, 34),
    format(9, "Q8_1", 32, 36),
    format(10, "Q2_K", 256, 84),
    format(11, "Q3_K", 256, 110),
    format(12, "Q4_K", 256, 144),
    format(13, "Q5_K", 256, 176),
    format(14, "Q6_K", 256, 210),
    format(15, "Q8_K", 256, 292),
    format(16, "IQ2_XXS", 256, 66),
    format(17, "IQ2_XS", 256, 74),
    format(18, "IQ3_XXS", 256, 98),
    format(19, "IQ1_S", 256, 50),
    format(20, "IQ4_NL", 32, 18),
    format(21, "IQ3_S", 256, 110),
    format(22, "IQ2_S", 256, 82),
    format(23, "IQ4_XS", 256, 136),
    format(24, "I8", 1, 1),
    format(25, "I16", 1, 2),
    format(26, "I32", 1, 4),
    format(27, "I64", 1, 8),
    format(28, "F64", 1, 8),
    format(29, "IQ1_M", 256, 56),
    format(30, "BF16", 1, 2),
    format(34, "TQ1_0", 256, 54),
    format(35, "TQ2_0", 256, 66),
    format(39, "MXFP4", 32, 17),
    format(40, "NVFP4", 64, 36),
    format(41, "Q1_0", 128, 18),
    format(42, "Q2_0", 64, 18),
];

impl GgmlType {
    /// Plain numbers of 32 bits.
    pub const F32: Self = Self(&FORMATS[0]);
    /// Plain numbers of 16 bits.
    pub const F16: Self = Self(&FORMATS[1]);

    /// Every format, by number.
    pub fn all() -> impl Iterator<Item = Self> {
        FORMATS.iter().map(Self)
    }

    /// The format that a GGUF names by this number.
    pub fn from_number(number: u32) -> Option<Self> {
        FORMATS.iter().find(|format| format.number == number).map(Self)
    }

    /// The format of this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        FORMATS.iter().find(|format| format.name.eq_ignore_ascii_case(name)).map(Self)
    }

    /// ggml's number of the format.
    pub fn number(self) -> u32 {
        self.0.number
    }

    /// ggml's name, in capitals.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Weights that share a block; rows are whole blocks.
    pub fn block_weights(self) -> u64 {
        self.0.block_weights
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        self.0.block_bytes
    }

    /// Bits per weight.
    pub fn bits_per_weight(self) -> f64 {
        to_f64(self.0.block_bytes) * 8.0 / to_f64(self.0.block_weights)
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.0.name)
    }
}

impl Serialize for GgmlType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for GgmlType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let unknown = || serde::de::Error::custom(format!("'{name}' is no type of ggml"));
        Self::from_name(&name).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_and_name_occurs_once() {
        for (index, format) in FORMATS.iter().enumerate() {
            for other in &FORMATS[index + 1..] {
                assert!(other.number > format.number, "{} before {}", format.name, other.name);
                assert_ne!(other.name, format.name);
            }
        }
    }

    #[test]
    fn bits_per_weight_are_the_known_ones() {
        for (name, bits) in
            [("F16", 16.0), ("Q8_0", 8.5), ("Q4_K", 4.5), ("Q6_K", 6.5625), ("IQ4_XS", 4.25)]
        {
            let format = GgmlType::from_name(name).unwrap();
            assert!((format.bits_per_weight() - bits).abs() < 1e-12, "{name}");
        }
    }
}
