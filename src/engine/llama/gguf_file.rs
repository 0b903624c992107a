//! GGUF files made from others: keys copied and set, tensors chosen, data streamed.
//!
//! [`GgufInput`] gives a file's tensors as bytes and its keys as [`Metadata`]; [`GgufOutput`] writes a
//! header from such keys and a list of [`TensorPlan`]s, then takes the data of each tensor in order.
//! The format is written and read by ggml's `gguf_*` functions; whatever these would abort on is
//! refused here before. Uses `model::gguf`, which judges a file before ggml sees it.

mod input;
mod output;
#[cfg(test)]
mod tests;

pub use input::{GgufInput, InputTensor};
pub use output::{GgufOutput, TensorPlan};

use super::handle::Handle;
use super::model::to_c_string;
use crate::model::gguf::GgufError;
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::path::PathBuf;

/// ggml takes no metadata key longer than this, bytes.
const LONGEST_KEY: usize = 65_535;
/// The key that says how tensors are aligned; ggml's writer always uses GGUF's default.
const ALIGNMENT: &str = "general.alignment";

/// Why a GGUF cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GgufFileError {
    /// The header is wrong.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// ggml does not accept what the header reader accepted.
    #[error("ggml cannot read the header of {}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// ggml's last error lines.
        reason: String,
    },
    /// A string of the metadata cannot be handed through C.
    #[error("a string in the metadata of {} holds a zero byte, which ggml would cut off", path.display())]
    ZeroByteInside {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key cannot be set.
    #[error("metadata key '{key}' cannot be set: {reason}")]
    Key {
        /// The key.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// A tensor cannot be in a file as it is planned.
    #[error("tensor '{name}' cannot be written: {reason}")]
    Plan {
        /// Its name.
        name: String,
        /// What is wrong with the plan.
        reason: String,
    },
    /// Data came for another tensor than the one whose turn it is.
    #[error("data came for tensor '{given}', but the turn is {}", expected.as_deref().unwrap_or("over"))]
    Order {
        /// The tensor that data came for.
        given: String,
        /// The one whose turn it is.
        expected: Option<String>,
    },
    /// A tensor has another number of bytes than its plan says.
    #[error("tensor '{name}' has {given} bytes, its dimensions and type need {needed}")]
    Bytes {
        /// Its name.
        name: String,
        /// Bytes that came.
        given: u64,
        /// Bytes that it needs.
        needed: u64,
    },
    /// Not every tensor got its data.
    #[error("{missing} of {all} tensors got no data")]
    Unfinished {
        /// Tensors without data.
        missing: usize,
        /// All tensors.
        all: usize,
    },
    /// There is no memory for the header.
    #[error("ggml has no memory for the entries of {tensors} tensors")]
    Memory {
        /// Number of tensors.
        tensors: usize,
    },
}

/// A value that a metadata key is set to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetadataValue<'a> {
    /// An unsigned number of 32 bits.
    U32(u32),
    /// An unsigned number of 64 bits.
    U64(u64),
    /// A floating point number.
    F32(f32),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(&'a str),
    /// Several texts.
    Texts(&'a [String]),
}

/// The keys of a GGUF, in memory.
#[derive(Debug)]
pub struct Metadata(Handle<sys::gguf_context>);

impl Default for Metadata {
    fn default() -> Self {
        Self::new()
    }
}

impl Metadata {
    /// No keys.
    ///
    /// # Panics
    /// When there is no memory for a few bytes.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: returns an owned object.
        let handle = unsafe { Handle::new(sys::gguf_init_empty(), sys::gguf_free) };
        #[expect(clippy::expect_used, reason = "ggml's operator new throws instead")]
        Self(handle.expect("ggml allocates with new"))
    }

    pub(super) fn as_ptr(&self) -> *mut sys::gguf_context {
        self.0.as_ptr()
    }

    /// Sets a key; one that is there is replaced and moves to the end.
    ///
    /// # Errors
    /// [`GgufFileError::Key`] for a key or text with a zero byte, an empty or very long key, and the
    /// key for the alignment, which is always GGUF's default in what is written.
    pub fn set(&mut self, key: &str, value: MetadataValue<'_>) -> Result<(), GgufFileError> {
        let wrong = |reason| GgufFileError::Key { key: key.to_owned(), reason };
        if key == ALIGNMENT {
            return Err(wrong("files are always written with GGUF's default alignment"));
        }
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(wrong("a key has 1 to 65535 bytes"));
        }
        let c_text = |text: &str| to_c_string(text).map_err(|_| wrong("it holds a zero byte"));
        let c_key = c_text(key)?;
        let (handle, name) = (self.as_ptr(), c_key.as_ptr());
        match value {
            // SAFETY: the handle is alive, the key is terminated, ggml copies it.
            MetadataValue::U32(value) => unsafe { sys::gguf_set_val_u32(handle, name, value) },
            // SAFETY: as above.
            MetadataValue::U64(value) => unsafe { sys::gguf_set_val_u64(handle, name, value) },
            // SAFETY: as above.
            MetadataValue::F32(value) => unsafe { sys::gguf_set_val_f32(handle, name, value) },
            // SAFETY: as above.
            MetadataValue::Bool(value) => unsafe { sys::gguf_set_val_bool(handle, name, value) },
            MetadataValue::Text(text) => {
                let text = c_text(text)?;
                // SAFETY: as above; the text is terminated and copied.
                unsafe { sys::gguf_set_val_str(handle, name, text.as_ptr()) }
            }
            MetadataValue::Texts(texts) => {
                let texts: Vec<CString> =
                    texts.iter().map(|text| c_text(text)).collect::<Result<_, _>>()?;
                let mut pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
                // SAFETY: as above; pointers and length belong together, the texts are copied.
                unsafe {
                    sys::gguf_set_arr_str(handle, name, pointers.as_mut_ptr(), pointers.len());
                }
            }
        }
        Ok(())
    }

    /// Removes a key, if it is there.
    pub fn remove(&mut self, key: &str) {
        if let Ok(key) = to_c_string(key) {
            // SAFETY: the handle is alive, the key is terminated.
            unsafe { sys::gguf_remove_key(self.as_ptr(), key.as_ptr()) };
        }
    }

    /// Adds the keys of another file, replacing those that are here.
    fn copy_from(&mut self, other: &Self) {
        // SAFETY: both handles are alive and differ.
        unsafe { sys::gguf_set_kv(self.as_ptr(), other.as_ptr()) };
    }

    /// The header as it stands in a file, tensor entries and padding included.
    fn header_bytes(&self) -> Vec<u8> {
        // SAFETY: the handle is alive.
        let mut bytes = vec![0_u8; unsafe { sys::gguf_get_meta_size(self.as_ptr()) }];
        // SAFETY: the buffer has the size that ggml asked for.
        unsafe { sys::gguf_get_meta_data(self.as_ptr(), bytes.as_mut_ptr().cast()) };
        bytes
    }
}
