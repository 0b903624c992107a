//! The reference's log-probabilities on disk, from the reference's worker to all others.
//!
//! One row per scored position. Kept whole, a row is the log-probability of every token in f32, so
//! a variant with the same weights diverges by exactly 0. If that takes more than the budget, a row is
//! the K most probable tokens and the mass of the rest, and every divergence carries an upper bound
//! of the error this causes ([`TopRow::divergence`]). llama-perplexity's file, 16 bits over a window
//! of 16 nats, reads 5e-4 for equal weights instead.

use super::top_row::TopRow;
use rayon::prelude::*;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const MAGIC: [u8; 8] = *b"QBREF\x00\x01\n";
const HEADER_LENGTH: usize = 8 + 2 * 4 + 2 * 8;
const HEADER_BYTES: u64 = HEADER_LENGTH as u64;
/// Below this many tokens per position the error bound says nothing useful.
const SMALLEST_TOP: u32 = 64;

/// Vocabularies that differ by less than this part of them differ in what fills them up.
const PADDING: u32 = 16;

/// Why a reference file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Reading or writing failed.
    #[error("cannot {action} the figures that variants are compared by in {}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what was expected.
    #[error("{} holds no figures for this comparison: {reason}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The variant reads texts as other tokens than the reference, so that there is nothing to compare.
    #[error("{0}")]
    OtherTokens(String),
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
pub struct ReferenceShape {
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Rows of all pieces.
    pub rows: u64,
    /// Checksum of the evaluated tokens and of where they are scored: both models must see the same ones.
    pub tokens_checksum: u64,
}

impl ReferenceShape {
    /// How many tokens of each row are kept under a budget; `None`: all.
    fn top_under(self, budget_bytes: u64) -> Result<Option<u32>, ReferenceError> {
        let whole = self.rows * u64::from(self.vocabulary) * 4 + HEADER_BYTES;
        if whole <= budget_bytes {
            return Ok(None);
        }
        let per_row = budget_bytes.saturating_sub(HEADER_BYTES) / self.rows.max(1);
        let top = per_row.saturating_sub(TOP_ROW_FIXED_BYTES) / 8;
        if top < u64::from(SMALLEST_TOP) {
            let smallest = TOP_ROW_FIXED_BYTES + 8 * u64::from(SMALLEST_TOP);
            return Err(ReferenceError::BudgetTooSmall {
                needed_bytes: self.rows * smallest + HEADER_BYTES,
                rows: self.rows,
                budget_bytes,
            });
        }
        Ok(Some(u32::try_from(top).unwrap_or(u32::MAX).min(self.vocabulary)))
    }
}

/// The text's own token and the mass of the rest, each one f32.
const TOP_ROW_FIXED_BYTES: u64 = 8;

/// Numbers in the stored form of one row.
fn row_length(shape: ReferenceShape, top: Option<u32>) -> usize {
    top.map_or(shape.vocabulary as usize, |top| 2 + 2 * top as usize)
}

/// Where a row begins in the file, bytes.
fn place_of(row: u64, shape: ReferenceShape, top: Option<u32>) -> SeekFrom {
    let row_bytes = row_length(shape, top) as u64 * 4;
    SeekFrom::Start(HEADER_BYTES + row * row_bytes)
}

/// Writes a reference file; pieces may come in any order and from several threads.
#[derive(Debug)]
pub struct Writer {
    file: Mutex<File>,
    path: PathBuf,
    shape: ReferenceShape,
    top: Option<u32>,
}

impl Writer {
    /// Begins a file of at most `budget_bytes`.
    ///
    /// # Errors
    /// When the budget is too small or the file cannot be made.
    pub fn create(
        path: &Path,
        shape: ReferenceShape,
        budget_bytes: u64,
    ) -> Result<Self, ReferenceError> {
        let top = shape.top_under(budget_bytes)?;
        let mut file = File::create(path).map_err(|source| io("write", path, source))?;
        // The magic is written last: a file whose writer died is no reference.
        let mut header = vec![0; MAGIC.len()];
        header.extend(shape.vocabulary.to_le_bytes());
        header.extend(top.unwrap_or(0).to_le_bytes());
        header.extend(shape.rows.to_le_bytes());
        header.extend(shape.tokens_checksum.to_le_bytes());
        file.write_all(&header).map_err(|source| io("write", path, source))?;
        Ok(Self { file: Mutex::new(file), path: path.to_owned(), shape, top })
    }

