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
const LONGEST_SIDE: u32 = 16_384;

/// Pixels in all at most: a photograph has 12 to 50 million. As RGB that is 192 MiB.
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
    /// There is nothing in it.
    #[error("the picture {} is empty", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is too large to be meant.
    #[error("the picture {} is larger than {}", .path.display(), format_bytes(MOST_BYTES))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Its first bytes are of no format that is read.
    #[error("the picture {} is neither PNG, JPEG nor WebP", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// It says that it has more pixels than are decoded, or none.
    #[error(
        "the picture {} says that it has {width} × {height} pixels; pictures have at most \
         {LONGEST_SIDE} in one direction and {} million in all", .path.display(), MOST_PIXELS >> 20
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Pixels in a row, as its header says.
        width: u32,
        /// Rows, as its header says.
        height: u32,
    },
    /// It is cut off, damaged, or not of the size that its header says.
    #[error("the picture {} is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// This build decodes nothing.
    #[error("the picture {} cannot be read: {NOT_BUILT_IN}", .path.display())]
    NotBuiltIn {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the file of a picture, whatever is in it.
///
/// # Errors
/// It is not there, no file, empty or too large.
pub fn bytes(path: &Path) -> Result<Vec<u8>, PictureError> {
    let unreadable = |source| PictureError::Unreadable { path: path.to_owned(), source };
    match crate::files::read_at_most(path, MOST_BYTES).map_err(unreadable)? {
        None => Err(PictureError::TooLarge { path: path.to_owned() }),
        Some(bytes) if bytes.is_empty() => Err(PictureError::Empty { path: path.to_owned() }),
        Some(bytes) => Ok(bytes),
    }
}

/// Decodes `bytes`, the content of `path`.
///
/// # Errors
/// They are no whole picture, or one with too many pixels.
#[cfg(not(feature = "multimodal"))]
pub fn decode(path: &Path, _bytes: &[u8]) -> Result<Picture, PictureError> {
    Err(PictureError::NotBuiltIn { path: path.to_owned() })
}
