//! The reference's log-probabilities on disk, from the reference's worker to all others.
//!
//! One row per scored position. Kept whole, a row is the log-probability of every token in f32, so
//! a variant with the same weights diverges by exactly 0. If that takes more than the budget, a row is
//! the K most probable tokens and the mass of the rest, and every divergence carries an upper bound
//! of the error this causes ([`TopRow::divergence`]). llama-perplexity's file, 16 bits over a window
//! of 16 nats, reads 5e-4 for equal weights instead.

use super::softmax::log_softmax;
use super::top_row::TopRow;
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"QBREF\x00\x01\n";
const HEADER_LENGTH: usize = 8 + 5 * 4 + 8;
const HEADER_BYTES: u64 = HEADER_LENGTH as u64;
/// Below this many tokens per position the error bound says nothing useful.
const SMALLEST_TOP: u32 = 64;

/// Why a reference file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Reading or writing failed.
    #[error("cannot {action} the reference's log-probabilities in {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what was expected.
    #[error("{} holds no log-probabilities for this comparison: {reason}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Not even a small part of each row fits the budget.
    #[error(
        "the reference's log-probabilities need at least {needed_bytes} bytes for {rows} tokens, but \
         the budget is {budget_bytes}; raise memory_budget or lower chunks"
    )]
    BudgetTooSmall {
        /// What the smallest form takes.
        needed_bytes: u64,
        /// Scored tokens.
        rows: u64,
        /// What was allowed.
        budget_bytes: u64,
    },
}

/// What the rows of a reference file belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Tokens per chunk.
    pub context: u32,
    /// Chunks.
    pub chunks: u32,
    /// Rows per chunk.
    pub rows: u32,
    /// Checksum of the evaluated tokens: both models must see the same ones.
    pub tokens_checksum: u64,
}

impl Shape {
    fn total_rows(self) -> u64 {
        u64::from(self.chunks) * u64::from(self.rows)
    }

    /// How many tokens of each row are kept under a budget; `None`: all.
    fn top_under(self, budget_bytes: u64) -> Result<Option<u32>, ReferenceError> {
        let whole = self.total_rows() * u64::from(self.vocabulary) * 4 + HEADER_BYTES;
        if whole <= budget_bytes {
            return Ok(None);
        }
        let per_row = budget_bytes.saturating_sub(HEADER_BYTES) / self.total_rows().max(1);
        let top = per_row.saturating_sub(TOP_ROW_FIXED_BYTES) / 8;
        if top < u64::from(SMALLEST_TOP) {
            let smallest = TOP_ROW_FIXED_BYTES + 8 * u64::from(SMALLEST_TOP);
            return Err(ReferenceError::BudgetTooSmall {
                needed_bytes: self.total_rows() * smallest + HEADER_BYTES,
                rows: self.total_rows(),
                budget_bytes,
            });
        }
        Ok(Some(u32::try_from(top).unwrap_or(u32::MAX).min(self.vocabulary)))
    }
}

/// The text's own token and the mass of the rest, each one f32.
const TOP_ROW_FIXED_BYTES: u64 = 8;

/// Writes a reference file, chunk by chunk.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    shape: Shape,
    top: Option<u32>,
    buffer: Vec<f32>,
    bytes: u64,
}

impl Writer {
    /// Begins a file of at most `budget_bytes`.
    ///
    /// # Errors
    /// When the budget is too small or the file cannot be made.
    pub fn create(path: &Path, shape: Shape, budget_bytes: u64) -> Result<Self, ReferenceError> {
        let top = shape.top_under(budget_bytes)?;
        let file = File::create(path).map_err(|source| io("write", path, source))?;
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.to_owned(),
            shape,
            top,
            buffer: Vec::new(),
            bytes: HEADER_BYTES,
        };
        // The magic is written last: a file whose writer died is no reference.
        writer.write(&[0; 8])?;
        for number in [shape.vocabulary, shape.context, shape.chunks, shape.rows, top.unwrap_or(0)]
        {
            writer.write(&number.to_le_bytes())?;
        }
        writer.write(&shape.tokens_checksum.to_le_bytes())?;
        Ok(writer)
    }

    /// How many tokens of each row are kept; `None`: all.
    #[must_use]
    pub fn top(&self) -> Option<u32> {
        self.top
    }

    /// Bytes written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the logits of one chunk, `[rows, vocabulary]`, with the token that followed each row.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, logits: &[f32], following: &[i32]) -> Result<(), ReferenceError> {
        let vocabulary = self.shape.vocabulary as usize;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(logits.len(), 0.0);
        buffer
            .par_chunks_mut(vocabulary)
            .zip(logits.par_chunks(vocabulary))
            .for_each(|(out, logits)| log_softmax(logits, out));
        let written = match self.top {
            None => self.write(bytemuck::cast_slice(&buffer)),
            Some(top) => {
                let rows: Vec<Vec<f32>> = buffer
                    .par_chunks(vocabulary)
                    .zip(following)
                    .map(|(row, &token)| TopRow::of(row, top as usize, token).encode())
                    .collect();
                rows.iter().try_for_each(|row| self.write(bytemuck::cast_slice(row)))
            }
        };
        self.buffer = buffer;
        written
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ReferenceError> {
        self.file.write_all(bytes).map_err(|source| io("write", &self.path, source))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<(), ReferenceError> {
        let path = self.path.clone();
        let failed = |source| io("write", &path, source);
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.file.write_all(&MAGIC).map_err(failed)?;
        self.file.flush().map_err(failed)
    }
}

