//! Rows of ggml's formats as numbers: ggml's own dequantization.

use crate::model::gguf::GgmlType;
use llama_cpp_sys_2 as sys;

/// Writes the weights that `bytes` stand for, one row after the other or several at once.
///
/// `false`, and nothing written, if the bytes are no whole number of blocks, `out` has another length than
/// they have weights, or ggml cannot turn this format into numbers.
#[must_use]
pub fn dequantize_rows(format: GgmlType, bytes: &[u8], out: &mut [f32]) -> bool {
    let as_size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (block_bytes, block_weights) = (as_size(format.block_bytes()), as_size(format.block_weights()));
    if bytes.len() % block_bytes != 0 || bytes.len() / block_bytes * block_weights != out.len() {
        return false;
    }
    if format.name() == "F32" {
        for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        return true;
    }
    // SAFETY: ggml has an entry for every number that `GgmlType` knows, and never changes it.
    let traits = unsafe { sys::ggml_get_type_traits(format.number()).as_ref() };
    let Some(to_float) = traits.and_then(|traits| traits.to_float) else { return false };
    let Ok(count) = i64::try_from(out.len()) else { return false };
    // SAFETY: the function reads whole blocks and writes as many numbers as they hold; both lengths were
    // checked. ggml reads blocks byte by byte or through two-byte fields, as x86 and ARM allow anywhere.
    unsafe { to_float(bytes.as_ptr().cast(), out.as_mut_ptr(), count) };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_blocks_give_known_numbers() {
        let format = |name| GgmlType::from_name(name).unwrap();
        let mut out = [0.0; 32];
        let mut bytes = vec![0x00, 0x38]; // one half in half precision
        bytes.extend([0xf0; 16]);
        assert!(dequantize_rows(format("Q4_0"), &bytes, &mut out));
        assert_eq!(out[0], -4.0);
        assert_eq!(out[16], 3.5);
        assert!(dequantize_rows(format("F32"), &1.5_f32.to_le_bytes(), &mut out[..1]));
        assert_eq!(out[0], 1.5);
    }

    #[test]
    fn wrong_lengths_and_formats_are_refused() {
        let format = |name| GgmlType::from_name(name).unwrap();
        assert!(!dequantize_rows(format("Q4_0"), &[0; 17], &mut [0.0; 32]));
        assert!(!dequantize_rows(format("Q4_0"), &[0; 18], &mut [0.0; 31]));
        assert!(!dequantize_rows(format("I32"), &[0; 4], &mut [0.0; 1]));
    }
}
