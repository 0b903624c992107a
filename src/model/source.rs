//! Sources: where a model's file comes from.

use super::shape::Shape;
use super::stores::OllamaName;
use super::text::without_secrets;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// What is escaped in addresses.
pub(super) const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a model's file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum Source {
    /// The model compiled into the binary.
    Demo,
    /// A GGUF file, or the first part of a split one; or an ONNX graph.
    File(PathBuf),
    /// A folder of ready variants of one model.
    Directory(PathBuf),
    /// A repository of ready variants on the Hugging Face hub.
    Repository {
        /// `owner/name`.
        repository: String,
        /// Branch, tag or commit; `None`: the main branch.
        revision: Option<String>,
        /// The one variant that is meant, as `:Q4_K_M` says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        variant: Option<String>,
    },
    /// A file in a repository on the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repository: String,
        /// Path of the file within the repository.
        file: String,
        /// Branch, tag or commit; `None`: the main branch.
        revision: Option<String>,
    },
    /// A model that Ollama keeps on this machine: `[host/][owner/]name[:tag]`.
    Ollama(String),
    /// A network whose weights are generated: `shape:…`.
    Shape(Shape),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => formatter.write_str("demo"),
            Self::File(path) | Self::Directory(path) => write!(formatter, "{}", path.display()),
            Self::Repository { repository, revision, variant } => {
                let variant = variant.as_ref().map(|variant| format!(":{variant}"));
                let (revision, variant) = (at(revision.as_deref()), variant.unwrap_or_default());
                write!(formatter, "hf://{repository}{revision}{variant}")
            }
            Self::Hub { repository, file, revision } => {
                write!(formatter, "hf://{repository}{}/{file}", at(revision.as_deref()))
            }
            Self::Ollama(name) => write!(formatter, "{OLLAMA}{name}"),
            Self::Shape(shape) => shape.fmt(formatter),
        }
    }
}

/// `@revision`, as it is written in an address.
fn at(revision: Option<&str>) -> String {
    match revision {
        None => String::new(),
        // Without an escape, as it is usually written.
        Some(plain) if special_revision(&format!("{plain}/")) == Some(plain) => format!("@{plain}"),
        Some(other) => format!("@{}", utf8_percent_encode(other, ESCAPED)),
    }
}

/// Why a text is no source; `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing was written.
    #[error("is empty; write a path, 'hf://owner/name/file.gguf' or 'demo'")]
    Empty,
    /// An address that cannot be fetched.
    #[error("is '{}', an address that is not fetched; {remedy}", without_secrets(text))]
    Address {
        /// What was written.
        text: String,
        /// What would be right.
        remedy: String,
    },
    /// `hf://` with something wrong behind it.
    #[error(
        "is '{}', which names nothing on the hub; write 'owner/name', 'owner/name:Q4_K_M', 'hf://owner/name/file.gguf' or 'hf://owner/name@revision/file.gguf', with a slash in a revision as %2F",
        without_secrets(text)
    )]
    Hub {
        /// What was written.
        text: String,
    },
    /// `ollama:` with something wrong behind it.
    #[error(
        "is '{}', which names no model of Ollama's; write 'ollama:name' or 'ollama:name:tag'",
        without_secrets(text)
    )]
    Ollama {
        /// What was written.
        text: String,
    },
    /// `shape:` with something wrong behind it.
    #[error("is 'shape:{}', which is no shape; {remedy}", without_secrets(text))]
    Shape {
        /// What stands behind it.
        text: String,
        /// What would be right.
        remedy: String,
    },
    /// A variant chosen of what is a single file.
    #[error(
        "is '{file}:{variant}', but {file} holds one file; write '{file}', and --quant {variant} for what is made of it"
    )]
    OneFile {
        /// What stands before the colon.
        file: String,
        /// What stands behind it.
        variant: String,
    },
    /// The path leads nowhere.
    #[error("is '{text}', but there is no file or folder {}", .path.display())]
    Missing {
        /// What was written.
        text: String,
        /// Where it was looked for.
        path: PathBuf,
    },
}

/// Names that end so are those of files.
const FILES: [&str; 8] = ["gguf", "onnx", "toml", "json", "jsonl", "txt", "safetensors", "bin"];

/// What stands before Ollama's names.
const OLLAMA: &str = "ollama:";

/// What stands before names of shapes.
pub const SHAPE: &str = "shape:";

/// Where paths on the hub begin.
const HUB: &str = "https://huggingface.co/";

