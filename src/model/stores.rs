//! Models that other programs keep on this machine: Ollama, tools of the Hugging Face hub, llama.cpp, LM Studio.
//!
//! Their folders are input like any other: no link is followed out of them, and what cannot be read is passed over.

#[cfg(test)]
mod tests;

use super::hub::HubOptions;
use super::hub::api::{RemoteFile, Repository};
use super::repository;
use super::source::Source;
use crate::causes::Problem;
use crate::files;
use serde::Deserialize;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where Ollama gets models that name no other place, and whose those are that name no owner.
const REGISTRY: &str = "registry.ollama.ai";
const LIBRARY: &str = "library";

/// The tag of names without one.
const LATEST: &str = "latest";

/// Longest manifest that is read, bytes.
const LONGEST_MANIFEST: u64 = 1 << 20;

/// Models that a message names.
const NAMED: usize = 20;

/// A model's name as Ollama writes it: `[host/][owner/]name[:tag]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OllamaName {
    host: String,
    owner: String,
    name: String,
    tag: String,
}

impl OllamaName {
    /// Reads a name; `None` of what is none, such as a path with `..`.
    pub fn parse(text: &str) -> Option<Self> {
        let tagged = text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        let (path, tag) = tagged.unwrap_or((text, LATEST));
        let parts: Vec<&str> = path.split('/').collect();
        let (host, owner, name) = match parts[..] {
            [name] => (REGISTRY, LIBRARY, name),
            [owner, name] => (REGISTRY, owner, name),
            [host, owner, name] => (host, owner, name),
            _ => return None,
        };
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        // A host may have a port.
        let are_words = [&host.replacen(':', "-", 1), owner, name, tag].into_iter().all(is_word);
        are_words.then(|| Self {
            host: host.to_owned(),
            owner: owner.to_owned(),
            name: name.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// What the model is called in tables.
    pub fn short(&self) -> String {
        if self.tag == LATEST { self.name.clone() } else { format!("{}-{}", self.name, self.tag) }
    }
}

impl fmt::Display for OllamaName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, owner, name, tag } = self;
        match (host.as_str(), owner.as_str()) {
            (REGISTRY, LIBRARY) => write!(formatter, "{name}:{tag}"),
            (REGISTRY, _) => write!(formatter, "{owner}/{name}:{tag}"),
            _ => write!(formatter, "{host}/{owner}/{name}:{tag}"),
        }
    }
}

/// What Ollama writes of a model.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

/// One file of a model.
#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    kind: String,
    digest: String,
    size: u64,
}

/// The GGUF of one of Ollama's models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Where it lies.
    pub path: PathBuf,
    /// SHA-256, hex: its name says it, as Ollama has checked.
    pub checksum: String,
}

/// The folders that Ollama keeps models in: `OLLAMA_MODELS`, else the user's and the system's.
pub fn ollama_folders() -> Vec<PathBuf> {
    if let Some(folder) = variable("OLLAMA_MODELS") {
        return vec![folder];
    }
    let own = home().map(|home| home.join(".ollama/models"));
    own.into_iter().chain([PathBuf::from("/usr/share/ollama/.ollama/models")]).collect()
}

/// The GGUF of the model that Ollama calls `name`, of one of its `folders`.
///
/// # Errors
/// There is no such model, its manifest is nonsense, its file is not there or has another size, or it is no
/// model of one GGUF.
pub fn ollama(name: &str, folders: &[PathBuf]) -> Result<Blob, Problem> {
    let wanted = OllamaName::parse(name)
        .ok_or_else(|| Problem::new(format!("'{name}' is no name of a model of Ollama's")))?;
    for folder in folders {
        if let Some(blob) = blob(&wanted, folder)? {
            return Ok(blob);
        }
    }
    let mut there: Vec<OllamaName> =
        folders.iter().flat_map(|folder| ollama_names(folder)).collect();
    let distance = |it: &OllamaName| {
        let of = strsim::damerau_levenshtein;
        (of(&it.name, &wanted.name), of(&it.tag, &wanted.tag))
    };
    there.sort_by_cached_key(|it| (distance(it), it.clone()));
    there.dedup();
    let near = there.first().filter(|it| distance(it).0 <= (it.name.len() / 3).max(1));
    let near = near.map(|it| format!("; did you mean 'ollama:{it}'?")).unwrap_or_default();
    let mut names: Vec<String> = there.iter().take(NAMED).map(ToString::to_string).collect();
    if there.len() > NAMED {
        names.push(format!("{} more", there.len() - NAMED));
    }
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let folders = folders.join(" and ");
    Err(Problem::new(if names.is_empty() {
        format!(
            "Ollama has no {wanted}, and no other model in {folders}; OLLAMA_MODELS names another folder"
        )
    } else {
        format!("Ollama has no {wanted} in {folders}, but {}{near}", names.join(", "))
    }))
}

