//! The tables of `quantbench inspect`.

use super::{Memory, Origin};
use crate::model::gguf::Header;
use crate::model::stored_types::StoredTypes;
use crate::model::text::{printable, shortened};
use crate::report::table::Align::{Left, Right};
use crate::report::table::{Align, Table};
use crate::report::terminal::{self, Look};
use crate::units::{count, format_bytes, format_count, significant};
use std::fmt::Write as _;
use std::path::Path;

/// Columns of a metadata value; with its key a line stays within 100.
const VALUE_COLUMNS: usize = 56;
/// Columns of a metadata key.
const KEY_COLUMNS: usize = 40;

/// The file as tables: what it is, tensors by format, memory, metadata, and every tensor if asked.
pub(super) fn render(path: &Path, header: &Header, memory: &Memory, list_tensors: bool) -> String {
    let mut text = summary(path, header);
    text.push_str("\nTensors by type\n");
    text.push_str(&formats(header));
    if let Some(file_type) = header.file_type() {
        let types = StoredTypes::of(header);
        if let Some(told) = types.told(Some(file_type)) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "in place of {}: {told}", types.replaced(file_type));
        }
    }
    text.push_str("\nMemory\n");
    text.push_str(&memory_table(memory));
    text.push_str("\nMetadata\n");
    let metadata = header.metadata.iter().map(|(key, value)| {
        [
            shortened(key, KEY_COLUMNS),
            // Only the beginning is shown; a chat template may be long.
            shortened(&value.to_string(), VALUE_COLUMNS),
        ]
    });
    text.push_str(&layout([("", Left); 2], metadata));
    if list_tensors {
        text.push_str("\nTensors\n");
        let tensors = header.tensors.iter().map(|tensor| {
            let dimensions: Vec<String> = tensor.dimensions.iter().map(u64::to_string).collect();
            [
                printable(&tensor.name),
                tensor.format.to_string(),
                dimensions.join(" × "),
                format_bytes(tensor.bytes),
            ]
        });
        let titles = [("name", Left), ("type", Left), ("dimensions", Left), ("size", Right)];
        text.push_str(&layout(titles, tensors));
    }
    text
}

fn summary(path: &Path, header: &Header) -> String {
    let parts =
        if header.parts > 1 { format!(" in {} files", header.parts) } else { String::new() };
    let number = |value: Option<u64>, noun| {
        value.map_or_else(|| format!("? {noun}s"), |value| count(value, noun))
    };
    let bits =
        header.bits_per_weight().map_or_else(|| "n/a".to_owned(), |bits| significant(bits, 3));
    let file_type = header
        .file_type()
        .map_or_else(|| "of an unknown type".to_owned(), |known| known.to_string());
    let rows = [
        ("file", format!("{}, {}{parts}", path.display(), format_bytes(header.file_bytes))),
        (
            "model",
            format!("{}, {}", header.name().unwrap_or("without a name"), header.architecture()),
        ),
        (
            "weights",
            format!(
                "{file_type}, {} weights at {bits} bits each",
                format_count(header.parameters())
            ),
        ),
        ("architecture", architecture(header)),
        (
            "shape",
            format!(
                "{}, {} of context, {} of vocabulary",
                number(header.layers(), "layer"),
                number(header.context_length(), "token"),
                number(header.vocabulary(), "token")
            ),
        ),
        ("chat template", if header.chat_template().is_some() { "yes" } else { "none" }.to_owned()),
    ];
    let rows = rows.into_iter().map(|(what, value)| [what.to_owned(), printable(&value)]);
    layout([("", Left); 2], rows)
}

/// The class, and of a mixture of experts what of it computes a token.
fn architecture(header: &Header) -> String {
    match header.experts() {
        None => header.architecture_class().to_string(),
        Some(experts) => format!(
            "{}, mixture of experts: {} of {} used, {} of {} weights active",
            header.architecture_class(),
            experts.used,
            experts.total,
            format_count(header.active_parameters()),
            format_count(header.parameters())
        ),
    }
}

fn formats(header: &Header) -> String {
    let rows = header.by_format().into_iter().map(|summary| {
        [
            summary.format.to_string(),
            summary.tensors.to_string(),
            format_count(summary.weights),
            format_bytes(summary.bytes),
            significant(summary.format.bits_per_weight(), 3),
        ]
    });
    let titles = [
        ("type", Left),
        ("tensors", Right),
        ("weights", Right),
        ("size", Right),
        ("bits per weight", Right),
    ];
    layout(titles, rows)
}

fn memory_table(memory: &Memory) -> String {
    let bytes = |value: Option<u64>| value.map_or_else(|| "n/a".to_owned(), format_bytes);
    let rows = memory.rows.iter().map(|row| {
        [
            row.context.to_string(),
            format_bytes(row.weights),
            bytes(row.kv),
            bytes(row.compute),
            bytes(row.total()),
        ]
    });
    let titles = ["context", "weights", "KV cache", "compute", "total"].map(|it| (it, Right));
    let mut text = layout(titles, rows);
    match &memory.origin {
        Origin::LlamaCpp => text.push_str("as llama.cpp plans it\n"),
        Origin::Header { reason, kv } => {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "computed from the header: {}", printable(reason));
            if let Some(unknown) = kv {
                let _ = writeln!(text, "KV cache not known: {}", printable(unknown));
            }
        }
    }
    text
}

/// Rows under a header.
fn layout<const N: usize>(
    titles: [(&str, Align); N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    match terminal::text(&Table::of_words(titles, rows), &Look::default()) {
        text if text.is_empty() => "none\n".to_owned(),
        text => text,
    }
}
