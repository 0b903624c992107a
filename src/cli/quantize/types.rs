//! What a file that was made holds besides what its name says.

use crate::cli::output;
use crate::model::gguf::Header;
use crate::model::quantization::Quantization;
use crate::model::stored_types::StoredTypes;
use std::path::Path;

/// The types of the files that were made so far.
#[derive(Default)]
pub(super) struct TypeNotes {
    made: Vec<(Quantization, StoredTypes)>,
}

impl TypeNotes {
    /// Says what was put in place of other types, and which file made before has the same ones.
    pub(super) fn tell(&mut self, quantization: Quantization, path: &Path) {
        // It was read when it was written; if it is gone since, there is nothing to say of it.
        let Ok(header) = Header::read(path) else { return };
        for note in self.notes(quantization, StoredTypes::of(&header)) {
            output::tell(&format!("note: {note}"));
        }
    }

    fn notes(&mut self, quantization: Quantization, types: StoredTypes) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        let told = types.told(quantization.file_type());
        notes.extend(told.map(|told| format!("{quantization} here: {told}")));
        let same = self.made.iter().find(|(other, others)| {
            other.method == quantization.method && others.checksum == types.checksum
        });
        notes.extend(same.map(|(other, _)| {
            format!("{quantization} is {other} under another name: all tensors have the same types")
        }));
        self.made.push((quantization, types));
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_file_of_the_same_types_is_told() {
        let types = |checksum: &str| StoredTypes {
            checksum: checksum.to_owned(),
            matrices: 2,
            as_named: 2,
            substituted: Vec::new(),
            rows: Vec::new(),
            block: 256,
        };
        let mut told = TypeNotes::default();
        let mut notes = |name: &str, checksum| told.notes(name.parse().unwrap(), types(checksum));
        assert!(notes("Q4_0", "a").is_empty());
        assert!(notes("imatrix:Q2_K", "a").is_empty());
        assert_eq!(
            notes("Q2_K", "a"),
            ["Q2_K is Q4_0 under another name: all tensors have the same types"]
        );
    }
}
