//! The files beside a graph that say what it is: configurations, tokenizer, templates.
//!
//! A graph lies in the folder of its model or one below (`onnx/`). Layouts: `config.json`, `generation_config.json` and
//! `tokenizer_config.json` of transformers, `genai_config.json` of onnxruntime-genai, `modules.json` of
//! sentence-transformers.

use crate::files;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Most bytes of a configuration; a tokenizer's with all its added tokens has a few megabytes.
const LARGEST: u64 = 64 << 20;

/// Most bytes of a tokenizer; those of 260 000 tokens have 35 MB.
pub(super) const LARGEST_TOKENIZER: u64 = 512 << 20;

/// What the files beside a graph say.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    folder: PathBuf,
    config: Value,
    generation: Value,
    genai: Value,
    tokenizer: Value,
}

/// How the vectors of tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// The first of them.
    First,
}

impl Beside {
    /// Reads what is there.
    ///
    /// # Errors
    /// A file that is there is no JSON or too large; in a sentence.
    pub(super) fn read(graph: &Path) -> Result<Self, String> {
        let folder = folder_of(graph);
        let json = |name: &str| json(&folder.join(name));
        Ok(Self {
            config: json("config.json")?,
            generation: json("generation_config.json")?,
            genai: json("genai_config.json")?,
            tokenizer: json("tokenizer_config.json")?,
            folder,
        })
    }

    /// The tokenizer's file.
    pub(super) fn tokenizer_file(&self) -> PathBuf {
        self.folder.join("tokenizer.json")
    }

    /// The family, such as `llama`.
    pub(super) fn family(&self) -> Option<&str> {
        let genai = self.genai["model"]["type"].as_str();
        self.config["model_type"].as_str().or(genai)
    }

    /// Context length that the model was trained with, tokens.
    pub(super) fn context_length(&self) -> Option<u32> {
        let named = ["max_position_embeddings", "n_positions", "n_ctx"];
        let named = named.iter().map(|key| &self.config[*key]);
        let genai = &self.genai["model"]["context_length"];
        let found = named.chain(std::iter::once(genai)).find_map(Value::as_u64);
        found.and_then(|length| u32::try_from(length).ok())
    }

    /// Layers, of a model without caches to count.
    pub(super) fn layers(&self) -> usize {
        let layers = self.config["num_hidden_layers"].as_u64();
        layers.and_then(|layers| usize::try_from(layers).ok()).unwrap_or(0)
    }

    /// Heads of queries; 0: it does not say.
    pub(super) fn heads(&self) -> usize {
        let heads = self.config["num_attention_heads"].as_u64();
        let heads =
            heads.or_else(|| self.genai["model"]["decoder"]["num_attention_heads"].as_u64());
        heads.and_then(|heads| usize::try_from(heads).ok()).unwrap_or(0)
    }

    /// Tokens that end an answer.
    pub(super) fn ends(&self) -> Vec<i32> {
        let places = [&self.generation, &self.config, &self.genai["model"]];
        let ends = places.into_iter().flat_map(|place| match &place["eos_token_id"] {
            Value::Array(all) => all.iter().filter_map(token).collect(),
            one => token(one).into_iter().collect::<Vec<_>>(),
        });
        let mut ends: Vec<i32> = ends.collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// The token that begins a text.
    pub(super) fn beginning(&self) -> Option<i32> {
        let places = [&self.config, &self.generation, &self.genai["model"]];
        places.into_iter().find_map(|place| token(&place["bos_token_id"]))
    }

    /// The text of a token that has a name, such as `bos_token`.
    pub(super) fn named_token(&self, name: &str) -> Option<&str> {
        let value = &self.tokenizer[name];
        value.as_str().or_else(|| value["content"].as_str())
    }

    /// The chat template: a file of its own, else the tokenizer's, of several the default.
    ///
    /// # Errors
    /// Its file cannot be read; in a sentence.
    pub(super) fn chat_template(&self) -> Result<Option<String>, String> {
        let path = self.folder.join("chat_template.jinja");
        if path.is_file() {
            let unreadable = |error| format!("cannot read {}: {error}", path.display());
            return files::read_to_string(&path).map(Some).map_err(unreadable);
        }
        let template = match &self.tokenizer["chat_template"] {
            Value::Array(all) => {
                let default = all.iter().find(|it| it["name"] == "default").or_else(|| all.first());
                default.and_then(|it| it["template"].as_str())
            }
            one => one.as_str(),
        };
        Ok(template.map(str::to_owned))
    }

    /// How the vectors of tokens become one, as `modules.json` says; the mean, where nothing is said.
    ///
    /// # Errors
    /// It asks for something else; in half a sentence.
    pub(super) fn pooling(&self) -> Result<Pooling, String> {
        let modules = json(&self.folder.join("modules.json"))?;
        let is_pooling = |module: &&Value| {
            module["type"].as_str().is_some_and(|kind| kind.ends_with(".Pooling"))
        };
        let pooling = modules.as_array().into_iter().flatten().find(is_pooling);
        let path = pooling.and_then(|module| module["path"].as_str()).unwrap_or("1_Pooling");
        // A path within the model's folder: it is a stranger's.
        if !path.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Err(format!("modules.json names '{path}', which is no folder beside it"));
        }
        let asked = json(&self.folder.join(path).join("config.json"))?;
        let Some(asked) = asked.as_object() else { return Ok(Pooling::Mean) };
        let is_asked = |(key, value): &(&String, &Value)| {
            key.starts_with("pooling_mode") && value.as_bool() == Some(true)
        };
        match asked.iter().find(is_asked).map(|(key, _)| key.as_str()) {
            None | Some("pooling_mode_mean_tokens") => Ok(Pooling::Mean),
            Some("pooling_mode_cls_token") => Ok(Pooling::First),
            Some(other) => Err(format!("its vectors are pooled by '{other}', which is not known")),
        }
    }
}

