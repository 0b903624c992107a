//! Tensors and keys of a GGUF, split or not.

use super::{ALIGNMENT, GgufFileError, Metadata, MetadataValue};
use crate::engine::llama::backend::Backend;
use crate::engine::llama::handle::Handle;
use crate::engine::llama::mapped_file;
use crate::engine::llama::model::to_c_string;
use crate::engine::llama::{log, text};
use crate::model::gguf::{Header, Tensor};
use crate::model::split;
use llama_cpp_sys_2 as sys;
use memmap2::Mmap;
use std::path::{Path, PathBuf};
use std::ptr;

/// Keys that a split model has and a whole one must not have.
const SPLIT_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];
/// Bytes of a header before its keys: magic, version, and the two counts.
const BEFORE_KEYS: usize = 4 + 4 + 8 + 8;

/// A tensor of a file, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTensor {
    /// Name, format, dimensions.
    pub entry: Tensor,
    /// Which part holds it, from 0.
    part: usize,
    /// First byte, from the start of the part.
    start: usize,
    /// Number of bytes.
    length: usize,
}

impl InputTensor {
    /// Where its data begins in its file, bytes; for changes in place.
    #[must_use]
    pub fn file_offset(&self) -> u64 {
        self.start as u64
    }
}

/// One file of a model.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    map: Mmap,
    keys: Metadata,
}

/// A GGUF that others are made from.
#[derive(Debug)]
pub struct GgufInput {
    header: Header,
    parts: Vec<Part>,
    tensors: Vec<InputTensor>,
}

impl GgufInput {
    /// Opens a GGUF: any part, if it is split.
    ///
    /// # Errors
    /// When a part cannot be read, contradicts itself, or is cut off.
    pub fn open(_backend: Backend, path: &Path) -> Result<Self, GgufFileError> {
        let header = Header::read(path)?;
        let parts: Vec<Part> =
            split::all_parts(path).into_iter().map(open_part).collect::<Result<_, _>>()?;
        let mut input = Self { header, parts, tensors: Vec::new() };
        for part in 0..input.parts.len() {
            input.list_tensors(part)?;
        }
        Ok(input)
    }

    /// What the header says, of all parts.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All tensors in the order of the files.
    #[must_use]
    pub fn tensors(&self) -> &[InputTensor] {
        &self.tensors
    }

    /// The tensor of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&InputTensor> {
        self.tensors.iter().find(|tensor| tensor.entry.name == name)
    }

    /// The data of one of this file's tensors, as stored.
    #[must_use]
    pub fn bytes(&self, tensor: &InputTensor) -> &[u8] {
        // The place was checked against this file when the list was made; a tensor of another file
        // has no data here.
        let part = self.parts.get(tensor.part);
        part.and_then(|part| part.map.get(tensor.start..tensor.start + tensor.length))
            .unwrap_or_default()
    }

    /// A copy of the keys, of the first part if the model is split, for a file that is not: without
    /// the keys of a split and without the alignment.
    ///
    /// # Errors
    /// [`GgufFileError::ZeroByteInside`] when a string would not survive the copy.
    pub fn metadata(&self) -> Result<Metadata, GgufFileError> {
        let mut copy = Metadata::new();
        let Some(first) = self.parts.first() else { return Ok(copy) };
        copy.copy_from(&first.keys);
        // ggml copies strings up to their first zero byte. What was copied is compared with the
        // original as both stand in a file, up to a last key that marks the end.
        let mark = "quantbench.end_of_the_copied_keys";
        copy.set(mark, MetadataValue::Bool(true))?;
        let (original, copied) = (first.keys.header_bytes(), copy.header_bytes());
        let end = copied.windows(mark.len()).rposition(|window| window == mark.as_bytes());
        // The mark is preceded by its length.
        let end = end.unwrap_or(BEFORE_KEYS).saturating_sub(size_of::<u64>());
        if original.get(BEFORE_KEYS..end) != copied.get(BEFORE_KEYS..end) {
            return Err(GgufFileError::ZeroByteInside { path: first.path.clone() });
        }
        for key in SPLIT_KEYS.into_iter().chain([mark, ALIGNMENT]) {
            copy.remove(key);
        }
        Ok(copy)
    }

    /// Appends the tensors of a part, each checked against that part's size.
    fn list_tensors(&mut self, part: usize) -> Result<(), GgufFileError> {
        let Part { path, map, keys } = &self.parts[part];
        let changed = || GgufFileError::Refused {
            path: path.clone(),
            reason: "the file changed while it was read".to_owned(),
        };
        let handle = keys.as_ptr();
        // SAFETY: the handle is alive.
        let (count, data) =
            unsafe { (sys::gguf_get_n_tensors(handle), sys::gguf_get_data_offset(handle)) };
        for index in 0..count {
            // SAFETY: the index is below the number of tensors; the name is terminated and lives as
            // long as the handle.
            let (name, offset, length) = unsafe {
                (
                    text(sys::gguf_get_tensor_name(handle, index)),
                    sys::gguf_get_tensor_offset(handle, index),
                    sys::gguf_get_tensor_size(handle, index),
                )
            };
            // The header lists all parts' tensors in order.
            let entry = self.header.tensors.get(self.tensors.len()).ok_or_else(changed)?;
            let start = data.checked_add(offset).ok_or_else(changed)?;
            let end = start.checked_add(length).ok_or_else(changed)?;
            if entry.name != name || entry.bytes != length as u64 || end > map.len() {
                return Err(changed());
            }
            self.tensors.push(InputTensor { entry: entry.clone(), part, start, length });
        }
        Ok(())
    }
}

fn open_part(path: PathBuf) -> Result<Part, GgufFileError> {
    let map = mapped_file::map(&path)
        .map_err(|source| GgufFileError::Read { path: path.clone(), source })?;
    let c_path = to_c_string(&path.to_string_lossy()).map_err(|error| GgufFileError::Refused {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    log::forget_errors();
    let parameters = sys::gguf_init_params { no_alloc: true, ctx: ptr::null_mut() };
    // SAFETY: the path is terminated and outlives the call; no ggml context is asked for.
    let handle = unsafe {
        Handle::new(sys::gguf_init_from_file(c_path.as_ptr(), parameters), sys::gguf_free)
    };
    match handle {
        Some(handle) => Ok(Part { path, map, keys: Metadata(handle) }),
        None => Err(GgufFileError::Refused { path, reason: log::take_errors() }),
    }
}
