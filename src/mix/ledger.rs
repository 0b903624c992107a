//! The ledger: what was measured, kept as it comes, so that a mix for another size, or the same one
//! after an interruption, measures nothing twice.
//!
//! One JSON object per line; the file belongs to one model, text and importance matrix. A line that was
//! not written to its end is measured again.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// What a divergence was measured of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    /// Checksum of the mix that the model was in, as [`super::Assignment::checksum`]; empty: the original.
    pub around: String,
    /// The group that was stored otherwise; empty: none.
    pub group: String,
    /// How it was stored.
    pub format: String,
}

/// A divergence that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Mean KLD of each chunk, nats.
    pub chunk_kld: Vec<f64>,
}

impl Answer {
    /// Mean KLD, nats: chunks have equally many tokens.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "fewer chunks than 2^53")]
    pub fn kld(&self) -> f64 {
        self.chunk_kld.iter().sum::<f64>() / self.chunk_kld.len().max(1) as f64
    }

    /// Standard error of the mean, from the spread of chunks; infinite for fewer than two.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "fewer chunks than 2^53")]
    pub fn standard_error(&self) -> f64 {
        let count = self.chunk_kld.len() as f64;
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
    question: Question,
    #[serde(flatten)]
    answer: Answer,
}

/// Everything measured so far, and the file that it is kept in.
#[derive(Debug)]
pub struct Ledger {
    answers: HashMap<Question, Answer>,
    file: Option<File>,
}

impl Ledger {
    /// A ledger that is forgotten with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { answers: HashMap::new(), file: None }
    }

    /// Opens the file, making it if need be.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let answers = lines
            .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
            .map(|line| (line.question, line.answer))
            .collect();
        if bytes.last().is_some_and(|&byte| byte != b'\n') {
            file.seek(SeekFrom::End(0))?;
            file.write_all(b"\n")?;
        }
        Ok(Self { answers, file: Some(file) })
    }

    /// What was measured of this, if it was.
    #[must_use]
    pub fn get(&self, question: &Question) -> Option<&Answer> {
        self.answers.get(question)
    }

    /// Keeps what was measured.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&mut self, question: Question, answer: Answer) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            let line = Line { question: question.clone(), answer: answer.clone() };
            let mut bytes = serde_json::to_vec(&line).map_err(io::Error::other)?;
            bytes.push(b'\n');
            // One write: lines of two processes never mix.
            file.write_all(&bytes)?;
        }
        self.answers.insert(question, answer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(group: &str) -> Question {
        Question { around: String::new(), group: group.to_owned(), format: "Q4_K".to_owned() }
    }

    #[test]
    fn what_was_kept_is_there_again_but_for_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut ledger = Ledger::open(&path).unwrap();
        let answer = Answer { chunk_kld: vec![0.1, 0.3] };
        ledger.keep(question("a"), answer.clone()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"around\":\"\",\"gro");
        std::fs::write(&path, &bytes).unwrap();
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.get(&question("a")), Some(&answer));
        ledger.keep(question("b"), answer.clone()).unwrap();
        let ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.get(&question("b")), Some(&answer));
        assert_eq!(ledger.get(&question("c")), None);
    }

    #[test]
    fn the_error_comes_from_the_spread_of_chunks() {
        let answer = Answer { chunk_kld: vec![0.2, 0.4] };
        assert!((answer.kld() - 0.3).abs() < 1e-12);
        assert!((answer.standard_error() - 0.1).abs() < 1e-12);
        assert!(Answer { chunk_kld: vec![0.2] }.standard_error().is_infinite());
    }
}
