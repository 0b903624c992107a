//! Safe wrappers over llama.cpp: back ends, models, contexts, samplers and quantization.
//!
//! The only folder with `unsafe`. Handles are owned here directly, through `llama-cpp-sys-2` and the
//! shim in `vendor/shim`, because the shim must be handed the same pointers. Everything here runs in
//! the worker process: native code may abort, and then only a trial is lost. The one exception is
//! [`devices::list`], which `quantbench devices` calls. Uses `experiment::settings`, `prompt` and `model::gguf`; used by
//! `workload`, `quantize`, `hardware` and `worker`.

#![expect(unsafe_code, reason = "this folder is the boundary to native code")]

pub mod backend;
mod batch;
pub mod blocks;
pub mod capture;
pub mod context;
pub mod devices;
pub mod gguf_file;
pub mod graph;
pub mod log;
pub mod mapped_file;
pub mod model;
pub mod partial;
#[cfg(feature = "multimodal")]
pub mod projector;
mod prompt;
pub mod quantize;
pub mod sampler;
pub mod tensors;

/// Bindings of the shim, made by build.rs.
mod shim {
    #![allow(
        missing_docs,
        unreachable_pub,
        missing_debug_implementations,
        non_camel_case_types,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/shim.rs"));
}

/// A buffer that a shim function writes an error text into.
struct ErrorText([std::ffi::c_char; 512]);

impl ErrorText {
    fn new() -> Self {
        Self([0; 512])
    }

    fn as_mut_ptr(&mut self) -> *mut std::ffi::c_char {
        self.0.as_mut_ptr()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// The text that was written; empty if none was.
    fn text(&self) -> String {
        // The last byte is never written by snprintf other than as the terminator.
        let bytes: Vec<u8> = self
            .0
            .iter()
            .take_while(|&&byte| byte != 0)
            .map(|&byte| byte.cast_unsigned())
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
