//! Which types the tensors of a file have, and where llama.cpp put another one than the file type asks for.
//!
//! A row is stored in whole blocks. Where its length is no multiple of a block, llama.cpp takes a type of
//! smaller blocks (`tensor_type_fallback` in llama-quant.cpp), and the file keeps its name.

use super::cache::of_bytes;
use super::file_type::FileType;
use super::gguf::{GgmlType, Header, Tensor};
use super::size::main_format;
use crate::units::count;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Weights of a super-block, in which K-quants and most IQ types are stored.
const SUPER_BLOCK: u64 = 256;

/// Weights of a block of the types that are put in; rows of another length stay in F16.
const SMALL_BLOCK: u64 = 32;

/// Types that llama.cpp puts in place of others.
const FALLBACKS: [&str; 5] = ["Q8_0", "Q5_1", "Q5_0", "Q4_0", "IQ4_NL"];

/// What llama.cpp gives outputs in most file types, and what it puts in place of that.
const OF_OUTPUTS: (&str, &str) = ("Q6_K", "Q8_0");

/// The types of a file's tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTypes {
    /// SHA-256 over names and types of all tensors: what has the same has the same types throughout.
    pub checksum: String,
    /// Weights that are matrices, in floating point or not.
    pub matrices: u32,
    /// How many of them have the type that gives the file type its name.
    pub as_named: u32,
    /// Types that others were put in place of, the most frequent first.
    pub substituted: Vec<Substituted>,
    /// Row lengths that are the reason, ascending.
    pub rows: Vec<u64>,
    /// What they are no multiple of.
    pub block: u64,
}

/// A type that stands in for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Substituted {
    /// ggml's name.
    #[serde(rename = "type")]
    pub format: String,
    /// Matrices that have it instead of another.
    pub tensors: u32,
}

impl StoredTypes {
    /// The types of a file, by its header.
    pub fn of(header: &Header) -> Self {
        let formats: Vec<GgmlType> = header.tensors.iter().map(|tensor| tensor.format).collect();
        // Types that were chosen tensor by tensor stand in for none.
        let chosen = header.get("quantbench.mix.types_sha256").is_some();
        Self::given(header, &formats, header.file_type().filter(|_| !chosen))
    }

    /// The types of a file of this type, made of `header`'s with these types in the order of its tensors.
    pub fn given(header: &Header, formats: &[GgmlType], file_type: Option<FileType>) -> Self {
        let named = file_type.and_then(main_format);
        let mut text = String::new();
        let mut types = Self { block: SUPER_BLOCK, ..Self::default() };
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        let mut rows = BTreeSet::new();
        let mut pairs: Vec<(&Tensor, &GgmlType)> = header.tensors.iter().zip(formats).collect();
        pairs.sort_by(|one, other| one.0.name.cmp(&other.0.name));
        for (tensor, &format) in pairs {
            text.extend([tensor.name.as_str(), "\0", format.name(), "\n"]);
            if !is_matrix(tensor) {
                continue;
            }
            types.matrices += 1;
            types.as_named += u32::from(Some(format) == named);
            let row = tensor.dimensions[0];
            if let Some(block) = file_type.and_then(|it| missed_block(it, tensor, format)) {
                *counts.entry(format.name()).or_default() += 1;
                types.block = block;
                rows.insert(row);
            }
        }
        types.checksum = of_bytes(text.as_bytes());
        let substituted = counts
            .into_iter()
            .map(|(name, tensors)| Substituted { format: name.to_owned(), tensors });
        types.substituted = substituted.collect();
        types.substituted.sort_by_key(|it| std::cmp::Reverse(it.tensors));
        types.rows = rows.into_iter().collect();
        types
    }

    /// `180 of 211 tensors are Q4_0, 1 Q8_0 (rows of 576 are no multiple of 256), none is Q2_K`; `None`:
    /// nothing was put in place of something else.
    pub fn told(&self, file_type: Option<FileType>) -> Option<String> {
        let (first, others) = self.substituted.split_first()?;
        let verb = if first.tensors == 1 { "is" } else { "are" };
        let all = count(self.matrices, "tensor");
        let mut text = format!("{} of {all} {verb} {}", first.tensors, first.format);
        for other in others {
            text = format!("{text}, {} {}", other.tensors, other.format);
        }
        let rows: Vec<String> = self.rows.iter().map(u64::to_string).collect();
        text = format!("{text} (rows of {} are no multiple of {})", rows.join(", "), self.block);
        if let Some(named) = file_type.and_then(main_format).filter(|_| self.as_named == 0) {
            text = format!("{text}, none is {named}");
        }
        Some(text)
    }
}

impl StoredTypes {
    /// What types were replaced of a file of this type. Types of small blocks have K-quants for single tensors, which are
    /// what rows do not fill; of all others the file type is the name.
    pub fn replaced(&self, file_type: FileType) -> String {
        let has_small_blocks =
            main_format(file_type).is_some_and(|named| named.block_weights() <= SMALL_BLOCK);
        let is_only = self.substituted.iter().all(|it| it.format == OF_OUTPUTS.1);
        match (has_small_blocks && self.block == SUPER_BLOCK, is_only) {
            (true, true) => OF_OUTPUTS.0.to_owned(),
            (true, false) => "K-quants".to_owned(),
            (false, _) => file_type.name().to_owned(),
        }
    }
}

