//! Resolving: from a source to files on disk (here), and from there to the variants to measure
//! (`variants`).

mod adapter;
mod folder;
mod kind;
mod onnx;
#[cfg(test)]
mod tests;
mod repository;
mod shape;
mod variants;

pub use adapter::adapters;
pub use folder::{checkpoint_in, quantizations_in};
pub use repository::{choose, fetch, held, nothing_in};
pub use variants::{Making, Origin, Variant, variants};

pub use onnx::{in_sources as onnx_in, quantizations_of as onnx_quantizations};

use kind::what_else;

use super::artifact::Artifact;
use super::cache::{Cache, of_texts};
use super::demo;
use super::gguf::{Header, Value};
use super::hub::{self, HubFile, HubOptions, RepoType};
use super::naming;
use super::progress::ProgressSink;
use super::quantization::{Method, Quantization};
use super::repository::RemoteVariant;
use super::source::{Source, is_onnx};
use super::split;
use super::stop::Stop;
use super::stores;
use crate::causes::Problem;
use crate::model::file_type::FileType;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The key that names the method in files that quantbench made.
pub const METHOD_KEY: &str = "quantbench.method";

/// Why weights that another program pickled are no model here.
const PICKLES: &str = "pickled weights only, which are not opened: to load a pickle is to run it";

/// What is asked: a repository, and the bytes that would be fetched of it.
type Question = dyn Fn(&str, u64) -> Result<(), Problem> + Send + Sync;

/// Is asked before a repository is fetched while it is resolved; by default nobody is.
#[derive(Clone, Default)]
pub struct Consent(Option<Arc<Question>>);

impl Consent {
    /// Asks `question`; an error is why nothing is fetched.
    pub fn new(
        question: impl Fn(&str, u64) -> Result<(), Problem> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(question)))
    }

    fn ask(&self, repository: &str, bytes: u64) -> Result<(), Problem> {
        self.0.as_ref().map_or(Ok(()), |question| question(repository, bytes))
    }
}

/// How to resolve.
#[derive(Clone)]
pub struct ResolveOptions {
    /// How the hub is reached.
    pub hub: HubOptions,
    /// Whether files may be fetched and converted; if not, a repository is looked at all the same.
    pub fetches: bool,
    /// Whether local files are read to their end for their checksums, by which what was made of them is found.
    pub reads_whole_files: bool,
    /// Larger variants of a repository are left out unless they are asked for, bytes.
    pub most_bytes: u64,
    /// Asked before a repository is fetched that has to be converted.
    pub consent: Consent,
    /// Told about what takes long.
    pub progress: ProgressSink,
    /// Heard while a checkpoint is converted.
    pub stop: Stop,
}

impl ResolveOptions {
    /// Reads the environment; progress is not reported.
    pub fn from_environment() -> Self {
        let (hub, progress) = (HubOptions::from_environment(), ProgressSink::default());
        let (consent, stop) = (Consent::default(), Stop::default());
        let (fetches, reads_whole_files) = (true, true);
        Self { hub, fetches, reads_whole_files, most_bytes: u64::MAX, consent, progress, stop }
    }
}

/// The files behind a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The file that variants are made from; `None` for a folder of ready variants.
    pub source: Option<SourceFile>,
    /// Variants that need not be made: the source itself, or the files of a folder.
    pub ready: Vec<ReadyVariant>,
}

/// A file that variants are made from.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    /// The GGUF, or the first part of a split one, with checksum and size.
    pub artifact: Artifact,
    /// How its weights are stored.
    pub quantization: Quantization,
    /// What its header says; `None` of a file of a repository that is fetched later.
    pub header: Option<Header>,
    /// Where it is fetched from, if it is not there.
    pub remote: Option<RemoteVariant>,
    /// Of a shape: the file with its header alone, which variants are generated from.
    pub template: Option<PathBuf>,
}

/// A variant that is there already.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyVariant {
    /// The file.
    pub artifact: Artifact,
    /// How its weights are stored.
    pub quantization: Quantization,
    /// The name in tables: the quantization, or what the file's name says beyond it.
    pub label: String,
    /// Where it is fetched from, if it is not there.
    pub remote: Option<RemoteVariant>,
    /// Whether it is measured where nobody says what is.
    pub by_default: bool,
}

/// Finds or fetches what `source` names.
///
/// # Errors
/// When it is not there, is no whole GGUF of a language model, or cannot be fetched.
pub fn resolve(
    source: &Source,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    match source {
        Source::Demo => {
            let (path, checksum) = demo::in_cache(cache, demo::FILES?.model)?;
            let header = Header::read(&path)?;
            single(path, header, checksum)
        }
        Source::File(path) if is_onnx(path) => onnx::file(path, cache, options),
        Source::File(path) => local(path, cache, options),
        Source::Directory(path) => folder::resolve(path, &source.default_name(), cache, options),
        Source::Repository { repository, revision, variant } => {
            let wanted = repository::Wanted {
                repository,
                revision: revision.as_deref(),
                variant: variant.as_deref(),
            };
            repository::resolve(wanted, cache, options)
        }
        Source::Hub { repository, file, revision } => {
            let revision = revision.as_deref();
            let wanted = HubFile { kind: RepoType::Model, repository, revision, file };
            if let Some(found) = repository::file(wanted, options)? {
                return Ok(found);
            }
            local(&fetch_parts(repository, file, revision, options)?, cache, options)
        }
        Source::Ollama(name) => {
            let blob = stores::ollama(name, &stores::ollama_folders())?;
            let header = read_model(&blob.path)?;
            single(blob.path, header, blob.checksum)
        }
        Source::Shape(shape) => shape::resolve(shape, cache, options),
    }
}

