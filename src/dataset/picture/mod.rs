//! Pictures of a data set: files that are decoded in full before anything is measured.
//!
//! A picture is hostile input. Its size is read from its header and checked before any pixel is
//! decoded, and what ends too early, or holds fewer pixels than its header says, is an error: other
//! programs fill up with grey, and then a wrong answer would be put down to the model.

#[cfg(feature = "multimodal")]
mod decoding;
#[cfg(test)]
mod tests;

#[cfg(feature = "multimodal")]
pub use decoding::decode;

use crate::units::format_bytes;
use std::path::{Path, PathBuf};

/// Whether this build can read pictures.
pub const BUILT_IN: bool = cfg!(feature = "multimodal");

/// What is said where a build cannot.
pub const NOT_BUILT_IN: &str = "this build reads no pictures; build quantbench with its feature \
                                'multimodal' (in its folder: cargo build --release --features \
                                multimodal)";

/// Larger files are no pictures to show a model.
const MOST_BYTES: u64 = 64 << 20;

/// Pixels in one direction at most.
#[cfg(feature = "multimodal")]
const LONGEST_SIDE: u32 = 16_384;

/// Pixels in all at most: a photograph has 12 to 50 million. As RGB that is 192 MiB.
#[cfg(feature = "multimodal")]
const MOST_PIXELS: u64 = 64 << 20;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[height, width, 3]`, red, green and blue from 0 to 255. What a picture says of transparency is
    /// left out.
    pub rgb: Vec<u8>,
}

/// Why a file is no picture; `Display` is a sentence that names it.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file cannot be read.
    #[error("the picture {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no whole picture that can be shown.
    #[error("the picture {} {reason}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it: a verb first.
        reason: String,
    },
}

impl PictureError {
    fn unusable(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), reason: reason.into() }
    }
}

/// Reads the file of a picture, whatever is in it.
///
/// # Errors
/// It is not there, no file, empty or too large.
pub fn bytes(path: &Path) -> Result<Vec<u8>, PictureError> {
    let unreadable = |source| PictureError::Unreadable { path: path.to_owned(), source };
    match crate::files::read_at_most(path, MOST_BYTES).map_err(unreadable)? {
        None => {
            let reason = format!("is larger than {}", format_bytes(MOST_BYTES));
            Err(PictureError::unusable(path, reason))
        }
        Some(bytes) if bytes.is_empty() => Err(PictureError::unusable(path, "is empty")),
        Some(bytes) => Ok(bytes),
    }
}

/// Decodes `bytes`, the content of `path`.
///
/// # Errors
/// They are no whole picture, or one with too many pixels.
#[cfg(not(feature = "multimodal"))]
pub fn decode(path: &Path, _bytes: &[u8]) -> Result<Picture, PictureError> {
    Err(PictureError::unusable(path, format!("cannot be read: {NOT_BUILT_IN}")))
}
