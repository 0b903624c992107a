//! What a graph's inputs and outputs are called: `genai_config.json` of onnxruntime-genai may give names of its own.

use super::proto::Model;
use crate::files;
use serde_json::Value;
use std::borrow::Cow;
use std::path::Path;

/// The usual name of the tokens, an input.
pub const TOKENS: &str = "input_ids";

/// Usual names of what a language model gives: logits, or vectors of an encoder.
pub const OUTPUTS: [&str; 4] =
    ["logits", "last_hidden_state", "sentence_embedding", "token_embeddings"];

/// The file that gives names.
const FILE: &str = "genai_config.json";

/// Most bytes of it.
const LARGEST: u64 = 1 << 20;

/// What stands for the number of a layer.
const LAYER: &str = "%d";

/// Keys in the file, and the names that are usual for what they name.
const INPUTS: [(&str, &str); 5] = [
    ("input_ids", TOKENS),
    ("attention_mask", "attention_mask"),
    ("position_ids", "position_ids"),
    ("past_key_names", "past_key_values.%d.key"),
    ("past_value_names", "past_key_values.%d.value"),
];
const GIVEN: [(&str, &str); 3] = [
    ("logits", "logits"),
    ("present_key_names", "present.%d.key"),
    ("present_value_names", "present.%d.value"),
];

/// Names of a graph's inputs and outputs that differ from the usual ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// In the graph, and usually; `%d` is the number of a layer.
    inputs: Vec<(String, &'static str)>,
    outputs: Vec<(String, &'static str)>,
}

impl Names {
    /// Reads them from the file beside a graph, or in the folder above. What is no such file, or is about another graph,
    /// gives none: loading tells what is wrong with it.
    #[must_use]
    pub fn beside(graph: &Path) -> Self {
        let folder = files::folder_of(graph);
        let mut places = std::iter::once(folder).chain(folder.parent()).map(|it| it.join(FILE));
        let Some(path) = places.find(|path| path.is_file()) else { return Self::default() };
        let bytes = files::read_at_most(&path, LARGEST).ok().flatten().unwrap_or_default();
        let config = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let decoder = &config["model"]["decoder"];
        let own = graph.file_name().unwrap_or_default();
        // What one graph of several is called says nothing of the others.
        match decoder["filename"].as_str().map(|name| Path::new(name).file_name()) {
            Some(named) if named != Some(own) => Self::default(),
            _ => Self::of(decoder),
        }
    }

    fn of(decoder: &Value) -> Self {
        let read = |place: &Value, keys: &[(&str, &'static str)]| {
            let named = keys.iter().filter_map(|&(key, usual)| {
                let name = place[key].as_str().filter(|name| !name.is_empty() && *name != usual)?;
                let has_layer = name.contains(LAYER) == usual.contains(LAYER);
                has_layer.then(|| (name.to_owned(), usual))
            });
            named.collect()
        };
        Self {
            inputs: read(&decoder["inputs"], &INPUTS),
            outputs: read(&decoder["outputs"], &GIVEN),
        }
    }

    /// What an input is called usually.
    #[must_use]
    pub fn input<'n>(&self, name: &'n str) -> Cow<'n, str> {
        usual(&self.inputs, name)
    }

    /// What an output is called usually.
    #[must_use]
    pub fn output<'n>(&self, name: &'n str) -> Cow<'n, str> {
        usual(&self.outputs, name)
    }

    /// Why a graph is none of a language model, in half a sentence; `None` if it is one.
    #[must_use]
    pub fn no_language_model(&self, model: &Model) -> Option<String> {
        let graph = model.graph.as_ref();
        let mut inputs = graph.iter().flat_map(|graph| &graph.input);
        let mut outputs = graph.iter().flat_map(|graph| &graph.output);
        if !inputs.any(|input| self.input(&input.name) == TOKENS) {
            return Some(format!("none of its inputs is '{TOKENS}'"));
        }
        let is_known = |name: &str| OUTPUTS.contains(&&*self.output(name));
        (!outputs.any(|output| is_known(&output.name))).then(|| {
            let (last, others) = OUTPUTS.split_last().unwrap_or((&"", &[]));
            let others: Vec<String> = others.iter().map(|name| format!("'{name}'")).collect();
            format!("none of its outputs is {} or '{last}'", others.join(", "))
        })
    }
}

fn usual<'n>(names: &[(String, &'static str)], name: &'n str) -> Cow<'n, str> {
    let found = names.iter().find_map(|(own, usual)| match own.split_once(LAYER) {
        None => (own == name).then_some(Cow::Borrowed(*usual)),
        Some((before, after)) => {
            let layer = name.strip_prefix(before)?.strip_suffix(after)?;
            let is_number = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| Cow::Owned(usual.replace(LAYER, layer)))
        }
    });
    found.unwrap_or(Cow::Borrowed(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"model": {"decoder": {"filename": "decoder.onnx",
        "inputs": {"input_ids": "tokens", "attention_mask": "attention_mask", "past_key_names": "cache_k_%d",
            "past_value_names": "cache_v_%d"},
        "outputs": {"logits": "scores", "present_key_names": "new_k_%d", "present_value_names": "none"}}}}"#;

    #[test]
    fn names_of_its_own_are_led_back_to_the_usual_ones() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), CONFIG).unwrap();
        let names = Names::beside(&folder.path().join("decoder.onnx"));
        for (own, usual) in [
            ("tokens", "input_ids"),
            ("attention_mask", "attention_mask"),
            ("cache_k_0", "past_key_values.0.key"),
            ("cache_v_11", "past_key_values.11.value"),
            ("cache_v_", "cache_v_"),
            ("cache_v_1x", "cache_v_1x"),
            ("position_ids", "position_ids"),
        ] {
            assert_eq!(names.input(own), usual);
        }
        assert_eq!(names.output("scores"), "logits");
        assert_eq!(names.output("new_k_3"), "present.3.key");
        assert_eq!(names.output("none"), "none", "a pattern without a layer names no layer's");
        assert_eq!(Names::beside(&folder.path().join("other.onnx")), Names::default());
        assert_eq!(Names::beside(Path::new("nowhere/model.onnx")), Names::default());
    }
}
