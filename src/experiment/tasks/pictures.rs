//! The pictures of a task: each is decoded once when the experiment is loaded, so that a damaged one is
//! found before anything runs.

use crate::causes;
use crate::dataset::picture::{self, PictureError};
use crate::model::cache::of_bytes;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// One picture, as a question refers to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureFile {
    /// Its path, as the data set has it: relative to the data set's folder.
    pub name: String,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Tells files apart: the first half of their SHA-256, hex.
    pub checksum: String,
}

/// The pictures that were looked at.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// Where relative paths begin.
    folder: PathBuf,
    /// What was found, by name: several questions may be about one picture.
    known: RefCell<HashMap<String, PictureFile>>,
}

impl Pictures {
    /// Pictures that lie beside a data set.
    pub(super) fn beside(dataset: &Path) -> Self {
        let folder = dataset.parent().unwrap_or_else(|| Path::new("")).to_owned();
        Self { folder, known: RefCell::default() }
    }

    /// Looks at a picture; what is wrong with it is said in a sentence.
    pub(super) fn look(&self, name: &str) -> Result<PictureFile, String> {
        if let Some(known) = self.known.borrow().get(name) {
            return Ok(known.clone());
        }
        let found =
            look(&self.folder.join(name), name).map_err(|error| causes::in_words(&error))?;
        self.known.borrow_mut().insert(name.to_owned(), found.clone());
        Ok(found)
    }
}

fn look(path: &Path, name: &str) -> Result<PictureFile, PictureError> {
    let bytes = picture::bytes(path)?;
    let picture = picture::decode(path, &bytes)?;
    Ok(PictureFile {
        name: name.to_owned(),
        width: picture.width,
        height: picture.height,
        checksum: of_bytes(&bytes)[..32].to_owned(),
    })
}
