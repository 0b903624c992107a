//! What can be wrong with a GGUF.

use crate::units::format_bytes;
use std::path::PathBuf;

/// Why a file is no usable GGUF.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{} is no GGUF file: {found}", .path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// What it is instead, as far as its first bytes tell.
        found: String,
    },
    /// The file is of a version that is not read.
    #[error("{} is a GGUF of version {version}; versions 2 and 3 are read, convert it again", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The file was written for processors of the other byte order.
    #[error("{} is a big-endian GGUF, which this machine cannot use", .path.display())]
    BigEndian {
        /// The file.
        path: PathBuf,
    },
    /// The file ends too early.
    #[error(
        "{} is cut off: it has {} bytes, but {what} at byte {offset} needs {needed}; get it again",
        .path.display(), .file_bytes
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Where it begins.
        offset: u64,
        /// How many bytes it needs.
        needed: u64,
        /// Bytes of the file.
        file_bytes: u64,
    },
    /// Something is larger than it can be meant.
    #[error(
        "{} is damaged: {what} at byte {offset} is {length}, more than {most}",
        .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Where.
        offset: u64,
        /// The length or number that was read.
        length: u64,
        /// The largest that is accepted.
        most: u64,
    },
    /// A type code is unknown.
    #[error("{} is damaged: {what} at byte {offset} has the unknown type {code}", .path.display())]
    UnknownType {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Where.
        offset: u64,
        /// The code that was read.
        code: u32,
    },
    /// Values contradict each other.
    #[error("{} is damaged: {problem}", .path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// What contradicts what.
        problem: String,
    },
    /// A part of a split model is not there.
    #[error(
        "{} is not there; the model is split into {count} files, which have to lie in one folder",
        .missing.display()
    )]
    MissingPart {
        /// The part that is missing.
        missing: PathBuf,
        /// How many parts there are.
        count: u32,
    },
}

/// What a file is, judged by its first bytes, when it is no GGUF.
pub(crate) fn describe(first: &[u8]) -> String {
    let starts = |prefix: &[u8]| first.starts_with(prefix);
    if first.is_empty() {
        "it is empty".to_owned()
    } else if starts(b"version https://git-lfs") {
        "it is a Git LFS pointer; fetch the file itself with 'git lfs pull'".to_owned()
    } else if starts(b"PK\x03\x04") || starts(b"\x80\x02") {
        "it looks like a PyTorch checkpoint; convert it with llama.cpp's convert_hf_to_gguf.py"
            .to_owned()
    } else if first.get(8) == Some(&b'{') {
        "it looks like safetensors; convert it with llama.cpp's convert_hf_to_gguf.py".to_owned()
    } else if starts(b"tjgg") || starts(b"lmgg") || starts(b"fmgg") {
        "it is of the format before GGUF; convert the model again".to_owned()
    } else if first[0] == b'<' {
        "it looks like a web page; the download went wrong".to_owned()
    } else if first.len() < 4 {
        format!("it has only {}", format_bytes(first.len() as u64))
    } else {
        format!("it begins with {:02x?} instead of 'GGUF'", &first[..4])
    }
}
