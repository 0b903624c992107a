//! Types of single tensors, in place of those that a file type gives them.

use crate::engine::llama::quantize::FormatOverride;
use crate::model::cache::of_bytes;
use crate::model::gguf::{GgmlType, GgufError, Header};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The type of each tensor, by the tensor's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorTypes(pub BTreeMap<String, GgmlType>);

/// Why a file has not the types that were asked for.
#[derive(Debug, thiserror::Error)]
pub enum TypesError {
    /// The file cannot be read.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// llama.cpp did not take a type.
    #[error("llama.cpp stored '{name}' as {found}, not as {wanted}")]
    StoredOtherwise {
        /// Name of the tensor.
        name: String,
        /// Its type in the file.
        found: GgmlType,
        /// The type asked for.
        wanted: GgmlType,
    },
}

impl TensorTypes {
    /// SHA-256 of the types, hex; files say it.
    pub fn checksum(&self) -> String {
        let lines = self.0.iter().map(|(tensor, format)| format!("{tensor} {format}\n"));
        of_bytes(lines.collect::<String>().as_bytes())
    }

    /// In llama.cpp's form.
    pub(crate) fn overrides(&self) -> Vec<FormatOverride> {
        self.0.iter().map(|(name, &it)| FormatOverride::of_tensor(name, it)).collect()
    }

    /// Checks that a file has these types. Returns its size, bytes.
    pub(crate) fn check(&self, written: &Path) -> Result<u64, TypesError> {
        let written = Header::read(written)?;
        for tensor in &written.tensors {
            let wanted = self.0.get(&tensor.name).filter(|wanted| **wanted != tensor.format);
            if let Some(&wanted) = wanted {
                let (name, found) = (tensor.name.clone(), tensor.format);
                return Err(TypesError::StoredOtherwise { name, found, wanted });
            }
        }
        Ok(written.file_bytes)
    }
}
