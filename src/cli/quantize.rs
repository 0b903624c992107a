//! `quantbench quantize`: make quantized files of a model, beside it or where the user says.

mod method;
mod types;

use super::making::{self, Workshop};
use super::output::{self, Product};
use super::{recipe, version};
use crate::error::{Error, Outcome};
use crate::experiment::inputs::InputError;
use crate::experiment::not_makeable;
use crate::experiment::parameters::ParameterFlags;
use crate::files::folder_of;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::Cache;
use crate::model::file_type::FileType;
use crate::model::quantization::{Method, NotMade, Quantization};
use crate::model::source::Source;
use crate::model::split;
use crate::orchestrator::maker::{Order, Task};
use crate::quantize::jobs::QuantizeJob;
use crate::units::parse_within;
use clap::Args;
use method::Calibration;
use std::io;
use std::path::{Path, PathBuf};

/// Flags of `quantbench quantize`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The F32, F16 or BF16 model: a GGUF file, hf:// address, shape:NAME or 'demo'
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
    #[arg(long, value_name = "METHOD", help = help_of_methods(false), long_help = help_of_methods(true))]
    method: Option<Method>,
    /// The text that methods other than rtn look at; the demo model has one of its own
    #[arg(long, value_name = "FILE")]
    calibration: Option<String>,
    /// Use this importance matrix instead of making one (of llama-imatrix or quantbench calibrate)
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Tokens of a chunk of the calibration text [512]
    #[arg(long, value_name = "N", value_parser = parse_within(16_u32..=1_048_576))]
    context: Option<u32>,
    /// At most this many chunks of the calibration text [all]
    #[arg(long, value_name = "N", value_parser = parse_within(1_u32..))]
    chunks: Option<u32>,
    #[command(flatten)]
    parameters: ParameterFlags,
    /// Threads [all]
    #[arg(short, long, value_name = "N", value_parser = parse_within(1_u32..=4096))]
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
    /// The input is quantized already.
    #[error(
        "{} is stored as {found} already, and rounding twice adds up errors; start from F32, F16 or BF16, or use --allow-requantize", path.display()
    )]
    AlreadyQuantized {
        /// The input.
        path: PathBuf,
        /// What it is stored as.
        found: Quantization,
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
        "{flag} has no effect: rounding to nearest looks at no text; choose a method with --method {}",
        Method::names(Method::all().filter(|method| method.is_calibrated()), "or")
    )]
    NothingCalibrated {
        /// The flag.
        flag: &'static str,
    },
    /// A flag of a method, and none of it.
    #[error("{flag} has no effect: it is of the method {method}, and none of --to is made by it")]
    OtherMethod {
        /// The flag.
        flag: &'static str,
        /// Its method.
        method: Method,
    },
    /// The calibration text cannot be used.
    #[error("--calibration")]
    Text(#[source] InputError),
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
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<QuantizeError> for Error {
    fn from(error: QuantizeError) -> Self {
        Self::command(error)
    }
}

/// The help of `--method`, from the table of methods.
fn help_of_methods(long: bool) -> String {
    let names = Method::names(Method::all(), "or");
    let mut help = format!("How weights are chosen, where --to does not say: {names}");
    if long {
        for facts in Method::all().map(Method::facts) {
            help.extend(["\n", facts.name, ": ", facts.help]);
        }
    }
    help
}

/// One file to be made.
struct WantedFile {
    quantization: Quantization,
    path: PathBuf,
}

/// Makes the files, one after the other, and prints one line for each.
///
/// # Errors
/// The input, a quantization or a place is not right, or a worker failed.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let recipe = arguments.recipe.as_deref().map(recipe::read).transpose()?;
    let quantizations = method::quantizations(arguments, recipe.as_ref())?;
    let source = making::source("INPUT", &arguments.input)?;
    for &quantization in &quantizations {
        if let Some((reason, remedy)) = not_makeable(&source, quantization) {
            return Err(QuantizeError::NotMakeable { quantization, reason, remedy }.into());
        }
    }
    let calibration = Calibration::new(arguments, &quantizations, &source)?;
    let files = files(arguments, &quantizations, &source)?;
    let cache = Cache::open()?;
    let quiet = arguments.quiet;
    let input = making::model(&source, &arguments.input, &cache, quiet)?;
    // All that is read is known now.
    files.iter().try_for_each(|file| output::spare_inputs(&file.path))?;
    let template = input.template;
    let (input, found) = (input.artifact, input.quantization);
    if !found.is_float() && !arguments.allow_requantize {
        return Err(QuantizeError::AlreadyQuantized { path: input.path, found }.into());
    }
    if let Some(recipe) = &recipe {
        recipe::tell_differences(recipe, &input);
    }
    if let Some(matrix) = &arguments.imatrix {
        recipe::tell_other_model(matrix, &input);
    }
    for file in &files {
        let failed = |source| QuantizeError::Write { path: file.path.clone(), source };
        std::fs::create_dir_all(folder_of(&file.path)).map_err(failed)?;
    }
    let maker = version::maker();
    let mut workshop = Workshop::open(quiet)?;
    let mut told = types::TypeNotes::default();
    for WantedFile { quantization, path } in &files {
        let file_type = to_make(*quantization)?;
        let method = quantization.method;
        let types = recipe.as_ref().zip(arguments.recipe.as_deref());
        let types = types.map(|(recipe, path)| recipe::resolve(recipe, path, &input, method));
        let job = QuantizeJob {
            input: match &template {
                Some(template) => ArtifactRef::input(&input.checksum, template, 0),
                None => input.as_input(),
            },
            output: ArtifactRef::output(path),
            file_type,
            types: types.transpose()?,
            method,
            threads: arguments.threads,
            allow_requantize: arguments.allow_requantize,
            calibration: None,
            generates: template.is_some(),
        };
        let order = Order {
            job: &job,
            plan: calibration.plan_for(method),
            matrix: calibration.matrix.as_deref(),
            maker: &maker,
        };
        let product = Product::open(path, || Ok(cache.clone()))?;
        let task = Task::Quantize(order, &cache);
        let (subject, action) = (quantization.to_string(), format!("make {quantization}"));
        let made = workshop.make(&subject, &action, task, product)?;
        let Some(done) = made else { return Ok(Outcome::Interrupted) };
        if recipe.is_some() {
            done.print(path, &format!("{method}, types of the recipe"), "", "")?;
        } else {
            done.print(path, &subject, "", "")?;
            told.tell(*quantization, path);
        }
    }
    Ok(Outcome::Done)
}

