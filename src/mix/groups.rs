//! Groups of tensors that get the same type, and the types that each can get.

use crate::engine::llama::blocks;
use crate::model::file_type::FileType;
use crate::model::gguf::{GgmlType, Header, Tensor};
use crate::model::size::fitting;
use crate::quantize::shape;
use crate::quantize::types::TensorTypes;
use std::collections::BTreeMap;

/// GGUF aligns tensors to multiples of this, bytes.
const ALIGNMENT: u64 = 32;

/// One tensor, or the same tensor of several neighbouring layers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// The tensor's name, or for several layers `blk.0-3.attn_q.weight`.
    pub(super) name: String,
    pub(super) tensors: Vec<Tensor>,
    /// Types to choose from, the smallest first.
    pub(super) alternatives: Vec<Alternative>,
}

/// One way to store a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alternative {
    /// A tensor whose rows do not fit it gets llama.cpp's substitute.
    pub(super) format: GgmlType,
    /// The type of each tensor.
    pub(super) formats: Vec<GgmlType>,
    /// Bytes in a file, padding included.
    pub(super) bytes: u64,
}

/// The tensors of `source` that llama.cpp rounds, as groups of `layers_per_group` layers.
///
/// `draft` is what llama.cpp made of it: tensors that it did not round, or that no type fits, are in no group. Types that
/// need an importance are offered only to tensors that have one; the token embedding has none.
pub(super) fn groups(
    source: &Header,
    draft: &Header,
    formats: &[GgmlType],
    layers_per_group: u32,
    has_importance: &dyn Fn(&str) -> bool,
) -> Vec<Group> {
    let rounded: BTreeMap<&str, GgmlType> =
        draft.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.format)).collect();
    let mut members: Vec<(String, Vec<Tensor>)> = Vec::new();
    for tensor in &source.tensors {
        let is_rounded = rounded
            .get(tensor.name.as_str())
            .is_some_and(|&format| format != tensor.format && format.block_weights() > 1);
        if !is_rounded {
            continue;
        }
        let name = group_name(&tensor.name, layers_per_group);
        match members.iter_mut().find(|(other, _)| *other == name) {
            Some((_, tensors)) => tensors.push(tensor.clone()),
            None => members.push((name, vec![tensor.clone()])),
        }
    }
    members
        .into_iter()
        .map(|(name, tensors)| {
            let weighted = tensors.iter().all(|tensor| has_importance(&tensor.name));
            let offered = formats.iter().filter(|format| weighted || !needs_importance(**format));
            let alternatives = alternatives(&tensors, offered);
            Group { name, tensors, alternatives }
        })
        .filter(|group| !group.alternatives.is_empty())
        .collect()
}

/// The name of the group that a tensor belongs to.
fn group_name(tensor: &str, layers_per_group: u32) -> String {
    let layer = tensor.strip_prefix("blk.").and_then(|rest| {
        let (layer, kind) = rest.split_once('.')?;
        Some((layer.parse::<u32>().ok()?, kind))
    });
    match layer {
        Some((layer, kind)) if layers_per_group > 1 => {
            let first = layer / layers_per_group * layers_per_group;
            format!("blk.{first}-{}.{kind}", first + layers_per_group - 1)
        }
        _ => tensor.to_owned(),
    }
}

fn alternatives<'a>(
    tensors: &[Tensor],
    formats: impl IntoIterator<Item = &'a GgmlType>,
) -> Vec<Alternative> {
    let mut alternatives: Vec<Alternative> = Vec::new();
    for &format in formats {
        let stored: Option<Vec<GgmlType>> =
            tensors.iter().map(|tensor| fitting(format, shape(tensor)[0] as u64)).collect();
        let Some(stored) = stored else { continue };
        if alternatives.iter().any(|other| other.formats == stored) {
            continue;
        }
        let bytes =
            tensors.iter().zip(&stored).map(|(tensor, &format)| bytes_as(tensor, format)).sum();
        // If all tensors get the same substitute, the alternative has its name.
        let format =
            if stored.iter().all(|other| *other == stored[0]) { stored[0] } else { format };
        alternatives.push(Alternative { format, formats: stored, bytes });
    }
    alternatives.sort_by_key(|alternative| alternative.bytes);
    alternatives
}

