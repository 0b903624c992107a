//! Models as ONNX: each graph of a folder is a variant, named by how its weights are stored.
//!
//! Layouts: that of optimum and onnx-community (`config.json`, `tokenizer.json`, `onnx/model*.onnx`), and that of
//! onnxruntime-genai (`genai_config.json`, `model.onnx`). A graph whose file cannot be read stays a variant: its trial fails
//! with the reason, and the others are measured. One that is of no language model is passed over with a note.

use super::repository::{check_space, fetched_before};
use super::{ReadyVariant, ResolveOptions, Resolved};
use crate::causes::Problem;
use crate::files;
use crate::model::artifact::Artifact;
use crate::model::cache::{Cache, of_texts};
use crate::model::hub::api::{self, RemoteFile, Repository};
use crate::model::hub::{self, HubFile, RepoType};
use crate::model::onnx_label::OnnxLabel;
use crate::model::progress::Progress;
use crate::model::quantization::{Label, Method, Quantization};
use crate::model::source::{Source, is_onnx};
use crate::onnx::external;
use crate::onnx::names::Names;
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

/// The variants that sources have of a model as ONNX.
///
/// # Errors
/// One has none, or it cannot be read.
pub fn in_sources(
    sources: &[Source],
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Vec<ReadyVariant>, Problem> {
    let mut graphs: Vec<PathBuf> = Vec::new();
    for source in sources {
        for graph in graphs_of(source, options)? {
            if !graphs.contains(&graph) {
                graphs.push(graph);
            }
        }
    }
    Ok(resolved(&graphs, cache, options)?.ready)
}

fn graphs_of(source: &Source, options: &ResolveOptions) -> Result<Vec<PathBuf>, Problem> {
    match source {
        Source::File(path) => readable(path),
        Source::Directory(path) => in_folder(path),
        Source::Repository { repository, revision, variant } => {
            let (revision, variant) = (revision.as_deref(), variant.as_deref());
            if options.hub.offline {
                return in_folder(&fetched_before(repository, revision, &options.hub)?);
            }
            let repository = api::repository(repository, revision, &options.hub)?;
            fetched_graphs(&repository, variant, options)
        }
        other => Err(Problem::new(format!("{other} holds no ONNX"))),
    }
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
    resolved(&fetched_graphs(repository, variant, options)?, cache, options)
}

fn fetched_graphs(
    repository: &Repository,
    variant: Option<&str>,
    options: &ResolveOptions,
) -> Result<Vec<PathBuf>, Problem> {
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
    Ok(asked.iter().map(|file| place(file)).collect())
}

/// The quantizations of the graphs that sources on this machine have, from most to fewest bits.
pub fn quantizations_of(sources: &[Source]) -> Vec<Quantization> {
    let graphs = sources.iter().flat_map(|source| match source {
        Source::File(path) => vec![path.clone()],
        Source::Directory(path) => graphs(path),
        _ => Vec::new(),
    });
    let found: Vec<Found> = graphs.filter_map(|path| Found::at(path).ok()).collect();
    let mut all = named(&found);
    all.sort_by_key(|quantization| (quantization.precision_rank(), *quantization));
    all
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
    resolved(&readable(path)?, cache, options)
}

/// Every graph of a folder that is of a language model.
pub(super) fn folder(
    folder: &Path,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    resolved(&in_folder(folder)?, cache, options)
}

fn readable(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    files::open(path)
        .map_err(|error| Problem::because(format!("cannot read {}", path.display()), error))?;
    Ok(vec![path.to_owned()])
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let graphs = graphs(folder);
    if graphs.is_empty() {
        return Err(Problem::new(format!("{} has no ONNX file in it", folder.display())));
    }
    Ok(graphs)
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

/// A graph's file and what it says.
struct Found {
    path: PathBuf,
    /// `None`: it cannot be read.
    model: Option<Model>,
    storage: Storage,
}

impl Found {
    /// Reads a file; why it is none of a language model, if it is none.
    fn at(path: PathBuf) -> Result<Self, (PathBuf, String)> {
        let model = crate::onnx::read(&path).ok();
        let reason = model.as_ref().and_then(|it| Names::beside(&path).no_language_model(it));
        if let Some(reason) = reason {
            return Err((path, reason));
        }
        let storage = model.as_ref().map(Storage::of).unwrap_or_default();
        Ok(Self { path, model, storage })
    }

    fn label(&self) -> OnnxLabel {
        OnnxLabel::of(self.storage.named_by())
    }

    /// The folder of its model and its own name: `smollm2.model_q4`.
    fn long_name(&self) -> String {
        let folder = Source::File(self.path.clone()).default_name();
        format!("{folder}.{}", stem(&self.path))
    }
}

fn resolved(
    graphs: &[PathBuf],
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<Resolved, Problem> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for graph in graphs {
        match Found::at(graph.clone()) {
            Ok(graph) => found.push(graph),
            Err(other) => others.push(other),
        }
    }
    if let (true, Some((path, reason))) = (found.is_empty(), others.first()) {
        let path = path.display();
        return Err(Problem::new(format!("{path} is no graph of a language model: {reason}")));
    }
    // Parts of a model that are several graphs lie beside those that are whole.
    for (path, reason) in others {
        let note = format!("passed over, for it is no graph of a language model: {reason}");
        options.progress.say(&path.display().to_string(), &Progress::Note(note));
    }
    let mut ready = Vec::new();
    for (found, quantization) in found.iter().zip(named(&found)) {
        ready.push(variant(found, quantization, cache, options)?);
    }
    ready.sort_by_key(|variant| variant.quantization.precision_rank());
    Ok(Resolved { source: None, ready })
}

/// What graphs are called: how they are stored. Of several that are stored alike, and of those that cannot be read, the
/// name of the file is behind it; of several with one name the folder's too, or else a number.
fn named(found: &[Found]) -> Vec<Quantization> {
    let count =
        |labels: &[OnnxLabel], own: OnnxLabel| labels.iter().filter(|it| **it == own).count();
    let mut labels: Vec<OnnxLabel> = found.iter().map(Found::label).collect();
    let names: [&dyn Fn(usize) -> String; 3] =
        [&|at| stem(&found[at].path), &|at| found[at].long_name(), &|at| {
            format!("{}.{}", found[at].long_name(), at + 1)
        }];
    for (nth, name) in names.iter().enumerate() {
        let before = labels.clone();
        for (at, label) in labels.iter_mut().enumerate() {
            let is_unknown = nth == 0 && label.is_unknown();
            if is_unknown || count(&before, *label) > 1 {
                *label = found[at].label().named(&name(at));
            }
        }
    }
    let quantization = |label| Quantization { label: Label::Onnx(label), method: Method::Rtn };
    labels.into_iter().map(quantization).collect()
}

fn variant(
    found: &Found,
    quantization: Quantization,
    cache: &Cache,
    options: &ResolveOptions,
) -> Result<ReadyVariant, Problem> {
    let Found { path, model, .. } = found;
    let label = quantization.to_string();
    // Weights that are missing are for the trial to tell.
    let weights = model.as_ref().and_then(|model| external::files(path, model).ok());
    let weights = weights.unwrap_or_default();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let bytes = weights.iter().map(|(file, _)| size(file)).fold(size(path), u64::saturating_add);
    let mut all = vec![path.clone()];
    all.extend(weights.into_iter().map(|(file, _)| file));
    all.extend(beside(path));
    let checksums = all.iter().map(|file| super::checksum(file, cache, options));
    let checksums = checksums.collect::<Result<Vec<_>, _>>()?;
    let checksum = of_texts(checksums.iter().map(String::as_str));
    let artifact = Artifact::found(path.clone(), checksum, bytes);
    Ok(ReadyVariant { artifact, quantization, label, remote: None, by_default: true })
}

/// Files beside a graph, or above it, that say what is computed.
fn beside(path: &Path) -> Vec<PathBuf> {
    let folder = files::folder_of(path);
    let folders = std::iter::once(folder).chain(folder.parent());
    let all = folders.flat_map(|folder| BESIDE.map(|name| folder.join(name)));
    all.filter(|path| path.is_file()).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resolve::{Making, variants};
    use crate::onnx::proto::{Graph, Node, Tensor, ValueInfo};
    use prost::Message as _;

    /// A graph that is given and gives what is named.
    fn write(path: &Path, input: &str, output: &str, weights: i32) {
        let value = |name: &str| ValueInfo { name: name.to_owned(), ..ValueInfo::default() };
        let weights = Tensor {
            name: "w".to_owned(),
            dims: vec![4, 4],
            data_type: weights,
            raw_data: Some(vec![0; 64]),
            ..Tensor::default()
        };
        let graph = Graph {
            node: vec![Node { op_type: "MatMul".to_owned(), ..Node::default() }],
            initializer: vec![weights],
            input: vec![value(input)],
            output: vec![value(output)],
            ..Graph::default()
        };
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let model = Model { ir_version: 10, graph: Some(graph), ..Model::default() };
        std::fs::write(path, model.encode_to_vec()).unwrap();
    }

    #[test]
    fn graphs_that_are_stored_alike_have_names_of_their_own_that_choose_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a/onnx/model.onnx", "a/onnx/again.onnx", "b/model.onnx", "b/x/b/model.onnx"] {
            write(&path(name), "input_ids", "logits", 1);
        }
        write(&path("a/onnx/model_fp16.onnx"), "input_ids", "logits", 10);
        write(&path("a/onnx/vision_encoder.onnx"), "pixel_values", "image_features", 1);
        std::fs::write(path("b/cut.onnx"), "cut").unwrap();
        let sources = ["a", "b", "b/x/b"].map(|name| Source::Directory(path(name)));
        let cache = Cache::at(&path("cache")).unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        let progress = crate::model::progress::ProgressSink::new(move |what, progress| {
            if let Progress::Note(note) = progress {
                told.send(format!("{what}: {note}")).unwrap();
            }
        });
        let options = ResolveOptions { progress, ..ResolveOptions::from_environment() };
        let ready = in_sources(&sources, &cache, &options).unwrap();
        let labels: Vec<&str> = ready.iter().map(|it| it.label.as_str()).collect();
        let expected = [
            "onnx-fp32/again",
            "onnx-fp32/a.model",
            "onnx-fp32/b.model.5",
            "onnx-fp32/b.model.6",
            "onnx-fp16",
            "onnx-unknown/cut",
        ];
        assert_eq!(labels, expected);
        let mut named: Vec<String> =
            quantizations_of(&sources).iter().map(ToString::to_string).collect();
        named.sort();
        let mut sorted = expected.to_vec();
        sorted.sort_unstable();
        assert_eq!(named, sorted);
        let note = heard.try_iter().collect::<String>();
        assert!(note.contains("vision_encoder.onnx: passed over"), "{note}");
        assert!(note.contains("none of its inputs is 'input_ids'"), "{note}");
        let key = |_| None;
        let making = Making { allow_requantize: false, maker: "", calibration: &key };
        let resolved = Resolved { source: None, ready };
        let chosen = |asked: &str| -> Result<Vec<String>, String> {
            let asked: Vec<Quantization> = asked.split(' ').map(|it| it.parse().unwrap()).collect();
            let chosen = variants(&resolved, &asked, making).map_err(|error| error.to_string())?;
            Ok(chosen.into_iter().map(|it| it.label).collect())
        };
        for label in expected {
            assert_eq!(chosen(label).unwrap(), [label]);
        }
        assert_eq!(chosen("onnx-fp32 onnx-fp32/again").unwrap().len(), 4);
        // What cannot be read may be what is asked for.
        assert_eq!(chosen("onnx-fp16 onnx-int4").unwrap(), ["onnx-fp16", "onnx-unknown/cut"]);
    }

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
