//! From a file to examples.

use super::error::{DatasetError, Fault};
use super::example::Example;
use crate::units::{count, format_bytes};
use serde_json::{Deserializer, Map, Value};
use std::path::Path;

/// Larger files are refused: they are kept in memory.
const MOST_BYTES: u64 = 512 << 20;

/// Larger examples are a slip: a file without line ends.
const LARGEST_EXAMPLE: usize = 16 << 20;

/// Where the names of a table's columns come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns<'a> {
    /// Its first line.
    Header,
    /// Elsewhere: the file has no header.
    Named(&'a [String]),
}

/// Reads all examples of a file; the end of its name says how: `.jsonl` or `.ndjson` (an object per
/// line), `.json` (a list of objects), `.csv` or `.tsv`. Empty lines are skipped. Quotes mean
/// something in CSV only.
///
/// # Errors
/// The file cannot be read, or one of its examples is wrong.
pub fn read(path: &Path, columns: Columns<'_>) -> Result<Vec<Example>, DatasetError> {
    // What no reader is for need not be read.
    parser(path)?;
    parse(path, &bytes(path)?, columns)
}

/// The examples in `bytes`, which are the content of `path`.
///
/// # Errors
/// As [`read`].
pub fn parse(
    path: &Path,
    bytes: &[u8],
    columns: Columns<'_>,
) -> Result<Vec<Example>, DatasetError> {
    let parse = parser(path)?;
    let examples = text(bytes)
        .and_then(|text| parse(text.trim_start_matches('\u{feff}'), columns))
        .map_err(|fault| fault.within(path))?;
    if examples.is_empty() {
        return Err(DatasetError::empty(path));
    }
    Ok(examples)
}

type Parser = fn(&str, Columns<'_>) -> Result<Vec<Example>, Fault>;

/// What reads a file of such a name.
fn parser(path: &Path) -> Result<Parser, DatasetError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    Ok(match extension.as_str() {
        "jsonl" | "ndjson" => |text, _| json_lines(text),
        "json" => |text, _| json_list(text),
        "csv" => |text, columns| table(text, b',', columns),
        "tsv" => |text, columns| table(text, b'\t', columns),
        _ => {
            return Err(DatasetError::Wrong(format!(
                "is {}; data sets are read from .jsonl, .json (a list of objects), .csv and .tsv",
                path.display()
            )));
        }
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, DatasetError> {
    let unreadable = |source| DatasetError::Unreadable { path: path.to_owned(), source };
    let bytes = crate::files::read_at_most(path, MOST_BYTES).map_err(unreadable)?;
    bytes.ok_or_else(|| {
        let (path, most) = (path.display(), format_bytes(MOST_BYTES));
        DatasetError::Wrong(format!("is {path}, which is larger than {most}"))
    })
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        let line = bytes[..offset].split(|&byte| byte == b'\n').count();
        Fault { line, reason: format!("this is no UTF-8 text (byte {offset} of the file)") }
    })
}

fn json_lines(text: &str) -> Result<Vec<Example>, Fault> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let fault = |reason: String| Fault { line: index + 1, reason };
            check_size(line.len()).map_err(fault)?;
            let value = serde_json::from_str(line).map_err(|error| fault(in_words(&error, 0)))?;
            match value {
                Value::Object(fields) => Ok(Example { line: index + 1, fields }),
                other => Err(fault(format!("{} is no object", kind(&other)))),
            }
        })
        .collect()
}

