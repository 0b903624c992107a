//! ONNX Runtime behind the traits of an engine.
//!
//! `library` finds its library and is part of every build; the rest is of the feature `onnx`. The library is loaded in the
//! worker process, which a fault of it ends with no more than a trial. `files` reads what lies beside a graph, `layout` what
//! the graph is given and gives, `tokenizer` texts; `cache` and `context` evaluate decoders, `encoder` encoders. A graph is
//! evaluated by one thread at a time, with the threads of its session: [`Engine::divides_threads`].

pub mod library;

#[cfg(feature = "onnx")]
mod cache;
#[cfg(feature = "onnx")]
mod context;
#[cfg(feature = "onnx")]
mod encoder;
#[cfg(feature = "onnx")]
mod files;
#[cfg(feature = "onnx")]
mod graph;
#[cfg(feature = "onnx")]
mod layout;
#[cfg(feature = "onnx")]
mod model;
#[cfg(feature = "onnx")]
mod runtime;
#[cfg(feature = "onnx")]
mod sampler;
#[cfg(feature = "onnx")]
mod settings;
#[cfg(feature = "onnx")]
mod tokenizer;

#[cfg(feature = "onnx")]
pub use runtime::Runtime;

/// An error of ONNX Runtime's, in its own words.
#[cfg(feature = "onnx")]
fn failed(action: impl Into<String>, reason: &dyn std::fmt::Display) -> super::error::EngineError {
    let (engine, action) = (crate::model::engine_name::EngineName::OnnxRuntime, action.into());
    // Several lines would break a table's.
    let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    super::error::EngineError::Failed { engine, action, reason }
}
