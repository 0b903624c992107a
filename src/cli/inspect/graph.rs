//! What an ONNX graph says about itself, read without its weights.

use crate::causes::Problem;
use crate::onnx::names::Names;
use crate::onnx::proto::{Graph, ValueInfo};
use crate::onnx::storage::{Role, Storage};
use crate::onnx::{external, read};
use crate::report::sanitize;
use crate::units::{count, format_bytes, format_count, significant};
use std::fmt::Write as _;
use std::path::Path;

/// Inputs or outputs that are listed; caches of many layers are alike.
const MOST: usize = 12;

/// The graph of a file, in lines.
///
/// # Errors
/// It cannot be read or is no ONNX file.
pub(super) fn render(path: &Path) -> Result<String, Problem> {
    let model = read(path)?;
    let storage = Storage::of(&model);
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {}", sanitize(value));
    };
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    line("file", &format!("{}, {}", path.display(), format_bytes(size(path))));
    match external::files(path, &model) {
        Ok(files) => files.iter().for_each(|(file, bytes)| {
            line("weights in", &format!("{}, {}", file.display(), format_bytes(*bytes)));
        }),
        Err(error) => line("weights in", &error.to_string()),
    }
    let sets = model.opset_import.iter().map(|set| match set.domain.as_str() {
        "" => format!("{}", set.version),
        domain => format!("{domain} {}", set.version),
    });
    line("opset", &sets.collect::<Vec<_>>().join(", "));
    let by = format!("{} {}", model.producer_name, model.producer_version);
    line("made by", by.trim());
    let bits = storage
        .bits_per_weight()
        .map_or_else(String::new, |bits| format!(", {} bits per weight", significant(bits, 3)));
    line("storage", &format!("{storage}{bits}"));
    for share in &storage.shares {
        let of = match share.role {
            Role::Matrix => "matrices",
            Role::Embedding => "tables",
            Role::Vector => "vectors",
        };
        line(
            "",
            &format!(
                "{of} in {}: {}, {} weights, {}",
                share.stored,
                count(share.tensors, "tensor"),
                format_count(share.weights),
                format_bytes(share.bytes)
            ),
        );
    }
    if let Some(reason) = Names::beside(path).no_language_model(&model) {
        line("measured", &format!("not: it is no graph of a language model, {reason}"));
    }
    let Graph { input, output, node, .. } = model.graph.unwrap_or_default();
    line("nodes", &count(node.len(), "node"));
    for (name, values) in [("inputs", &input), ("outputs", &output)] {
        for (at, value) in values.iter().take(MOST).enumerate() {
            line(if at == 0 { name } else { "" }, &shape(value));
        }
        if values.len() > MOST {
            line("", &format!("and {} more", values.len() - MOST));
        }
    }
    Ok(text)
}

/// `past_key_values.0.key Float [batch, 2, past, 64]`.
fn shape(value: &ValueInfo) -> String {
    let Some(kind) = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref()) else {
        return format!("{} (no tensor)", value.name);
    };
    let dimensions = kind.shape.iter().flat_map(|shape| &shape.dim);
    let dimensions = dimensions.map(|it| match (it.fixed, &it.named) {
        (Some(fixed), _) => fixed.to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => "?".to_owned(),
    });
    let dimensions: Vec<String> = dimensions.collect();
    format!("{} {:?} [{}]", value.name, kind.element(), dimensions.join(", "))
}
