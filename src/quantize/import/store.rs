//! Layers as blocks of a GGUF, without rounding a code a second time.
//!
//! | zero points | stored as | loss |
//! | --- | --- | --- |
//! | any, 2 and 3 bits; 8, 4 bits | `Q4_0`: d · (q − 8) | none but the scale's in F16 |
//! | any, 4 bits | `Q4_1`: d · q + m | the scale's and m = −scale · zero's in F16 |
//! | 128, 8 bits | `Q8_0`: d · q | none but the scale's in F16 |
//! | any, 8 bits | `F16` | each weight's in F16 |

use super::error::ImportError;
use super::unpack::Layer;
use crate::model::gguf::GgmlType;
use half::f16;

/// Weights in a block.
const BLOCK: usize = 32;

/// How a layer is stored; the names are ggml's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
pub(crate) enum Storage {
    #[strum(serialize = "Q4_0")]
    Centred,
    #[strum(serialize = "Q8_0")]
    Bytes,
    #[strum(serialize = "Q4_1")]
    WithMinimum,
    #[strum(serialize = "F16")]
    Half,
}

impl Storage {
    /// What layers with these zero points can be stored as.
    pub(crate) fn of(bits: u32, zeros: &[u16]) -> Self {
        if bits == 8 {
            return if zeros.iter().all(|&zero| zero == 128) { Self::Bytes } else { Self::Half };
        }
        // `q` becomes `q + 8 - zero`, which has to be from 0 to 15.
        let largest = (1_u16 << bits) - 1;
        let fits = |&zero: &u16| zero <= 8 && largest + 8 - zero <= 15;
        if zeros.iter().all(fits) { Self::Centred } else { Self::WithMinimum }
    }

    /// What can store both.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            // Experts of 4 and of 8 bits in one tensor.
            (Self::Bytes, Self::WithMinimum) | (Self::WithMinimum, Self::Bytes) => Self::Half,
            _ => self.max(other),
        }
    }

    /// ggml's format.
    pub(crate) fn format(self) -> Option<GgmlType> {
        GgmlType::from_name(self.into())
    }
}

/// The rows of a module's layer, in this order, as a GGUF stores them.
///
/// # Errors
/// When a scale or minimum does not fit into F16.
pub(crate) fn store(
    layer: &Layer,
    module: &str,
    order: &[usize],
    storage: Storage,
) -> Result<Vec<u8>, ImportError> {
    let mut bytes = Vec::new();
    for &row in order {
        for block in 0..layer.shape.columns / BLOCK {
            put_block(&mut bytes, layer, row, block, storage).ok_or_else(|| {
                let problem = format!("has a scale in row {row} that F16 cannot hold");
                ImportError::tensor(&format!("{module}.scales"), problem)
            })?;
        }
    }
    Ok(bytes)
}

fn put_block(
    bytes: &mut Vec<u8>,
    layer: &Layer,
    row: usize,
    block: usize,
    storage: Storage,
) -> Option<()> {
    let first = row * layer.shape.columns + block * BLOCK;
    let codes = &layer.codes[first..first + BLOCK];
    let group = row * layer.shape.groups() + block * BLOCK / layer.shape.group;
    let (scale, zero) = (layer.scales[group], layer.zeros[group]);
    let half = |value: f32| Some(f16::from_f32(value)).filter(|half| half.is_finite());
    let relative = |code: u8| i32::from(code) - i32::from(zero);
    let mut put = |value: f32| half(value).map(|half| bytes.extend(half.to_le_bytes()));
    match storage {
        Storage::Centred => {
            put(scale)?;
            put_nibbles(bytes, codes, |code| (relative(code) + 8).to_le_bytes()[0]);
        }
        Storage::WithMinimum => {
            put(scale)?;
            put(-scale * f32::from(zero))?;
            put_nibbles(bytes, codes, |code| code);
        }
        Storage::Bytes => {
            put(scale)?;
            bytes.extend(codes.iter().map(|&code| relative(code).to_le_bytes()[0]));
        }
        Storage::Half => {
            for &code in codes {
                put(scale * (f32::from(code) - f32::from(zero)))?;
            }
        }
    }
    Some(())
}

/// Weights 0 to 15 in the low halves of 16 bytes, 16 to 31 in the high ones.
fn put_nibbles(bytes: &mut Vec<u8>, codes: &[u8], nibble: impl Fn(u8) -> u8) {
    let (low, high) = codes.split_at(BLOCK / 2);
    bytes.extend(low.iter().zip(high).map(|(&low, &high)| nibble(low) & 15 | nibble(high) << 4));
}
