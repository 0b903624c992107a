//! `quantbench quantize`: make quantized files of a model, beside it or where the user says.

use super::bar::Bar;
use super::fetching::resolve_options;
use super::output;
use crate::error::{Error, Outcome};
use crate::experiment::not_makeable;
use crate::model::cache::{Cache, CacheError};
use crate::model::quantization::{FileType, Quantization};
use crate::model::resolve::{self, ResolveError};
use crate::model::source::{Source, SourceError};
use crate::model::split;
use crate::orchestrator::conversation::{Ending, Limits, converse};
use crate::orchestrator::display::Verbosity;
use crate::orchestrator::interrupt::Interrupt;
use crate::orchestrator::process::ProcessLauncher;
use crate::orchestrator::reason;
use crate::units::{format_bytes, format_seconds};
use crate::worker::protocol::{Job, QuantizeJob};
use clap::Args;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempPath;

/// A worker that reports no progress for longer is ended.
pub(super) const PHASE_LIMIT: Duration = Duration::from_mins(10);

/// Flags of `quantbench quantize`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The F32, F16 or BF16 model: a GGUF file, hf:// address or 'demo'
    input: String,
    /// What to make: `Q4_K_M`, or several: `Q8_0,Q4_K_M`
    #[arg(long, required = true, value_name = "QUANTIZATION", value_delimiter = ',')]
    to: Vec<Quantization>,
    /// The file to write, or the folder for several; without it beside the input
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Threads [all]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Make it even though the input is already quantized
    #[arg(long)]
    allow_requantize: bool,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Why nothing can be made.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The input is no source.
    #[error("INPUT {0}")]
    Source(#[from] SourceError),
    /// The input is a folder or gives no single file.
    #[error("'{input}' is no single model; name one GGUF file")]
    NoFile {
        /// What was written.
        input: String,
    },
    /// The input is quantized already.
    #[error(
        "{} is stored as {found} already, and rounding twice adds up errors; start from F32, F16 or BF16, or use --allow-requantize", path.display()
    )]
    AlreadyQuantized {
        /// The input.
        path: PathBuf,
        /// What it is stored as.
        found: FileType,
    },
    /// A mix begins with floating point.
    #[error(
        "{} is stored as {found} already; a mix is chosen and made from F32, F16 or BF16", path.display()
    )]
    MixNeedsFloat {
        /// The input.
        path: PathBuf,
        /// What it is stored as.
        found: FileType,
    },
    /// A quantization cannot be made.
    #[error("--to {quantization}: {reason}; {remedy}")]
    NotMakeable {
        /// Which.
        quantization: Quantization,
        /// Why not.
        reason: String,
        /// What would do.
        remedy: String,
    },
    /// Several results cannot go into one file.
    #[error("--output {} must be a folder, for several files are made", path.display())]
    NoFolder {
        /// What was written.
        path: PathBuf,
    },
    /// The result is there already.
    #[error("{} is there already; use --force to replace it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The worker failed.
    #[error("cannot make {quantization}: {reason}")]
    Failed {
        /// Which.
        quantization: Quantization,
        /// Why.
        reason: String,
    },
    /// The cache, which sources are fetched into.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The source.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
}

/// One file to be made.
struct Task {
    quantization: Quantization,
    path: PathBuf,
}

