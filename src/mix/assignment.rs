//! Assignments: one alternative for every group.

use super::groups::Group;
use crate::model::gguf::GgmlType;
use crate::quantize::types::TensorTypes;
use std::collections::BTreeMap;

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