/// Finds or fetches the file of a projector: what turns pictures into tokens of a language model.
///
/// # Errors
/// When it is not there, is no whole GGUF of a projector, or cannot be fetched.
pub fn projector(
    source: &Source,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Artifact, Problem> {
    let path = match source {
        Source::Hub { repository, file, revision } => {
            fetch_parts(repository, file, revision.as_deref(), options)?
        }
        Source::File(path) | Source::Directory(path) => path.clone(),
        Source::Repository { .. } | Source::Ollama(_) | Source::Shape(_) => {
            return Err(Problem::new(format!("{source} is no file; name the projector's file")));
        }
        Source::Demo => demo::in_cache(cache, demo::FILES?.model)?.0,
    };
    let header = Header::read(&path)?;
    if header.architecture() != "clip" {
        let holds = match header.architecture() {
            "" => "no model that names its architecture".to_owned(),
            architecture => format!("a model of the architecture '{architecture}'"),
        };
        return Err(Problem::new(format!(
            "{} is no projector (mmproj): it holds {holds}",
            path.display()
        )));
    }
    let checksum = checksum(&path, cache, options)?;
    Ok(Artifact::found(path, checksum, header.file_bytes))
}

/// Fetches a file and, if it is part of a split model, all its other parts; the path of the first.
fn fetch_parts(
    repository: &str,
    file: &str,
    revision: Option<&str>,
    options: &ResolveOptions,
) -> Result<PathBuf, Problem> {
    let mut hub = options.hub.clone();
    hub.offline |= !options.fetches;
    let mut first = None;
    for part in split::all_parts(Path::new(file)) {
        // Paths on the hub have slashes on every system.
        let part = part.to_string_lossy().replace('\\', "/");
        let file = HubFile { kind: RepoType::Model, repository, revision, file: &part };
        let path = hub::fetch(file, &hub, &options.progress)?;
        first.get_or_insert(path);
    }
    Ok(first.unwrap_or_else(|| PathBuf::from(file)))
}

fn local(path: &Path, cache: &Cache, options: &ResolveOptions) -> Result<Resolved, Problem> {
    let header = read_model(path)?;
    let checksum = checksum(path, cache, options)?;
    single(split::all_parts(path).swap_remove(0), header, checksum)
}

/// A source of one model, which is a ready variant too.
fn single(path: PathBuf, header: Header, checksum: String) -> Result<Resolved, Problem> {
    let ready = ready(path, &header, checksum)?;
    let (artifact, quantization) = (ready.artifact.clone(), ready.quantization);
    let (header, remote, template) = (Some(header), None, None);
    let source = Some(SourceFile { artifact, quantization, header, remote, template });
    Ok(Resolved { source, ready: vec![ready] })
}

/// A file that is a variant.
fn ready(path: PathBuf, header: &Header, checksum: String) -> Result<ReadyVariant, Problem> {
    let quantization = stored_as(header, &path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let label = naming::label(&name, quantization);
    let artifact = Artifact::found(path, checksum, header.file_bytes);
    Ok(ReadyVariant { artifact, quantization, label, remote: None, by_default: true })
}

/// Reads the header of a file that has to be a language model.
fn read_model(path: &Path) -> Result<Header, Problem> {
    let header = Header::read(path)?;
    match what_else(&header) {
        None => Ok(header),
        Some(holds) => Err(no_model(&path.display(), &holds)),
    }
}

fn no_model(file: &dyn std::fmt::Display, holds: &str) -> Problem {
    Problem::new(format!("{file} is no language model: it holds {holds}"))
}

/// What the header of a language model's file says, and how its weights are stored; `None` of what holds
/// something else.
///
/// # Errors
/// When it is no whole GGUF, or llama.cpp has no name for how it is stored.
pub fn look(path: &Path) -> Result<Option<(Header, Quantization)>, Problem> {
    let header = Header::read(path)?;
    if what_else(&header).is_some() {
        return Ok(None);
    }
    let quantization = stored_as(&header, path)?;
    Ok(Some((header, quantization)))
}

/// How the weights are stored; the file records the method, or that an importance matrix was used.
fn stored_as(header: &Header, path: &Path) -> Result<Quantization, Problem> {
    let unknown = || {
        let path = path.display();
        Problem::new(format!("{path} is stored in a type that llama.cpp does not name"))
    };
    let file_type: FileType = header.file_type().ok_or_else(unknown)?;
    let label = naming::published_in(path).unwrap_or_else(|| file_type.into());
    let has_matrix = header.get("quantize.imatrix.file").is_some();
    let named = header.get(METHOD_KEY).and_then(Value::as_text);
    if let Some(method) = named.and_then(|name| name.parse().ok()) {
        return Ok(Quantization { label, method });
    }
    let method = if has_matrix && !file_type.is_float() { Method::Imatrix } else { Method::Rtn };
    Ok(Quantization { label, method })
}

/// SHA-256 of a file; of a split model, of its parts' checksums. Where that would take too long, its path's.
fn checksum(path: &Path, cache: &Cache, options: &ResolveOptions) -> Result<String, Problem> {
    if !options.reads_whole_files {
        return Ok(of_texts([path.to_string_lossy().as_ref()]));
    }
    let parts = split::all_parts(path);
    let mut checksums = Vec::with_capacity(parts.len());
    for part in &parts {
        let total = std::fs::metadata(part).map_or(0, |metadata| metadata.len());
        let file = part.file_name().unwrap_or_default().to_string_lossy();
        checksums.push(cache.checksum(part, &mut |done| {
            options.progress.tell("checking", &file, done, total);
        })?);
    }
    Ok(match checksums.len() {
        1 => checksums.swap_remove(0),
        _ => of_texts(checksums.iter().map(String::as_str)),
    })
}