/// A weight that llama.cpp rounds: what has one dimension, and norms, are kept as they are.
fn is_matrix(tensor: &Tensor) -> bool {
    let columns_only = tensor.dimensions.iter().skip(1).all(|&size| size == 1);
    tensor.name.ends_with("weight") && !tensor.name.contains("_norm.") && !columns_only
}

/// The block that rows do not fill, if that is why a tensor of a file of this type is stored so.
fn missed_block(file_type: FileType, tensor: &Tensor, format: GgmlType) -> Option<u64> {
    let named = main_format(file_type)?;
    let row = tensor.dimensions[0];
    if file_type.is_float() || format == named {
        return None;
    }
    if !row.is_multiple_of(SMALL_BLOCK) {
        return (format.name() == "F16").then_some(SMALL_BLOCK);
    }
    // Two file types have others of small blocks by their own rules, whatever the rows.
    let by_rule = matches!((file_type.name(), format.name()), ("MXFP4_MOE", _) | ("Q5_0", "Q5_1"));
    let own = named.block_weights();
    let block = if own > SMALL_BLOCK { own } else { SUPER_BLOCK };
    let stands_in = FALLBACKS.contains(&format.name()) && !by_rule && !row.is_multiple_of(block);
    stands_in.then_some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, row: u64, format: &str) -> Tensor {
        Tensor {
            name: name.to_owned(),
            format: GgmlType::from_name(format).unwrap(),
            dimensions: vec![row, 64],
            offset: 0,
            weights: row * 64,
            bytes: 0,
        }
    }

    fn types(file_type: &str, tensors: Vec<Tensor>) -> (StoredTypes, Option<String>) {
        let header = Header { version: 3, metadata: Vec::new(), tensors, file_bytes: 0, parts: 1 };
        let formats: Vec<GgmlType> = header.tensors.iter().map(|tensor| tensor.format).collect();
        let file_type: FileType = file_type.parse().unwrap();
        let types = StoredTypes::given(&header, &formats, Some(file_type));
        let told = types.told(Some(file_type));
        (types, told)
    }

    #[test]
    fn what_stands_in_for_another_type_is_told_with_the_reason() {
        let tensors = |down: &str| {
            vec![
                tensor("token_embd.weight", 576, "Q8_0"),
                tensor("blk.0.attn_q.weight", 576, "Q4_0"),
                tensor("blk.0.attn_k.weight", 576, "Q4_0"),
                tensor("blk.0.ffn_down.weight", 1536, down),
                Tensor { dimensions: vec![576], ..tensor("output_norm.weight", 576, "F32") },
            ]
        };
        let (types, told) = types("Q2_K", tensors("Q3_K"));
        let expected =
            "2 of 4 tensors are Q4_0, 1 Q8_0 (rows of 576 are no multiple of 256), none is Q2_K";
        assert_eq!(told.as_deref(), Some(expected));
        let (others, told) = super::tests::types("TQ2_0", tensors("Q3_K"));
        assert!(told.unwrap().ends_with("none is TQ2_0"));
        assert_eq!(others.checksum, types.checksum);
        assert_ne!(super::tests::types("Q2_K", tensors("Q4_K")).0.checksum, types.checksum);
    }

    #[test]
    fn what_was_replaced_is_not_what_the_file_is_called_after_where_rows_fill_that() {
        let replaced = |file_type: &str, row: u64, format: &str| {
            let tensors = vec![
                tensor("token_embd.weight", row, format),
                tensor("blk.0.attn_q.weight", 32, file_type),
            ];
            let types = types(file_type, tensors).0;
            assert_eq!(types.substituted.len(), 1, "{file_type}");
            types.replaced(file_type.parse().unwrap())
        };
        assert_eq!(replaced("Q4_1", 576, "Q8_0"), "Q6_K");
        assert_eq!(replaced("Q4_1", 576, "Q5_1"), "K-quants");
        assert_eq!(replaced("Q4_1", 100, "F16"), "Q4_1");
        assert_eq!(replaced("Q2_K", 576, "Q8_0"), "Q2_K");
    }

    #[test]
    fn types_that_belong_to_the_mix_stand_in_for_none() {
        for (file_type, row, format) in [
            ("Q4_K_M", 4096, "Q6_K"),
            ("Q4_0", 4096, "Q4_1"),
            ("Q8_0", 96, "Q8_0"),
            ("F16", 96, "F16"),
            ("Q5_0", 96, "Q5_1"),
            ("MXFP4_MOE", 96, "Q8_0"),
            // Left as it was in the source.
            ("Q4_K_M", 4096, "F16"),
        ] {
            let told = types(file_type, vec![tensor("blk.0.attn_v.weight", row, format)]).1;
            assert_eq!(told, None, "{file_type} {row} {format}");
        }
        let told = types("Q4_0", vec![tensor("blk.0.attn_v.weight", 100, "F16")]).1;
        let expected = "1 of 1 tensor is F16 (rows of 100 are no multiple of 32), none is Q4_0";
        assert_eq!(told.as_deref(), Some(expected));
    }
}
