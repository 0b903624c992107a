//! ONNX Runtime behind the traits of an engine.
//!
//! `library` finds its library and is part of every build; the rest is of the feature `onnx`. The library is loaded in the
//! worker process, which a fault of it ends with no more than a trial. `files` reads what lies beside a graph, `layout` what
//! the graph is given and gives, `providers` what computes it, `tokenizer` texts; `cache` and `context` evaluate decoders, `encoder` encoders. A graph is
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
mod providers;
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

/// Context length that the model of a graph was trained with, tokens, as the files beside it say.
#[must_use]
pub fn context_length(graph: &std::path::Path) -> Option<u32> {
    #[cfg(feature = "onnx")]
    return files::Beside::read(graph).ok()?.context_length();
    #[cfg(not(feature = "onnx"))]
    {
        let _ = graph;
        None
    }
}

/// An error of ONNX Runtime's, in its own words.
#[cfg(feature = "onnx")]
fn failed(action: impl Into<String>, reason: &dyn std::fmt::Display) -> super::error::EngineError {
    let (engine, action) = (crate::model::engine_name::EngineName::OnnxRuntime, action.into());
    // Several lines would break a table's.
    let reason = without_places(&reason.to_string());
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    super::error::EngineError::Failed { engine, action, reason }
}

/// A message without the places in ONNX Runtime's sources that it names: `/src/core/graph/model.cc:12 void F(int)`.
#[cfg(feature = "onnx")]
fn without_places(message: &str) -> String {
    let mut told = String::new();
    let mut rest = message;
    while let Some(start) = rest.find("/onnxruntime") {
        let length = rest[start..].find(char::is_whitespace).unwrap_or(rest.len() - start);
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(length);
        let line = word.rsplit_once(':').map(|(file, line)| (file.rsplit('.').next(), line));
        let is_place = line.is_some_and(|(end, line)| {
            matches!(end, Some("cc" | "cpp" | "h")) && line.parse::<u32>().is_ok()
        });
        told.push_str(before);
        if is_place {
            told.push(' ');
            rest = after_signature(after);
        } else {
            told.push_str(word);
            rest = after;
        }
    }
    told + rest
}

/// What follows a function's name and its parameters, where there are any.
#[cfg(feature = "onnx")]
fn after_signature(text: &str) -> &str {
    let Some(open) = text.find('(') else { return text };
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let after = &text[at + 1..];
            return after.strip_prefix(" const").unwrap_or(after);
        }
    }
    text
}

#[cfg(all(test, feature = "onnx"))]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_sources_are_cut_from_messages() {
        let message = "Load model from m.onnx failed:/onnxruntime_src/onnxruntime/core/graph/model_load_utils.h:46 void \
                       onnxruntime::ValidateOpset(const std::map<int, int>&, bool (*)(int)) const ONNX Runtime only \
                       *guarantees* support for opset 26.";
        let told = failed("load m.onnx", &message).to_string();
        let end =
            "Load model from m.onnx failed: ONNX Runtime only *guarantees* support for opset 26.";
        assert!(told.ends_with(end), "{told}");
        for other in
            ["no file /onnxruntime/model.onnx here", "cut /onnxruntime/x.cc:1 f(", "é /onnxruntime"]
        {
            assert!(without_places(other).starts_with(&other[..3]), "{other}");
        }
    }
}
