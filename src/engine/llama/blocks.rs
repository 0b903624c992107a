//! Rows of weights in ggml's number formats: from and to f32, with ggml's own code.

use crate::engine::error::EngineError;
use crate::model::gguf::GgmlType;
use llama_cpp_sys_2 as sys;

/// Bytes of a row of `columns` weights; `None` if the row is no whole number of blocks.
#[must_use]
pub fn row_bytes(format: GgmlType, columns: usize) -> Option<usize> {
    let block = usize::try_from(format.block_weights()).ok()?;
    let bytes = usize::try_from(format.block_bytes()).ok()?;
    if columns == 0 || !columns.is_multiple_of(block) {
        return None;
    }
    (columns / block).checked_mul(bytes)
}

/// Whether ggml can round to this format: integers and formats of intermediate results are none.
#[must_use]
pub fn can_quantize(format: GgmlType) -> bool {
    !matches!(format.name(), "Q8_1" | "Q8_K" | "I8" | "I16" | "I32" | "I64" | "F64")
}

/// Whether ggml rounds to this format only with an importance row.
#[must_use]
pub fn needs_importance(format: GgmlType) -> bool {
    // SAFETY: looks a number up.
    unsafe { sys::ggml_quantize_requires_imatrix(format.number()) }
}

/// Whole blocks as f32, appended to `values`.
///
/// # Errors
/// [`EngineError::Blocks`] if the bytes are no whole blocks, or the format holds no weights.
pub fn dequantize(
    format: GgmlType,
    bytes: &[u8],
    values: &mut Vec<f32>,
) -> Result<(), EngineError> {
    let failed =
        |reason: &str| EngineError::Blocks { format: format.name(), reason: reason.to_owned() };
    let block_bytes = usize::try_from(format.block_bytes()).unwrap_or(usize::MAX);
    let block_weights = usize::try_from(format.block_weights()).unwrap_or(usize::MAX);
    if !bytes.len().is_multiple_of(block_bytes) {
        return Err(failed("the bytes are no whole number of blocks"));
    }
    if format.name() == "F32" {
        let read = |bytes: &[u8]| f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        values.extend(bytes.chunks_exact(4).map(read));
        return Ok(());
    }
    let count = bytes.len() / block_bytes * block_weights;
    // SAFETY: returns a pointer into ggml's own table, valid for every number in GgmlType.
    let traits = unsafe { &*sys::ggml_get_type_traits(format.number()) };
    let Some(to_float) = traits.to_float else {
        return Err(failed("ggml cannot turn this format into f32"));
    };
    let start = values.len();
    values.resize(start + count, 0.0);
    let length = i64::try_from(count).map_err(|_| failed("the bytes are too many"))?;
    // ggml reads blocks at their alignment; a slice of bytes may lie anywhere.
    let aligned = aligned_copy(bytes);
    // SAFETY: the input holds `count` weights in whole blocks, the output has room for them.
    unsafe { to_float(aligned.as_ptr().cast(), values[start..].as_mut_ptr(), length) };
    Ok(())
}

/// Rounds rows of `columns` weights each; `importance` weighs the columns, the same for all rows.
///
/// # Errors
/// [`EngineError::Blocks`] if lengths do not fit the format, a value is not finite, or the format
/// needs an importance row and has none.
pub fn quantize(
    format: GgmlType,
    rows: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, EngineError> {
    let failed =
        |reason: &str| EngineError::Blocks { format: format.name(), reason: reason.to_owned() };
    if !can_quantize(format) {
        return Err(failed("ggml cannot round to this format"));
    }
    let row_bytes = row_bytes(format, columns).ok_or_else(|| {
        failed(&format!("a row of {columns} weights is no whole number of blocks"))
    })?;
    if !rows.len().is_multiple_of(columns) {
        return Err(failed("the weights are no whole number of rows"));
    }
    if importance.is_some_and(|importance| importance.len() != columns) {
        return Err(failed("the importance row has another length than the rows"));
    }
    if importance.is_none() && needs_importance(format) {
        return Err(failed("this format needs an importance matrix"));
    }
    if !rows.iter().chain(importance.unwrap_or_default()).all(|value| value.is_finite()) {
        return Err(failed("a weight or an importance is not a finite number"));
    }
    let count = rows.len() / columns;
    // u64 keeps the alignment that ggml's blocks need.
    let bytes = count * row_bytes;
    let mut output = vec![0_u64; bytes.div_ceil(8)];
    let (Ok(n_rows), Ok(n_columns)) = (i64::try_from(count), i64::try_from(columns)) else {
        return Err(failed("the rows are too many"));
    };
    // SAFETY: input, output and importance row have the lengths that were checked above; ggml
    // allows the call from several threads.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            format.number(),
            rows.as_ptr(),
            output.as_mut_ptr().cast(),
            0,
            n_rows,
            n_columns,
            importance.map_or(std::ptr::null(), <[f32]>::as_ptr),
        )
    };
    if written != bytes {
        return Err(failed("ggml wrote another number of bytes than the format has"));
    }
    Ok(bytemuck::cast_slice::<u64, u8>(&output)[..bytes].to_vec())
}

