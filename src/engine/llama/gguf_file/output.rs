//! A GGUF that is written: header first, then each tensor's data in order.

use super::{GgufFileError, Metadata};
use crate::engine::llama::handle::Handle;
use crate::engine::llama::model::to_c_string;
use crate::model::gguf::{self, GgmlType, Tensor};
use llama_cpp_sys_2 as sys;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};

/// GGUF's default alignment, bytes.
const ALIGNMENT: usize = 32;
/// ggml's `GGML_MAX_NAME`, terminating zero excluded.
const LONGEST_NAME: usize = 63;
/// ggml's `GGML_MAX_DIMS`.
const MOST_DIMENSIONS: usize = 4;

/// A tensor that is to be in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlan {
    /// Its name.
    pub name: String,
    /// Its dimensions, the row length first.
    pub dimensions: Vec<u64>,
    /// The format it is stored in.
    pub format: GgmlType,
}

impl From<&Tensor> for TensorPlan {
    fn from(tensor: &Tensor) -> Self {
        Self {
            name: tensor.name.clone(),
            dimensions: tensor.dimensions.clone(),
            format: tensor.format,
        }
    }
}

impl TensorPlan {
    /// Bytes of the data.
    ///
    /// # Errors
    /// [`GgufFileError::Plan`] for what ggml cannot hold.
    pub fn bytes(&self) -> Result<u64, GgufFileError> {
        let wrong = |reason: String| GgufFileError::Plan { name: self.name.clone(), reason };
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || self.name.contains('\0') {
            return Err(wrong(format!("a name has 1 to {LONGEST_NAME} bytes, none of them zero")));
        }
        if self.dimensions.is_empty() || self.dimensions.len() > MOST_DIMENSIONS {
            return Err(wrong(format!("a tensor has 1 to {MOST_DIMENSIONS} dimensions")));
        }
        let size = gguf::size(self.format, &self.dimensions);
        size.map(|(_, bytes)| bytes).map_err(|problem| wrong(format!("it {problem}")))
    }
}

/// A GGUF whose header is written and whose tensors' data is awaited.
#[derive(Debug)]
pub struct GgufOutput {
    path: PathBuf,
    file: BufWriter<File>,
    /// Name and bytes of each tensor.
    awaited: Vec<(String, u64)>,
    written: usize,
}

