//! Files that are read through the page cache without being copied.

use crate::files;
use memmap2::Mmap;
use std::io;
use std::path::Path;

/// Maps a whole file for reading.
///
/// If another program makes the file shorter meanwhile, this process ends with a bus error; so files are
/// mapped in workers only.
///
/// # Errors
/// When the file cannot be opened or mapped.
pub fn map(path: &Path) -> io::Result<Mmap> {
    let file = files::open(path)?;
    // SAFETY: the mapping is private and read-only; only plain bytes are read from it, so that
    // bytes which change meanwhile are wrong data, never an invalid value.
    unsafe { Mmap::map(&file) }
}
