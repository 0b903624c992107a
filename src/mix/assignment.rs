//! Assignments: one alternative for every group.

use super::groups::Group;
use crate::model::gguf::GgmlType;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The alternative of each group, by its place there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment(pub Vec<usize>);

impl Assignment {
    /// The places, as a meter wants them.
    pub fn places(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        self.0.iter().copied().map(Some)
    }

    /// Bytes of all groups in a file.
    #[must_use]
    pub fn bytes(&self, groups: &[Group]) -> u64 {
        let chosen = groups.iter().zip(&self.0);
        chosen.map(|(group, &place)| group.alternatives[place].bytes).sum()
    }

    /// The type of every tensor of the groups.
    #[must_use]
    pub fn types(&self, groups: &[Group]) -> BTreeMap<String, GgmlType> {
        let chosen = groups.iter().zip(&self.0);
        chosen
            .flat_map(|(group, &place)| {
                let formats = &group.alternatives[place].formats;
                group
                    .tensors
                    .iter()
                    .zip(formats)
                    .map(|(tensor, &format)| (tensor.name.clone(), format))
            })
            .collect()
    }

    /// SHA-256 of the types, hex.
    #[must_use]
    pub fn checksum(&self, groups: &[Group]) -> String {
        checksum(&self.types(groups))
    }
}

/// SHA-256 of types by tensor, hex.
#[must_use]
pub fn checksum(types: &BTreeMap<String, GgmlType>) -> String {
    let mut text = String::new();
    for (tensor, format) in types {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{tensor} {format}");
    }
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