    /// Goes on with a file that a writer completed.
    ///
    /// # Errors
    /// When it belongs to something else, or cannot be written.
    pub fn reopen(path: &Path, shape: ReferenceShape) -> Result<Self, ReferenceError> {
        let failed = |source| io("write", path, source);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let (_, top) = read_header(&mut file, path, shape)?;
        // Until it is complete again it is no reference.
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&[0; MAGIC.len()]))
            .map_err(failed)?;
        Ok(Self { file: Mutex::new(file), path: path.to_owned(), shape, top })
    }

    /// How many tokens of each row are kept; `None`: all.
    #[must_use]
    pub fn top(&self) -> Option<u32> {
        self.top
    }

    /// Bytes of a file of so many rows.
    #[must_use]
    pub fn bytes(&self, rows: u64) -> u64 {
        HEADER_BYTES + rows * row_length(self.shape, self.top) as u64 * 4
    }

    /// Writes the log-probabilities of one piece, `[rows, vocabulary]`, from row `first` on, with the token
    /// that followed each row.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(
        &self,
        first: u64,
        log_probabilities: &[f32],
        following: &[i32],
    ) -> Result<(), ReferenceError> {
        let Some(top) = self.top else {
            return self.write(first, bytemuck::cast_slice(log_probabilities));
        };
        let rows: Vec<Vec<f32>> = log_probabilities
            .par_chunks(self.shape.vocabulary as usize)
            .zip(following)
            .map(|(row, &token)| TopRow::of(row, top as usize, token).encode())
            .collect();
        self.write(first, bytemuck::cast_slice(&rows.concat()))
    }

    fn write(&self, first: u64, bytes: &[u8]) -> Result<(), ReferenceError> {
        let mut file = lock(&self.file);
        file.seek(place_of(first, self.shape, self.top))
            .and_then(|_| file.write_all(bytes))
            .map_err(|source| io("write", &self.path, source))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> Result<(), ReferenceError> {
        let mut file = lock(&self.file);
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&MAGIC))
            .map_err(|source| io("write", &self.path, source))
    }
}

/// Reads a reference file; pieces in any order and from several threads.
#[derive(Debug)]
pub struct Reader {
    file: Mutex<File>,
    path: PathBuf,
    shape: ReferenceShape,
    top: Option<u32>,
}

/// The rows of one piece.
#[derive(Debug)]
pub enum Rows {
    /// Log-probabilities of every token, `[rows, vocabulary]`.
    Whole(Vec<f32>),
    /// The most probable tokens of each row.
    Top(Vec<TopRow>),
}

impl Reader {
    /// Opens a file that must belong to `shape`.
    ///
    /// # Errors
    /// When the file is missing, incomplete or belongs to another model or text.
    pub fn open(path: &Path, shape: ReferenceShape) -> Result<Self, ReferenceError> {
        let mut file = File::open(path).map_err(|source| io("read", path, source))?;
        let (vocabulary, top) = read_header(&mut file, path, shape)?;
        let shape = ReferenceShape { vocabulary, ..shape };
        Ok(Self { file: Mutex::new(file), path: path.to_owned(), shape, top })
    }

    /// Tokens in the reference's vocabulary: it may be filled up to another number than that of a variant.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.shape.vocabulary as usize
    }

    /// So many rows from `first` on.
    ///
    /// # Errors
    /// When the file ends too early or cannot be read.
    pub fn rows(&self, first: u64, count: usize) -> Result<Rows, ReferenceError> {
        let row_length = row_length(self.shape, self.top);
        let mut values = vec![0.0_f32; count * row_length];
        {
            let mut file = lock(&self.file);
            file.seek(place_of(first, self.shape, self.top))
                .and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut values)))
                .map_err(|source| io("read", &self.path, source))?;
        }
        if self.top.is_none() {
            return Ok(Rows::Whole(values));
        }
        Ok(Rows::Top(values.chunks(row_length).map(TopRow::decode).collect()))
    }
}

/// Reads the header of a file that must belong to `shape`; returns its vocabulary, and how many tokens of each
/// row it keeps.
fn read_header(
    file: &mut File,
    path: &Path,
    shape: ReferenceShape,
) -> Result<(u32, Option<u32>), ReferenceError> {
    let mut header = [0_u8; HEADER_LENGTH];
    file.read_exact(&mut header).map_err(|source| io("read", path, source))?;
    let (words, _) = header[MAGIC.len()..].as_chunks::<4>();
    let number = |index: usize| u32::from_le_bytes(words[index]);
    let long = |index: usize| u64::from(number(index + 1)) << 32 | u64::from(number(index));
    let found = ReferenceShape { vocabulary: number(0), rows: long(2), tokens_checksum: long(4) };
    let top = Some(number(1)).filter(|&top| top > 0);
    if header[..8] != MAGIC {
        return Err(mismatch(path, "it is incomplete or of another kind"));
    }
    let cut = found.vocabulary.abs_diff(shape.vocabulary);
    let is_padding = cut <= found.vocabulary.max(shape.vocabulary) / PADDING && top.is_none();
    if cut > 0 && !is_padding {
        return Err(ReferenceError::OtherTokens(format!(
            "the reference has {} tokens in its vocabulary, this variant {}",
            found.vocabulary, shape.vocabulary
        )));
    }
    if (found.rows, found.tokens_checksum) != (shape.rows, shape.tokens_checksum) {
        let reason =
            "the reference was evaluated on other tokens: text, context or tokenizer differ";
        return Err(ReferenceError::OtherTokens(reason.to_owned()));
    }
    if top.is_some_and(|top| top > found.vocabulary) {
        return Err(mismatch(path, "it is of another kind"));
    }
    Ok((found.vocabulary, top))
}

