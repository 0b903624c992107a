//! Models as files: quantizations, sources, GGUF metadata and the artifact cache.
//!
//! Nothing here runs a model; `convert` alone starts programs. Uses `units`; used by everything that names or
//! needs a model file.

pub mod adapter;
pub mod architecture;
pub mod artifact;
pub mod cache;
pub mod convert;
pub mod demo;
pub mod engine_name;
pub mod file_type;
pub mod gguf;
pub mod hub;
pub mod memory;
pub mod method;
pub mod naming;
pub mod onnx_label;
pub mod progress;
pub mod quantization;
pub mod repository;
pub mod resolve;
pub mod shape;
pub mod size;
pub mod source;
pub mod split;
pub mod stored_types;
pub mod stop;
pub mod stores;
pub mod text;
