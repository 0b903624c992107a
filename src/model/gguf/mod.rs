//! GGUF headers: metadata and tensor entries, read without loading any weight.
//!
//! The file is input from strangers: every length is checked against the file's size before anything
//! is allocated or skipped, and every contradiction is an error with its place. This reads, llama.cpp
//! loads; what is refused here never reaches native code.

mod cursor;
mod error;
mod ggml_type;
mod raw;
mod tensor;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tokens;
mod value;
mod vocabulary;

pub use error::GgufError;
pub use ggml_type::GgmlType;
pub use raw::{LONGEST_HEADER, RawKey, header_bytes, laid_out};
pub use tensor::{Tensor, size};
pub use tokens::Tokens;
pub use value::{Value, ValueKind};
pub use vocabulary::{SpecialTokens, marks_chat};

use super::file_type::FileType;
use super::split;
use crate::causes::Problem;
use crate::units::to_f64;
use cursor::Cursor;
use error::{damaged, truncated};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// More metadata keys than any model has; the largest have some hundreds.
const MOST_KEYS: u64 = 1 << 12;
/// More tensors than any model has, all parts together: one of a thousand experts in single tensors has
/// some ten thousand. llama.cpp looks every name up among all others, so that its time grows with
/// the square.
const MOST_TENSORS: u64 = 1 << 14;
/// GGUF's alignment when the file names none.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Longer than any key; the format allows 65,535 bytes.
const LONGEST_KEY: u64 = 1 << 10;

/// What a GGUF says about itself: of all parts, if it is split.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// GGUF version.
    pub version: u32,
    /// Metadata in the order of the file; of the first part, if it is split.
    pub metadata: Vec<(String, Value)>,
    /// Tensors in the order of the file; of all parts.
    pub tensors: Vec<Tensor>,
    /// Bytes of all parts.
    pub file_bytes: u64,
    /// Number of files read.
    pub parts: u32,
}

/// All tensors of one format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatSummary {
    /// The format.
    pub format: GgmlType,
    /// How many tensors have it.
    pub tensors: usize,
    /// Weights in them.
    pub weights: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

