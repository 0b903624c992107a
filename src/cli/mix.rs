//! `quantbench mix`: a type for every tensor, chosen so that a file of a given size diverges least.

use super::making::{self, Workshop};
use super::output::{self, Destination, Product};
use super::{recipe, version};
use crate::error::{Error, Outcome};
use crate::experiment::settings::Settings;
use crate::files::{Place, folder_of};
use crate::mix::jobs::{ApplyRecipeJob, MixJob};
use crate::mix::recipe::{Checksums, Recipe};
use crate::mix::{MixReport, Target};
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{Cache, of_bytes};
use crate::model::gguf::GgmlType;
use crate::model::quantization::Quantization;
use crate::orchestrator::maker::Task;
use crate::units::{count, parse_bytes, parse_within, significant};
use crate::worker::protocol::{Job, Made};
use clap::{ArgGroup, Args};
use std::collections::BTreeMap;
use std::fmt::Write as _;
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
    #[arg(long, value_name = "FILE", conflicts_with = "recipe")]
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
        long, value_name = "N", default_value_t = 1, value_parser = parse_within(1_u32..=1024)
    )]
    layers_per_group: u32,
    /// Chunks of the text that each evaluation uses
    #[arg(
        long, value_name = "N", default_value_t = 16, value_parser = parse_within(2_u32..)
    )]
    chunks: u32,
    /// Tokens per chunk
    #[arg(
        long, value_name = "N", default_value_t = 512, value_parser = parse_within(8_u32..=1_048_576)
    )]
    context: u32,
    /// Measure again around the mix, one step up and down for every group, and choose anew, at most so often
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_within(0_u32..=20))]
    revisions: u32,
    /// An importance matrix of the model, as `quantbench calibrate` or llama-imatrix writes it
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// The GGUF to write; its recipe is written beside it, as OUT.toml
    #[arg(short, long, value_name = "OUT.gguf")]
    output: PathBuf,
    /// Threads [all]
    #[arg(short, long, value_name = "N", value_parser = parse_within(1_u32..=4096))]
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
    /// A mix begins with floating point.
    #[error(
        "{} is stored as {found} already; a mix is chosen and made from F32, F16 or BF16", path.display()
    )]
    NeedsFloat {
        /// The model.
        path: PathBuf,
        /// What it is stored as.
        found: Quantization,
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
    let written = || written.into_iter().flatten();
    written().try_for_each(|path| making::check_free(path, arguments.force))?;
    let cache = Cache::open()?;
    let importance = arguments.imatrix.as_deref();
    let importance_checksum =
        importance.map(|path| cache.checksum(path, &mut |_| {})).transpose()?;
    if let (Some(recipe), Some(path)) = (&recipe, &arguments.recipe) {
        check_importance(recipe, path, importance_checksum.as_ref())?;
    }
    let quiet = arguments.quiet;
    let source = making::trained("MODEL", &arguments.model)?;
    let model = making::model(&source, &arguments.model, &cache, quiet)?;
    let found = model.quantization;
    let model = model.artifact;
    if !found.is_float() {
        return Err(Error::command(CommandError::NeedsFloat { path: model.path, found }));
    }
    written().try_for_each(|path| output::spare_inputs(path))?;
    let product = Product::open(&arguments.output, || Ok(cache.clone()))?;
    // Made now, so that a place that cannot be written to is found before hours of work.
    let recipe_place = keeps_recipe.then(|| Destination::open(Some(&recipe_path))).transpose()?;
    if let Some(matrix) = importance {
        recipe::tell_other_model(matrix, &model);
    }
    // Files that are needed meanwhile are there as long as this.
    let scratch = cache.scratch("mix")?;
    let job = if let Some(recipe) = recipe {
        recipe::tell_differences(&recipe, &model);
        Job::ApplyRecipe(Box::new(ApplyRecipeJob {
            source: model.as_input(),
            output: ArtifactRef::output(product.path()),
            recipe,
            importance: arguments.imatrix.as_deref().map(ArtifactRef::here),
            threads: arguments.threads,
            maker: maker(),
        }))
    } else {
        let text = arguments.calibration.as_deref();
        let (context, chunks) = (arguments.context, Some(arguments.chunks));
        let text = making::text(&source, text, context, chunks)?.text;
        let checksums = Checksums {
            model: model.checksum.clone(),
            text: of_bytes(text.as_bytes()),
            importance: importance_checksum,
        };
        let files = [
            model.as_input(),
            ArtifactRef::output(product.path()),
            ArtifactRef::scratch(folder_of(scratch.path())),
            ArtifactRef::place("ledger", &ledger(arguments, &cache, &checksums)?),
        ];
        Job::Mix(Box::new(mix_job(arguments, files, text, checksums)))
    };
    let mut workshop = Workshop::open(quiet)?;
    let made = workshop.make(&arguments.model, "make the mix", Task::Job(&job), product)?;
    let Some(done) = made else { return Ok(Outcome::Interrupted) };
    let below = match &done.made {
        Some(Made::Mix(report)) => {
            if let Some(place) = recipe_place {
                let text = report.recipe.to_text().map_err(Error::command)?;
                place.write(text.as_bytes())?;
            }
            summary(keeps_recipe.then_some(&*recipe_path), report)
        }
        _ => String::new(),
    };
    done.print(&arguments.output, "", "", &below)?;
    Ok(Outcome::Done)
}