impl Source {
    /// Reads a source as people write it: `demo`, the path of a file or folder,
    /// `[hf://]owner/name[@revision][:QUANTIZATION]`, `hf://owner/name[@revision]/file.gguf`,
    /// `ollama:name[:tag]`, or `shape:` and what [`Shape::parse`] reads; a relative path starts at `base`, `~/` at the home folder.
    ///
    /// # Errors
    /// When the text is no source, or no file or folder is there.
    pub fn parse(text: &str, base: &Path) -> Result<Self, SourceError> {
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        if text == "demo" {
            return Ok(Self::Demo);
        }
        if let Some(shape) = text.strip_prefix(SHAPE) {
            return Shape::parse(shape, base).map(Self::Shape);
        }
        // As Ollama writes it.
        let is_new = |text: &str| !base.join(text).exists();
        let text = text.strip_prefix("hf.co/").filter(|_| is_new(text)).unwrap_or(text);
        if let Some(rest) = text.strip_prefix("hf://") {
            return parse_hub(rest).ok_or_else(|| SourceError::Hub { text: text.to_owned() });
        }
        if let Some(name) = text.strip_prefix(OLLAMA) {
            let named = OllamaName::parse(name).map(|_| Self::Ollama(name.to_owned()));
            return named.ok_or_else(|| SourceError::Ollama { text: text.to_owned() });
        }
        if text.contains("://") {
            let remedy = hub_spelling(text).map_or_else(
                || "download the file and write its path".to_owned(),
                |spelling| format!("write '{spelling}'"),
            );
            return Err(SourceError::Address { text: text.to_owned(), remedy });
        }
        let path = base.join(expand_home(text));
        if let Some((file, variant)) = text.rsplit_once(':')
            && !path.exists()
            && (file == "demo" || base.join(expand_home(file)).is_file())
        {
            let (file, variant) = (file.to_owned(), variant.to_owned());
            return Err(SourceError::OneFile { file, variant });
        }
        if path.is_dir() {
            Ok(Self::Directory(path))
        } else if path.exists() {
            Ok(Self::File(path))
        } else {
            // What ends like a file is a path with a mistake in it.
            let extension = Path::new(text).extension().unwrap_or_default().to_string_lossy();
            let is_file = FILES.contains(&extension.to_ascii_lowercase().as_str());
            parse_repository(text)
                .filter(|_| !is_file)
                .ok_or_else(|| SourceError::Missing { text: text.to_owned(), path })
        }
    }

    /// Reads where a model is as ONNX: there is no demo of that, so that a folder may be called so.
    ///
    /// # Errors
    /// As [`Source::parse`].
    pub fn parse_onnx(text: &str, base: &Path) -> Result<Self, SourceError> {
        let path = base.join(expand_home(text));
        if path.is_dir() { Ok(Self::Directory(path)) } else { Self::parse(text, base) }
    }

    /// Whether it may hold a model as ONNX.
    pub fn may_hold_onnx(&self) -> bool {
        match self {
            Self::Directory(_) | Self::Repository { .. } => true,
            Self::File(path) => is_onnx(path),
            Self::Demo | Self::Hub { .. } | Self::Ollama(_) | Self::Shape(_) => false,
        }
    }

    /// Whether it holds ready variants, of which a list of quantizations chooses.
    pub fn holds_variants(&self) -> bool {
        match self {
            Self::Directory(folder) => !super::convert::is_converted(folder),
            Self::Repository { .. } => true,
            Self::File(path) => is_onnx(path),
            Self::Demo | Self::Hub { .. } | Self::Ollama(_) | Self::Shape(_) => false,
        }
    }

    /// What the source is called when nobody named it: the file's stem without a split file's
    /// numbers, the folder's name, or `demo`.
    pub fn default_name(&self) -> String {
        let file = match self {
            Self::Demo => return "demo".to_owned(),
            Self::Shape(shape) => return shape.default_name(),
            // Graphs are called after what they are stored as; their folder is called after the model.
            Self::File(path) if is_onnx(path) => {
                let folder = folder_of_graph(path);
                return Self::Directory(folder).default_name();
            }
            Self::Directory(path) => {
                // A trailing `.` or `..` has no name; the folder it leads to has.
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let last = path.components().rev().find_map(|component| match component {
                    Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                    _ => None,
                });
                return last.unwrap_or_else(|| "models".to_owned());
            }
            Self::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Hub { file, .. } => file.rsplit('/').next().unwrap_or(file).to_owned(),
            Self::Ollama(name) => {
                return OllamaName::parse(name).map_or_else(|| name.clone(), |it| it.short());
            }
            Self::Repository { repository, .. } => {
                let name = repository.rsplit('/').next().unwrap_or(repository);
                let stem = name.strip_suffix("-GGUF").or_else(|| name.strip_suffix("-gguf"));
                return stem.filter(|stem| !stem.is_empty()).unwrap_or(name).to_owned();
            }
        };
        let stem = super::split::stem(&file);
        if stem.is_empty() { "model".to_owned() } else { stem.to_owned() }
    }
}

