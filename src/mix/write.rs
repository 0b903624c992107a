//! Writing: llama.cpp rounds the file, with the types of a recipe.

use super::recipe::Recipe;
use super::{MixError, Request, threads};
use crate::engine::llama::backend::Backend;
use crate::engine::llama::quantize::{
    FormatOverride, Importance, OverrideValue, Rounding, quantize_file,
};
use crate::model::gguf::{GgmlType, Header};
use crate::model::quantization::FileType;
use std::collections::BTreeMap;
use std::path::Path;

/// A recipe and what it is applied to.
#[derive(Debug, Clone, Copy)]
pub struct Application<'a> {
    /// The types.
    pub recipe: &'a Recipe,
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// Importance of the columns; `None`: round to nearest.
    pub importance: Option<&'a [Importance]>,
    /// Threads.
    pub threads: u32,
    /// What makes the file: program and version.
    pub maker: &'a str,
}

/// A file that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Its bytes.
    pub file_bytes: u64,
}

/// Writes a model with the types of a recipe, and looks whether llama.cpp took them.
///
/// # Errors
/// When the recipe does not suit the model or the file cannot be written.
pub fn apply(backend: Backend, application: &Application<'_>) -> Result<Applied, MixError> {
    let Application { recipe, source, output, importance, threads, maker } = *application;
    let types = TensorTypes::of(recipe, &Header::read(source)?, importance.is_some())?;
    let rounding = Rounding {
        input: source,
        output,
        file_type: recipe.file_type,
        threads,
        allow_requantize: false,
        importance,
        overrides: &types.overrides,
        metadata: &metadata(&types.checksum, maker),
    };
    quantize_file(backend, &rounding)?;
    let file_bytes = types.check(output)?;
    Ok(Applied { file_bytes })
}

/// The types of a recipe as llama.cpp is told them.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorTypes {
    types: BTreeMap<String, GgmlType>,
    /// One for each tensor.
    pub overrides: Vec<FormatOverride>,
    /// SHA-256 of the types, hex.
    pub checksum: String,
}

impl TensorTypes {
    /// The types of a recipe, for a model that has such tensors.
    ///
    /// # Errors
    /// When the recipe does not suit the model.
    pub fn of(recipe: &Recipe, model: &Header, has_importance: bool) -> Result<Self, MixError> {
        let types = recipe.types()?;
        recipe.check(model, &types, has_importance)?;
        let each = types.iter();
        Ok(Self {
            overrides: each.map(|(name, &it)| FormatOverride::of_tensor(name, it)).collect(),
            checksum: super::assignment::checksum(&types),
            types,
        })
    }

    /// Looks whether a file that was written has them. Returns its bytes.
    ///
    /// # Errors
    /// llama.cpp stored a tensor otherwise, or the file cannot be read.
    pub fn check(&self, written: &Path) -> Result<u64, MixError> {
        let written = Header::read(written)?;
        for tensor in &written.tensors {
            let wanted = self.types.get(&tensor.name).filter(|wanted| **wanted != tensor.format);
            if let Some(wanted) = wanted {
                return Err(MixError::StoredOtherwise {
                    name: tensor.name.clone(),
                    found: tensor.format.to_string(),
                    wanted: wanted.to_string(),
                });
            }
        }
        Ok(written.file_bytes)
    }
}

/// Makes the model as `Q8_0`: shows which tensors llama.cpp rounds at all, and what the file has beside
/// them. Only its header is kept.
pub(super) fn draft(backend: Backend, request: &Request<'_>) -> Result<Header, MixError> {
    let path = request.scratch.join("draft.gguf");
    let rounding = Rounding {
        input: request.source,
        output: &path,
        file_type: FileType::from_number(7).ok_or(MixError::NoReference)?,
        threads: threads(backend, request.settings),
        allow_requantize: false,
        importance: None,
        overrides: &[],
        // As long as those of the mix, so that the header is.
        metadata: &metadata(&"0".repeat(64), request.maker),
    };
    quantize_file(backend, &rounding)?;
    let header = Header::read(&path)?;
    // It is large, and the scratch folder stays until the end.
    let _ = std::fs::remove_file(&path);
    Ok(header)
}

/// Keys that say what the file is.
fn metadata(checksum: &str, maker: &str) -> Vec<(String, OverrideValue)> {
    let text = |key: &str, value: &str| (key.to_owned(), OverrideValue::Text(value.to_owned()));
    vec![
        text("quantbench.method", "mix"),
        text("quantbench.version", maker),
        text("quantbench.mix.types_sha256", checksum),
    ]
}
