//! `quantbench quantize`: make quantized files of a model, beside it or where the user says.

mod method;
mod types;

use super::bar::Bar;
use super::fetching::resolve_options;
use super::output::{self, Product};
use super::recipe::{self, RecipeError};
use super::version;
use crate::error::{Error, Outcome};
use crate::experiment::calibration::CalibrationError;
use crate::experiment::not_makeable;
use crate::host::interrupt::Interrupt;
use crate::host::local::LocalHost;
use crate::mix::jobs::QuantizeJob;
use crate::mix::recipe::Recipe;
use crate::model::artifact::{Artifact, ArtifactRef};
use crate::model::cache::{Cache, CacheError};
use crate::model::quantization::{FileType, Method, Quantization};
use crate::model::resolve::{self, ResolveError};
use crate::model::source::{Source, SourceError};
use crate::model::split;
use crate::orchestrator::calibration::{
    CalibrationRequest, Prepared, prepare as prepare_calibration,
};
use crate::orchestrator::display::Verbosity;
use crate::orchestrator::reason;
use crate::orchestrator::sequence::SequenceError;
use crate::orchestrator::worker_run::{Ending, Limits, run_worker};
use crate::units::{format_bytes, format_seconds};
use crate::worker::protocol::Job;
use clap::Args;
use method::{Calibration, Given};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A worker that reports no progress for longer is ended.
pub(super) const PHASE_LIMIT: Duration = Duration::from_mins(10);

/// Flags of `quantbench quantize`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The F32, F16 or BF16 model: a GGUF file, hf:// address or 'demo'
    input: String,
    /// What to make: `Q4_K_M`, or several: `Q8_0,gptq:Q4_K_M`
    #[arg(
        long,
        value_name = "QUANTIZATION",
        value_delimiter = ',',
        required_unless_present = "recipe",
        conflicts_with = "recipe"
    )]
    to: Vec<Quantization>,
    /// The type of every tensor, chosen by 'quantbench mix', in place of --to
    #[arg(long, value_name = "FILE", requires = "output")]
    recipe: Option<PathBuf>,
    /// The file to write, or the folder for several; without it beside the input
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// How weights are chosen, where --to does not say: rtn, imatrix, gptq or awq
    #[arg(long, value_name = "METHOD")]
    method: Option<Method>,
    /// The text that methods other than rtn look at; the demo model has one of its own
    #[arg(long, value_name = "FILE")]
    calibration: Option<String>,
    /// Use this importance matrix instead of making one (of llama-imatrix or quantbench calibrate)
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Tokens of a chunk of the calibration text [512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    context: Option<u32>,
    /// At most this many chunks of the calibration text [all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// GPTQ: part of the mean diagonal added to the Hessian's diagonal [0.01]
    #[arg(long, value_name = "X", value_parser = fraction)]
    damping: Option<f64>,
    /// GPTQ: times that every part of every block is chosen anew afterwards [4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    sweeps: Option<u32>,
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
    Source(SourceError),
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
    /// A quantization names one method and the flag another.
    #[error("--to {quantization} names a method, and --method {method} another; leave one out")]
    TwoMethods {
        /// What was written.
        quantization: Quantization,
        /// The flag's.
        method: Method,
    },
    /// A flag of calibrated methods, and none of them.
    #[error(
        "{flag} has no effect: rounding to nearest looks at no text; choose a method with --method imatrix, gptq or awq"
    )]
    NothingCalibrated {
        /// The flag.
        flag: &'static str,
    },
    /// A flag of GPTQ, and no GPTQ.
    #[error("{flag} has no effect: it is GPTQ's, and none of --to is made by gptq")]
    NoGptq {
        /// The flag.
        flag: &'static str,
    },
    /// There is no calibration text.
    #[error("{quantization} is calibrated on a text, and {reason}{}", if matches!(reason, CalibrationError::NoText) { "; name one with --calibration FILE" } else { "" })]
    NoText {
        /// What needs it.
        quantization: Quantization,
        /// Why there is none.
        reason: CalibrationError,
    },
    /// The calibration text cannot be used.
    #[error("--calibration: {0}")]
    Text(CalibrationError),
    /// The importance matrix cannot be read.
    #[error("--imatrix {}", path.display())]
    NoMatrix {
        /// What was written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Several results cannot go into one file.
    #[error("--output {} must be a folder, which need not be there yet, for several files are made", path.display())]
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
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The cache, which sources are fetched into.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The source.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
}

