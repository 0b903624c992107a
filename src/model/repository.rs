//! The GGUFs of a repository, as variants of one model: shards joined, projectors and other files apart.

use super::cache::PassingFile;
use super::gguf::{Header, RawKey};
use super::hub::api::{self, RemoteFile, Repository};
use super::hub::{self, HubError, HubOptions};
use super::naming;
use super::quantization::{Method, Quantization};
use super::split;
use crate::causes::Problem;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Files that lie beside models and are none.
const NO_MODELS: [&str; 4] = ["mmproj", "imatrix", "lora", "vocab"];

/// How mradermacher and others mark variants made with an importance matrix.
const WITH_MATRIX: &str = "i1";

/// A variant that a repository holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteVariant {
    /// `owner/name`.
    pub repository: String,
    /// Branch, tag or commit that was asked for; `None`: the main branch.
    pub revision: Option<String>,
    /// The commit, hex.
    pub commit: String,
    /// Its files, the first part first.
    pub parts: Vec<RemoteFile>,
}

/// A variant with what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedVariant {
    /// What its name says; `None` if it says nothing.
    pub quantization: Option<Quantization>,
    /// Its files.
    pub remote: RemoteVariant,
}

impl RemoteVariant {
    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// The header of its first part, of which no more is fetched than that takes.
    ///
    /// # Errors
    /// The hub does not give it, or it is no GGUF.
    pub fn header(&self, options: &HubOptions) -> Result<Header, HubError> {
        let none = || Problem::new(format!("{} has no file of it", self.repository));
        let first = self.parts.first().ok_or_else(none)?;
        api::header(&self.repository, &self.commit, first, options)
    }

    /// Writes outlines of its parts into a folder: their headers, and empty room for their weights. Returns the first.
    ///
    /// # Errors
    /// The hub does not give a header, or an outline cannot be written.
    pub fn outline(&self, folder: &Path, options: &HubOptions) -> Result<PathBuf, HubError> {
        let name = |path: &str| Path::new(path).file_name().unwrap_or_default().to_owned();
        for part in &self.parts {
            let to = folder.join(name(&part.path));
            api::outline(&self.repository, &self.commit, part, options, &to)?;
        }
        Ok(folder.join(name(self.path())))
    }

    /// The headers of all its parts as one, of which no more is fetched, with the keys of the first.
    ///
    /// # Errors
    /// The hub does not give them, or one is no GGUF.
    pub fn raw_header(&self, options: &HubOptions) -> Result<(Header, Vec<RawKey>), HubError> {
        let mut parts = self.parts.iter().map(|part| {
            let (repository, commit) = (self.repository.as_str(), self.commit.as_str());
            api::raw_header(repository, commit, part, options)
        });
        let none = || Problem::new(format!("{} has no file of it", self.repository));
        let (mut header, keys) = parts.next().ok_or_else(none)??;
        for part in parts {
            header.tensors.extend(part?.0.tensors);
        }
        Ok((header, keys))
    }

    /// Its files in the hub's cache, which are there once they are fetched; without those that the hub names no
    /// checksum of.
    pub fn places(&self, options: &HubOptions) -> Vec<PassingFile> {
        let parts = self.parts.iter().filter_map(|part| {
            let pointer = hub::place(&self.repository, &self.commit, &part.path, options);
            let blob = hub::content(&self.repository, part.sha256.as_ref()?, options);
            Some(PassingFile::Fetched { pointer, blob })
        });
        parts.collect()
    }

    /// The path of its first part in the repository.
    pub fn path(&self) -> &str {
        self.parts.first().map_or("", |part| &part.path)
    }
}

impl NamedVariant {
    /// What it is called: its quantization, or the stem of its name.
    pub fn label(&self) -> String {
        self.quantization.map_or_else(|| self.stem(), |quantization| quantization.to_string())
    }

    /// Its file's name without what follows from its being one.
    pub fn stem(&self) -> String {
        let path = Path::new(self.remote.path());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        split::stem(&name).to_owned()
    }

    /// What is written behind a repository's name to choose it.
    pub fn word(&self) -> String {
        self.quantization.map_or_else(|| self.label(), |it| it.label.name().to_owned())
    }

    /// Whether it is what `word` chooses.
    pub fn is_called(&self, word: &str) -> bool {
        [self.label(), self.word()].iter().any(|own| own.eq_ignore_ascii_case(word))
    }