/// The GGUF of a model; `None` if the folder has no such model.
fn blob(name: &OllamaName, folder: &Path) -> Result<Option<Blob>, Problem> {
    let OllamaName { host, owner, name: own, tag } = name;
    let path: PathBuf =
        [folder, Path::new("manifests"), host.as_ref(), owner.as_ref(), own.as_ref(), tag.as_ref()]
            .iter()
            .collect();
    let again = format!("get it again with 'ollama pull {name}'");
    let text = match files::read_at_most(&path, LONGEST_MANIFEST) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => {
            let message = format!("cannot read {}, Ollama's manifest of {name}", path.display());
            return Err(Problem::because(message, error));
        }
    };
    let nonsense =
        || Problem::new(format!("{} is no manifest of a model; {again}", path.display()));
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| nonsense())?;
    let layer = |kind: &str| {
        let of_kind =
            |it: &&Layer| it.kind.strip_prefix("application/vnd.ollama.image.") == Some(kind);
        manifest.layers.iter().find(of_kind)
    };
    if layer("adapter").is_some() {
        return Err(Problem::new(format!(
            "ollama:{name} is a model with an adapter (LoRA), which is not applied here; name the model that it was made from"
        )));
    }
    let Some(layer) = layer("model") else {
        return Err(Problem::new(format!("ollama:{name} has no GGUF on this machine")));
    };
    let is_hex = |text: &&str| {
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let checksum = layer.digest.strip_prefix("sha256:").filter(is_hex).ok_or_else(nonsense)?;
    let path = folder.join("blobs").join(format!("sha256-{checksum}"));
    let found = fs::metadata(&path).map_err(|error| {
        let shown = path.display();
        match error.kind() {
            ErrorKind::NotFound => {
                Problem::new(format!("the file of ollama:{name} is gone, {shown}; {again}"))
            }
            _ => Problem::because(format!("cannot read {shown}, the file of ollama:{name}"), error),
        }
    })?;
    if found.is_file() && found.len() != layer.size {
        return Err(Problem::new(format!(
            "{}, the file of ollama:{name}, has {} and not {} bytes; {again}",
            path.display(),
            found.len(),
            layer.size
        )));
    }
    Ok(Some(Blob { path, checksum: checksum.to_owned() }))
}

/// The models that a folder of Ollama's has manifests of.
fn ollama_names(folder: &Path) -> Vec<OllamaName> {
    let manifests = folder.join("manifests");
    let name = |path: PathBuf| {
        let parts: Option<Vec<&str>> =
            path.strip_prefix(&manifests).ok()?.iter().map(|part| part.to_str()).collect();
        let [host, owner, name, tag] = parts?[..] else { return None };
        OllamaName::parse(&format!("{host}/{owner}/{name}:{tag}"))
    };
    files_below(&manifests, folder).into_iter().filter_map(name).collect()
}

/// A GGUF that another program keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What a command takes as MODEL for it.
    pub model: String,
    /// The file, or the first part of a split one.
    pub path: PathBuf,
    /// Whose folder it is in.
    pub store: &'static str,
}

/// Where other programs keep models.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The cache of the hub's tools.
    pub hub: PathBuf,
    /// Ollama's folders.
    pub ollama: Vec<PathBuf>,
    /// llama.cpp's cache, if anybody's home is known.
    pub llama_cpp: Option<PathBuf>,
    /// LM Studio's folders, today's and the one before.
    pub lm_studio: Vec<PathBuf>,
}

impl Stores {
    /// Reads `LLAMA_CACHE`, `OLLAMA_MODELS` and what names the hub's cache.
    pub fn from_environment() -> Self {
        let caches = directories::BaseDirs::new().map(|folders| folders.cache_dir().to_owned());
        let in_home = |folder| home().map(|home| home.join(folder));
        let lm_studio = [".lmstudio/models", ".cache/lm-studio/models"];
        Self {
            hub: HubOptions::from_environment().cache,
            ollama: ollama_folders(),
            llama_cpp: variable("LLAMA_CACHE").or_else(|| Some(caches?.join("llama.cpp"))),
            lm_studio: lm_studio.into_iter().filter_map(in_home).collect(),
        }
    }

