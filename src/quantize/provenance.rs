//! What a file says about how it was made: keys that llama.cpp passes over, and those that llama-quantize writes.

use super::awq;
use super::importance::ImportanceMatrix;
use super::{Calibration, Request};
use crate::engine::llama::quantize::OverrideValue;
use crate::model::cache::of_bytes;
use crate::model::quantization::Method;
use crate::model::resolve::METHOD_KEY;

/// The keys of a variant of a calibrated method. llama.cpp keeps 127 bytes of a text.
pub(super) fn keys(
    request: &Request<'_>,
    calibration: &Calibration<'_>,
    matrix: &ImportanceMatrix,
) -> Vec<(String, OverrideValue)> {
    let mut keys = of_types(request);
    let mut text =
        |key: &str, value: String| keys.push((key.to_owned(), OverrideValue::Text(value)));
    text(METHOD_KEY, request.method.to_string());
    text("quantbench.version", env!("CARGO_PKG_VERSION").to_owned());
    let of_matrix = matrix.origin.as_ref().map(|origin| origin.text_checksum.clone());
    let of_text = calibration.text.map(|text| of_bytes(text.as_bytes()));
    // The matrix may be of one text, and the method look at another.
    let is_other = of_text.is_some() && of_text != of_matrix;
    if let Some(checksum) = of_text.or(of_matrix) {
        text("quantbench.calibration.text_sha256", checksum);
    }
    let dataset = matrix.datasets.last().map_or(calibration.dataset, String::as_str);
    let looked_at = if is_other { calibration.dataset } else { dataset };
    text("quantbench.calibration.text", file_name(looked_at));
    if request.method == Method::Gptq {
        text("quantbench.gptq.parameters", calibration.gptq.to_string());
    }
    if request.method == Method::Awq {
        text("quantbench.awq.parameters", awq::Parameters::default().to_string());
    }
    text("quantize.imatrix.file", file_name(&calibration.importance.to_string_lossy()));
    text("quantize.imatrix.dataset", file_name(dataset));
    let entries = u32::try_from(matrix.weights.len()).unwrap_or(u32::MAX);
    let mut number = |key: &str, value| keys.push((key.to_owned(), OverrideValue::Number(value)));
    let (context, chunks) = if is_other {
        // At most: how many the text has is known when it is read.
        (calibration.context, calibration.chunks)
    } else {
        (matrix.chunk_size, Some(matrix.chunks))
    };
    number("quantbench.calibration.context", context);
    if let Some(chunks) = chunks {
        number("quantbench.calibration.chunks", chunks);
    }
    number("quantize.imatrix.entries_count", entries);
    number("quantize.imatrix.chunks_count", matrix.chunks);
    keys
}

/// The key of types that were given tensor by tensor.
pub(super) fn of_types(request: &Request<'_>) -> Vec<(String, OverrideValue)> {
    let key = |types: super::TensorTypes<'_>| {
        let value = OverrideValue::Text(types.checksum.to_owned());
        ("quantbench.mix.types_sha256".to_owned(), value)
    };
    request.types.map(key).into_iter().collect()
}

/// The last part of a path: folders say nothing to others.
fn file_name(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned()
}
