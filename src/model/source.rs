//! Sources: where a model's file comes from.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Where a model's file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum Source {
    /// The model compiled into the binary.
    Demo,
    /// A GGUF file, or the first part of a split one.
    File(PathBuf),
    /// A folder of ready variants of one model.
    Directory(PathBuf),
    /// A file in a repository on the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repository: String,
        /// Path of the file within the repository.
        file: String,
        /// Branch, tag or commit; `None`: the main branch.
        revision: Option<String>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => formatter.write_str("demo"),
            Self::File(path) | Self::Directory(path) => write!(formatter, "{}", path.display()),
            Self::Hub { repository, file, revision: None } => {
                write!(formatter, "hf://{repository}/{file}")
            }
            Self::Hub { repository, file, revision: Some(revision) } => {
                write!(formatter, "hf://{repository}@{revision}/{file}")
            }
        }
    }
}