impl From<SourceError> for QuantizeError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// One file to be made.
struct Task {
    quantization: Quantization,
    path: PathBuf,
}

/// Everything that is known before a worker starts.
struct RunContext {
    input: Artifact,
    recipe: Option<Box<Recipe>>,
    tasks: Vec<Task>,
    calibration: Option<Calibration>,
    cache: Cache,
}

/// Makes the files, one after the other, and prints one line for each.
///
/// # Errors
/// The input, a quantization or a place is not right, or a worker failed.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let context = prepare(arguments)?;
    for task in &context.tasks {
        let failed = |source| QuantizeError::Write { path: task.path.clone(), source };
        std::fs::create_dir_all(crate::files::folder_of(&task.path)).map_err(failed)?;
    }
    let system = |action| move |source| Error::System { action, source };
    let interrupt = Interrupt::listen().map_err(system("listen to signals"))?;
    let mut host = version::local_host(interrupt).map_err(system("find this program"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(async {
        let mut types = types::Told::default();
        for task in &context.tasks {
            let made = make(arguments, &context, task, &mut host).await?;
            if made == Outcome::Interrupted {
                return Ok(made);
            }
            if context.recipe.is_none() {
                types.tell(task.quantization, &task.path);
            }
        }
        Ok(Outcome::Done)
    })
}

/// Makes one file and prints its line.
async fn make(
    arguments: &Arguments,
    context: &RunContext,
    task: &Task,
    host: &mut LocalHost,
) -> Result<Outcome, Error> {
    let quantization = task.quantization;
    let limits = Limits { silence: PHASE_LIMIT, machine_bytes: None };
    let mut bar = Bar::new(&quantization.to_string(), arguments.quiet);
    let failed = |reason| Err(QuantizeError::Failed { quantization, reason }.into());
    let calibration = context.calibration.as_ref();
    let given = match calibration.filter(|_| quantization.method.is_calibrated()) {
        None => None,
        Some(Calibration::Matrix { path, text, gptq }) => {
            Some(Given::with_matrix(&context.cache, path, text.as_deref(), *gptq)?)
        }
        Some(Calibration::Text(plan)) => {
            let request = CalibrationRequest {
                model: &context.input.path,
                model_checksum: &context.input.checksum,
                plan,
                maker: &version::maker(),
                threads: arguments.threads,
            };
            let prepared =
                prepare_calibration(&request, &context.cache, host, limits, &mut bar).await;
            match prepared.map_err(SequenceError::from)? {
                Prepared::Ready(ready) => Some(Given::Prepared(ready, plan.clone())),
                Prepared::Interrupted => return Ok(Outcome::Interrupted),
                Prepared::Failed(failure) => return failed(failure.reason),
            }
        }
    };
    let started = Instant::now();
    let product = Product::open(&task.path, || Ok(context.cache.clone()))?;
    let job = Job::Quantize(QuantizeJob {
        input: context.input.as_input(),
        output: ArtifactRef::output(product.path()),
        file_type: quantization.file_type,
        threads: arguments.threads,
        allow_requantize: arguments.allow_requantize,
        recipe: context.recipe.clone(),
        method: quantization.method,
        calibration: given.as_ref().map(Given::input),
    });
    let report = run_worker(host, &job, limits, &mut bar).await.map_err(SequenceError::from)?;
    drop(bar);
    match report.ending {
        Ending::Interrupted => Ok(Outcome::Interrupted),
        Ending::Failed(failure) => failed(reason::of_writing(failure.reason, product.path())),
        Ending::Done => {
            let bytes = product.finish()?;
            let mixed = context.recipe.is_some();
            Product::print_line(&task.path, &line(task, mixed, bytes, started.elapsed()))?;
            Ok(Outcome::Done)
        }
    }
}

fn line(task: &Task, mixed: bool, bytes: u64, length: Duration) -> String {
    let seconds = format_seconds(length.as_secs_f64());
    let what = match task.quantization {
        Quantization { method, .. } if mixed => format!("{method}, types of the recipe"),
        quantization => quantization.to_string(),
    };
    format!("{}  {what}  {}  {seconds}\n", task.path.display(), format_bytes(bytes))
}

/// Checks everything that can be checked before a worker starts.
fn prepare(arguments: &Arguments) -> Result<RunContext, Error> {
    let recipe = arguments.recipe.as_deref().map(recipe::read).transpose()?;
    let quantizations = method::quantizations(arguments, recipe.as_ref())?;
    for &quantization in &quantizations {
        if let Some((reason, remedy)) = not_makeable(quantization) {
            return Err(QuantizeError::NotMakeable { quantization, reason, remedy }.into());
        }
    }
    let source = Source::parse(&arguments.input, Path::new("")).map_err(QuantizeError::from)?;
    let calibration = method::calibration(arguments, &quantizations, &source)?;
    let tasks = tasks(arguments, &quantizations, &source)?;
    let cache = Cache::open()?;
    let verbosity = if arguments.quiet { Verbosity::Quiet } else { Verbosity::Live };
    let resolved = resolve::resolve(&source, &cache, &resolve_options(verbosity))?;
    let Some(file) = resolved.source else {
        return Err(QuantizeError::NoFile { input: arguments.input.clone() }.into());
    };
    // All that is read is known now.
    tasks.iter().try_for_each(|task| output::spare_inputs(&task.path))?;
    let found = file.quantization.file_type;
    if !found.is_float() && !arguments.allow_requantize {
        return Err(QuantizeError::AlreadyQuantized { path: file.artifact.path, found }.into());
    }
    if let Some(recipe) = &recipe {
        recipe::tell_differences(recipe, &file.artifact);
    }
    if let Some(matrix) = &arguments.imatrix {
        recipe::tell_other_model(matrix, &file.artifact);
    }
    let recipe = recipe.map(Box::new);
    Ok(RunContext { input: file.artifact, recipe, tasks, calibration, cache })
}

/// A part of a whole, as a flag has it.
fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to 1".to_owned()),
    }
}

