//! A cursor over a GGUF that never reads or allocates more than the file has.

use super::error::{GgufError, damaged, describe, not_gguf, truncated};
use crate::causes::Problem;
use crate::files;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest text that is kept of a string; chat templates stay far below it.
const KEPT_TEXT: u64 = 1 << 20;

/// Where bytes come from.
enum Input {
    File(BufReader<File>),
    /// The beginning of a file that lies elsewhere.
    Stream(Box<dyn Read + Send>),
}

impl Read for Input {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(bytes),
            Self::Stream(stream) => stream.read(bytes),
        }
    }
}

/// Reads little-endian values from a file; every length is checked against what the file has left.
pub(crate) struct Cursor {
    input: Input,
    pub(super) path: PathBuf,
    /// Where the next value begins.
    pub(super) offset: u64,
    pub(super) file_bytes: u64,
}

impl Cursor {
    /// Opens `path` at its first byte.
    pub(crate) fn open(path: &Path) -> Result<Self, GgufError> {
        let file = files::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => not_gguf(path, &error.to_string()),
            _ => unreadable(path)(error),
        })?;
        let metadata = file.metadata().map_err(unreadable(path))?;
        Ok(Self {
            input: Input::File(BufReader::new(file)),
            path: path.to_owned(),
            offset: 0,
            file_bytes: metadata.len(),
        })
    }

    /// A file of `file_bytes` that lies elsewhere, from its first byte; `path` names it in errors.
    pub(super) fn of_stream(
        path: &Path,
        file_bytes: u64,
        stream: impl Read + Send + 'static,
    ) -> Self {
        let input = Input::Stream(Box::new(BufReader::new(stream)));
        Self { input, path: path.to_owned(), offset: 0, file_bytes }
    }

    fn remaining(&self) -> u64 {
        self.file_bytes.saturating_sub(self.offset)
    }

    /// Checks that `needed` more bytes are there.
    pub(crate) fn expect(&self, needed: u64, what: &str) -> Result<(), GgufError> {
        if needed <= self.remaining() {
            return Ok(());
        }
        Err(truncated(&self.path, self.file_bytes, what, self.offset, needed))
    }

    /// Reads `N` bytes.
    pub(crate) fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        self.expect(N as u64, what)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), GgufError> {
        self.input.read_exact(bytes).map_err(unreadable(&self.path))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Checks that the file begins as a GGUF does.
    pub(crate) fn magic(&mut self) -> Result<(), GgufError> {
        let mut first = vec![0; usize::try_from(self.file_bytes.min(4)).unwrap_or(4)];
        self.fill(&mut first)?;
        if first == b"GGUF" {
            return Ok(());
        }
        let mut more = vec![0; usize::try_from(self.remaining().min(28)).unwrap_or(28)];
        self.fill(&mut more)?;
        Err(not_gguf(&self.path, &describe(&[first, more].concat())))
    }

    /// Reads a `u32`.
    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    /// Reads a `u64`.
    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    fn length(&mut self, most: u64, what: &str) -> Result<u64, GgufError> {
        let offset = self.offset;
        let length = self.u64(what)?;
        if length > most { Err(self.too_large(what, offset, length, most)) } else { Ok(length) }
    }

    /// Reads a count of at most `most` things that take at least `least_bytes` each.
    pub(crate) fn count(
        &mut self,
        most: u64,
        least_bytes: u64,
        what: &str,
    ) -> Result<u64, GgufError> {
        let length = self.length(most, what)?;
        self.expect(length.saturating_mul(least_bytes), &format!("what follows {what}"))?;
        Ok(length)
    }

    /// The error for what contradicts itself.
    pub(crate) fn inconsistent(&self, problem: &str) -> GgufError {
        damaged(&self.path, problem)
    }

    /// The error for a type that is not known.
    pub(crate) fn unknown_type(&self, what: &str, offset: u64, code: u32) -> GgufError {
        self.inconsistent(&format!("{what} at byte {offset} has the unknown type {code}"))
    }

    /// The error for a length that cannot be meant.
    pub(crate) fn too_large(&self, what: &str, offset: u64, length: u64, most: u64) -> GgufError {
        self.inconsistent(&format!("{what} at byte {offset} is {length}, more than {most}"))
    }

    /// Reads a string; of a very long one only the beginning is kept.
    pub(crate) fn text(&mut self, what: &str) -> Result<String, GgufError> {
        let length = self.u64(what)?;
        self.expect(length, what)?;
        let kept = length.min(KEPT_TEXT);
        let mut bytes = vec![0; usize::try_from(kept).unwrap_or(0)];
        self.fill(&mut bytes)?;
        self.skip(length - kept, what)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a string of at most `most` bytes.
    pub(crate) fn short_text(&mut self, most: u64, what: &str) -> Result<String, GgufError> {
        let offset = self.offset;
        let length = self.length(most, what)?;
        self.expect(length, what)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes)
            .map_err(|_| self.inconsistent(&format!("{what} at byte {offset} is not UTF-8")))
    }

    /// Passes over a string.
    pub(crate) fn skip_text(&mut self, what: &str) -> Result<(), GgufError> {
        let length = self.u64(what)?;
        self.skip(length, what)
    }

    /// Passes over `length` bytes.
    pub(crate) fn skip(&mut self, length: u64, what: &str) -> Result<(), GgufError> {
        self.expect(length, what)?;
        self.offset += length;
        let passed = match (&mut self.input, i64::try_from(length)) {
            (Input::File(file), Ok(distance)) => file.seek_relative(distance),
            (Input::File(file), Err(_)) => file.seek(SeekFrom::Start(self.offset)).map(|_| ()),
            (Input::Stream(stream), _) => {
                io::copy(&mut stream.take(length), &mut io::sink()).map(|_| ())
            }
        };
        passed.map_err(unreadable(&self.path))
    }
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> GgufError + '_ {
    move |source| Problem::because(format!("cannot read {}", path.display()), source)
}