/// Reads a reference file, chunk by chunk.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    shape: Shape,
    top: Option<u32>,
}

/// One chunk's rows.
#[derive(Debug)]
pub enum Rows {
    /// Log-probabilities of every token, `[rows, vocabulary]`.
    Whole(Vec<f32>),
    /// The most probable tokens of each row.
    Top(Vec<TopRow>),
}

impl Reader {
    /// Opens a file that must belong to `shape` (of which it may hold more chunks).
    ///
    /// # Errors
    /// When the file is missing, incomplete or belongs to another model or text.
    pub fn open(path: &Path, shape: Shape) -> Result<Self, ReferenceError> {
        let file = File::open(path).map_err(|source| io("read", path, source))?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut header = [0_u8; HEADER_LENGTH];
        file.read_exact(&mut header).map_err(|source| io("read", path, source))?;
        let number = |index: usize| {
            let at = 8 + index * 4;
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let mut checksum = [0; 8];
        checksum.copy_from_slice(&header[28..36]);
        let found = Shape {
            vocabulary: number(0),
            context: number(1),
            chunks: number(2),
            rows: number(3),
            tokens_checksum: u64::from_le_bytes(checksum),
        };
        let top = Some(number(4)).filter(|&top| top > 0);
        let mismatch = |reason: String| ReferenceError::Mismatch { path: path.to_owned(), reason };
        if header[..8] != MAGIC {
            return Err(mismatch("it is incomplete or of another kind".to_owned()));
        }
        if found.vocabulary != shape.vocabulary {
            return Err(mismatch(format!(
                "the reference has {} tokens in its vocabulary, this variant {}",
                found.vocabulary, shape.vocabulary
            )));
        }
        if found != shape || top.is_some_and(|top| top > found.vocabulary) {
            return Err(mismatch(
                "the reference was evaluated on other tokens: text, context or tokenizer differ"
                    .to_owned(),
            ));
        }
        Ok(Self { file, path: path.to_owned(), shape, top })
    }

    /// Rows of the next chunk.
    ///
    /// # Errors
    /// When the file ends too early or cannot be read.
    pub fn next_chunk(&mut self) -> Result<Rows, ReferenceError> {
        let rows = self.shape.rows as usize;
        let Some(top) = self.top else {
            return Ok(Rows::Whole(self.read(rows * self.shape.vocabulary as usize)?));
        };
        let row_length = 2 + 2 * top as usize;
        let values = self.read(rows * row_length)?;
        Ok(Rows::Top(values.chunks(row_length).map(TopRow::decode).collect()))
    }

    fn read(&mut self, count: usize) -> Result<Vec<f32>, ReferenceError> {
        let mut values = vec![0.0_f32; count];
        self.file
            .read_exact(bytemuck::cast_slice_mut(&mut values))
            .map_err(|source| io("read", &self.path, source))?;
        Ok(values)
    }
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> ReferenceError {
    ReferenceError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::softmax::{divergence, log_sum_exp};

    fn shape() -> Shape {
        Shape { vocabulary: 100, context: 8, chunks: 2, rows: 3, tokens_checksum: 7 }
    }

    fn logits(seed: u64, count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f32() * 12.0 - 6.0).collect()
    }

    #[test]
    fn whole_rows_come_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference");
        let chunks = [logits(1, 300), logits(2, 300)];
        let mut writer = Writer::create(&path, shape(), 1 << 20).unwrap();
        for chunk in &chunks {
            writer.add(chunk, &[1, 2, 3]).unwrap();
        }
        assert_eq!(writer.top(), None);
        writer.finish().unwrap();
        let mut reader = Reader::open(&path, shape()).unwrap();
        for chunk in &chunks {
            let Rows::Whole(rows) = reader.next_chunk().unwrap() else { panic!("rows were cut") };
            for (row, logits) in rows.chunks(100).zip(chunk.chunks(100)) {
                assert_eq!(divergence(row, logits, log_sum_exp(logits)).to_bits(), 0);
            }
        }
        assert!(reader.next_chunk().is_err(), "there is no third chunk");
    }

    #[test]
    fn a_file_whose_writer_died_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference");
        let mut writer = Writer::create(&path, shape(), 1 << 20).unwrap();
        writer.add(&logits(1, 300), &[1, 2, 3]).unwrap();
        drop(writer);
        let error = Reader::open(&path, shape()).unwrap_err();
        assert!(error.to_string().contains("incomplete"), "{error}");
    }

    #[test]
    fn a_file_of_another_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference");
        Writer::create(&path, shape(), 1 << 20).unwrap().finish().unwrap();
        let other = Shape { tokens_checksum: 8, ..shape() };
        assert!(Reader::open(&path, other).unwrap_err().to_string().contains("other tokens"));
    }

    #[test]
    fn a_budget_below_the_smallest_form_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference");
        let error = Writer::create(&path, shape(), 1000).unwrap_err();
        assert!(error.to_string().contains("raise memory_budget"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn a_file_never_exceeds_its_budget() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference");
        let wide = Shape { vocabulary: 1000, ..shape() };
        let budget = 10_000;
        let mut writer = Writer::create(&path, wide, budget).unwrap();
        assert!(writer.top().is_some());
        writer.add(&logits(1, 3000), &[1, 2, 3]).unwrap();
        writer.add(&logits(2, 3000), &[1, 2, 3]).unwrap();
        writer.finish().unwrap();
        assert!(path.metadata().unwrap().len() <= budget);
    }
}
