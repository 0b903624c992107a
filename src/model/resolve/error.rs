//! What can be wrong with a source.

use crate::model::cache::CacheError;
use crate::model::demo::DemoError;
use crate::model::gguf::GgufError;
use crate::model::hub::HubError;
use crate::model::quantization::{NotMade, Quantization};
use std::io;
use std::path::PathBuf;

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A file is no usable GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The hub failed.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The demo is not in this build.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// A folder cannot be read.
    #[error("cannot read the folder {}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder holds no variant.
    #[error("{} has no GGUF file of a model in it{instead}", .path.display())]
    NothingInFolder {
        /// The folder.
        path: PathBuf,
        /// What it holds instead, and what would be right.
        instead: String,
    },
    /// A folder holds variants of different models.
    #[error(
        "{} and {} are different models ({one_is}, {other_is}); a folder holds variants of one model",
        .one.display(), .other.display()
    )]
    DifferentModels {
        /// One file.
        one: PathBuf,
        /// What it is.
        one_is: String,
        /// Another file.
        other: PathBuf,
        /// What it is.
        other_is: String,
    },
    /// The file holds something other than a projector.
    #[error("{} is no projector (mmproj): it holds {holds}", .path.display())]
    NoProjector {
        /// The file.
        path: PathBuf,
        /// What it holds.
        holds: String,
    },
    /// The file holds something other than a language model.
    #[error("{} is no language model: it holds {holds}", .path.display())]
    NoModel {
        /// The file.
        path: PathBuf,
        /// What it holds.
        holds: String,
    },
    /// The type of the file's weights is not known.
    #[error("{} is stored in a type that llama.cpp does not name", .path.display())]
    UnknownType {
        /// The file.
        path: PathBuf,
    },
    /// A variant that only others can make.
    #[error(transparent)]
    NotMade(#[from] NotMade),
    /// A variant was asked for that a folder does not have.
    #[error("{wanted} is not among the ready variants, which are {}", .present.join(", "))]
    NotReady {
        /// What was asked for.
        wanted: Quantization,
        /// What there is.
        present: Vec<String>,
    },
    /// A variant would have to be made from weights that were rounded before.
    #[error(
        "cannot make {wanted} of {}, which is quantized already ({own}): rounding twice adds up \
         errors; give an F32, F16 or BF16 source, allow it with --allow-requantize or \
         allow_requantize = true, or set quantizations = [] to measure it as it is",
        .path.display()
    )]
    AlreadyQuantized {
        /// What was asked for.
        wanted: Quantization,
        /// The source.
        path: PathBuf,
        /// What it is stored in.
        own: Quantization,
    },
}