impl Header {
    /// Reads the header of `path` and, if it is part of a split model, of all its other parts.
    ///
    /// # Errors
    /// When a file cannot be read, is no GGUF, is cut off or contradicts itself, or a part is missing.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let paths = split::all_parts(path);
        let count = u32::try_from(paths.len()).unwrap_or(u32::MAX);
        if let Some(missing) = paths.iter().find(|part| count > 1 && !part.exists()) {
            return Err(Problem::new(format!(
                "{} is not there; the model is split into {count} files, which have to lie in one folder",
                missing.display()
            )));
        }
        let mut parts = paths.iter().map(|part| Self::read_part(part));
        let Some(mut header) = parts.next().transpose()? else {
            return Self::read_part(path);
        };
        header.check_split(&paths[0], count)?;
        let mut names: HashSet<String> =
            header.tensors.iter().map(|tensor| tensor.name.clone()).collect();
        for (part, part_path) in parts.zip(&paths[1..]) {
            let part = part?;
            if let Some(twice) = part.tensors.iter().find(|one| !names.insert(one.name.clone())) {
                let problem = format!("tensor '{}' is in an earlier part already", twice.name);
                return Err(damaged(part_path, &problem));
            }
            let all = (header.tensors.len() + part.tensors.len()) as u64;
            if all > MOST_TENSORS {
                let problem = format!("the model has {all} tensors up to here, of {MOST_TENSORS}");
                return Err(damaged(part_path, &problem));
            }
            header.tensors.extend(part.tensors);
            header.file_bytes += part.file_bytes;
        }
        header.parts = count;
        Ok(header)
    }

    /// A file's name and its `split.count` have to agree: llama.cpp goes by the latter.
    fn check_split(&self, path: &Path, count: u32) -> Result<(), GgufError> {
        let said = self.get("split.count").and_then(Value::as_count).unwrap_or(1).max(1);
        if said == u64::from(count) {
            return Ok(());
        }
        let named = if count == 1 {
            "its name is not that of a part (…-00001-of-00002.gguf)".to_owned()
        } else {
            format!("its name says {count}")
        };
        Err(damaged(path, &format!("it says that the model has {said} parts, but {named}")))
    }

    /// Reads the header of a file that lies elsewhere, of `file_bytes`, from its first byte; `path` names it in
    /// errors. Other parts of a split model are not looked for.
    ///
    /// # Errors
    /// As for [`Header::read`].
    pub fn read_stream(
        path: &Path,
        file_bytes: u64,
        stream: impl Read + Send + 'static,
    ) -> Result<Self, GgufError> {
        Self::read_from(Cursor::of_stream(path, file_bytes, stream))
    }

    fn read_part(path: &Path) -> Result<Self, GgufError> {
        Self::read_from(Cursor::open(path)?)
    }

    fn read_from(mut cursor: Cursor) -> Result<Self, GgufError> {
        let (header, _) = Self::read_entries(&mut cursor)?;
        header.check_data(&cursor)?;
        Ok(header)
    }

    /// Reads up to the data, with the places of the metadata keys.
    fn read_entries(cursor: &mut Cursor) -> Result<(Self, Vec<Range<u64>>), GgufError> {
        let FileStart { version, tensors: tensor_count, keys: key_count } = read_start(cursor)?;
        let (metadata, places) = read_metadata(cursor, key_count)?;
        let tensors =
            (0..tensor_count).map(|_| Tensor::read(cursor)).collect::<Result<Vec<_>, _>>()?;
        let file_bytes = cursor.file_bytes;
        Ok((Self { version, metadata, tensors, file_bytes, parts: 1 }, places))
    }

    /// Checks that every tensor lies within the file, aligned, and that no name occurs twice.
    fn check_data(&self, cursor: &Cursor) -> Result<(), GgufError> {
        let inconsistent = |problem: String| Err(cursor.inconsistent(&problem));
        let alignment = match self.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(value) => value.as_count().unwrap_or(0),
        };
        if !alignment.is_power_of_two() || alignment > 1 << 30 {
            return inconsistent(format!("the alignment {alignment} is no power of two"));
        }
        let data = cursor.offset.next_multiple_of(alignment);
        let mut names = HashSet::new();
        for tensor in &self.tensors {
            if !names.insert(tensor.name.as_str()) {
                return inconsistent(format!("tensor '{}' occurs twice", tensor.name));
            }
            if tensor.offset % alignment != 0 {
                return inconsistent(format!(
                    "tensor '{}' begins at {}, no multiple of {alignment}",
                    tensor.name, tensor.offset
                ));
            }
            let start = data.saturating_add(tensor.offset);
            if start.saturating_add(tensor.bytes) > self.file_bytes {
                let what = format!("tensor '{}'", tensor.name);
                let needed = tensor.bytes;
                return Err(truncated(&cursor.path, self.file_bytes, &what, start, needed));
            }
        }
        let mut by_offset: Vec<&Tensor> =
            self.tensors.iter().filter(|tensor| tensor.bytes > 0).collect();
        by_offset.sort_by_key(|tensor| tensor.offset);
        let overlap =
            by_offset.windows(2).find(|pair| pair[0].offset + pair[0].bytes > pair[1].offset);
        match overlap {
            Some(pair) => {
                inconsistent(format!("tensors '{}' and '{}' overlap", pair[0].name, pair[1].name))
            }
            None => Ok(()),
        }
    }

    /// The value of a metadata key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value of a key of the model's own architecture: `context_length` for
    /// `llama.context_length`.
    pub fn get_own(&self, key: &str) -> Option<&Value> {
        self.get(&format!("{}.{key}", self.architecture()))
    }

    /// The model family, `general.architecture`; empty if the file does not say.
    pub fn architecture(&self) -> &str {
        self.get("general.architecture").and_then(Value::as_text).unwrap_or_default()
    }

    /// The model's own name, `general.name`.
    pub fn name(&self) -> Option<&str> {
        self.get("general.name").and_then(Value::as_text)
    }

    /// How the weights are stored: `general.file_type` or, where that is missing, the type whose
    /// format most weights of the file have.
    pub fn file_type(&self) -> Option<FileType> {
        let said = self.get("general.file_type").and_then(Value::as_count);
        if let Some(number) = said.and_then(|number| u32::try_from(number).ok()) {
            return FileType::from_number(number);
        }
        let most = self.by_format().into_iter().max_by_key(|summary| summary.weights)?;
        // llama.cpp's guess, too, for the formats that are shared by several file types.
        match most.format.name() {
            "Q3_K" | "Q4_K" | "Q5_K" => format!("{}_M", most.format).parse().ok(),
            name => name.parse().ok(),
        }
    }

    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.weights))
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes))
    }

    /// Bits per weight over all tensors; `None` if there are none.
    pub fn bits_per_weight(&self) -> Option<f64> {
        let weights = self.parameters();
        (weights > 0).then(|| to_f64(self.tensor_bytes()) * 8.0 / to_f64(weights))
    }

    /// Tensors by format, the one with most bytes first.
    pub fn by_format(&self) -> Vec<FormatSummary> {
        let mut summaries: BTreeMap<GgmlType, FormatSummary> = BTreeMap::new();
        for tensor in &self.tensors {
            let format = tensor.format;
            let summary = summaries.entry(format).or_insert(FormatSummary {
                format,
                tensors: 0,
                weights: 0,
                bytes: 0,
            });
            summary.tensors += 1;
            summary.weights = summary.weights.saturating_add(tensor.weights);
            summary.bytes = summary.bytes.saturating_add(tensor.bytes);
        }
        let mut summaries: Vec<FormatSummary> = summaries.into_values().collect();
        summaries.sort_by_key(|summary| std::cmp::Reverse(summary.bytes));
        summaries
    }

    /// Context length the model was trained with, tokens.
    pub fn context_length(&self) -> Option<u64> {
        self.get_own("context_length").and_then(Value::as_count)
    }

    /// Number of layers.
    pub fn layers(&self) -> Option<u64> {
        self.get_own("block_count").and_then(Value::as_count)
    }

    /// Number of tokens in the vocabulary.
    pub fn vocabulary(&self) -> Option<u64> {
        match self.get("tokenizer.ggml.tokens")? {
            Value::Array { count, .. } => Some(*count),
            _ => None,
        }
    }

    /// The template that turns messages into a prompt.
    pub fn chat_template(&self) -> Option<&str> {
        self.get("tokenizer.chat_template").and_then(Value::as_text)
    }
}

