//! Weights of a loaded model: listing, reading and overwriting them.
//!
//! Only of a model that was loaded with [`LoadExtent::Editable`]: elsewhere weights may be mapped
//! from the file, which cannot be written to, or repacked, which cannot be read back. With
//! [`LoadExtent::Overwritable`] they are listed and overwritten only.

use super::blocks;
use super::model::Model;
use super::shim;
use crate::engine::LoadExtent;
use crate::engine::error::EngineError;
use crate::model::gguf::GgmlType;
use llama_cpp_sys_2 as sys;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr::NonNull;

/// What one weight tensor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightInfo {
    /// Its name in the GGUF: `blk.0.attn_q.weight`.
    pub name: String,
    /// Its number format.
    pub format: GgmlType,
    /// Its size in ggml's order: columns (inputs), rows (outputs), matrices (experts), 1.
    pub dims: [usize; 4],
    /// Bytes it takes.
    pub bytes: usize,
}

impl WeightInfo {
    /// Columns: the inputs of a linear layer.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.dims[0]
    }

    /// Rows of one matrix: the outputs of a linear layer.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.dims[1]
    }

    /// Matrices: 1, or the number of experts.
    #[must_use]
    pub fn matrices(&self) -> usize {
        self.dims[2] * self.dims[3]
    }

    /// Whether it is a matrix, not a vector such as a norm or a bias.
    #[must_use]
    pub fn is_matrix(&self) -> bool {
        self.dims[1] > 1
    }
}

/// The weights of one model.
///
/// A model on several devices may hold the same weight more than once; all of them are written.
#[derive(Debug)]
pub struct Weights<'model> {
    entries: BTreeMap<String, Entry>,
    /// The tensors live as long as the model.
    model: &'model Model,
}

#[derive(Debug)]
struct Entry {
    info: WeightInfo,
    tensors: Vec<NonNull<sys::ggml_tensor>>,
}

impl<'model> Weights<'model> {
    /// The weights of `model`.
    ///
    /// # Errors
    /// [`EngineError::Weight`] if the model was not loaded to be edited, or has a format that this
    /// program does not know.
    pub fn of(model: &'model Model) -> Result<Self, EngineError> {
        if !matches!(model.extent(), LoadExtent::Editable | LoadExtent::Overwritable) {
            return Err(failed("", "the model was not loaded to be edited"));
        }
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for tensor in pointers(model) {
            // SAFETY: the pointer came from the model, which is alive.
            let info = unsafe { describe(tensor) }?;
            let entry = entries
                .entry(info.name.clone())
                .or_insert_with(|| Entry { info, tensors: Vec::new() });
            entry.tensors.push(tensor);
        }
        Ok(Self { entries, model })
    }

    /// Every weight, by name.
    pub fn iter(&self) -> impl Iterator<Item = &WeightInfo> {
        self.entries.values().map(|entry| &entry.info)
    }

    /// One weight, if the model has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&WeightInfo> {
        self.entries.get(name).map(|entry| &entry.info)
    }

    /// The bytes of a weight.
    ///
    /// # Errors
    /// [`EngineError::Weight`] if there is no such weight, or the model was loaded to be overwritten only.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, EngineError> {
        let entry = self.entry(name)?;
        if self.model.extent() != LoadExtent::Editable {
            return Err(failed(name, "the model was loaded to be overwritten, not to be read"));
        }
        let mut bytes = vec![0; entry.info.bytes];
        // SAFETY: the tensor is allocated, and the buffer has the bytes of all of it.
        unsafe {
            sys::ggml_backend_tensor_get(
                entry.tensors[0].as_ptr(),
                bytes.as_mut_ptr().cast(),
                0,
                bytes.len(),
            );
        }
        Ok(bytes)
    }

    /// Overwrites a weight, in its own format.
    ///
    /// A context of the model sees it from its next evaluation on; what its KV cache holds was
    /// computed with the old weight.
    ///
    /// # Errors
    /// [`EngineError::Weight`] if there is no such weight or the bytes are not as many as it has.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), EngineError> {
        let entry = self.entry(name)?;
        if bytes.len() != entry.info.bytes {
            let reason = format!("{} bytes cannot replace its {}", bytes.len(), entry.info.bytes);
            return Err(failed(name, &reason));
        }
        for tensor in &entry.tensors {
            // SAFETY: the tensor is allocated in writable memory (the model is not mapped) and has as many
            // bytes as are written; if it is repacked, its buffer repacks these, which it does for whole
            // tensors. Models are used by one thread, and nothing computes while this runs.
            unsafe {
                sys::ggml_backend_tensor_set(
                    tensor.as_ptr(),
                    bytes.as_ptr().cast(),
                    0,
                    bytes.len(),
                );
            }
        }
        Ok(())
    }

    /// Overwrites a weight with f32 values, rounded to its own format.
    ///
    /// # Errors
    /// As [`Self::write`]; [`EngineError::Blocks`] if the values cannot be rounded to the format.
    pub fn write_f32(&self, name: &str, values: &[f32]) -> Result<(), EngineError> {
        let info = &self.entry(name)?.info;
        self.write(name, &blocks::quantize(info.format, values, info.columns(), None)?)
    }

    fn entry(&self, name: &str) -> Result<&Entry, EngineError> {
        self.entries.get(name).ok_or_else(|| failed(name, "the model has no such weight"))
    }
}

fn failed(name: &str, reason: &str) -> EngineError {
    EngineError::Weight { name: name.to_owned(), reason: reason.to_owned() }
}

fn pointers(model: &Model) -> Vec<NonNull<sys::ggml_tensor>> {
    // SAFETY: the model is alive; no capacity, nothing is written.
    let count = unsafe { shim::quantbench_model_tensors(model.as_ptr(), std::ptr::null_mut(), 0) };
    let mut tensors = vec![std::ptr::null_mut(); usize::try_from(count).unwrap_or(0)];
    // SAFETY: the array has the capacity given.
    unsafe { shim::quantbench_model_tensors(model.as_ptr(), tensors.as_mut_ptr(), count) };
    tensors.into_iter().filter_map(NonNull::new).collect()
}

/// # Safety
/// The tensor is alive.
unsafe fn describe(pointer: NonNull<sys::ggml_tensor>) -> Result<WeightInfo, EngineError> {
    // SAFETY: the caller vouches for it.
    let tensor = unsafe { pointer.as_ref() };
    // SAFETY: ggml terminates names.
    let name = unsafe { CStr::from_ptr(tensor.name.as_ptr()) }.to_string_lossy().into_owned();
    let format = GgmlType::from_number(tensor.type_)
        .ok_or_else(|| failed(&name, &format!("format number {} is unknown", tensor.type_)))?;
    let dims = tensor.ne.map(|size| usize::try_from(size).unwrap_or(0));
    // SAFETY: the tensor is alive.
    let bytes = unsafe { sys::ggml_nbytes(pointer.as_ptr()) };
    Ok(WeightInfo { name, format, dims, bytes })
}
