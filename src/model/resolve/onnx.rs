//! Models as ONNX: each graph of a folder is a variant, named by how its weights are stored.
//!
//! Layouts: that of optimum and onnx-community (`config.json`, `tokenizer.json`, `onnx/model*.onnx`), and that of
//! onnxruntime-genai (`genai_config.json`, `model.onnx`). A graph whose file cannot be read stays a variant: its trial fails
//! with the reason, and the others are measured.

use super::repository::{check_space, fetched_before};
use super::{ReadyVariant, ResolveOptions, Resolved};
use crate::causes::Problem;
use crate::files;
use crate::model::artifact::Artifact;
use crate::model::cache::{Cache, of_texts};
use crate::model::hub::api::{self, RemoteFile, Repository};
use crate::model::hub::{self, HubFile, RepoType};
use crate::model::quantization::{Label, Method, Quantization};
use crate::model::source::{Source, is_onnx};
use crate::onnx::external;
use crate::onnx::proto::Model;
use crate::onnx::storage::Storage;
use crate::units::format_bytes;
use std::path::{Path, PathBuf};

/// Files beside a graph that change what is computed.
const BESIDE: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "generation_config.json",
    "genai_config.json",
    "chat_template.jinja",
    "modules.json",
    "1_Pooling/config.json",
];

/// What is measured of a repository if nobody says what: of those that are stored alike, one.
const USUAL: [&str; 4] = ["", "fp16", "quantized", "q4"];

/// What a graph of a language model is given.
const TOKENS: &str = "input_ids";

/// What a graph of a language model gives.
const OUTPUTS: [&str; 4] =
    ["logits", "last_hidden_state", "sentence_embedding", "token_embeddings"];

/// The variants that a source has of a model as ONNX.
///
/// # Errors
/// It has none, or it cannot be read.
pub fn in_source(
    source: &Source,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Vec<ReadyVariant>, Problem> {
    let resolved = match source {
        Source::File(path) => file(path, cache, options)?,
        Source::Directory(path) => folder(path, cache, options)?,
        Source::Repository { repository, revision, variant } => {
            of_repository(repository, revision.as_deref(), variant.as_deref(), cache, options)?
        }
        other => return Err(Problem::new(format!("{other} holds no ONNX"))),
    };
    Ok(resolved.ready)
}

fn of_repository(
    name: &str,
    revision: Option<&str>,
    variant: Option<&str>,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    if options.hub.offline {
        let there = fetched_before(name, revision, &options.hub)?;
        return folder(&there, cache, options);
    }
    fetched(&api::repository(name, revision, &options.hub)?, variant, cache, options)
}

/// Whether a repository has graphs.
pub(super) fn is_in(repository: &Repository) -> bool {
    repository.files.iter().any(|file| word_of(&file.path).is_some())
}

/// What the name of a graph says behind `model`: `q4` in `onnx/model_q4.onnx`; `None` for other files and for parts of
/// models that are several graphs.
fn word_of(path: &str) -> Option<&str> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let rest = name.strip_suffix(".onnx")?.strip_prefix("model")?;
    let word = rest.strip_prefix('_').or_else(|| rest.is_empty().then_some(""))?;
    matches!(folder, "" | "onnx").then_some(word)
}