    /// The GGUFs that lie there, each file once, and what is wrong with others.
    pub fn list(&self) -> (Vec<Kept>, Vec<Problem>) {
        let mut listed = HashSet::new();
        let mut kept = self.of_hub(&mut listed);
        let mut problems = Vec::new();
        for folder in &self.ollama {
            let mut names = ollama_names(folder);
            names.sort();
            for name in names {
                match blob(&name, folder) {
                    Ok(None) => {}
                    Ok(Some(Blob { path, .. })) => {
                        kept.push(Kept { model: format!("ollama:{name}"), path, store: "Ollama" });
                    }
                    Err(problem) => problems.push(problem),
                }
            }
        }
        // The folder named first is the one that a name is looked up in.
        let mut names = HashSet::new();
        kept.retain(|it| names.insert(it.model.clone()));
        let folders = self.llama_cpp.iter().map(|folder| (folder, "llama.cpp"));
        let folders = folders.chain(self.lm_studio.iter().map(|folder| (folder, "LM Studio")));
        for (folder, store) in folders {
            for variant in repository::variants(&held("", folder, folder)) {
                let path = folder.join(variant.remote.path());
                kept.extend(by_path(path, store).filter(|it| is_new(&it.path, &mut listed)));
            }
        }
        (kept, problems)
    }

    /// `models--owner--name/snapshots/COMMIT/…`: of several commits, that of the main branch first.
    fn of_hub(&self, listed: &mut HashSet<PathBuf>) -> Vec<Kept> {
        let mut kept = Vec::new();
        for folder in folders_in(&self.hub) {
            let name = folder.file_name().and_then(|name| name.to_str()?.strip_prefix("models--"));
            let Some(name) = name.map(|name| name.replacen("--", "/", 1)) else { continue };
            let main = files::read_at_most(&folder.join("refs/main"), 256).ok().flatten();
            let main = String::from_utf8_lossy(&main.unwrap_or_default()).trim().to_owned();
            let mut snapshots = folders_in(&folder.join("snapshots"));
            snapshots.sort_by_key(|it| !it.ends_with(&main));
            for snapshot in snapshots {
                let held = self::snapshot(&name, &snapshot);
                let is_main = held.commit == main;
                let revision = if is_main { String::new() } else { format!("@{}", held.commit) };
                let variants = repository::variants(&held);
                for variant in &variants {
                    let path = snapshot.join(variant.remote.path());
                    if !is_new(&path, listed) {
                        continue;
                    }
                    let word = variant.word();
                    let model = format!("{name}{revision}:{word}");
                    let is_only = variants.iter().filter(|it| it.is_called(&word)).count() == 1;
                    let source = Source::parse(&format!("hf://{model}"), Path::new(""));
                    let is_name = matches!(source, Ok(Source::Repository { variant: Some(_), .. }));
                    if is_only && is_name {
                        kept.push(Kept { model, path, store: HUB });
                    } else {
                        kept.extend(by_path(path, HUB));
                    }
                }
            }
        }
        kept
    }
}

/// What the cache of the hub's tools is called.
const HUB: &str = "Hugging Face";

/// A file that is named by its path; `None` if that is no text.
fn by_path(path: PathBuf, store: &'static str) -> impl Iterator<Item = Kept> {
    let path = std::path::absolute(&path).unwrap_or(path);
    path.to_str().map(str::to_owned).map(|model| Kept { model, path, store }).into_iter()
}

/// Whether a file is met for the first time, under whatever name.
fn is_new(path: &Path, listed: &mut HashSet<PathBuf>) -> bool {
    fs::canonicalize(path).is_ok_and(|real| listed.insert(real))
}

/// The GGUFs in a snapshot of a repository, as if the hub had listed them.
pub fn snapshot(repository: &str, folder: &Path) -> Repository {
    // Its files are links to `blobs` beside `snapshots`.
    let root = folder.parent().and_then(Path::parent).unwrap_or(folder);
    held(repository, folder, root)
}

fn held(name: &str, folder: &Path, root: &Path) -> Repository {
    let file = |path: PathBuf| {
        let bytes = fs::metadata(&path).ok()?.len();
        let path = path.strip_prefix(folder).ok()?.to_str()?.to_owned();
        Some(RemoteFile { path, bytes, sha256: None })
    };
    let commit = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = files_below(folder, root).into_iter().filter_map(file).collect();
    let (name, revision) = (name.to_owned(), Some(commit.clone()));
    Repository { name, revision, commit, files, base_models: Vec::new() }
}

/// Every regular file below `folder`, by name. Links to folders are not followed, those to files only within `root`.
fn files_below(folder: &Path, root: &Path) -> Vec<PathBuf> {
    let Ok(root) = fs::canonicalize(root) else { return Vec::new() };
    let is_within = |path: &Path| fs::canonicalize(path).is_ok_and(|real| real.starts_with(&root));
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            match kind {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                Ok(kind) if kind.is_symlink() && path.is_file() && is_within(&path) => {
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The folders in a folder, by name; links are none.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

fn home() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned())
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
