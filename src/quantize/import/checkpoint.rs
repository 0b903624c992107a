//! A folder of safetensors files: one, or several with an index.

use super::config::read_json;
use super::error::ImportError;
use super::float_weights;
use crate::engine::llama::mapped_file;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Bytes of a safetensors file before its header: the header's length.
const LENGTH_BYTES: usize = 8;

/// Where a tensor lies.
#[derive(Debug, Clone)]
struct TensorPlace {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// All tensors of a checkpoint, mapped.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    files: Vec<Mmap>,
    tensors: BTreeMap<String, TensorPlace>,
}

#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A tensor of packed codes: 32-bit words, rows first.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Row by row.
    pub words: Vec<u32>,
}

/// A tensor of numbers: rows first.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    /// As in the checkpoint.
    pub shape: Vec<usize>,
    /// In the order of the checkpoint.
    pub values: Vec<f32>,
}

impl Checkpoint {
    /// Maps the files of a folder and reads their headers.
    ///
    /// # Errors
    /// When a file is missing, damaged, or disagrees with the index.
    pub(crate) fn open(folder: &Path) -> Result<Self, ImportError> {
        let mut checkpoint = Self { files: Vec::new(), tensors: BTreeMap::new() };
        let index = folder.join("model.safetensors.index.json");
        if !index.exists() {
            return match find_single(folder) {
                Some(path) => checkpoint.add(&path).map(|()| checkpoint),
                None => Err(ImportError::Refused(format!(
                    "{} has neither model.safetensors nor model.safetensors.index.json",
                    folder.display()
                ))),
            };
        }
        let Index { weight_map } = read_json(&index)?;
        let wrong = |problem: String| ImportError::file(&index, problem);
        let names: BTreeSet<&String> = weight_map.values().collect();
        for name in names {
            // An index that points elsewhere in the file system is not followed.
            let mut parts = Path::new(name).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(wrong(format!("'{name}' is no plain file name")));
            }
            checkpoint.add(&folder.join(name))?;
        }
        match weight_map.keys().find(|name| !checkpoint.tensors.contains_key(*name)) {
            Some(name) => Err(wrong(format!("it lists '{name}', which no file has"))),
            None => Ok(checkpoint),
        }
    }

    fn add(&mut self, path: &Path) -> Result<(), ImportError> {
        let map = mapped_file::map(path)
            .map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        let wrong = |problem: String| {
            let path = path.display();
            ImportError::Refused(format!("{path} is no usable safetensors file: {problem}"))
        };
        // This checks that all offsets lie within the file and fit shapes and types.
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| wrong(error.to_string()))?;
        let data = LENGTH_BYTES + header;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let place = TensorPlace {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data + start,
                end: data + end,
            };
            if self.tensors.insert(name.clone(), place).is_some() {
                return Err(wrong(format!("tensor '{name}' is in another file already")));
            }
        }
        self.files.push(map);
        Ok(())
    }

    /// The names of all tensors, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize], ImportError> {
        self.place(name).map(|place| place.shape.as_slice())
    }

    fn place(&self, name: &str) -> Result<&TensorPlace, ImportError> {
        self.tensors.get(name).ok_or_else(|| ImportError::tensor(name, "is missing"))
    }

    fn bytes(&self, name: &str, place: &TensorPlace) -> Result<&[u8], ImportError> {
        let file = self.files.get(place.file);
        file.and_then(|file| file.get(place.start..place.end))
            .ok_or_else(|| ImportError::tensor(name, "lies outside its file"))
    }

    /// A matrix of 32-bit words.
    ///
    /// # Errors
    /// When there is no such tensor, or it is something else.
    pub(crate) fn words(&self, name: &str) -> Result<Words, ImportError> {
        let place = self.place(name)?;
        let &[rows, columns] = place.shape.as_slice() else {
            return Err(ImportError::tensor(name, format!("is no matrix: {:?}", place.shape)));
        };
        let words = self.vector(name)?;
        Ok(Words { shape: [rows, columns], words })
    }

    /// 32-bit words in any shape.
    ///
    /// # Errors
    /// When there is no such tensor, or its elements are something else.
    pub(crate) fn vector(&self, name: &str) -> Result<Vec<u32>, ImportError> {
        let place = self.place(name)?;
        if !matches!(place.dtype, Dtype::I32 | Dtype::U32) {
            return Err(ImportError::tensor(name, format!("is {:?} instead of I32", place.dtype)));
        }
        let bytes = self.bytes(name, place)?;
        let (words, _) = bytes.as_chunks::<4>();
        Ok(words.iter().map(|&word| u32::from_le_bytes(word)).collect())
    }

    /// Numbers in any shape and floating point type.
    ///
    /// # Errors
    /// When there is no such tensor, or its elements are no finite numbers.
    pub(crate) fn numbers(&self, name: &str) -> Result<Numbers, ImportError> {
        let place = self.place(name)?;
        let bytes = self.bytes(name, place)?;
        // The names of these types are ggml's.
        let dtype = format!("{:?}", place.dtype);
        let values = float_weights(bytes, &dtype)
            .ok_or_else(|| ImportError::tensor(name, format!("is {dtype}, no floating point")))?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(ImportError::tensor(name, "holds values that are not finite"));
        }
        Ok(Numbers { shape: place.shape.clone(), values })
    }
}

/// `model.safetensors`, or the only file of that kind under another name.
fn find_single(folder: &Path) -> Option<PathBuf> {
    let usual = folder.join("model.safetensors");
    if usual.exists() {
        return Some(usual);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    if files.len() == 1 { files.pop() } else { None }
}
