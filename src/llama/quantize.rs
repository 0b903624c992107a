//! llama.cpp's own quantization of whole files.

use super::backend::Backend;
use super::error::LlamaError;
use super::model::{reason, to_c_string};
use super::{ErrorText, log, shim};
use crate::model::quantization::FileType;
use llama_cpp_sys_2 as sys;
use std::path::Path;

/// What to round, to what, and where to write it.
#[derive(Debug, Clone, Copy)]
pub struct Rounding<'a> {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub input: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// What to make.
    pub file_type: FileType,
    /// Threads.
    pub threads: u32,
    /// Accept an input that is quantized already.
    pub allow_requantize: bool,
}

/// Writes a file, rounded to another file type.
///
/// # Errors
/// [`LlamaError::Quantize`] with llama.cpp's last error lines; the output may then hold part of a
/// file.
pub fn quantize_file(_backend: Backend, rounding: &Rounding<'_>) -> Result<(), LlamaError> {
    let Rounding { input, output, file_type, threads, allow_requantize } = *rounding;
    let c_input = to_c_string(&input.to_string_lossy())?;
    let c_output = to_c_string(&output.to_string_lossy())?;
    // SAFETY: returns a plain struct.
    let mut parameters = unsafe { sys::llama_model_quantize_default_params() };
    parameters.nthread = i32::try_from(threads).unwrap_or(0);
    parameters.ftype = file_type.number();
    parameters.allow_requantize = allow_requantize;
    log::forget_errors();
    let mut error = ErrorText::new();
    // SAFETY: both paths are terminated and outlive the call; the parameters hold no pointers of
    // ours; the error buffer has the length given.
    let code = unsafe {
        shim::quantbench_quantize(
            c_input.as_ptr(),
            c_output.as_ptr(),
            &raw const parameters,
            error.as_mut_ptr(),
            error.len(),
        )
    };
    if code == 0 {
        return Ok(());
    }
    Err(LlamaError::Quantize {
        input: input.to_owned(),
        file_type: file_type.name().to_owned(),
        reason: reason(&error),
    })
}
