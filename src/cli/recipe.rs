//! Recipes of mixes, as commands are given them.

use super::output;
use crate::error::Error;
use crate::files;
use crate::mix::MixError;
use crate::mix::recipe::Recipe;
use crate::model::artifact::Artifact;
use crate::model::gguf::Header;
use crate::model::quantization::Method;
use crate::quantize::importance::MODEL_CHECKSUM;
use crate::quantize::types::TensorTypes;
use crate::units::format_bytes;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// No recipe is longer, bytes: one has a line for each tensor.
const LONGEST: u64 = 16 << 20;

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is none.
    #[error("{}", path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: MixError,
    },
}

/// Reads a recipe.
///
/// # Errors
/// See [`RecipeError`].
pub(super) fn read(path: &Path) -> Result<Recipe, RecipeError> {
    let failed = |source| RecipeError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = files::open(path).map_err(failed)?;
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST {
        let longer = format!("it is longer than {}", format_bytes(LONGEST));
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, longer)));
    }
    Recipe::parse(&text).map_err(|source| RecipeError::Recipe { path: path.to_owned(), source })
}

/// The types of a model's tensors, to be chosen by a method.
pub(super) fn resolve(
    recipe: &Recipe,
    path: &Path,
    model: &Artifact,
    method: Method,
) -> Result<TensorTypes, RecipeError> {
    let wrong = |source| RecipeError::Recipe { path: path.to_owned(), source };
    let header = Header::read(&model.path).map_err(MixError::from).map_err(wrong)?;
    recipe.resolve(&header, method.is_calibrated()).map_err(wrong)
}

/// A recipe may be tried on another model of the same shape, but not by mistake.
pub(super) fn tell_differences(recipe: &Recipe, model: &Artifact) {
    if recipe.model.sha256 != model.checksum {
        output::tell(
            "note: the recipe was made for another file than this one; the types are taken, but nothing \
             that was measured for them need hold",
        );
    }
}

/// So may an importance matrix that says what it was made from.
pub(super) fn tell_other_model(matrix: &Path, model: &Artifact) {
    let header = Header::read(matrix).ok();
    let made_from = header.as_ref().and_then(|header| header.get(MODEL_CHECKSUM)?.as_text());
    if made_from.is_some_and(|checksum| checksum != model.checksum) {
        output::tell("note: the importance matrix was made from another file than this model");
    }
}

impl From<RecipeError> for Error {
    fn from(error: RecipeError) -> Self {
        Self::command(error)
    }
}
