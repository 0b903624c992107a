//! Files that are read through the page cache without being copied.

use crate::files;
use memmap2::Mmap;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// A file's bytes, mapped for reading.
///
/// A file that another program makes shorter meanwhile ends this process with a bus error, which is
/// one more reason why such work belongs into the worker.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a whole file.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = files::open(path)?;
        // SAFETY: the mapping is private and read-only; only plain bytes are read from it, so that
        // bytes which change meanwhile are wrong data, never an invalid value.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(Self(map))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
