//! `quantbench mix`: a type for every tensor, chosen so that a file of a given size diverges least.

mod display;

use super::fetching::resolve_options;
use super::output::{self, Destination, Product};
use super::quantize::QuantizeError;
use super::recipe;
use super::version;
use super::worker::work;
use crate::causes;
use crate::error::{Error, Outcome};
use crate::experiment::inputs::{self, InputError};
use crate::experiment::settings::Settings;
use crate::files::{Place, folder_of};
use crate::mix::jobs::{ApplyRecipeJob, MixJob};
use crate::mix::recipe::{Checksums, Recipe};
use crate::mix::{MixReport, Target};
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{Cache, Scratch};
use crate::model::gguf::GgmlType;
use crate::model::resolve::{self, SourceFile};
use crate::model::source::Source;
use crate::orchestrator::display::Verbosity;
use crate::orchestrator::reason;
use crate::orchestrator::worker_run::Ending;
use crate::units::parse_bytes;
use crate::worker::protocol::Job;
use clap::{ArgGroup, Args};
use display::{Display, summary};
use std::fs;
use std::path::{Path, PathBuf};

/// Types that are offered unless others are named: they need no importance matrix and are fast.
const TYPES: [&str; 7] = ["Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0"];

/// Bytes that the original's log-probabilities may take on the cache's disk.
const REFERENCE_BUDGET: u64 = 4 << 30;

/// Flags of `quantbench mix`.
#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("target").required(true).args(["target_size", "target_bpw", "max_kld", "recipe"])
))]
pub struct Arguments {
    /// The F32, F16 or BF16 model: a GGUF file, hf:// address or 'demo'
    model: String,
    /// The file is at most this large: `3.5GiB`, `900MB`
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    target_size: Option<u64>,
    /// The tensors take at most so many bits per weight: `4.25`
    #[arg(long, value_name = "BITS", value_parser = positive)]
    target_bpw: Option<f64>,
    /// The smallest file whose mean KLD on the text is at most so many nats: `0.02`
    #[arg(long, value_name = "NATS", value_parser = positive)]
    max_kld: Option<f64>,
    /// Make the file of a recipe again; nothing is measured
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// The text that divergence is measured on, or 'demo': best of the kind that the model will be used for;
    /// keep another one to judge the result by [demo, for the model 'demo']
    #[arg(long, alias = "text", value_name = "FILE", conflicts_with = "recipe")]
    calibration: Option<String>,
    /// The types to choose from, by ggml's names
    #[arg(
        long, value_name = "TYPES", value_delimiter = ',', value_parser = format,
        default_values = TYPES, conflicts_with = "recipe"
    )]
    types: Vec<GgmlType>,
    /// Measure only these of the types and interpolate the others by their rounding errors: fewer evaluations [all]
    #[arg(
        long, value_name = "TYPES", value_delimiter = ',', value_parser = format, conflicts_with = "recipe"
    )]
    measure: Vec<GgmlType>,
    /// Neighbouring layers whose tensors of one kind get one type: fewer evaluations
    #[arg(
        long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024)
    )]
    layers_per_group: u32,
    /// Chunks of the text that each evaluation uses
    #[arg(
        long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..)
    )]
    chunks: u32,
    /// Tokens per chunk
    #[arg(
        long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..=1_048_576)
    )]
    context: u32,
    /// Measure again around the mix, one step up and down for every group, and choose anew, at most so often
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=20))]
    revisions: u32,
    /// An importance matrix of the model, as `quantbench calibrate` or llama-imatrix writes it
    #[arg(long, alias = "importance", value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// The GGUF to write; its recipe is written beside it, as OUT.toml
    #[arg(short, long, value_name = "OUT.gguf")]
    output: PathBuf,
    /// Threads [all]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("not above 0".to_owned()) }
}

fn format(text: &str) -> Result<GgmlType, String> {
    GgmlType::from_name(text.trim())
        .ok_or_else(|| format!("no type of ggml; such as {}", TYPES.join(", ")))
}

