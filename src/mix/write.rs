//! Writing: llama.cpp rounds the file to the types of a recipe.

use super::recipe::Recipe;
use super::{MixError, MixRequest, threads};
use crate::engine::llama::backend::Backend;
use crate::engine::llama::quantize::{
    FormatOverride, Importance, OverrideValue, Rounding, quantize_file,
};
use crate::model::gguf::{GgmlType, Header};
use crate::model::quantization::FileType;
use std::collections::BTreeMap;
use std::path::Path;

/// llama.cpp's number of the file type `Q8_0`.
const FILE_TYPE_Q8_0: u32 = 7;

/// A recipe and the model it is applied to.
#[derive(Debug, Clone, Copy)]
pub struct Application<'a> {
    /// Types of the tensors.
    pub recipe: &'a Recipe,
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// Importance of the columns; `None`: round to nearest.
    pub importance: Option<&'a [Importance]>,
    /// Number of threads.
    pub threads: u32,
    /// Program and version, stored in the file.
    pub maker: &'a str,
}

/// Writes a model with the types of a recipe, and checks that llama.cpp took them. Returns the size of the file, bytes.
///
/// # Errors
/// The recipe does not fit the model or the file cannot be written.
pub fn apply(backend: Backend, application: &Application<'_>) -> Result<u64, MixError> {
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
    types.check(output)
}

/// The types of a recipe in llama.cpp's form.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorTypes {
    types: BTreeMap<String, GgmlType>,
    /// One per tensor.
    pub overrides: Vec<FormatOverride>,
    /// SHA-256 of the types, hex.
    pub checksum: String,
}

impl TensorTypes {
    /// The types of a recipe, for a model that has such tensors.
    ///
    /// # Errors
    /// The recipe does not fit the model.
    pub fn of(recipe: &Recipe, model: &Header, has_importance: bool) -> Result<Self, MixError> {
        let types = recipe.types()?;
        recipe.check(model, &types, has_importance)?;
        let overrides = types.iter().map(|(name, &it)| FormatOverride::of_tensor(name, it));
        let (overrides, checksum) = (overrides.collect(), super::assignment::checksum(&types));
        Ok(Self { types, overrides, checksum })
    }

    /// Checks that a file has these types. Returns its size, bytes.
    ///
    /// # Errors
    /// llama.cpp stored a tensor in another type, or the file cannot be read.
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

/// The header of the model as `Q8_0`: shows which tensors llama.cpp rounds, and the size of everything else.
pub(super) fn draft(backend: Backend, request: &MixRequest<'_>) -> Result<Header, MixError> {
    let path = request.scratch.join("draft.gguf");
    let rounding = Rounding {
        input: request.source,
        output: &path,
        file_type: FileType::from_number(FILE_TYPE_Q8_0).ok_or(MixError::NoReference)?,
        threads: threads(backend, request.settings),
        allow_requantize: false,
        importance: None,
        overrides: &[],
        // As long as that of the mix, so that the header has the same size.
        metadata: &metadata(&"0".repeat(64), request.maker),
    };
    quantize_file(backend, &rounding)?;
    let header = Header::read(&path)?;
    // It is large, and the scratch folder stays until the end.
    let _ = std::fs::remove_file(&path);
    Ok(header)
}

fn metadata(checksum: &str, maker: &str) -> Vec<(String, OverrideValue)> {
    let text = |key: &str, value: &str| (key.to_owned(), OverrideValue::Text(value.to_owned()));
    vec![
        text("quantbench.method", "mix"),
        text("quantbench.version", maker),
        text("quantbench.mix.types_sha256", checksum),
    ]
}
