//! Writing: llama.cpp rounds the file, with the types of a recipe.

use super::recipe::Recipe;
use super::{MixError, Request, threads};
use crate::llama::backend::Backend;
use crate::llama::quantize::{FormatOverride, Importance, OverrideValue, Rounding, quantize_file};
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
    let types = recipe.types()?;
    recipe.check(&Header::read(source)?, &types)?;
    let overrides: Vec<FormatOverride> = types
        .iter()
        .map(|(name, &format)| FormatOverride { pattern: pattern(name), format })
        .collect();
    let rounding = Rounding {
        input: source,
        output,
        file_type: recipe.file_type,
        threads,
        allow_requantize: false,
        importance,
        overrides: &overrides,
        metadata: &metadata(&super::assignment::checksum(&types), maker),
    };
    quantize_file(backend, &rounding)?;
    let written = Header::read(output)?;
    check_types(&written, &types)?;
    Ok(Applied { file_bytes: written.file_bytes })
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

/// A regular expression that finds just this name.
fn pattern(name: &str) -> String {
    let mut pattern = String::from("^");
    for character in name.chars() {
        if character.is_ascii_punctuation() && character != '_' {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('$');
    pattern
}

fn check_types(written: &Header, types: &BTreeMap<String, GgmlType>) -> Result<(), MixError> {
    for tensor in &written.tensors {
        if let Some(wanted) = types.get(&tensor.name).filter(|wanted| **wanted != tensor.format) {
            return Err(MixError::StoredOtherwise {
                name: tensor.name.clone(),
                found: tensor.format.to_string(),
                wanted: wanted.to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn a_name_is_found_only_where_it_is_whole() {
        assert_eq!(pattern("blk.1.attn_q.weight"), r"^blk\.1\.attn_q\.weight$");
    }
}
