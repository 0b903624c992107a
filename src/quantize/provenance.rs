//! Metadata keys that say how a file was made: quantbench's own, which llama.cpp ignores, and those of llama-quantize.

use super::awq;
use super::importance::ImportanceMatrix;
use super::{Calibration, QuantizeRequest};
use crate::engine::llama::quantize::OverrideValue;
use crate::model::cache::of_bytes;
use crate::model::quantization::Method;
use crate::model::resolve::METHOD_KEY;

/// The keys of a calibrated method. llama.cpp keeps 127 bytes of a text.
pub(super) fn keys(
    request: &QuantizeRequest<'_>,
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
    // The matrix may be of another text than the one that the method evaluates.
    let is_other = of_text.is_some() && of_text != of_matrix;
    if let Some(checksum) = of_text.or(of_matrix) {
        text("quantbench.calibration.text_sha256", checksum);
    }
    let dataset = matrix.datasets.last().map_or(calibration.dataset, String::as_str);
    let evaluated = if is_other { calibration.dataset } else { dataset };
    text("quantbench.calibration.text", file_name(evaluated));
    if request.method == Method::Gptq {
        text("quantbench.gptq.parameters", calibration.gptq.to_string());
    }
    if request.method == Method::Awq {
        text("quantbench.awq.parameters", awq::AwqParameters::default().to_string());
    }
    text("quantize.imatrix.file", file_name(&calibration.importance.to_string_lossy()));
    text("quantize.imatrix.dataset", file_name(dataset));
    let entries = u32::try_from(matrix.weights.len()).unwrap_or(u32::MAX);
    let mut number = |key: &str, value| keys.push((key.to_owned(), OverrideValue::Number(value)));
    let (context, chunks) = if is_other {
        // An upper limit: the text may have fewer.
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

/// The key of types that a recipe gives.
pub(super) fn of_types(request: &QuantizeRequest<'_>) -> Vec<(String, OverrideValue)> {
    let key = |types: super::TensorTypes<'_>| {
        let value = OverrideValue::Text(types.checksum.to_owned());
        ("quantbench.mix.types_sha256".to_owned(), value)
    };
    request.types.map(key).into_iter().collect()
}

/// The last part of a path: folders are private.
fn file_name(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned()
}