    /// Whether its file's name is or ends in these words: `i1-IQ4_XS` of `L3.i1-IQ4_XS.gguf`.
    pub fn is_filed_as(&self, words: &str) -> bool {
        let (stem, words) = (self.stem().to_ascii_lowercase(), words.to_ascii_lowercase());
        let before = stem.strip_suffix(&words);
        before.is_some_and(|before| before.is_empty() || before.ends_with(naming::SEPARATORS))
    }
}

/// The variants of a repository, from most to fewest bits; those whose parts are not all there are left out.
pub fn variants(repository: &Repository) -> Vec<NamedVariant> {
    let all: HashMap<&Path, &RemoteFile> =
        repository.files.iter().map(|file| (Path::new(&file.path), file)).collect();
    let file = |path: &Path| all.get(path).copied().cloned();
    let mut variants: Vec<NamedVariant> = Vec::new();
    for one in repository.files.iter().filter(|one| is_gguf(&one.path) && !is_beside(&one.path)) {
        let path = Path::new(&one.path);
        let parts = split::all_parts(path);
        if parts.first().map(PathBuf::as_path) != Some(path) {
            continue;
        }
        let Some(parts) = parts.iter().map(|part| file(part)).collect::<Option<Vec<_>>>() else {
            continue;
        };
        let remote = RemoteVariant {
            repository: repository.name.clone(),
            revision: repository.revision.clone(),
            commit: repository.commit.clone(),
            parts,
        };
        variants.push(NamedVariant { quantization: quantization(path), remote });
    }
    let rank =
        |one: &NamedVariant| one.quantization.map_or(usize::MAX, Quantization::precision_rank);
    variants.sort_by_key(|one| (rank(one), std::cmp::Reverse(one.remote.bytes())));
    variants
}

/// Split models of which parts are missing, in words.
pub fn incomplete(repository: &Repository) -> Vec<String> {
    let paths: BTreeSet<&Path> = repository
        .files
        .iter()
        .map(|file| Path::new(&file.path))
        .filter(|it| is_gguf(&it.to_string_lossy()))
        .collect();
    let mut told = Vec::new();
    let mut seen = BTreeSet::new();
    for path in &paths {
        let parts = split::all_parts(path);
        let missing: Vec<usize> = (1..)
            .zip(&parts)
            .filter(|(_, part)| !paths.contains(part.as_path()))
            .map(|(number, _)| number)
            .collect();
        if let (Some(number), true) = (missing.first(), seen.insert(parts[0].clone())) {
            let first = parts[0].display();
            told.push(format!("part {number} of {} of {first} is missing", parts.len()));
        }
    }
    told
}

/// The projectors of a repository: what turns pictures into tokens of its model.
pub fn projectors(repository: &Repository) -> impl Iterator<Item = &RemoteFile> {
    let is_projector = |file: &&RemoteFile| is_gguf(&file.path) && has_word(&file.path, "mmproj");
    repository.files.iter().filter(is_projector)
}

/// GGUFs that belong to a model and are none, by their names.
pub fn beside_models(repository: &Repository) -> Vec<&str> {
    let paths = repository.files.iter().map(|file| file.path.as_str());
    paths.filter(|path| is_gguf(path) && is_beside(path)).collect()
}

/// Whether its weights are those of an adapter, as PEFT writes them.
pub fn has_adapter(repository: &Repository) -> bool {
    repository.files.iter().any(|file| file.path == "adapter_config.json")
}

/// Whether it has weights for transformers, which llama.cpp's converter reads.
pub fn has_safetensors(repository: &Repository) -> bool {
    repository.files.iter().any(|file| has_extension(&file.path, "safetensors"))
}

/// Whether all weights that it has are pickled, which nothing here opens: to load a pickle is to run it.
pub fn has_only_pickles(repository: &Repository) -> bool {
    let weights = |file: &RemoteFile| {
        ["gguf", "safetensors"].iter().any(|extension| has_extension(&file.path, extension))
    };
    let pickled = |file: &RemoteFile| {
        ["bin", "pt", "pth", "ckpt"].iter().any(|extension| has_extension(&file.path, extension))
    };
    !repository.files.iter().any(weights) && repository.files.iter().any(pickled)
}