/// The folder of the model that a graph is of: above `onnx/`, where the graph lies there.
fn folder_of_graph(path: &Path) -> PathBuf {
    let folder = crate::files::folder_of(path);
    let is_below = folder.file_name().is_some_and(|name| name == "onnx");
    let above = folder.parent().filter(|_| is_below);
    above.map_or_else(|| folder.to_owned(), |above| above.join(""))
}

/// Whether a file's name says that it is an ONNX graph.
pub(super) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("onnx"))
}

fn expand_home(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), directories::BaseDirs::new()) {
        (Some(rest), Some(folders)) => folders.home_dir().join(rest),
        _ => PathBuf::from(text),
    }
}

/// Reads `owner/name[@revision][:variant]`.
fn parse_repository(text: &str) -> Option<Source> {
    let (address, variant) = match text.rsplit_once(':') {
        None => (text, None),
        Some((address, variant)) => (address, Some(variant)),
    };
    // With a file's name behind it, it is an address like others.
    let parsed = HubAddress::parse(&format!("{address}/-"))?;
    let is_word = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !text.is_empty() && text.chars().all(allowed)
    };
    let HubAddress { repository, revision, file } = parsed;
    (file == "-" && variant.is_none_or(is_word)).then(|| Source::Repository {
        repository,
        revision,
        variant: variant.map(str::to_owned),
    })
}

fn parse_hub(rest: &str) -> Option<Source> {
    if let Some(repository) = parse_repository(rest) {
        return Some(repository);
    }
    let HubAddress { repository, revision, file } = HubAddress::parse(rest)?;
    let is_model = file.to_ascii_lowercase().ends_with(".gguf");
    is_model.then_some(Source::Hub { repository, file, revision })
}

/// A file in a repository on the hub, as `owner/name[@revision]/path` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddress {
    /// `owner/name`.
    pub repository: String,
    /// Branch, tag or commit; `None`: the main branch.
    pub revision: Option<String>,
    /// Path of the file within the repository.
    pub file: String,
}

impl HubAddress {
    /// Reads what stands behind `hf://`; `None` if it names no file.
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, rest) = text.split_once('/')?;
        let end = rest.find(['@', '/'])?;
        let name = &rest[..end];
        let (revision, file) = match rest[end..].strip_prefix('@') {
            None => (None, &rest[end + 1..]),
            Some(rest) => {
                let written = special_revision(rest).or_else(|| rest.split('/').next())?;
                let file = rest[written.len()..].strip_prefix('/')?;
                (Some(percent_decode_str(written).decode_utf8().ok()?.into_owned()), file)
            }
        };
        let word = |text: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !text.is_empty() && text.chars().all(allowed) && text != "." && text != ".."
        };
        let plain = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '?', '#'])
        };
        let is_file = file.split('/').all(plain) && !file.chars().any(char::is_control);
        let is_revision = revision.as_deref().is_none_or(is_revision);
        (word(owner) && word(name) && is_revision && is_file).then(|| Self {
            repository: format!("{owner}/{name}"),
            file: file.to_owned(),
            revision,
        })
    }
}

/// The revision that `text` begins with, if it is one whose slashes need no escape: the hub's own
/// tools read `refs/pr/1` and `refs/convert/parquet` so.
fn special_revision(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("refs/")?;
    let (kind, rest) = rest.split_once('/')?;
    let word = rest.split('/').next()?;
    let is_word = match kind {
        "pr" => word.chars().all(|c| c.is_ascii_digit()),
        "convert" => word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
        _ => false,
    };
    let length = "refs/".len() + kind.len() + 1 + word.len();
    (is_word && !word.is_empty()).then(|| &text[..length])
}

/// Whether git lets a branch or tag have this name, which is a path in the hub's cache, too.
fn is_revision(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && Path::new(part).extension().is_none_or(|end| end != "lock")
    };
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    name.split('/').all(part)
        && !name.chars().any(forbidden)
        && !name.contains("..")
        && !name.contains("@{")
        && name != "@"
        && name.len() <= 255
}

/// The `hf://` spelling of a file's web address.
fn hub_spelling(address: &str) -> Option<String> {
    let path = address.strip_prefix(HUB)?.trim_end_matches('/');
    if let Some(repository) = parse_repository(path) {
        return Some(repository.to_string());
    }
    let mut parts = path.splitn(5, '/');
    let (owner, name, view) = (parts.next()?, parts.next()?, parts.next()?);
    let (revision, file) = (parts.next()?, parts.next()?);
    if !matches!(view, "resolve" | "blob" | "raw") {
        return None;
    }
    let file = file.split('?').next()?;
    let revision = if revision == "main" { String::new() } else { format!("@{revision}") };
    let spelling = format!("{owner}/{name}{revision}/{file}");
    parse_hub(&spelling).map(|_| format!("hf://{spelling}"))
}

#[cfg(test)]
mod tests;
