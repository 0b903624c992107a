//! The reference's side of a comparison, on disk: what was compared on, and a row of numbers for each
//! part of it.
//!
//! One line of JSON (tokens of each entry, width of a row), then all rows in f32 and the machine's own
//! byte order: the file does not outlive a run.

use crate::workload::reference::{ReferenceError, io, mismatch};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// What stands before the rows.
#[derive(Debug, Serialize, Deserialize)]
struct Heading {
    width: usize,
    rows: usize,
    tokens: Vec<Vec<i32>>,
}

/// What the reference was asked and what it computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ReferenceFile {
    /// Numbers in a row.
    pub(super) width: usize,
    /// The tokens of each entry: a piece, or the answer to one.
    pub(super) tokens: Vec<Vec<i32>>,
    /// All rows, `[rows, width]`.
    pub(super) rows: Vec<f32>,
}

impl ReferenceFile {
    pub(super) fn write(&self, path: &Path) -> Result<(), ReferenceError> {
        let rows = self.rows.len().checked_div(self.width).unwrap_or(0);
        let heading = Heading { width: self.width, rows, tokens: self.tokens.clone() };
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            serde_json::to_writer(&mut file, &heading)?;
            file.write_all(b"\n")?;
            file.write_all(bytemuck::cast_slice(&self.rows))?;
            file.flush()
        };
        write().map_err(|source| io("write", path, source))
    }

    /// Reads what [`Self::write`] wrote with rows of `width` numbers.
    pub(super) fn read(path: &Path, width: usize) -> Result<Self, ReferenceError> {
        let wrong = |reason: &str| mismatch(path, reason);
        let bytes = fs::read(path).map_err(|source| io("read", path, source))?;
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (heading, rows) = bytes.split_at(end.ok_or_else(|| wrong("it is cut off"))?);
        let heading: Heading =
            serde_json::from_slice(heading).map_err(|_| wrong("its first line is no heading"))?;
        if heading.width != width {
            return Err(wrong("the reference's rows have another length"));
        }
        let rows = &rows[1..];
        if Some(rows.len()) != heading.rows.checked_mul(width).and_then(|n| n.checked_mul(4)) {
            return Err(wrong("it is cut off"));
        }
        let rows = rows.as_chunks::<4>().0.iter().map(|&four| f32::from_ne_bytes(four)).collect();
        Ok(Self { width, tokens: heading.tokens, rows })
    }

    /// Bytes that the rows take.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.len() as u64 * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference_file() -> ReferenceFile {
        ReferenceFile {
            width: 2,
            tokens: vec![vec![5, 6], vec![]],
            rows: vec![0.5, -1.0, 2.5, 1e-30],
        }
    }

    #[test]
    fn what_is_written_reads_back_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference_file");
        reference_file().write(&path).unwrap();
        assert_eq!(ReferenceFile::read(&path, 2).unwrap(), reference_file());
    }

    #[test]
    fn another_width_and_a_cut_off_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference_file");
        reference_file().write(&path).unwrap();
        let reason = |width| ReferenceFile::read(&path, width).unwrap_err().to_string();
        assert!(reason(4).ends_with("another length"), "{}", reason(4));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(reason(2).ends_with("cut off"), "{}", reason(2));
        std::fs::write(&path, &bytes[..4]).unwrap();
        assert!(reason(2).ends_with("cut off"), "{}", reason(2));
    }
}