impl GgufOutput {
    /// Writes the header of a file with these keys and tensors.
    ///
    /// # Errors
    /// When a tensor cannot be as planned, or the file cannot be written.
    pub fn create(
        path: &Path,
        metadata: &Metadata,
        tensors: &[TensorPlan],
    ) -> Result<Self, GgufFileError> {
        let mut names = HashSet::new();
        if let Some(twice) = tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
            let reason = "another tensor has this name".to_owned();
            return Err(GgufFileError::Plan { name: twice.name.clone(), reason });
        }
        let awaited = tensors
            .iter()
            .map(|tensor| Ok((tensor.name.clone(), tensor.bytes()?)))
            .collect::<Result<Vec<_>, GgufFileError>>()?;
        let header = header_bytes(metadata, tensors)?;
        let failed = |source| GgufFileError::Write { path: path.to_owned(), source };
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
        file.write_all(&header).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, awaited, written: 0 })
    }

    /// Writes the data of the next tensor, and padding.
    ///
    /// # Errors
    /// When it is not this tensor's turn, its data has another length than its plan, or the file
    /// cannot be written.
    pub fn write_tensor(&mut self, name: &str, bytes: &[u8]) -> Result<(), GgufFileError> {
        let needed = self.due(name)?;
        let given = bytes.len() as u64;
        if given != needed {
            return Err(GgufFileError::Bytes { name: name.to_owned(), given, needed });
        }
        self.write_repeated(name, bytes)
    }

    /// Writes the next tensor as the same bytes again and again, the last time as far as they are needed, and padding.
    ///
    /// # Errors
    /// When it is not this tensor's turn, there are no bytes, or the file cannot be written.
    pub fn write_repeated(&mut self, name: &str, bytes: &[u8]) -> Result<(), GgufFileError> {
        let needed = self.due(name)?;
        let failed = |source| GgufFileError::Write { path: self.path.clone(), source };
        let mut left = usize::try_from(needed).unwrap_or(usize::MAX);
        if bytes.is_empty() && left > 0 {
            return Err(GgufFileError::Bytes { name: name.to_owned(), given: 0, needed });
        }
        let padding = left.next_multiple_of(ALIGNMENT) - left;
        while left > 0 {
            let part = &bytes[..bytes.len().min(left)];
            self.file.write_all(part).map_err(failed)?;
            left -= part.len();
        }
        self.file.write_all(&[0; ALIGNMENT][..padding]).map_err(failed)?;
        self.written += 1;
        Ok(())
    }

    /// Bytes of the tensor whose turn it is, which has to be this one.
    fn due(&self, name: &str) -> Result<u64, GgufFileError> {
        let Some((expected, needed)) = self.awaited.get(self.written) else {
            return Err(GgufFileError::Order { given: name.to_owned(), expected: None });
        };
        if expected != name {
            let expected = Some(expected.clone());
            return Err(GgufFileError::Order { given: name.to_owned(), expected });
        }
        Ok(*needed)
    }

    /// Ends a file of which only the header is of use: the room of its tensors is left empty, so that it takes no disk
    /// where the file system knows sparse files.
    ///
    /// # Errors
    /// When the file cannot be written, or may not be that long.
    pub fn leave_empty(mut self) -> Result<(), GgufFileError> {
        let failed = |source| GgufFileError::Write { path: self.path.clone(), source };
        self.file.flush().map_err(failed)?;
        let file = self.file.get_ref();
        let header = file.metadata().map_err(failed)?.len();
        let padded = self.awaited.iter().map(|(_, bytes)| bytes.next_multiple_of(ALIGNMENT as u64));
        file.set_len(padded.fold(header, u64::saturating_add)).map_err(failed)
    }

    /// Ends the file. Without this call the file is not whole.
    ///
    /// # Errors
    /// When a tensor has no data, or the file cannot be written.
    pub fn finish(mut self) -> Result<(), GgufFileError> {
        let all = self.awaited.len();
        if self.written < all {
            return Err(GgufFileError::Unfinished { missing: all - self.written, all });
        }
        self.file.flush().map_err(|source| GgufFileError::Write { path: self.path.clone(), source })
    }
}

/// ggml's own header for these keys and tensors, whose plans were checked.
fn header_bytes(metadata: &Metadata, tensors: &[TensorPlan]) -> Result<Vec<u8>, GgufFileError> {
    let mut whole = Metadata::new();
    whole.copy_from(metadata);
    let no_memory = || GgufFileError::Memory { tensors: tensors.len() };
    // SAFETY: takes nothing.
    let per_tensor = unsafe { sys::ggml_tensor_overhead() };
    let parameters = sys::ggml_init_params {
        mem_size: (tensors.len() + 1) * per_tensor,
        mem_buffer: ptr::null_mut(),
        no_alloc: true,
    };
    // SAFETY: ggml allocates the memory itself.
    let entries = unsafe { Handle::new(sys::ggml_init(parameters), sys::ggml_free) };
    let entries = entries.ok_or_else(no_memory)?;
    for plan in tensors {
        let wrong = |reason: String| GgufFileError::Plan { name: plan.name.clone(), reason };
        let name = to_c_string(&plan.name).map_err(|error| wrong(error.to_string()))?;
        let sizes: Vec<i64> = plan
            .dimensions
            .iter()
            .map(|&dimension| i64::try_from(dimension).map_err(|error| wrong(error.to_string())))
            .collect::<Result<_, _>>()?;
        let count = i32::try_from(sizes.len()).map_err(|error| wrong(error.to_string()))?;
        // SAFETY: the context has room for one entry per tensor and takes no memory for data; sizes
        // and their number belong together; rows are whole blocks, as was checked.
        let tensor = unsafe {
            sys::ggml_new_tensor(entries.as_ptr(), plan.format.number(), count, sizes.as_ptr())
        };
        let tensor = NonNull::new(tensor).ok_or_else(no_memory)?;
        // SAFETY: the tensor lives as long as `entries`; the name is terminated and copied; no other
        // tensor has it, as was checked; ggml copies the entry.
        unsafe {
            sys::ggml_set_name(tensor.as_ptr(), name.as_ptr());
            sys::gguf_add_tensor(whole.as_ptr(), tensor.as_ptr());
        }
    }
    Ok(whole.header_bytes())
}
