//! What a GGUF holds if it is no language model.

use crate::model::gguf::{Header, Value};

/// What it holds, and what that is for; `None`: a language model.
pub(super) fn what_else(header: &Header) -> Option<String> {
    let kind = header.get("general.type").and_then(Value::as_text).unwrap_or("model");
    let said = match (kind, header.architecture()) {
        ("mmproj", _) | (_, "clip") => {
            "an image or audio encoder (mmproj), which a model that sees has beside it: name it as that model's mmproj"
        }
        ("adapter", _) => {
            "an adapter (LoRA), which changes a model and is none: make one model of both with llama.cpp's \
             llama-export-lora"
        }
        ("imatrix", _) | (_, "imatrix") => "an importance matrix, which --imatrix takes",
        (_, "controlvector") => "a control vector, which steers a model and is none",
        ("model", "") => "no model that names its architecture",
        ("model", _) if header.tensors.is_empty() => "a vocabulary without weights",
        ("model", _) => return None,
        (other, _) => return Some(format!("'{other}'")),
    };
    Some(said.to_owned())
}
