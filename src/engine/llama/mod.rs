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
mod handle;
pub mod log;
pub mod mapped_file;
pub mod model;
pub mod partial;
#[cfg(feature = "multimodal")]
pub mod projector;
mod prompt;
pub mod quantize;
mod reading;
pub mod sampler;
pub mod tensors;

use std::ffi::{CStr, c_char};

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

/// What a shim function says of its failure.
struct ErrorText([c_char; 512]);

impl ErrorText {
    /// Calls a shim function with room for its words. What llama.cpp logged before is forgotten.
    fn of<R>(call: impl FnOnce(*mut c_char, usize) -> R) -> (R, Self) {
        log::forget_errors();
        let mut text = Self([0; 512]);
        let result = call(text.0.as_mut_ptr(), text.0.len());
        (result, text)
    }

    /// The exception's text if there was one, else what llama.cpp logged as errors.
    fn reason(&self) -> String {
        let exception = text(self.0.as_ptr());
        if exception.is_empty() { log::take_errors() } else { exception }
    }
}

/// Copies a string of C; empty if there is none.
fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: not null; every caller hands over a terminated string that is alive.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
