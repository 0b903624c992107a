//! Metadata keys that say how a file was made: quantbench's own, which llama.cpp ignores, and those of llama-quantize.

use super::awq;
use super::importance::ImportanceMatrix;
use super::jobs::{CalibrationInput, QuantizeJob};
use super::types::TensorTypes;
use crate::engine::llama::quantize::OverrideValue;
use crate::model::cache::of_bytes;
use crate::model::quantization::Method;
use crate::model::resolve::METHOD_KEY;

/// The keys of a calibrated method. llama.cpp keeps 127 bytes of a text.
pub(super) fn keys(
    job: &QuantizeJob,
    calibration: &CalibrationInput,
    matrix: &ImportanceMatrix,
) -> Vec<(String, OverrideValue)> {
    let mut keys = of_types(job);
    let mut text =
        |key: &str, value: String| keys.push((key.to_owned(), OverrideValue::Text(value)));
    text(METHOD_KEY, job.method.to_string());
    text("quantbench.version", env!("CARGO_PKG_VERSION").to_owned());
    let of_matrix = matrix.origin.as_ref().map(|origin| origin.text_checksum.clone());
    let plan = calibration.plan.as_ref();
    let of_text = plan.map(|plan| of_bytes(plan.text.as_bytes()));
    // The matrix may be of another text than the one that the method evaluates.
    let is_other = of_text.is_some() && of_text != of_matrix;
    if let Some(checksum) = of_text.or(of_matrix) {
        text("quantbench.calibration.text_sha256", checksum);
    }
    let named = plan.map_or("", |plan| plan.source.as_str());
    let dataset = matrix.datasets.last().map_or(named, String::as_str);
    let evaluated = if is_other { named } else { dataset };
    text("quantbench.calibration.text", file_name(evaluated));
    let parameters = match job.method {
        Method::Awq => Some(awq::AwqParameters::default().to_string()),
        method => plan.and_then(|plan| plan.parameters.of(method)),
    };
    if let Some(parameters) = parameters {
        text(&format!("quantbench.{}.parameters", job.method), parameters);
    }
    text("quantize.imatrix.file", file_name(&calibration.importance.path.to_string_lossy()));
    text("quantize.imatrix.dataset", file_name(dataset));
    let entries = u32::try_from(matrix.weights.len()).unwrap_or(u32::MAX);
    let mut number = |key: &str, value| keys.push((key.to_owned(), OverrideValue::Number(value)));
    let (context, chunks) = match plan {
        // An upper limit: the text may have fewer.
        Some(plan) if is_other => (plan.context, plan.chunks),
        _ => (matrix.chunk_size, Some(matrix.chunks)),
    };
    number("quantbench.calibration.context", context);
    if let Some(chunks) = chunks {
        number("quantbench.calibration.chunks", chunks);
    }
    number("quantize.imatrix.entries_count", entries);
    number("quantize.imatrix.chunks_count", matrix.chunks);
    keys
}

/// The key of types that a recipe gives.
pub(super) fn of_types(job: &QuantizeJob) -> Vec<(String, OverrideValue)> {
    let key = |types: &TensorTypes| {
        ("quantbench.mix.types_sha256".to_owned(), OverrideValue::Text(types.checksum()))
    };
    job.types.iter().map(key).collect()
}

/// The last part of a path: folders are private.
fn file_name(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned()
}
