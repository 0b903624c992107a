//! Tensor entries of a GGUF.

use super::cursor::Cursor;
use super::error::GgufError;
use super::ggml_type::GgmlType;

/// ggml's `GGML_MAX_DIMS`.
const MOST_DIMENSIONS: u32 = 4;

/// ggml's `GGML_MAX_NAME`, terminating zero excluded.
const LONGEST_NAME: u64 = 63;

/// What a GGUF says about one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// The format it is stored in.
    pub format: GgmlType,
    /// Its dimensions, the row length first.
    pub dimensions: Vec<u64>,
    /// Where it begins, from the start of the data section.
    pub offset: u64,
    /// Number of weights.
    pub weights: u64,
    /// Bytes of its data.
    pub bytes: u64,
}

impl Tensor {
    pub(super) fn read(cursor: &mut Cursor) -> Result<Self, GgufError> {
        let name = cursor.short_text(LONGEST_NAME, "the name of a tensor")?;
        let at = cursor.offset();
        let count = cursor.u32(&name)?;
        if count > MOST_DIMENSIONS {
            let what = format!("the number of dimensions of '{name}'");
            return Err(cursor.too_large(&what, at, count.into(), MOST_DIMENSIONS.into()));
        }
        let dimensions: Vec<u64> =
            (0..count).map(|_| cursor.u64(&name)).collect::<Result<_, _>>()?;
        let at = cursor.offset();
        let code = cursor.u32(&name)?;
        let format = GgmlType::from_number(code).ok_or_else(|| GgufError::UnknownType {
            path: cursor.path().to_owned(),
            what: format!("tensor '{name}'"),
            offset: at,
            code,
        })?;
        let offset = cursor.u64(&name)?;
        let inconsistent = |problem: String| GgufError::Inconsistent {
            path: cursor.path().to_owned(),
            problem: format!("tensor '{name}' {problem}"),
        };
        // ggml counts in signed 64-bit numbers. A dimension of 0 must not hide that the others are
        // too large: products of some of them are needed, too.
        let most = dimensions
            .iter()
            .try_fold(1_u64, |product, &dimension| product.checked_mul(dimension.max(1)))
            .filter(|&weights| i64::try_from(weights).is_ok())
            .ok_or_else(|| inconsistent(format!("has impossible dimensions {dimensions:?}")))?;
        let weights = if dimensions.contains(&0) { 0 } else { most };
        let row = dimensions.first().copied().unwrap_or(1);
        if row % format.block_weights() != 0 {
            return Err(inconsistent(format!(
                "has rows of {row} weights, which {format} cannot store (blocks of {})",
                format.block_weights()
            )));
        }
        let bytes = (weights / format.block_weights())
            .checked_mul(format.block_bytes())
            .ok_or_else(|| inconsistent(format!("has impossible dimensions {dimensions:?}")))?;
        Ok(Self { name, format, dimensions, offset, weights, bytes })
    }
}