fn tasks(
    arguments: &Arguments,
    quantizations: &[Quantization],
    source: &Source,
) -> Result<Vec<Task>, QuantizeError> {
    let folder = match (&arguments.output, source) {
        (Some(path), _) if is_folder(path, quantizations) => path.clone(),
        (Some(path), _) if arguments.to.len() > 1 => {
            return Err(QuantizeError::NoFolder { path: path.clone() });
        }
        (None, Source::File(path)) => path.parent().unwrap_or(Path::new("")).to_owned(),
        _ => PathBuf::new(),
    };
    let mut tasks: Vec<Task> = Vec::new();
    for &quantization in quantizations {
        let path = match &arguments.output {
            Some(path) if !is_folder(path, quantizations) => path.clone(),
            _ => folder.join(result_name(&source.default_name(), quantization)),
        };
        if output::is_there(&path) && !arguments.force {
            return Err(QuantizeError::Exists { path });
        }
        if !tasks.iter().any(|task| task.quantization == quantization) {
            tasks.push(Task { quantization, path });
        }
    }
    Ok(tasks)
}

/// Whether the results go into `path`: a folder, or the name of one that is to be made.
fn is_folder(path: &Path, quantizations: &[Quantization]) -> bool {
    let is_name_of_file =
        path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("gguf"));
    path.is_dir() || (quantizations.len() > 1 && !path.exists() && !is_name_of_file)
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