fn to_make(quantization: Quantization) -> Result<FileType, QuantizeError> {
    quantization.to_make().map_err(|NotMade { reason, remedy, .. }| QuantizeError::NotMakeable {
        quantization,
        reason: reason.to_owned(),
        remedy,
    })
}

fn files(
    arguments: &Arguments,
    quantizations: &[Quantization],
    source: &Source,
) -> Result<Vec<WantedFile>, Error> {
    let folder = match (&arguments.output, source) {
        (Some(path), _) if is_folder(path, quantizations) => path.clone(),
        (Some(path), _) if arguments.to.len() > 1 => {
            return Err(QuantizeError::NoFolder { path: path.clone() }.into());
        }
        (None, Source::File(path)) => path.parent().unwrap_or(Path::new("")).to_owned(),
        _ => PathBuf::new(),
    };
    let mut files: Vec<WantedFile> = Vec::new();
    for &quantization in quantizations {
        let path = match &arguments.output {
            Some(path) if !is_folder(path, quantizations) => path.clone(),
            _ => folder.join(result_name(&source.default_name(), quantization)),
        };
        making::check_free(&path, arguments.force)?;
        if !files.iter().any(|file| file.quantization == quantization) {
            files.push(WantedFile { quantization, path });
        }
    }
    Ok(files)
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