/// Fetches graphs of a repository with what lies beside them: the one that is named (`:q4`), or else the usual ones.
pub(super) fn fetched(
    repository: &Repository,
    variant: Option<&str>,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    let Repository { name, commit, files, .. } = repository;
    let graphs = || files.iter().filter_map(|file| Some((word_of(&file.path)?, file)));
    let is_asked = |word: &str| match variant {
        Some("fp32") => word.is_empty(),
        Some(asked) => word.eq_ignore_ascii_case(asked),
        None => USUAL.contains(&word),
    };
    let asked: Vec<&RemoteFile> =
        graphs().filter(|(word, _)| is_asked(word)).map(|(_, file)| file).collect();
    if asked.is_empty() {
        let words = graphs().map(|(word, _)| if word.is_empty() { "fp32" } else { word });
        let words: Vec<&str> = words.collect();
        let asked = variant.map(|it| format!(" named '{it}'")).unwrap_or_default();
        return Err(Problem::new(format!(
            "{name} has no ONNX file{asked}; it has {}",
            if words.is_empty() { "none of a whole model".to_owned() } else { words.join(", ") }
        )));
    }
    let is_weight = |path: &str| {
        asked.iter().any(|graph| {
            let rest = path.strip_prefix(&graph.path);
            rest.is_some_and(|rest| rest.starts_with("_data") || rest.starts_with(".data"))
        })
    };
    let is_wanted = |file: &&RemoteFile| {
        asked.iter().any(|graph| graph.path == file.path)
            || is_weight(&file.path)
            || BESIDE.contains(&file.path.as_str())
    };
    let place = |file: &RemoteFile| hub::place(name, commit, &file.path, &options.hub);
    let missing: Vec<&RemoteFile> =
        files.iter().filter(is_wanted).filter(|file| !place(file).exists()).collect();
    if !missing.is_empty() {
        let bytes = missing.iter().fold(0, |sum: u64, file| sum.saturating_add(file.bytes));
        if !options.fetches {
            return Err(Problem::new(format!(
                "{name} holds ONNX ({} to download), and nothing is fetched now",
                format_bytes(bytes)
            )));
        }
        check_space(name, bytes, options)?;
        options.consent.ask(name, bytes)?;
    }
    for RemoteFile { path, .. } in missing {
        let (kind, revision) = (RepoType::Model, Some(commit.as_str()));
        let file = HubFile { kind, repository: name, revision, file: path };
        hub::fetch(file, &options.hub, &options.progress)?;
    }
    hub::point(name, repository.revision.as_deref(), commit, &options.hub)?;
    let graphs: Vec<PathBuf> = asked.iter().map(|file| place(file)).collect();
    resolved(&graphs, cache, options)
}

/// How the graphs are stored that a source of this machine has, from most to fewest bits. Those that cannot be read are
/// left out: resolving will tell of them.
pub fn quantizations_of(source: &Source) -> Vec<Quantization> {
    let graphs = match source {
        Source::File(path) => vec![path.clone()],
        Source::Directory(path) => graphs(path),
        _ => Vec::new(),
    };
    let models = graphs.iter().filter_map(|path| crate::onnx::read(path).ok());
    let stored = models.filter(is_language_model).map(|model| Quantization {
        label: Label::onnx(Storage::of(&model).main()),
        method: Method::Rtn,
    });
    let mut found: Vec<Quantization> = stored.collect();
    found.sort_by_key(|quantization| (quantization.precision_rank(), *quantization));
    found.dedup();
    found
}

/// Whether a folder has graphs.
pub(super) fn is_there(folder: &Path) -> bool {
    !graphs(folder).is_empty()
}

/// A graph as the only variant.
pub(super) fn file(
    path: &Path,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    files::open(path)
        .map_err(|error| Problem::because(format!("cannot read {}", path.display()), error))?;
    resolved(&[path.to_owned()], cache, options)
}

/// Every graph of a folder that is of a language model.
pub(super) fn folder(
    folder: &Path,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    let graphs = graphs(folder);
    if graphs.is_empty() {
        return Err(Problem::new(format!("{} has no ONNX file in it", folder.display())));
    }
    resolved(&graphs, cache, options)
}

/// The ONNX files of a folder and of `onnx/` in it, by name.
fn graphs(folder: &Path) -> Vec<PathBuf> {
    let mut graphs = Vec::new();
    for folder in [folder.to_owned(), folder.join("onnx")] {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = files.map(|file| file.path());
        graphs.extend(files.filter(|path| is_onnx(path) && path.is_file()));
    }
    graphs.sort();
    graphs
}

/// A graph's file and what it says; `None`: it cannot be read.
struct Found<'a> {
    path: &'a Path,
    model: Option<Model>,
}