/// Makes the files, one after the other, and prints one line for each.
///
/// # Errors
/// The input, a quantization or a place is not right, or a worker failed.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let (input, tasks) = prepare(arguments)?;
    let system = |action| move |source| Error::System { action, source };
    let interrupt = Interrupt::listen().map_err(system("listen to signals"))?;
    let mut launcher = ProcessLauncher::new(interrupt).map_err(system("find this program"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    for task in tasks {
        let started = Instant::now();
        let temporary = temporary_beside(&task.path)?;
        let job = Job::Quantize(QuantizeJob {
            input: input.clone(),
            output: temporary.to_path_buf(),
            file_type: task.quantization.file_type,
            threads: arguments.threads,
            allow_requantize: arguments.allow_requantize,
        });
        let limits = Limits { silence: PHASE_LIMIT, machine_bytes: None };
        let mut bar = Bar::new(&task.quantization.to_string(), arguments.quiet);
        let report = runtime
            .block_on(converse(&mut launcher, &job, limits, &mut bar))
            .map_err(crate::orchestrator::sequence::SequenceError::from)?;
        drop(bar);
        match report.ending {
            Ending::Interrupted => return Ok(Outcome::Interrupted),
            Ending::Failed(failure) => {
                let quantization = task.quantization;
                let reason = reason::of_writing(failure.reason, folder_of(&task.path));
                return Err(QuantizeError::Failed { quantization, reason }.into());
            }
            Ending::Done => {
                let bytes = finish(temporary, &task.path)?;
                output::print(line(&task, bytes, started.elapsed()).as_bytes())?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn line(task: &Task, bytes: u64, length: Duration) -> String {
    let seconds = format_seconds(length.as_secs_f64());
    format!("{}  {}  {}  {seconds}\n", task.path.display(), task.quantization, format_bytes(bytes))
}

/// Checks everything that can be checked before a worker starts.
fn prepare(arguments: &Arguments) -> Result<(PathBuf, Vec<Task>), QuantizeError> {
    for &quantization in &arguments.to {
        if let Some((reason, remedy)) = not_makeable(quantization) {
            return Err(QuantizeError::NotMakeable { quantization, reason, remedy });
        }
    }
    let source = Source::parse(&arguments.input, Path::new(""))?;
    let tasks = tasks(arguments, &source)?;
    let cache = Cache::open()?;
    let verbosity = if arguments.quiet { Verbosity::Quiet } else { Verbosity::Live };
    let resolved = resolve::resolve(&source, &cache, &resolve_options(verbosity))?;
    let Some(file) = resolved.source else {
        return Err(QuantizeError::NoFile { input: arguments.input.clone() });
    };
    let path = file.artifact.path;
    let found = file.quantization.file_type;
    if !found.is_float() && !arguments.allow_requantize {
        return Err(QuantizeError::AlreadyQuantized { path, found });
    }
    Ok((path, tasks))
}

fn tasks(arguments: &Arguments, source: &Source) -> Result<Vec<Task>, QuantizeError> {
    let folder = match (&arguments.output, source) {
        (Some(path), _) if path.is_dir() => path.clone(),
        (Some(path), _) if arguments.to.len() > 1 => {
            return Err(QuantizeError::NoFolder { path: path.clone() });
        }
        (None, Source::File(path)) => path.parent().unwrap_or(Path::new("")).to_owned(),
        _ => PathBuf::new(),
    };
    let mut tasks: Vec<Task> = Vec::new();
    for &quantization in &arguments.to {
        let path = match &arguments.output {
            Some(path) if !path.is_dir() => path.clone(),
            _ => folder.join(result_name(&source.default_name(), quantization)),
        };
        if path.exists() && !arguments.force {
            return Err(QuantizeError::Exists { path });
        }
        if !tasks.iter().any(|task| task.quantization == quantization) {
            tasks.push(Task { quantization, path });
        }
    }
    Ok(tasks)
}

/// `model-F16` in `Q4_K_M` is `model-Q4_K_M.gguf`; a name without a type gets one.
fn result_name(stem: &str, quantization: Quantization) -> String {
    let stem = split::stem(stem);
    let base = match stem.rsplit_once(['-', '.']) {
        Some((base, last)) if !base.is_empty() && last.parse::<FileType>().is_ok() => base,
        _ => stem,
    };
    format!("{base}-{}.gguf", quantization.to_string().replace(':', "-"))
}

pub(super) fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// A name in the same folder, so that renaming is one step; removed if it is not renamed.
pub(super) fn temporary_beside(path: &Path) -> Result<TempPath, QuantizeError> {
    tempfile::Builder::new()
        .prefix(".quantbench-")
        .suffix(".gguf.partial")
        .tempfile_in(folder_of(path))
        .map(tempfile::NamedTempFile::into_temp_path)
        .map_err(|source| QuantizeError::Write { path: path.to_owned(), source })
}

/// Gives a whole file its name, once it is on the disk. Returns its bytes.
pub(super) fn finish(temporary: TempPath, path: &Path) -> Result<u64, QuantizeError> {
    let failed = |source| QuantizeError::Write { path: path.to_owned(), source };
    let file = File::open(&temporary).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).map_err(failed)?;
    }
    temporary.persist(path).map_err(|error| failed(error.error))?;
    Ok(bytes)
}

impl From<QuantizeError> for Error {
    fn from(error: QuantizeError) -> Self {
        Self::command(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_named_after_the_input_without_its_type() {
        let name =
            |stem: &str, quantization: &str| result_name(stem, quantization.parse().unwrap());
        assert_eq!(name("model-F16", "Q4_K_M"), "model-Q4_K_M.gguf");
        assert_eq!(name("model.bf16", "INT8"), "model-Q8_0.gguf");
        assert_eq!(name("model", "Q4_0"), "model-Q4_0.gguf");
        assert_eq!(name("demo", "gptq:Q4_0"), "demo-gptq-Q4_0.gguf");
        assert_eq!(name("F16", "Q4_0"), "F16-Q4_0.gguf");
    }
}
