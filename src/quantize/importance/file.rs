//! llama.cpp's importance-matrix GGUF, read and written.
//!
//! Keys: `general.type` = "imatrix", `imatrix.datasets`, `imatrix.chunk_count`, `imatrix.chunk_size`. For
//! each weight two F32 tensors: `NAME.in_sum2`, `[matrices, columns]`, and `NAME.counts`, `[matrices, 1]`,
//! in tokens. Source: llama.cpp 0.6.0, tools/imatrix. quantbench adds keys of its own for the origin of the sums, which
//! llama.cpp ignores.

use super::{ImportanceError, ImportanceMatrix, Origin, Sums};
use crate::engine::llama::backend::Backend;
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{
    GgufInput, GgufOutput, InputTensor, Metadata, MetadataValue, TensorPlan,
};
use crate::model::cache::of_bytes;
use crate::model::gguf::{GgmlType, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const TYPE: &str = "imatrix";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
/// The key for the SHA-256 of the model.
pub const MODEL_CHECKSUM: &str = "quantbench.calibration.model_sha256";
const TEXT_CHECKSUM: &str = "quantbench.calibration.text_sha256";
const OUTPUT_WEIGHT: &str = "quantbench.calibration.output_weight";
const SUMS_CHECKSUM: &str = "quantbench.calibration.sums_sha256";
const VERSION: &str = "quantbench.version";
const SQUARES: &str = ".in_sum2";
const COUNTS: &str = ".counts";
/// End of the name of a file that is being written.
const NEW: &str = ".new";
/// End of the name of a matrix that some chunks are still to be added to.
pub(super) const PARTIAL: &str = ".partial";

impl ImportanceMatrix {
    /// Reads a file of llama-imatrix or of quantbench.
    ///
    /// # Errors
    /// The file cannot be read, is no importance matrix, or contradicts itself.
    pub fn read(backend: Backend, path: &Path) -> Result<Self, ImportanceError> {
        let wrong = |reason: String| {
            ImportanceError::Refused(format!(
                "{} is no importance matrix: {reason}",
                path.display()
            ))
        };
        let file = GgufInput::open(backend, path)?;
        let header = file.header();
        let text = |key: &str| header.get(key).and_then(Value::as_text).map(str::to_owned);
        if text("general.type").as_deref() != Some(TYPE) {
            return Err(wrong("its general.type is not 'imatrix'".to_owned()));
        }
        let count = |key: &str| {
            let value = header.get(key).and_then(Value::as_count);
            value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
        };
        let datasets = match header.get(DATASETS) {
            Some(Value::Array { first, .. }) => {
                first.iter().filter_map(Value::as_text).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let output_weight = header.get(OUTPUT_WEIGHT) == Some(&Value::Bool(true));
        let origin =
            text(MODEL_CHECKSUM).zip(text(TEXT_CHECKSUM)).map(|(model_checksum, text_checksum)| {
                Origin { model_checksum, text_checksum, output_weight }
            });
        let mut weights = BTreeMap::new();
        for tensor in file.tensors() {
            let Some(name) = tensor.entry.name.strip_suffix(SQUARES) else { continue };
            let counts = format!("{name}{COUNTS}");
            let counts = file.find(&counts).ok_or_else(|| wrong(format!("it has no {counts}")))?;
            let values = |tensor: &InputTensor| {
                let values = blocks::values(tensor.entry.format, file.bytes(tensor)).ok();
                let values = values.filter(|_| tensor.entry.format == GgmlType::F32);
                values.ok_or_else(|| wrong(format!("{name} is not in F32")))
            };
            let (squares, counts) = (values(tensor)?, values(counts)?);
            if counts.is_empty() || !squares.len().is_multiple_of(counts.len()) {
                let (all, rows) = (squares.len(), counts.len());
                return Err(wrong(format!("{name} has {all} sums and {rows} counts")));
            }
            if !squares.iter().chain(&counts).all(|value| value.is_finite() && *value >= 0.0) {
                return Err(wrong(format!("a sum or count of {name} is negative or not finite")));
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole numbers, checked above not to be negative"
            )]
            let counts: Vec<u64> = counts.iter().map(|count| count.round() as u64).collect();
            let columns = squares.len() / counts.len();
            weights.insert(name.to_owned(), Sums { columns, squares, counts });
        }
        if weights.is_empty() {
            return Err(wrong("it has no sums in it".to_owned()));
        }
        // A wrong bit in a sum shows in nothing else.
        if text(SUMS_CHECKSUM).is_some_and(|written| written != checksum(&weights)) {
            return Err(wrong(
                "it is damaged: its sums are not those that were written".to_owned(),
            ));
        }
        let (chunks, chunk_size) = (count(CHUNK_COUNT), count(CHUNK_SIZE));
        Ok(Self { datasets, chunks, chunk_size, origin, weights })
    }

    /// Writes a temporary file beside it, then renames that.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ImportanceError> {
        let unfinished = beside(path, NEW);
        let rename = || {
            File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, path)
        };
        let failed = |source| ImportanceError::Write { path: path.to_owned(), source };
        let written = self.write_to(&unfinished).and_then(|()| rename().map_err(failed));
        if written.is_err() {
            // Where not even that can be done, the next one writes over it.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    fn write_to(&self, path: &Path) -> Result<(), ImportanceError> {
        let mut keys = Metadata::new();
        keys.set("general.type", MetadataValue::Text(TYPE))?;
        keys.set(DATASETS, MetadataValue::Texts(&self.datasets))?;
        keys.set(CHUNK_COUNT, MetadataValue::U32(self.chunks))?;
        keys.set(CHUNK_SIZE, MetadataValue::U32(self.chunk_size))?;
        keys.set(SUMS_CHECKSUM, MetadataValue::Text(&checksum(&self.weights)))?;
        keys.set(VERSION, MetadataValue::Text(env!("CARGO_PKG_VERSION")))?;
        if let Some(origin) = &self.origin {
            keys.set(MODEL_CHECKSUM, MetadataValue::Text(&origin.model_checksum))?;
            keys.set(TEXT_CHECKSUM, MetadataValue::Text(&origin.text_checksum))?;
            keys.set(OUTPUT_WEIGHT, MetadataValue::Bool(origin.output_weight))?;
        }
        let plans: Vec<TensorPlan> =
            self.weights.iter().flat_map(|(name, sums)| plans(name, sums)).collect();
        let mut output = GgufOutput::create(path, &keys, &plans)?;
        for (name, sums) in &self.weights {
            let squares: Vec<u8> = sums.squares.iter().flat_map(|sum| sum.to_le_bytes()).collect();
            output.write_tensor(&format!("{name}{SQUARES}"), &squares)?;
            #[expect(clippy::cast_precision_loss, reason = "the format has counts in F32")]
            let counts = sums.counts.iter().flat_map(|&count| (count as f32).to_le_bytes());
            output.write_tensor(&format!("{name}{COUNTS}"), &counts.collect::<Vec<u8>>())?;
        }
        Ok(output.finish()?)
    }
}

/// SHA-256 of all sums, hex.
fn checksum(weights: &BTreeMap<String, Sums<f32>>) -> String {
    let mut bytes = Vec::new();
    for (name, sums) in weights {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(sums.squares.iter().flat_map(|sum| sum.to_le_bytes()));
        #[expect(clippy::cast_precision_loss, reason = "as they stand in the file")]
        bytes.extend(sums.counts.iter().flat_map(|&count| (count as f32).to_le_bytes()));
    }
    of_bytes(&bytes)
}

fn plans(name: &str, sums: &Sums<f32>) -> [TensorPlan; 2] {
    let plan = |suffix: &str, columns: usize| {
        let mut dimensions = vec![columns as u64, sums.counts.len() as u64];
        // ggml leaves out trailing dimensions of 1.
        if sums.counts.len() == 1 {
            dimensions.truncate(1);
        }
        TensorPlan { name: format!("{name}{suffix}"), dimensions, format: GgmlType::F32 }
    };
    [plan(SQUARES, sums.columns), plan(COUNTS, 1)]
}

/// The files that are written while a matrix is made.
pub fn files_written(path: &Path) -> [PathBuf; 4] {
    let partial = beside(path, PARTIAL);
    [path.to_owned(), beside(path, NEW), beside(&partial, NEW), partial]
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
