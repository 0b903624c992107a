//! The ledger: measurements on disk, so that an interrupted mix, or one for another size, measures nothing twice.
//!
//! One JSON object per line, behind its checksum; the file belongs to one model, text and importance matrix. A line
//! that is incomplete or damaged is ignored: it is measured again.

use crate::model::cache::of_bytes;
use crate::statistics::sample::to_f64;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// The state of the model that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct MeasurementKey {
    /// Checksum of the mix, as `Assignment::checksum`; empty: the original.
    pub(super) around: String,
    /// The group that differs from it; empty: none.
    pub(super) group: String,
    /// The type of that group.
    pub(super) format: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measurement {
    /// Mean KLD of each chunk, nats.
    pub(super) chunk_kld: Vec<f64>,
}

impl Measurement {
    /// Mean KLD, nats. Chunks have the same number of tokens.
    pub(super) fn kld(&self) -> f64 {
        self.chunk_kld.iter().sum::<f64>() / to_f64(self.chunk_kld.len().max(1))
    }

    /// Standard error of the mean, from the spread of chunks; infinite for fewer than two.
    pub(super) fn standard_error(&self) -> f64 {
        let count = to_f64(self.chunk_kld.len());
        if self.chunk_kld.len() < 2 {
            return f64::INFINITY;
        }
        let mean = self.kld();
        let squares = self.chunk_kld.iter().map(|kld| (kld - mean).powi(2)).sum::<f64>();
        (squares / (count - 1.0) / count).sqrt()
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    key: MeasurementKey,
    #[serde(flatten)]
    measurement: Measurement,
}

impl Line {
    /// SHA-256 of the object, hex, a space, and the object.
    fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let object = serde_json::to_vec(self)?;
        let mut bytes = format!("{} ", of_bytes(&object)).into_bytes();
        bytes.extend(object);
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// `None` unless it is as it was written.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (checksum, object) = bytes.strip_suffix(b"\n")?.split_at_checked(64)?;
        let object = object.strip_prefix(b" ")?;
        let is_whole = checksum == of_bytes(object).as_bytes();
        is_whole.then(|| serde_json::from_slice(object).ok()).flatten()
    }
}

pub(super) struct Ledger {
    known: HashMap<MeasurementKey, Measurement>,
    file: File,
}

impl Ledger {
    /// Opens or creates a file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let known =
            lines.filter_map(Line::from_bytes).map(|line| (line.key, line.measurement)).collect();
        if bytes.last().is_some_and(|&byte| byte != b'\n') {
            file.seek(SeekFrom::End(0))?;
            file.write_all(b"\n")?;
        }
        Ok(Self { known, file })
    }

    pub(super) fn get(&self, key: &MeasurementKey) -> Option<&Measurement> {
        self.known.get(key)
    }

    pub(super) fn insert(
        &mut self,
        key: MeasurementKey,
        measurement: Measurement,
    ) -> io::Result<()> {
        let line = Line { key: key.clone(), measurement: measurement.clone() };
        // One write: lines of two processes never mix.
        self.file.write_all(&line.to_bytes().map_err(io::Error::other)?)?;
        self.known.insert(key, measurement);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(group: &str) -> MeasurementKey {
        MeasurementKey { around: String::new(), group: group.to_owned(), format: "Q4_K".to_owned() }
    }

    #[test]
    fn what_was_kept_is_there_again_but_for_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut ledger = Ledger::open(&path).unwrap();
        let answer = Measurement { chunk_kld: vec![0.1, 0.3] };
        ledger.insert(question("a"), answer.clone()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"around\":\"\",\"gro");
        std::fs::write(&path, &bytes).unwrap();
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.get(&question("a")), Some(&answer));
        ledger.insert(question("b"), answer.clone()).unwrap();
        let ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.get(&question("b")), Some(&answer));
        assert_eq!(ledger.get(&question("c")), None);
    }

    #[test]
    fn a_line_that_was_damaged_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut ledger = Ledger::open(&path).unwrap();
        for group in ["a", "b"] {
            ledger.insert(question(group), Measurement { chunk_kld: vec![0.1, 0.3] }).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for at in 0..first {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let ledger = Ledger::open(&path).unwrap();
            assert_eq!(ledger.get(&question("a")), None, "byte {at}");
            // Without a line end the first takes the second along.
            assert_eq!(ledger.get(&question("b")).is_some(), at + 1 < first, "byte {at}");
        }
    }

    #[test]
    fn the_error_comes_from_the_spread_of_chunks() {
        let answer = Measurement { chunk_kld: vec![0.2, 0.4] };
        assert!((answer.kld() - 0.3).abs() < 1e-12);
        assert!((answer.standard_error() - 0.1).abs() < 1e-12);
        assert!(Measurement { chunk_kld: vec![0.2] }.standard_error().is_infinite());
    }
}
