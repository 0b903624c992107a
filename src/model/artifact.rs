//! Artifacts: variant files that are present on disk, and what jobs call their files.

use super::cache::{of_bytes, of_texts};
use super::source::is_onnx;
use super::split::all_parts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Hex digits of a checksum that pictures are told apart by.
const PICTURE_CHECKSUM: usize = 32;

/// One variant file, present on disk: what the orchestrator hands to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// The GGUF, or the first part of a split one.
    pub path: PathBuf,
    /// SHA-256 of the file, or of the checksums of its parts if it is split; hex.
    pub checksum: String,
    /// Bytes of all parts.
    pub file_bytes: u64,
    /// Seconds it took to make, now or when it was put into the cache, calibration apart; `None` if it was
    /// not made by quantbench.
    pub quantize_seconds: Option<f64>,
    /// Tensors that its method left to simpler rounding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptTensor>,
    /// Whether the run that fetched or made it has deleted it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl Artifact {
    /// A file that was there.
    pub fn found(path: PathBuf, checksum: String, file_bytes: u64) -> Self {
        Self {
            path,
            checksum,
            file_bytes,
            quantize_seconds: None,
            kept: Vec::new(),
            deleted: false,
        }
    }

    /// As a job reads it.
    pub fn as_input(&self) -> ArtifactRef {
        // Much of what is read lies beside a graph: it goes by its path and cannot be sent.
        if is_onnx(&self.path) {
            return ArtifactRef::here(&self.path);
        }
        ArtifactRef::input(&self.checksum, &self.path, self.file_bytes)
    }
}

/// A tensor that a method could not choose the weights of: it is stored as llama.cpp rounds it with the
/// importance matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTensor {
    /// Its name.
    pub tensor: String,
    /// ggml's name of the format that it is stored in.
    pub format: String,
    /// Why.
    pub reason: String,
}

/// A file of a job, or a folder of files, on whichever machine the job is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// Tells it apart: SHA-256 of what goes in, hex; of what the job makes, a name within the run.
    pub key: String,
    /// Name of the file.
    pub name: String,
    /// Bytes of all parts; 0: not known.
    pub bytes: u64,
    /// What the job does with it.
    pub kind: RefKind,
    /// Where it is on this machine; each machine has its own.
    #[serde(skip)]
    pub path: PathBuf,
    /// Of a folder: the files in it that count, relative to it.
    #[serde(skip)]
    pub within: Vec<String>,
}

/// What a job does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefKind {
    /// Reads it.
    Input,
    /// Reads files of this folder.
    Folder,
    /// Makes it for whoever ordered the job.
    Output,
    /// Writes it or reads what an earlier job wrote; it stays on that machine.
    Place,
    /// Writes into this folder what it needs meanwhile.
    Scratch,
}

impl RefKind {
    /// Whether it has to be there before the job begins.
    pub fn is_input(self) -> bool {
        matches!(self, Self::Input | Self::Folder)
    }
}

impl ArtifactRef {
    fn new(kind: RefKind, key: String, path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { key, name, bytes: 0, kind, path: path.to_owned(), within: Vec::new() }
    }

    /// A file that a job reads (first part, if split), with its checksum.
    pub fn input(checksum: &str, path: &Path, bytes: u64) -> Self {
        Self { bytes, ..Self::new(RefKind::Input, checksum.to_owned(), path) }
    }

    /// A text that a job reads, and the file that it was written to.
    pub fn text(text: &[u8], path: &Path) -> Self {
        Self::input(&of_bytes(text), path, text.len() as u64)
    }

    /// A file that a job of this machine reads: without a checksum, which takes long to compute, it goes by its path
    /// and cannot be sent.
    pub fn here(path: &Path) -> Self {
        Self::input(&path.to_string_lossy(), path, 0)
    }

    /// A folder with files that a job reads: their names below it, and the beginnings of their checksums, hex.
    pub fn folder(path: &Path, files: &BTreeMap<String, String>) -> Self {
        let texts = files.iter().flat_map(|(name, checksum)| [name.as_str(), checksum.as_str()]);
        let within = files.keys().cloned().collect();
        Self { within, ..Self::new(RefKind::Folder, of_texts(texts), path) }
    }

    /// A GGUF that a job makes, and where it is to come.
    pub fn output(path: &Path) -> Self {
        let output = Self::new(RefKind::Output, "output".to_owned(), path);
        // What tells here that it is not whole yet would mean nothing where it is kept.
        let stem = output.name.split('.').find(|part| !part.is_empty()).unwrap_or("made");
        Self { name: format!("{stem}.gguf"), ..output }
    }

    /// One of several files that a job makes, by a name of its own.
    pub fn output_named(name: &str, path: &Path) -> Self {
        Self { name: name.to_owned(), ..Self::new(RefKind::Output, name.to_owned(), path) }
    }

    /// A file that one job writes and another reads, on one machine. Its content is not known beforehand, and what is
    /// as large as the log-probabilities of a text is not read once more for a checksum: it goes by a name.
    pub fn place(name: &str, path: &Path) -> Self {
        Self::new(RefKind::Place, name.to_owned(), path)
    }

    /// A folder for what a job needs meanwhile.
    pub fn scratch(folder: &Path) -> Self {
        Self::new(RefKind::Scratch, "scratch".to_owned(), folder)
    }

    /// Whether its key is a checksum, so that it can be sent.
    pub fn has_checksum(&self) -> bool {
        self.key.len() == 64 && self.key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// The names and places of its files on this machine.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        if self.kind == RefKind::Folder {
            return self.within.iter().map(|it| (it.clone(), self.path.join(it))).collect();
        }
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all_parts(&self.path).into_iter().map(|path| (name(&path), path)).collect()
    }

    /// What its checksum is if its files, by name, have these.
    pub fn checksum_of(&self, files: &[(String, String)]) -> String {
        match (self.kind, files) {
            (RefKind::Folder, _) => {
                let beginning = |checksum: &'_ str| {
                    checksum.get(..PICTURE_CHECKSUM).unwrap_or_default().to_owned()
                };
                let texts = files.iter().flat_map(|(name, it)| [name.clone(), beginning(it)]);
                of_texts(texts.collect::<Vec<_>>().iter().map(String::as_str))
            }
            (_, [(_, checksum)]) => checksum.clone(),
            _ => of_texts(files.iter().map(|(_, checksum)| checksum.as_str())),
        }
    }
}