/// Why there is no mix.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Only the demo model has a text of its own.
    #[error(
        "which text to measure '{model}' on is not said; name one with --calibration FILE (--calibration demo is the demo model's own)"
    )]
    NoText {
        /// The model.
        model: String,
    },
    /// The text cannot be used.
    #[error("--calibration {reason}")]
    Text {
        /// Why not; a fragment.
        reason: String,
    },
    /// The text cannot be handed to a worker.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The recipe, which is called after the GGUF, would take its name.
    #[error("--output {} is the name that the recipe gets; name the GGUF otherwise", path.display())]
    RecipeName {
        /// What was written.
        path: PathBuf,
    },
    /// The recipe was made with another importance matrix, or with none.
    #[error(
        "{} was made with {}, and --imatrix names {}",
        path.display(), matrix(.wanted.as_deref()), matrix(.found.as_deref())
    )]
    OtherImportance {
        /// The recipe.
        path: PathBuf,
        /// SHA-256 of the matrix it was made with.
        wanted: Option<String>,
        /// SHA-256 of the one that was named.
        found: Option<String>,
    },
    /// The worker failed.
    #[error("cannot make the mix: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}

fn matrix(checksum: Option<&str>) -> String {
    checksum.map_or("none".to_owned(), |checksum| {
        format!("the importance matrix of SHA-256 {checksum}")
    })
}

/// Has a worker make the mix, and prints what came of it.
///
/// # Errors
/// The model, the text, the recipe or the place is not right, or the worker failed.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let recipe = arguments.recipe.as_deref().map(recipe::read).transpose()?;
    // Beside a pipe or a device there is no place for one.
    let keeps_recipe =
        recipe.is_none() && matches!(Place::of(&arguments.output), Ok(Place::File(_)));
    let recipe_path = arguments.output.with_extension("toml");
    if keeps_recipe && recipe_path == arguments.output {
        return Err(Error::command(CommandError::RecipeName { path: recipe_path }));
    }
    let written = [Some(&arguments.output), keeps_recipe.then_some(&recipe_path)];
    for path in written.into_iter().flatten() {
        if output::is_there(path) && !arguments.force {
            return Err(QuantizeError::Exists { path: path.clone() }.into());
        }
    }
    let cache = Cache::open()?;
    let importance = arguments.imatrix.as_deref();
    let importance_checksum =
        importance.map(|path| cache.checksum(path, &mut |_| {})).transpose()?;
    if let (Some(recipe), Some(path)) = (&recipe, &arguments.recipe) {
        check_importance(recipe, path, importance_checksum.as_ref())?;
    }
    let source = source(arguments, &cache)?;
    written.into_iter().flatten().try_for_each(|path| output::spare_inputs(path))?;
    let product = Product::open(&arguments.output, || Ok(cache.clone()))?;
    // Made now, so that a place that cannot be written to is found before hours of work.
    let recipe_place = keeps_recipe.then(|| Destination::open(Some(&recipe_path))).transpose()?;
    if let Some(matrix) = importance {
        recipe::tell_other_model(matrix, &source.artifact);
    }
    if let Some(recipe) = recipe {
        recipe::tell_differences(&recipe, &source.artifact);
        let job = Job::ApplyRecipe(Box::new(ApplyRecipeJob {
            source: source.artifact.as_input(),
            output: ArtifactRef::output(product.path()),
            recipe,
            importance: arguments.imatrix.as_deref().map(ArtifactRef::here),
            threads: arguments.threads,
            maker: maker(),
        }));
        converse_about(arguments, &job, product, None)
    } else {
        let scratch = text_file(arguments, &cache)?;
        let prepared = Prepared {
            source: &source,
            output: product.path(),
            text: scratch.path(),
            importance: importance_checksum,
        };
        let job = Job::Mix(Box::new(mix_job(arguments, &cache, prepared)?));
        converse_about(arguments, &job, product, recipe_place.map(|place| (&*recipe_path, place)))
    }
}

fn maker() -> String {
    format!("quantbench {}, {}", env!("CARGO_PKG_VERSION"), version::maker())
}

/// Finds the model, and refuses one that is rounded already.
fn source(arguments: &Arguments, cache: &Cache) -> Result<SourceFile, QuantizeError> {
    let source = Source::parse(&arguments.model, Path::new(""))?;
    let verbosity = if arguments.quiet { Verbosity::Quiet } else { Verbosity::Live };
    let resolved = resolve::resolve(&source, cache, &resolve_options(verbosity))?;
    let Some(file) = resolved.source else {
        return Err(QuantizeError::NoFile { input: arguments.model.clone() });
    };
    let found = file.quantization.file_type;
    if !found.is_float() {
        return Err(QuantizeError::MixNeedsFloat { path: file.artifact.path, found });
    }
    Ok(file)
}