/// A thread that panicked left the file whole: every access begins with a seek.
fn lock(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> ReferenceError {
    ReferenceError::Io { action, path: path.to_owned(), source }
}

pub(super) fn mismatch(path: &Path, reason: impl Into<String>) -> ReferenceError {
    ReferenceError::Mismatch { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::softmax::{divergence, log_softmax, log_sum_exp};

    fn shape() -> ReferenceShape {
        ReferenceShape { vocabulary: 100, rows: 6, tokens_checksum: 7 }
    }

    fn logits(seed: u64, count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f32() * 12.0 - 6.0).collect()
    }

    /// Log-probabilities of rows of 100 or 1000 logits.
    fn log_probabilities(logits: &[f32], vocabulary: usize) -> Vec<f32> {
        let mut rows = logits.to_vec();
        rows.chunks_mut(vocabulary).for_each(log_softmax);
        rows
    }

    #[test]
    fn whole_rows_come_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference");
        let chunks = [logits(1, 300), logits(2, 300)];
        let writer = Writer::create(&path, shape(), 1 << 20).unwrap();
        for (first, chunk) in [(3, &chunks[1]), (0, &chunks[0])] {
            writer.add(first, &log_probabilities(chunk, 100), &[1, 2, 3]).unwrap();
        }
        assert_eq!(writer.top(), None);
        writer.finish().unwrap();
        let reader = Reader::open(&path, shape()).unwrap();
        for (first, chunk) in [0, 3].into_iter().zip(&chunks) {
            let Rows::Whole(rows) = reader.rows(first, 3).unwrap() else { panic!("rows were cut") };
            for (row, logits) in rows.chunks(100).zip(chunk.chunks(100)) {
                assert_eq!(divergence(row, logits, log_sum_exp(logits)).to_bits(), 0);
            }
        }
        assert!(reader.rows(4, 3).is_err(), "there are six rows");
    }

    #[test]
    fn a_file_that_is_gone_on_with_is_the_same_as_one_that_was_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (parts, once) = (folder.path().join("parts"), folder.path().join("once"));
        let add = |writer: &Writer, chunk: u64| {
            let rows = log_probabilities(&logits(chunk, 300), 100);
            writer.add(3 * chunk, &rows, &[1, 2, 3]).unwrap();
        };
        let writer = Writer::create(&once, shape(), 1 << 20).unwrap();
        (0..2).for_each(|chunk| add(&writer, chunk));
        writer.finish().unwrap();
        let writer = Writer::create(&parts, shape(), 1 << 20).unwrap();
        add(&writer, 0);
        writer.finish().unwrap();
        let writer = Writer::reopen(&parts, shape()).unwrap();
        assert!(Reader::open(&parts, shape()).is_err(), "while it is written it is no reference");
        add(&writer, 1);
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&parts).unwrap(), std::fs::read(&once).unwrap());
        let other = ReferenceShape { tokens_checksum: 8, ..shape() };
        assert!(Writer::reopen(&parts, other).is_err());
    }

    #[test]
    fn a_file_whose_writer_died_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference");
        let writer = Writer::create(&path, shape(), 1 << 20).unwrap();
        writer.add(0, &log_probabilities(&logits(1, 300), 100), &[1, 2, 3]).unwrap();
        drop(writer);
        let error = Reader::open(&path, shape()).unwrap_err();
        assert!(error.to_string().contains("incomplete"), "{error}");
    }

    #[test]
    fn a_file_of_another_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference");
        Writer::create(&path, shape(), 1 << 20).unwrap().finish().unwrap();
        let other = ReferenceShape { tokens_checksum: 8, ..shape() };
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
        let wide = ReferenceShape { vocabulary: 1000, ..shape() };
        let budget = 10_000;
        let writer = Writer::create(&path, wide, budget).unwrap();
        assert!(writer.top().is_some());
        for chunk in 0..2 {
            let rows = log_probabilities(&logits(chunk, 3000), 1000);
            writer.add(3 * chunk, &rows, &[1, 2, 3]).unwrap();
        }
        let bytes = writer.bytes(6);
        writer.finish().unwrap();
        assert_eq!(path.metadata().unwrap().len(), bytes);
        assert!(bytes <= budget);
    }
}