fn maker() -> String {
    format!("quantbench {}, {}", env!("CARGO_PKG_VERSION"), version::maker())
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

/// Where what is measured is kept, for everything that it depends on.
fn ledger(arguments: &Arguments, cache: &Cache, checksums: &Checksums) -> Result<PathBuf, Error> {
    Ok(cache.measurements(&[
        "mix",
        &version::maker(),
        &checksums.model,
        &checksums.text,
        checksums.importance.as_deref().unwrap_or_default(),
        &arguments.context.to_string(),
        &arguments.chunks.to_string(),
    ])?)
}

fn mix_job(
    arguments: &Arguments,
    [source, output, scratch, ledger]: [ArtifactRef; 4],
    text: String,
    checksums: Checksums,
) -> MixJob {
    MixJob {
        source,
        output,
        scratch,
        reference_budget_bytes: REFERENCE_BUDGET,
        ledger,
        text,
        context: arguments.context,
        chunks: arguments.chunks,
        types: arguments.types.clone(),
        measured_types: arguments.measure.clone(),
        importance: arguments.imatrix.as_deref().map(ArtifactRef::here),
        target: target(arguments),
        layers_per_group: arguments.layers_per_group,
        revisions: arguments.revisions,
        settings: Settings { threads: arguments.threads, ..Settings::default() },
        maker: maker(),
        checksums,
    }
}

fn target(arguments: &Arguments) -> Target {
    match (arguments.target_size, arguments.target_bpw, arguments.max_kld) {
        (Some(bytes), ..) => Target::FileBytes(bytes),
        (None, Some(bits), _) => Target::BitsPerWeight(bits),
        // clap requires one of the three where there is no recipe.
        (None, None, kld) => Target::Divergence(kld.unwrap_or_default()),
    }
}

/// What came of it.
fn summary(recipe: Option<&Path>, report: &MixReport) -> String {
    let mut text = String::new();
    if let Some(recipe) = recipe {
        let _ = writeln!(text, "recipe: {}", recipe.display());
    }
    if let Some(measured) = &report.recipe.measured {
        let _ = writeln!(
            text,
            "{:.3} bits per weight; mean KLD {} ± {} nats on the text it was chosen by ({}), predicted {}",
            measured.bits_per_weight,
            significant(measured.kld, 3),
            significant(1.96 * measured.kld_standard_error, 2),
            count(measured.chunks, "chunk"),
            significant(measured.kld_predicted, 3),
        );
    }
    let mut tensors: BTreeMap<&str, u32> = BTreeMap::new();
    for format in report.recipe.tensors.values() {
        *tensors.entry(format).or_default() += 1;
    }
    let counts: Vec<String> =
        tensors.iter().map(|(format, count)| format!("{count} × {format}")).collect();
    let _ = writeln!(text, "tensors: {}", counts.join(", "));
    if report.gap > 0.0 {
        let _ = writeln!(text, "the predicted best choice is better by at most {:.1e}", report.gap);
    }
    text
}