fn json_list(text: &str) -> Result<Vec<Example>, Fault> {
    let mut examples = Vec::new();
    let (mut at, mut line) = (0, 1);
    // The place of the next thing that is no white space, and its line.
    let next = |at: &mut usize, line: &mut usize| {
        let rest = &text[*at..];
        let skipped = rest.len() - rest.trim_start().len();
        *line += rest[..skipped].matches('\n').count();
        *at += skipped;
        text[*at..].chars().next()
    };
    let fault = |line: usize, reason: &str| Fault {
        line,
        reason: format!("{reason}; a .json data set is a list of objects"),
    };
    if next(&mut at, &mut line) != Some('[') {
        return Err(fault(line, "it does not begin with '['"));
    }
    at += 1;
    while next(&mut at, &mut line) != Some(']') || !examples.is_empty() {
        let mut objects = Deserializer::from_str(&text[at..]).into_iter::<Map<String, Value>>();
        match objects.next() {
            Some(Ok(fields)) => {
                let end = at + objects.byte_offset();
                examples.push(Example { line, fields });
                line += text[at..end].matches('\n').count();
                at = end;
            }
            Some(Err(error)) => {
                // Counted from the object, which may stand within a line.
                let before = text[..at].len() - text[..at].rfind('\n').map_or(0, |end| end + 1);
                let before = if error.line() <= 1 { before } else { 0 };
                return Err(fault(line + error.line().max(1) - 1, &in_words(&error, before)));
            }
            None => return Err(fault(line, "it ends within the list")),
        }
        match next(&mut at, &mut line) {
            Some(',') => at += 1,
            Some(']') => break,
            Some(other) => {
                return Err(fault(line, &format!("'{other}' stands between two objects")));
            }
            None => return Err(fault(line, "it ends within the list")),
        }
    }
    at += 1;
    match next(&mut at, &mut line) {
        None => Ok(examples),
        Some(_) => Err(fault(line, "something stands behind the list")),
    }
}

/// An error without serde's position: within one line it counts from that line, of which `before` bytes were not seen.
fn in_words(error: &serde_json::Error, before: usize) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    format!("{reason} (column {})", before + error.column())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn check_size(bytes: usize) -> Result<(), String> {
    if bytes <= LARGEST_EXAMPLE {
        return Ok(());
    }
    let (bytes, most) = (bytes as u64, LARGEST_EXAMPLE as u64);
    Err(format!("the example has {}, more than {}", format_bytes(bytes), format_bytes(most)))
}

fn table(text: &str, delimiter: u8, columns: Columns<'_>) -> Result<Vec<Example>, Fault> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(delimiter == b',')
        .has_headers(columns == Columns::Header)
        .flexible(true)
        .from_reader(text.as_bytes());
    let names: Vec<String> = match columns {
        Columns::Named(names) => names.to_vec(),
        Columns::Header => {
            let header = reader.headers().map_err(|error| table_fault(&error))?;
            header.iter().map(str::to_owned).collect()
        }
    };
    let mut examples = Vec::new();
    let mut last = None;
    for record in reader.records() {
        let record = record.map_err(|error| table_fault(&error))?;
        let position = record.position().map_or(0, csv::Position::line);
        let line = usize::try_from(position).unwrap_or(usize::MAX);
        let fault = |reason: String| Fault { line, reason };
        if record.len() != names.len() {
            let reason = [count(record.len(), "field"), count(names.len(), "column")].join(" for ");
            return Err(fault(reason));
        }
        check_size(record.as_slice().len()).map_err(fault)?;
        let cells = record.iter().map(|cell| Value::String(cell.to_owned()));
        examples.push(Example { line, fields: names.iter().cloned().zip(cells).collect() });
        last = record.position().map(|position| (position.byte(), line));
    }
    // A quote that is not closed takes the rest of the file into one field, which is no error to the reader.
    if delimiter == b','
        && let Some((start, line)) = last
        && let Some(rest) = usize::try_from(start).ok().and_then(|start| text.get(start..))
        && rest.trim().contains('\n')
        && !rest.matches('"').count().is_multiple_of(2)
    {
        return Err(Fault { line, reason: "a quote in this row is never closed".to_owned() });
    }
    Ok(examples)
}

fn table_fault(error: &csv::Error) -> Fault {
    let line = error.position().map_or(1, csv::Position::line);
    Fault { line: usize::try_from(line).unwrap_or(usize::MAX), reason: error.to_string() }
}