/// With another importance matrix the file would be another one.
fn check_importance(recipe: &Recipe, path: &Path, found: Option<&String>) -> Result<(), Error> {
    let wanted = recipe.model.importance_sha256.as_ref();
    if wanted == found {
        return Ok(());
    }
    let (path, wanted, found) = (path.to_owned(), wanted.cloned(), found.cloned());
    Err(Error::command(CommandError::OtherImportance { path, wanted, found }))
}

/// The text as a file that a worker can read, in a folder of its own.
fn text_file(arguments: &Arguments, cache: &Cache) -> Result<Scratch, Error> {
    let is_demo = arguments.model == inputs::DEMO;
    let named = arguments.calibration.as_deref().or(is_demo.then_some(inputs::DEMO));
    let model = || arguments.model.clone();
    let named = named.ok_or_else(|| Error::command(CommandError::NoText { model: model() }))?;
    let text = inputs::calibration_text(named, Path::new(""));
    let text = text.map_err(|error: InputError| {
        Error::command(CommandError::Text { reason: causes::in_words(&error) })
    })?;
    let scratch = cache.scratch("text")?;
    let path = scratch.path().to_owned();
    fs::write(&path, text)
        .map_err(|source| Error::command(CommandError::Write { path, source }))?;
    Ok(scratch)
}

/// What a mix is made from and where to.
struct Prepared<'a> {
    source: &'a SourceFile,
    output: &'a Path,
    /// The text, alone in its folder.
    text: &'a Path,
    /// Checksum of the importance matrix.
    importance: Option<String>,
}

fn mix_job(arguments: &Arguments, cache: &Cache, from: Prepared<'_>) -> Result<MixJob, Error> {
    let checksums = Checksums {
        model: from.source.artifact.checksum.clone(),
        text: cache.checksum(from.text, &mut |_| {})?,
        importance: from.importance,
    };
    let ledger = cache.measurements(&[
        "mix",
        &version::maker(),
        &checksums.model,
        &checksums.text,
        checksums.importance.as_deref().unwrap_or_default(),
        &arguments.context.to_string(),
        &arguments.chunks.to_string(),
    ])?;
    let names = |types: &[GgmlType]| types.iter().map(ToString::to_string).collect();
    let target = match (arguments.target_size, arguments.target_bpw, arguments.max_kld) {
        (Some(bytes), ..) => Target::FileBytes(bytes),
        (None, Some(bits), _) => Target::BitsPerWeight(bits),
        // clap requires one of the three where there is no recipe.
        (None, None, kld) => Target::Divergence(kld.unwrap_or_default()),
    };
    Ok(MixJob {
        source: from.source.artifact.as_input(),
        output: ArtifactRef::output(from.output),
        scratch: ArtifactRef::scratch(folder_of(from.text)),
        reference_budget_bytes: REFERENCE_BUDGET,
        ledger: ArtifactRef::place("ledger", &ledger),
        text: ArtifactRef::here(from.text),
        context: arguments.context,
        chunks: arguments.chunks,
        types: names(&arguments.types),
        measured_types: names(&arguments.measure),
        importance: arguments.imatrix.as_deref().map(ArtifactRef::here),
        target,
        layers_per_group: arguments.layers_per_group,
        revisions: arguments.revisions,
        settings: Settings { threads: arguments.threads, ..Settings::default() },
        maker: maker(),
        checksums,
    })
}

fn converse_about(
    arguments: &Arguments,
    job: &Job,
    product: Product,
    recipe: Option<(&Path, Destination)>,
) -> Result<Outcome, Error> {
    let (recipe_path, place) = recipe.unzip();
    let mut display = Display::new(arguments.quiet);
    let (heard, length) = work(job, &mut display)?;
    let report: Option<MixReport> = display.finish();
    match heard.ending {
        Ending::Interrupted => {
            if recipe_path.is_some() {
                output::tell("What was measured is kept: the same command goes on from there.");
            }
            return Ok(Outcome::Interrupted);
        }
        Ending::Failed(failure) => {
            let reason = reason::of_writing(failure.reason, product.path());
            return Err(Error::command(CommandError::Failed { reason }));
        }
        Ending::Done => {}
    }
    let bytes = product.finish()?;
    if let (Some(place), Some(report)) = (place, &report) {
        let text = report.recipe.to_text().map_err(Error::command)?;
        place.write(text.as_bytes())?;
    }
    let text = summary(&arguments.output, bytes, recipe_path, report.as_ref(), length);
    Product::print_line(&arguments.output, &text)?;
    Ok(Outcome::Done)
}
