//! What can be wrong with a GGUF.

use crate::causes::Problem;
use crate::units::format_bytes;
use std::path::Path;

/// Why a file is no usable GGUF.
pub type GgufError = Problem;

/// What is wrong with the file itself.
pub(super) fn damaged(path: &Path, problem: &str) -> GgufError {
    Problem::new(format!("{} is damaged: {problem}", path.display()))
}

/// The file is something else.
pub(super) fn not_gguf(path: &Path, found: &str) -> GgufError {
    Problem::new(format!("{} is no GGUF file: {found}", path.display()))
}

/// The file ends too early: it has `file_bytes`, and `what` at `offset` needs so many.
pub(super) fn truncated(
    path: &Path,
    file_bytes: u64,
    what: &str,
    offset: u64,
    needed: u64,
) -> GgufError {
    Problem::new(format!(
        "{} is cut off: it has {file_bytes} bytes, but {what} at byte {offset} needs {needed}; get it again",
        path.display()
    ))
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
        "it looks like safetensors; name the folder that it is in, which is converted".to_owned()
    } else if starts(b"tjgg") || starts(b"lmgg") || starts(b"fmgg") {
        "it is of the format before GGUF; convert the model again".to_owned()
    } else if first[0] == b'<' {
        "it looks like a web page; the download went wrong".to_owned()
    } else if first.len() < 4 {
        format!("it has only {}", format_bytes(first.len() as u64))
    } else {
        let begin = first[..4].escape_ascii();
        format!("it begins with '{begin}' instead of 'GGUF'")
    }
}