/// What a GGUF begins with.
struct FileStart {
    version: u32,
    tensors: u64,
    keys: u64,
}

/// Reads up to the first metadata key.
fn read_start(cursor: &mut Cursor) -> Result<FileStart, GgufError> {
    cursor.magic()?;
    let version = cursor.u32("the version")?;
    if version != 0 && version.trailing_zeros() >= 16 {
        return Err(Problem::new(format!(
            "{} is a big-endian GGUF, which this machine cannot use",
            cursor.path.display()
        )));
    }
    if !(2..=3).contains(&version) {
        return Err(Problem::new(format!(
            "{} is a GGUF of version {version}; versions 2 and 3 are read, convert it again",
            cursor.path.display()
        )));
    }
    // An entry is at least a name's length, the number of dimensions, a type and an offset; a key at
    // least its length, a type and one byte.
    let tensors = cursor.count(MOST_TENSORS, 8 + 4 + 4 + 8, "the number of tensors")?;
    let keys = cursor.count(MOST_KEYS, 8 + 4 + 1, "the number of metadata keys")?;
    Ok(FileStart { version, tensors, keys })
}

/// Keys with their values, and their places.
type Metadata = (Vec<(String, Value)>, Vec<Range<u64>>);

fn read_metadata(cursor: &mut Cursor, count: u64) -> Result<Metadata, GgufError> {
    let (mut metadata, mut places) = Metadata::default();
    let mut seen = HashSet::new();
    for _ in 0..count {
        let start = cursor.offset;
        let key = cursor.short_text(LONGEST_KEY, "a metadata key")?;
        if !seen.insert(key.clone()) {
            return Err(cursor.inconsistent(&format!("metadata key '{key}' occurs twice")));
        }
        let value = Value::read(cursor, &key)?;
        metadata.push((key, value));
        places.push(start..cursor.offset);
    }
    Ok((metadata, places))
}
