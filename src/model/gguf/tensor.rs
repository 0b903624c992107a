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
        let at = cursor.offset;
        let count = cursor.u32(&name)?;
        if count > MOST_DIMENSIONS {
            let what = format!("the number of dimensions of '{name}'");
            return Err(cursor.too_large(&what, at, count.into(), MOST_DIMENSIONS.into()));
        }
        let dimensions: Vec<u64> =
            (0..count).map(|_| cursor.u64(&name)).collect::<Result<_, _>>()?;
        let at = cursor.offset;
        let code = cursor.u32(&name)?;
        let format = GgmlType::from_number(code)
            .ok_or_else(|| cursor.unknown_type(&format!("tensor '{name}'"), at, code))?;
        let offset = cursor.u64(&name)?;
        let (weights, bytes) = size(format, &dimensions)
            .map_err(|problem| cursor.inconsistent(&format!("tensor '{name}' {problem}")))?;
        Ok(Self { name, format, dimensions, offset, weights, bytes })
    }
}

/// Weights and bytes of a tensor.
///
/// # Errors
/// What is wrong with it, in words that follow its name.
pub fn size(format: GgmlType, dimensions: &[u64]) -> Result<(u64, u64), String> {
    let impossible = || format!("has impossible dimensions {dimensions:?}");
    // ggml counts in signed 64-bit numbers. A dimension of 0 must not hide that the others are
    // too large: products of some of them are needed, too.
    let most = dimensions
        .iter()
        .try_fold(1_u64, |product, &dimension| product.checked_mul(dimension.max(1)))
        .filter(|&weights| i64::try_from(weights).is_ok())
        .ok_or_else(impossible)?;
    let weights = if dimensions.contains(&0) { 0 } else { most };
    let (row, block) = (dimensions.first().copied().unwrap_or(1), format.block_weights());
    if row % block != 0 {
        return Err(format!(
            "has rows of {row} weights, which {format} cannot store (blocks of {block})"
        ));
    }
    let bytes = (weights / block).checked_mul(format.block_bytes());
    let bytes = bytes.filter(|&bytes| i64::try_from(bytes).is_ok()).ok_or_else(impossible)?;
    Ok((weights, bytes))
}