/// Whole blocks as f32.
///
/// # Errors
/// As [`dequantize`].
pub fn values(format: GgmlType, bytes: &[u8]) -> Result<Vec<f32>, EngineError> {
    let mut values = Vec::new();
    dequantize(format, bytes, &mut values)?;
    Ok(values)
}

/// Rows, rounded and read back.
///
/// # Errors
/// As [`quantize`].
pub fn rounded(
    format: GgmlType,
    rows: &[f32],
    columns: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<f32>, EngineError> {
    values(format, &quantize(format, rows, columns, importance)?)
}

fn aligned_copy(bytes: &[u8]) -> Vec<u64> {
    let mut copy = vec![0_u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut::<u64, u8>(&mut copy)[..bytes.len()].copy_from_slice(bytes);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::llama::backend::Backend;

    fn format(name: &str) -> GgmlType {
        GgmlType::from_name(name).unwrap()
    }

    fn ramp(count: usize) -> Vec<f32> {
        (0..count)
            .map(|index| f32::from(u16::try_from(index % 199).unwrap()) / 99.0 - 1.0)
            .collect()
    }

    /// The tables of this program and of ggml must agree, or rows are read past their end.
    #[test]
    fn sizes_are_those_of_the_linked_ggml() {
        for format in GgmlType::all() {
            // SAFETY: looks a number up.
            let sizes = unsafe {
                (sys::ggml_blck_size(format.number()), sys::ggml_type_size(format.number()))
            };
            let expected = (
                i64::try_from(format.block_weights()).unwrap(),
                usize::try_from(format.block_bytes()).unwrap(),
            );
            assert_eq!(sizes, expected, "{format}");
        }
    }

    #[test]
    fn every_format_comes_back_near_what_went_in() {
        let _backend = Backend::initialise();
        let values = ramp(512);
        let importance = vec![1.0; 256];
        for format in GgmlType::all().filter(|format| can_quantize(*format)) {
            let bytes = quantize(format, &values, 256, Some(&importance)).unwrap();
            assert_eq!(bytes.len(), 2 * row_bytes(format, 256).unwrap(), "{format}");
            let mut back = Vec::new();
            dequantize(format, &bytes, &mut back).unwrap();
            let error: f32 = values.iter().zip(&back).map(|(a, b)| (a - b).powi(2)).sum();
            let power: f32 = values.iter().map(|a| a * a).sum();
            assert!(error < 0.5 * power, "{format}: {error} of {power}");
        }
    }

    /// Columns that matter and columns that do not share every block, so that its scale must choose.
    #[test]
    fn importance_moves_the_error_to_columns_that_matter_less() {
        let _backend = Backend::initialise();
        // A fixed sequence without a pattern (Knuth's multiplicative hash).
        let values: Vec<f32> = (0..4096_u32)
            .map(|index| {
                f32::from((index.wrapping_mul(2_654_435_761) >> 16) as u16) / 32768.0 - 1.0
            })
            .collect();
        let importance: Vec<f32> =
            (0..256).map(|column| if column % 4 == 0 { 1000.0 } else { 1.0 }).collect();
        let error = |importance: Option<&[f32]>| {
            let bytes = quantize(format("Q4_0"), &values, 256, importance).unwrap();
            let mut back = Vec::new();
            dequantize(format("Q4_0"), &bytes, &mut back).unwrap();
            let pairs = values.iter().zip(&back).step_by(4);
            pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>()
        };
        assert!(error(Some(&importance)) < 0.9 * error(None));
    }

    #[test]
    fn wrong_lengths_and_values_are_refused() {
        let refused = |rows: &[f32], columns, importance: Option<&[f32]>, name: &str| {
            let error = quantize(format(name), rows, columns, importance).unwrap_err();
            error.to_string()
        };
        assert!(refused(&ramp(40), 20, None, "Q4_0").contains("whole number of blocks"));
        assert!(refused(&ramp(40), 32, None, "Q4_0").contains("whole number of rows"));
        assert!(refused(&ramp(32), 32, Some(&[1.0]), "Q4_0").contains("another length"));
        assert!(refused(&ramp(256), 256, None, "IQ2_XXS").contains("importance matrix"));
        assert!(refused(&[f32::NAN; 32], 32, None, "Q4_0").contains("finite"));
        assert!(refused(&ramp(32), 32, None, "I8").contains("cannot round"));
        assert!(dequantize(format("Q4_0"), &[0; 19], &mut Vec::new()).is_err());
        assert!(dequantize(format("I32"), &[0; 4], &mut Vec::new()).is_err());
    }
}