/// The folder of the model that a graph belongs to.
pub(super) fn folder_of(graph: &Path) -> PathBuf {
    let folder = files::folder_of(graph).to_owned();
    let has = |folder: &Path| {
        ["tokenizer.json", "config.json"].iter().any(|name| folder.join(name).is_file())
    };
    match folder.parent() {
        Some(above) if !has(&folder) && has(above) => above.to_owned(),
        _ => folder,
    }
}

/// What a file says; nothing, if it is not there.
fn json(path: &Path) -> Result<Value, String> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    let shown = path.display();
    let bytes = files::read_at_most(path, LARGEST);
    let bytes = bytes.map_err(|error| format!("cannot read {shown}: {error}"))?;
    let bytes = bytes.ok_or_else(|| format!("{shown} is larger than any configuration"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{shown} is no JSON: {error}"))
}

fn token(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|token| i32::try_from(token).ok()).filter(|token| *token >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> (tempfile::TempDir, Beside) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let beside = Beside::read(&folder.path().join("onnx/model.onnx")).unwrap();
        (folder, beside)
    }

    #[test]
    fn both_layouts_say_what_a_model_is() {
        let (_folder, optimum) = written(&[
            (
                "config.json",
                r#"{"model_type": "llama", "max_position_embeddings": 1024, "bos_token_id": 0, "eos_token_id": 1}"#,
            ),
            ("generation_config.json", r#"{"eos_token_id": [2, 1]}"#),
            (
                "tokenizer_config.json",
                r#"{"bos_token": {"content": "<s>"}, "chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}"#,
            ),
        ]);
        assert_eq!((optimum.family(), optimum.context_length()), (Some("llama"), Some(1024)));
        assert_eq!((optimum.ends(), optimum.beginning()), (vec![1, 2], Some(0)));
        assert_eq!(optimum.named_token("bos_token"), Some("<s>"));
        assert_eq!(optimum.chat_template().unwrap().as_deref(), Some("d"));
        let (_folder, genai) = written(&[
            ("tokenizer.json", ""),
            (
                "genai_config.json",
                r#"{"model": {"type": "phi3", "context_length": 4096, "eos_token_id": 7}}"#,
            ),
            ("chat_template.jinja", "own"),
        ]);
        assert_eq!((genai.family(), genai.context_length()), (Some("phi3"), Some(4096)));
        assert_eq!(genai.ends(), [7]);
        assert_eq!(genai.chat_template().unwrap().as_deref(), Some("own"));
    }

    #[test]
    fn pooling_is_what_the_modules_say() {
        let modules = r#"[{"type": "sentence_transformers.models.Transformer", "path": ""},
            {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]"#;
        for (asked, expected) in [
            (r#"{"pooling_mode_cls_token": true}"#, Ok(Pooling::First)),
            (
                r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}"#,
                Ok(Pooling::Mean),
            ),
            (r#"{"pooling_mode_lasttoken": true}"#, Err(())),
        ] {
            let files = [
                ("config.json", "{}"),
                ("modules.json", modules),
                ("1_Pooling/config.json", asked),
            ];
            let (_folder, beside) = written(&files);
            assert_eq!(beside.pooling().map_err(|_| ()), expected, "{asked}");
        }
        let (_folder, beside) = written(&[("config.json", "{}")]);
        assert_eq!(beside.pooling(), Ok(Pooling::Mean));
        let (_folder, beside) = written(&[
            ("config.json", "{}"),
            ("modules.json", r#"[{"type": "a.Pooling", "path": "../../etc"}]"#),
        ]);
        assert!(beside.pooling().is_err());
    }

    #[test]
    fn what_is_no_json_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), "{").unwrap();
        let error = Beside::read(&folder.path().join("model.onnx")).unwrap_err();
        assert!(error.contains("config.json is no JSON"), "{error}");
    }
}
