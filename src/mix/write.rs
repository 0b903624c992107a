//! Writing: llama.cpp rounds the file to the types of a recipe.

use super::MixError;
use super::jobs::{ApplyRecipeJob, MixJob};
use crate::engine::Engine as _;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::quantize::{OverrideValue, Rounding, quantize_file};
use crate::model::file_type::FileType;
use crate::model::gguf::Header;
use crate::model::progress::Progress;
use crate::quantize::importance::{Coverage, ImportanceMatrix};

/// llama.cpp's number of the file type `Q8_0`.
const FILE_TYPE_Q8_0: u32 = 7;

/// Writes a model with the types of a recipe, and checks that llama.cpp took them. Returns the size of the file, bytes.
pub(super) fn apply(
    backend: Backend,
    job: &ApplyRecipeJob,
    matrix: Option<&ImportanceMatrix>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<u64, MixError> {
    let model = Header::read(&job.source.path)?;
    let types = job.recipe.resolve(&model, matrix.is_some())?;
    let importance = matrix.map(ImportanceMatrix::importance);
    let rounding = Rounding {
        input: &job.source.path,
        output: &job.output.path,
        file_type: job.recipe.file_type,
        threads: job.threads.unwrap_or_else(|| backend.default_threads()),
        allow_requantize: false,
        importance: importance.as_deref(),
        overrides: &types.overrides(),
        metadata: &metadata(&types.checksum(), &job.maker),
    };
    quantize_file(backend, &rounding)?;
    let bytes = types.check(&job.output.path)?;
    if let Some(matrix) = matrix
        && let Some(note) = Coverage::note(matrix, &model, &Header::read(&job.output.path)?)
    {
        on_progress(Progress::Note(note));
    }
    Ok(bytes)
}

/// The header of the model as `Q8_0`: shows which tensors llama.cpp rounds, and the size of everything else.
pub(super) fn draft(backend: Backend, job: &MixJob) -> Result<Header, MixError> {
    let path = job.scratch.path.join("draft.gguf");
    let rounding = Rounding {
        input: &job.source.path,
        output: &path,
        file_type: FileType::from_number(FILE_TYPE_Q8_0).ok_or_else(MixError::no_reference)?,
        threads: job.settings.threads.unwrap_or_else(|| backend.default_threads()),
        allow_requantize: false,
        importance: None,
        overrides: &[],
        // As long as that of the mix, so that the header has the same size.
        metadata: &metadata(&"0".repeat(64), &job.maker),
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
