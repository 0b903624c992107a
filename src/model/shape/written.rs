//! What is written behind `shape:`.

use super::catalogue;
use crate::model::quantization::{Label, Method, Quantization};
use crate::model::source::{Source, SourceError};
use crate::model::text::nearest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// A network whose weights are generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// What says its dimensions.
    pub of: ShapeOf,
    /// What it is stored as, as `:Q4_K_M` says; `None`: whatever is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
}

/// What says the dimensions of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum ShapeOf {
    /// The catalogue, by this name.
    Name(String),
    /// A TOML file.
    Dimensions(PathBuf),
    /// The header of a model.
    Model(Box<Source>),
}

impl Shape {
    /// Reads what stands behind `shape:`: a name of the catalogue, a TOML file, or a model, each with `:QUANTIZATION`
    /// or without.
    ///
    /// # Errors
    /// It is none of them, or no file is there.
    pub fn parse(text: &str, base: &Path) -> Result<Self, SourceError> {
        // A tag of Ollama's may look like one.
        let parts = text.rsplit_once(':').filter(|_| !text.starts_with("ollama:"));
        let label = parts.and_then(|(of, label)| Some((of, label.parse::<Label>().ok()?)));
        let (name, quantization) = match label {
            Some((of, label)) => (of, Some(Quantization { label, method: Method::Rtn })),
            None => (text, None),
        };
        if let Some(name) = catalogue::named(name) {
            return Ok(Self { of: ShapeOf::Name(name.to_owned()), quantization });
        }
        let extension = Path::new(name).extension().unwrap_or_default();
        if extension.eq_ignore_ascii_case("toml") {
            return match Source::parse(name, base).map_err(|error| missing(text, error))? {
                Source::File(path) => Ok(Self { of: ShapeOf::Dimensions(path), quantization }),
                _ => Err(unknown(text)),
            };
        }
        let is_model = name.contains(['/', ':'])
            || extension.eq_ignore_ascii_case("gguf")
            || name == "demo"
            || base.join(name).exists();
        if !is_model {
            return Err(unknown(text));
        }
        // Of a repository the label says whose header is read, too.
        let source = Source::parse(text, base).or_else(|_| Source::parse(name, base));
        match source.map_err(|error| missing(text, error))? {
            Source::Shape(_) => Err(unknown(text)),
            source => Ok(Self { of: ShapeOf::Model(Box::new(source)), quantization }),
        }
    }

    /// What it is called when nobody named it.
    pub fn default_name(&self) -> String {
        match &self.of {
            ShapeOf::Name(name) => name.clone(),
            ShapeOf::Dimensions(path) => {
                path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
            }
            ShapeOf::Model(source) => source.default_name(),
        }
    }
}

/// A file that is not there is none of a shape.
fn missing(text: &str, error: SourceError) -> SourceError {
    match error {
        SourceError::Missing { path, .. } => SourceError::Shape {
            text: text.to_owned(),
            remedy: format!("there is no file {}", path.display()),
        },
        other => other,
    }
}

fn unknown(text: &str) -> SourceError {
    let names = || catalogue::entries().keys().map(String::as_str);
    let remedy = match nearest(text, names()) {
        Some(name) => format!("did you mean 'shape:{name}'?"),
        None => format!(
            "write a GGUF file, a TOML file with dimensions, or one of {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    };
    SourceError::Shape { text: text.to_owned(), remedy }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            ShapeOf::Name(name) => write!(formatter, "shape:{name}")?,
            ShapeOf::Dimensions(path) => write!(formatter, "shape:{}", path.display())?,
            // It says the label itself.
            ShapeOf::Model(source)
                if matches!(**source, Source::Repository { variant: Some(_), .. }) =>
            {
                return write!(formatter, "shape:{source}");
            }
            ShapeOf::Model(source) => write!(formatter, "shape:{source}")?,
        }
        match self.quantization {
            Some(quantization) => write!(formatter, ":{quantization}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Source, String> {
        Source::parse(text, Path::new("/nowhere")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_shape_is_a_name_a_file_or_a_model_with_a_label_or_without() {
        for (text, name, label) in [
            ("shape:llama-3.2-1b", "llama-3.2-1b", None),
            ("shape:llama-3.2-1b:Q4_K_M", "llama-3.2-1b", Some("Q4_K_M")),
            ("shape:demo", "demo", None),
            ("shape:demo:Q8_0", "demo", Some("Q8_0")),
            ("shape:hf://o/n-GGUF:Q4_0", "n", Some("Q4_0")),
            ("shape:hf://o/n/m.gguf", "m", None),
            ("shape:ollama:llama3.2:q4_0", "llama3.2-q4_0", None),
        ] {
            let source = parse(text).unwrap();
            let Source::Shape(shape) = &source else { panic!("{text}") };
            assert_eq!((source.to_string().as_str(), source.default_name().as_str()), (text, name));
            assert_eq!(shape.quantization.map(|it| it.to_string()).as_deref(), label, "{text}");
            let stored = serde_json::to_string(&source).unwrap();
            assert_eq!(serde_json::from_str::<Source>(&stored).unwrap(), source);
        }
        assert_eq!(parse("shape:LLAMA-3.2-1B"), parse("shape:llama-3.2-1b"));
    }

    #[test]
    fn what_is_no_shape_is_told_with_what_is_near() {
        let near = parse("shape:lama-3.2-1b").unwrap_err();
        assert!(near.ends_with("did you mean 'shape:llama-3.2-1b'?"), "{near}");
        let none = parse("shape:").unwrap_err();
        assert!(none.contains("qwen3-30b-a3b") && none.contains("TOML file"), "{none}");
        assert!(parse("shape:shape:demo").is_err());
        assert!(parse("shape:absent.toml").unwrap_err().contains("there is no file"));
        assert!(parse("shape:absent.gguf:Q4_0").unwrap_err().contains("there is no file"));
    }
}