fn resolved(
    graphs: &[PathBuf],
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    let all = graphs.iter().map(|path| Found { path, model: crate::onnx::read(path).ok() });
    // Parts of a model that are several graphs lie beside those that are whole.
    let found: Vec<Found<'_>> =
        all.filter(|it| it.model.as_ref().is_none_or(is_language_model)).collect();
    if found.is_empty() {
        let first = graphs.first().map(|path| path.display().to_string()).unwrap_or_default();
        return Err(Problem::new(format!(
            "{first} is no graph of a language model: none of its inputs is '{TOKENS}', or none of its outputs {}",
            OUTPUTS.map(|name| format!("'{name}'")).join(", ")
        )));
    }
    let storages: Vec<Storage> =
        found.iter().map(|it| it.model.as_ref().map(Storage::of).unwrap_or_default()).collect();
    let mut ready = Vec::new();
    for (found, storage) in found.iter().zip(&storages) {
        ready.push(variant(found, storage, cache, options)?);
    }
    distinguish(&mut ready, &storages, &found);
    ready.sort_by_key(|variant| variant.quantization.precision_rank());
    Ok(Resolved { source: None, ready })
}

fn is_language_model(model: &Model) -> bool {
    let Some(graph) = &model.graph else { return false };
    graph.input.iter().any(|input| input.name == TOKENS)
        && graph.output.iter().any(|output| OUTPUTS.contains(&output.name.as_str()))
}

fn variant(
    found: &Found<'_>,
    storage: &Storage,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<ReadyVariant, Problem> {
    let Found { path, model } = found;
    let quantization = Quantization { label: Label::onnx(storage.main()), method: Method::Rtn };
    let label = match model {
        Some(_) => quantization.to_string(),
        None => stem(path),
    };
    // Weights that are missing are for the trial to tell.
    let weights = model.as_ref().and_then(|model| external::files(path, model).ok());
    let weights = weights.unwrap_or_default();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let bytes = weights.iter().map(|(file, _)| size(file)).fold(size(path), u64::saturating_add);
    let mut all = vec![path.to_path_buf()];
    all.extend(weights.into_iter().map(|(file, _)| file));
    all.extend(beside(path));
    let checksums = all.iter().map(|file| super::checksum(file, cache, options));
    let checksums = checksums.collect::<Result<Vec<_>, _>>()?;
    let checksum = of_texts(checksums.iter().map(String::as_str));
    let artifact = Artifact::found(path.to_path_buf(), checksum, bytes);
    Ok(ReadyVariant { artifact, quantization, label, remote: None, by_default: true })
}

/// Files beside a graph, or above it, that say what is computed.
fn beside(path: &Path) -> Vec<PathBuf> {
    let folder = files::folder_of(path);
    let folders = std::iter::once(folder).chain(folder.parent());
    let all = folders.flat_map(|folder| BESIDE.map(|name| folder.join(name)));
    all.filter(|path| path.is_file()).collect()
}

/// Two variants with one label are called by how they store their weights, or else by their files' names.
fn distinguish(ready: &mut [ReadyVariant], storages: &[Storage], found: &[Found<'_>]) {
    let names = |ready: &[ReadyVariant]| -> Vec<String> {
        ready.iter().map(|variant| variant.label.clone()).collect()
    };
    let is_taken = |labels: &[String], own: &str| labels.iter().filter(|it| *it == own).count() > 1;
    let labels = names(ready);
    for (variant, storage) in ready.iter_mut().zip(storages) {
        if is_taken(&labels, &variant.label) {
            variant.label = format!("{} ({storage})", variant.label);
        }
    }
    let labels = names(ready);
    for (variant, found) in ready.iter_mut().zip(found) {
        if is_taken(&labels, &variant.label) {
            variant.label = stem(found.path);
        }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_graphs_say_what_to_choose_them_by() {
        for (path, word) in [
            ("onnx/model.onnx", Some("")),
            ("onnx/model_q4f16.onnx", Some("q4f16")),
            ("model.onnx", Some("")),
            ("onnx/decoder_model_merged.onnx", None),
            ("onnx/model_q4.onnx_data", None),
            ("cpu/int4/model.onnx", None),
            ("onnx/models.onnx", None),
        ] {
            assert_eq!(word_of(path), word, "{path}");
        }
    }
}
