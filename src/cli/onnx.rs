//! `quantbench onnx export`: a model as ONNX files, in the layout of optimum and onnx-community.

use super::making::{self, NoFile, Workshop};
use super::output::{self, tell};
use crate::causes::{Problem, in_words};
use crate::error::{Error, Outcome};
use crate::files::{self, Unfinished};
use crate::model::artifact::ArtifactRef;
use crate::model::cache::Cache;
use crate::model::gguf::{Header, Tokens};
use crate::orchestrator::maker::Task;
use crate::quantize::jobs::ExportJob;
use crate::quantize::onnx::{ExportReport, Network, Target, texts};
use crate::units::{format_bytes, format_seconds, significant};
use crate::worker::protocol::{Job, Made};
use clap::{Args, Subcommand};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder of the graphs, below that of the model.
const GRAPHS: &str = "onnx";

/// Flags of `quantbench onnx`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with ONNX files.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Write a model as ONNX files that ONNX Runtime runs
    Export(ExportArguments),
}

/// Flags of `quantbench onnx export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArguments {
    /// The model: a GGUF, a folder with safetensors, or whatever else 'quantize' takes
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// The folder to write; graphs go into 'onnx' in it
    #[arg(short, long, value_name = "FOLDER")]
    pub output: PathBuf,
    /// How weights are stored, one graph each
    #[arg(long, value_enum, value_name = "TARGET", value_delimiter = ',', required = true)]
    pub to: Vec<Target>,
    /// Round weights a second time that are quantized already
    #[arg(long)]
    pub allow_requantize: bool,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// A file that appears when all of a command's are whole.
struct Pending {
    path: PathBuf,
    file: Unfinished,
}

impl Pending {
    fn beside(path: PathBuf) -> Result<Self, Error> {
        match Unfinished::beside(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(Error::Output { path: Some(path), source }),
        }
    }

    fn finish(self) -> Result<u64, Error> {
        let Self { path, file } = self;
        file.finish(&path).map_err(|source| Error::Output { path: Some(path), source })
    }
}

/// Does what is asked for.
///
/// # Errors
/// The model is none that is exported, a file is there already or cannot be written, or a worker failed.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let Action::Export(arguments) = &arguments.action;
    export(arguments)
}

fn export(arguments: &ExportArguments) -> Result<Outcome, Error> {
    let mut targets = arguments.to.clone();
    let mut seen = Vec::new();
    targets.retain(|target| {
        !seen.contains(target) && {
            seen.push(*target);
            true
        }
    });
    let folder = &arguments.output;
    let graphs = folder.join(GRAPHS);
    for target in &targets {
        making::check_free(&graphs.join(target.file_name()), arguments.force)?;
    }
    let source = making::trained("MODEL", &arguments.model)?;
    let model = making::model(&source, &arguments.model, &Cache::open()?, arguments.quiet)?;
    let input = model.artifact;
    let action = format!("export {}", input.path.display());
    let failed =
        |error: &Problem| NoFile::Failed { action: action.clone(), reason: in_words(error) };
    let header = Header::read(&input.path).map_err(|error| failed(&error))?;
    let texts = Network::of(&header)
        .and_then(|network| texts(&header, &network, &Tokens::read(&input.path)?))
        .map_err(|error| failed(&error))?;
    for (name, text) in &texts {
        let path = folder.join(name);
        if !is_same(&path, text) {
            making::check_free(&path, arguments.force)?;
        }
    }
    let mut made = Folders::make(&graphs)?;
    let mut pending = Vec::new();
    for (name, text) in &texts {
        let path = folder.join(name);
        if !is_same(&path, text) {
            made.add(files::folder_of(&path))?;
            pending.push(written(path, text)?);
        }
    }
    let mut workshop = Workshop::open(arguments.quiet)?;
    let mut lines = Vec::new();
    for &target in &targets {
        let graph = Pending::beside(graphs.join(target.file_name()))?;
        let data = Pending::beside(graphs.join(format!("{}_data", target.file_name())))?;
        let job = Job::ExportOnnx(ExportJob {
            input: ArtifactRef::here(&input.path),
            target,
            allow_requantize: arguments.allow_requantize,
            output: ArtifactRef::output_named("graph", graph.file.path()),
            data: ArtifactRef::output_named("data", data.file.path()),
            most_inside: None,
        });
        let made =
            workshop.attempt(&target.to_string(), &action, Task::Job(&job), graph.file.path())?;
        let Some(finished) = made else { return Ok(Outcome::Interrupted) };
        let Some(Made::Onnx(report)) = finished.made else {
            let reason = "the worker does not say what it wrote".to_owned();
            return Err(NoFile::Failed { action, reason }.into());
        };
        lines.push((graph.path.clone(), report.clone(), finished.seconds));
        if report.is_split {
            pending.push(data);
        }
        pending.push(graph);
    }
    let mut bytes = Vec::new();
    for file in pending {
        let path = file.path.clone();
        bytes.push((path, file.finish()?));
    }
    made.keep();
    for (path, report, seconds) in &lines {
        let own =
            |it: &&(PathBuf, u64)| it.0.to_string_lossy().starts_with(&*path.to_string_lossy());
        let bytes = bytes.iter().filter(own).map(|(_, bytes)| bytes).sum();
        output::print(line(path, report, bytes, *seconds).as_bytes())?;
        for note in &report.notes {
            tell(&format!("{}: {note}", path.display()));
        }
    }
    Ok(Outcome::Done)
}

/// What is said of a file: its name, how its weights are stored, its bytes, how long it took.
fn line(path: &Path, report: &ExportReport, bytes: u64, seconds: f64) -> String {
    let bits = report.storage.bits_per_weight();
    let bits = bits.map(|bits| format!("{} bits per weight", significant(bits, 3)));
    let parts = [
        Some(path.display().to_string()),
        Some(report.storage.to_string()),
        bits,
        Some(format_bytes(bytes)),
        Some(format_seconds(seconds)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ") + "\n"
}

/// Whether a file has this text.
fn is_same(path: &Path, text: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes())
}

fn written(path: PathBuf, text: &str) -> Result<Pending, Error> {
    let mut pending = Pending::beside(path)?;
    match pending.file.write_all(text.as_bytes()) {
        Ok(()) => Ok(pending),
        Err(source) => Err(Error::Output { path: Some(pending.path), source }),
    }
}

/// Folders that this command made; they are removed again, as far as they are empty, unless they are kept.
struct Folders {
    /// Inner ones first.
    made: Vec<PathBuf>,
}

impl Folders {
    fn make(path: &Path) -> Result<Self, Error> {
        let mut folders = Self { made: Vec::new() };
        folders.add(path)?;
        Ok(folders)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let missing = path.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists());
        self.made.splice(..0, missing.map(Path::to_owned));
        fs::create_dir_all(path)
            .map_err(|source| Error::Output { path: Some(path.to_owned()), source })
    }

    fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in &self.made {
            // One that is not empty any more belongs to someone else.
            let _ = fs::remove_dir(folder);
        }
    }
}
