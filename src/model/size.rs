//! How large a variant will be, judged from the source's tensors before it is made.

use super::file_type::FileType;
use super::gguf::{GgmlType, Header, Tensor};
use super::quantization::Quantization;
use crate::units::to_f64;

/// Mixes give some tensors more bits than their name says: up to a third of them in `_M` and `_L`.
const MIX: f64 = 1.35;

/// llama.cpp's alignment of tensors in what it writes.
const ALIGNMENT: u64 = 32;

/// Keys that llama.cpp adds to what it writes.
const ADDED_KEYS: [&str; 2] = ["general.quantization_version", "general.file_type"];

/// llama.cpp stores token embeddings and output in up to `Q8_0` whatever the type.
const OUTER_BITS: f64 = 8.5;

/// The ggml format that gives a file type its name.
pub fn main_format(file_type: FileType) -> Option<GgmlType> {
    let name = file_type.name();
    if let Some(format) = GgmlType::from_name(name) {
        return Some(format);
    }
    match name {
        "IQ3_M" | "IQ3_XS" => GgmlType::from_name("IQ3_S"),
        "IQ2_M" => GgmlType::from_name("IQ2_S"),
        "Q4_1_SOME_F16" => GgmlType::from_name("Q4_1"),
        _ => GgmlType::from_name(name.rsplit_once('_')?.0),
    }
}

/// The type itself if rows of `columns` weights fit it, else the one that llama.cpp takes instead.
pub fn fitting(format: GgmlType, columns: u64) -> Option<GgmlType> {
    let fits = |format: &GgmlType| columns.is_multiple_of(format.block_weights());
    if fits(&format) {
        return Some(format);
    }
    let substitute = match format.name() {
        "Q4_K" => "Q5_0",
        "Q5_K" => "Q5_1",
        "Q6_K" => "Q8_0",
        name if name.starts_with("IQ") || matches!(name, "Q2_K" | "Q3_K" | "TQ1_0" | "TQ2_0") => {
            "IQ4_NL"
        }
        _ => return None,
    };
    GgmlType::from_name(substitute).filter(fits)
}

/// Bytes that `source` takes as `file_type`, rounded up generously: for checking the disk.
pub fn expected_bytes(source: &Header, file_type: FileType) -> u64 {
    let format = main_format(file_type);
    let tensors: u64 = source.tensors.iter().map(|tensor| tensor_bytes(tensor, format)).sum();
    let header = source.file_bytes.saturating_sub(source.tensor_bytes());
    tensors.saturating_add(header)
}

/// Bytes that a source of so many bytes takes as `file_type`, rounded up generously; of floating point numbers
/// that were stored as `own`.
pub fn expected_of(source_bytes: u64, own: Quantization, file_type: FileType) -> u64 {
    let bits = |file_type: FileType| main_format(file_type).map_or(32.0, GgmlType::bits_per_weight);
    let own_bits = own.file_type().map_or(16.0, bits);
    let ratio = (bits(file_type) * MIX).max(OUTER_BITS).min(own_bits) / own_bits;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a size that is one"
    )]
    let bytes = (to_f64(source_bytes) * ratio).ceil() as u64;
    bytes
}

/// Bytes that `source` takes with these types in the order of its tensors, each padded as llama.cpp pads them.
pub fn bytes_as(source: &Header, formats: &[GgmlType]) -> u64 {
    let padded = |bytes: u64| bytes.next_multiple_of(ALIGNMENT);
    let own: u64 = source.tensors.iter().map(|tensor| padded(tensor.bytes)).sum();
    let missing = ADDED_KEYS.iter().filter(|key| source.get(key).is_none());
    // A length, the key, the kind of its value, and a number.
    let added: u64 = missing.map(|key| 8 + key.len() as u64 + 4 + 4).sum();
    let header = padded(source.file_bytes.saturating_sub(own) + added);
    let new = source.tensors.iter().zip(formats).map(|(tensor, format)| {
        let blocks = tensor.weights / format.block_weights();
        padded(blocks.saturating_mul(format.block_bytes()))
    });
    new.fold(header, u64::saturating_add)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; the product is positive and far below 2^64"
)]
fn tensor_bytes(tensor: &Tensor, format: Option<GgmlType>) -> u64 {
    let columns = tensor.dimensions.first().copied().unwrap_or(1);
    let format = format.and_then(|format| fitting(format, columns));
    let bits = format.map_or(32.0, GgmlType::bits_per_weight);
    let is_outer = tensor.name.starts_with("token_embd") || tensor.name.starts_with("output");
    let bits = match tensor.dimensions.len() {
        0 | 1 => 32.0,
        _ if is_outer => bits.max(OUTER_BITS),
        _ if bits < OUTER_BITS => (bits * MIX).min(OUTER_BITS),
        _ => bits,
    };
    (tensor.weights as f64 * bits / 8.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_type_has_a_main_format() {
        for file_type in FileType::all() {
            let format = main_format(file_type);
            assert!(format.is_some(), "{file_type}");
            let format = format.unwrap().name();
            let stem = &file_type.name()[..3];
            assert!(format.starts_with(stem), "{file_type} is not {format}");
        }
        let name = |text: &str| main_format(text.parse().unwrap()).unwrap().name();
        assert_eq!((name("Q4_K_M"), name("IQ3_M"), name("Q2_K_S")), ("Q4_K", "IQ3_S", "Q2_K"));
        assert_eq!((name("MXFP4_MOE"), name("IQ1_M")), ("MXFP4", "IQ1_M"));
    }

    #[test]
    fn rows_that_do_not_fit_take_what_stands_in_for_their_type() {
        let bytes = |file_type: &str, columns: u64| {
            let tensor = Tensor {
                name: "blk.0.ffn_up.weight".to_owned(),
                dimensions: vec![columns, 4],
                weights: 4 * columns,
                bytes: 8 * columns,
                offset: 0,
                format: GgmlType::from_name("F16").unwrap(),
            };
            tensor_bytes(&tensor, main_format(file_type.parse().unwrap()))
        };
        // Q2_K has 84 bytes for 256 weights, Q4_0 18 for 32.
        assert!(bytes("Q2_K", 576) >= 4 * 18 * 18 && bytes("Q2_K", 512) < 4 * 16 * 18);
    }
}