/// What the file's name says, or the folder's that it lies in.
fn quantization(path: &Path) -> Option<Quantization> {
    let names = path.iter().rev().map(|name| name.to_string_lossy());
    let label = |name: &str| {
        let path = Path::new(name);
        naming::published_in(path).or_else(|| naming::file_type_in(name).map(Into::into))
    };
    let label = names.map(|name| label(&name)).find_map(|label| label)?;
    let method =
        if has_word(&path.to_string_lossy(), WITH_MATRIX) { Method::Imatrix } else { Method::Rtn };
    Some(Quantization { label, method })
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|own| own.eq_ignore_ascii_case(extension))
}

fn is_gguf(path: &str) -> bool {
    has_extension(path, "gguf")
}

fn is_beside(path: &str) -> bool {
    NO_MODELS.iter().any(|word| has_word(path, word))
}

/// Whether a word stands in the file's name, between `-`, `.` or `_`.
fn has_word(path: &str, word: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split(['-', '.', '_']).any(|own| own.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[&str]) -> Repository {
        let file = |path: &&str| RemoteFile { path: (*path).to_owned(), bytes: 10, sha256: None };
        Repository {
            name: "owner/name".to_owned(),
            revision: None,
            commit: "c".repeat(40),
            files: files.iter().map(file).collect(),
            base_models: Vec::new(),
        }
    }

    fn labels(files: &[&str]) -> Vec<String> {
        variants(&repository(files)).iter().map(NamedVariant::label).collect()
    }

    #[test]
    fn every_way_to_write_a_quantization_is_understood() {
        for (path, label) in [
            ("Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
            ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
            ("Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
            ("L3.i1-IQ4_XS.gguf", "imatrix:IQ4_XS"),
            ("Llama-3.2-1B.Q8_0.gguf", "Q8_0"),
            ("BF16/Big-BF16-00001-of-00001.gguf", "BF16"),
            ("UD-Q2_K_XL/Big-00001-of-00001.gguf", "UD-Q2_K_XL"),
            ("Q6_K_L/model.gguf", "Q6_K_L"),
            ("ggml-model.gguf", "ggml-model"),
        ] {
            assert_eq!(labels(&[path]), [label], "{path}");
        }
    }

    #[test]
    fn a_file_is_chosen_by_the_end_of_its_name_too() {
        let found = variants(&repository(&["L3.i1-IQ4_XS.gguf", "Two-1B-Q4_0.gguf"]));
        let chosen = |words: &str| {
            let filed = found.iter().filter(|it| it.is_filed_as(words));
            filed.map(NamedVariant::label).collect::<Vec<_>>()
        };
        assert_eq!(chosen("i1-IQ4_XS"), ["imatrix:IQ4_XS"]);
        assert_eq!(chosen("two-1b-q4_0"), ["Q4_0"]);
        assert_eq!(chosen("B-Q4_0"), [""; 0]);
    }

    #[test]
    fn shards_are_one_variant_and_what_is_no_model_is_none() {
        let all = repository(&[
            "README.md",
            "m-Q4_K_M.gguf",
            "Q8_0/m-Q8_0-00002-of-00002.gguf",
            "Q8_0/m-Q8_0-00001-of-00002.gguf",
            "m-Q5_K_M-00001-of-00002.gguf",
            "mmproj-F16.gguf",
            "m.imatrix.gguf",
            "m-F16.gguf",
        ]);
        let found = variants(&all);
        let labels: Vec<String> = found.iter().map(NamedVariant::label).collect();
        assert_eq!(labels, ["F16", "Q8_0", "Q4_K_M"], "Q5_K_M lacks a part");
        assert_eq!(incomplete(&all), ["part 2 of 2 of m-Q5_K_M-00001-of-00002.gguf is missing"]);
        assert_eq!(found[1].remote.path(), "Q8_0/m-Q8_0-00001-of-00002.gguf");
        assert_eq!((found[1].remote.parts.len(), found[1].remote.bytes()), (2, 20));
        let projectors: Vec<&str> = projectors(&all).map(|file| file.path.as_str()).collect();
        assert_eq!(projectors, ["mmproj-F16.gguf"]);
    }

    #[test]
    fn weights_of_other_programs_are_recognised() {
        assert!(has_safetensors(&repository(&["model-00001-of-00002.safetensors"])));
        assert!(has_only_pickles(&repository(&["pytorch_model.bin", "config.json"])));
        assert!(!has_only_pickles(&repository(&["pytorch_model.bin", "model.safetensors"])));
        assert!(!has_only_pickles(&repository(&["README.md"])));
    }
}