/// Whether llama.cpp refuses to round to a type without an importance matrix. These are more types than ggml refuses.
pub(super) fn needs_importance(format: GgmlType) -> bool {
    let file_type = format.name().parse::<FileType>();
    blocks::needs_importance(format) || file_type.is_ok_and(FileType::needs_importance_matrix)
}

/// Bytes of a tensor in a file, padding included.
pub(super) fn bytes_as(tensor: &Tensor, format: GgmlType) -> u64 {
    let bytes = tensor.weights / format.block_weights() * format.block_bytes();
    bytes.next_multiple_of(ALIGNMENT)
}

/// Index of each group's alternative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment(pub(super) Vec<usize>);

impl Assignment {
    /// Bytes of all groups in a file.
    pub(super) fn bytes(&self, groups: &[Group]) -> u64 {
        let chosen = groups.iter().zip(&self.0);
        chosen.map(|(group, &place)| group.alternatives[place].bytes).sum()
    }

    /// The type of every tensor of the groups.
    pub(super) fn types(&self, groups: &[Group]) -> BTreeMap<String, GgmlType> {
        let chosen = groups.iter().zip(&self.0);
        let of_group = |(group, &place): (&Group, &usize)| {
            let names = group.tensors.iter().map(|tensor| tensor.name.clone());
            names.zip(group.alternatives[place].formats.clone()).collect::<Vec<_>>()
        };
        chosen.flat_map(of_group).collect()
    }

    /// SHA-256 of the types, hex.
    pub(super) fn checksum(&self, groups: &[Group]) -> String {
        TensorTypes(self.types(groups)).checksum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(name: &str) -> GgmlType {
        GgmlType::from_name(name).unwrap()
    }

    fn tensor(name: &str, columns: u64, rows: u64, stored: &str) -> Tensor {
        let format = format(stored);
        let weights = columns * rows;
        let bytes = weights / format.block_weights() * format.block_bytes();
        Tensor {
            name: name.to_owned(),
            format,
            dimensions: vec![columns, rows],
            offset: 0,
            weights,
            bytes,
        }
    }

    #[test]
    fn types_of_few_bits_need_an_importance() {
        let needs = |name: &str| needs_importance(format(name));
        assert!(needs("IQ2_XS") && needs("IQ3_XXS") && needs("IQ2_S"));
        assert!(!needs("Q2_K") && !needs("Q3_K") && !needs("IQ4_XS") && !needs("IQ3_S"));
    }

    #[test]
    fn layers_side_by_side_share_a_group() {
        assert_eq!(group_name("blk.5.attn_q.weight", 1), "blk.5.attn_q.weight");
        assert_eq!(group_name("blk.5.attn_q.weight", 4), "blk.4-7.attn_q.weight");
        assert_eq!(group_name("token_embd.weight", 4), "token_embd.weight");
    }

    #[test]
    fn alternatives_rise_in_size_and_occur_once() {
        let wide = [tensor("a", 256, 4, "F16")];
        let found = alternatives(&wide, &[format("Q8_0"), format("Q2_K"), format("Q4_K")]);
        let names: Vec<&str> = found.iter().map(|alternative| alternative.format.name()).collect();
        assert_eq!(names, ["Q2_K", "Q4_K", "Q8_0"]);
        assert_eq!(found[1].bytes, 4 * 144);
        // Rows of 64 fit no block of 256: llama.cpp's substitutes, each once.
        let narrow = [tensor("a", 64, 4, "F16")];
        let found = alternatives(
            &narrow,
            &[format("Q2_K"), format("Q3_K"), format("Q6_K"), format("Q8_0")],
        );
        let names: Vec<&str> = found.iter().map(|alternative| alternative.format.name()).collect();
        assert_eq!(names, ["IQ4_NL", "Q8_0"]);
    }
}
