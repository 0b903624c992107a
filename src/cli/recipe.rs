//! Recipes of mixes, as commands are given them.

use super::output;
use crate::error::Error;
use crate::files;
use crate::mix::MixError;
use crate::mix::recipe::Recipe;
use crate::model::artifact::Artifact;
use std::io;
use std::path::{Path, PathBuf};

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
    let text = files::read_to_string(path)
        .map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
    Recipe::parse(&text).map_err(|source| RecipeError::Recipe { path: path.to_owned(), source })
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

impl From<RecipeError> for Error {
    fn from(error: RecipeError) -> Self {
        Self::command(error)
    }
}
