//! Loading an experiment: read the file, expand it, apply what the command line says.

use super::calibration::{CalibrationChoice, CalibrationError};
use super::diagnostic::{Diagnostics, Problem};
use super::expand::{Origin, expand};
use super::file::ExperimentFile;
use super::overrides::{self, Overrides};
use super::resolved::Experiment;
use std::io::Read;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// The experiment that runs when there is no other.
const BUILT_IN: &str = include_str!("../../models.toml");

/// What messages call it.
const BUILT_IN_NAME: &str = "<built-in models.toml>";

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "models.toml";

/// Larger files are no experiments.
const MOST_BYTES: u64 = 16 << 20;

/// Why there is no experiment to run.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The file cannot be read.
    #[error("cannot read the experiment file {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A folder is named.
    #[error(
        "{} is a folder; name an experiment file or a GGUF, or measure the models in it with --model {}",
        .path.display(),
        .path.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file is too large to be meant.
    #[error(
        "the experiment file {} is larger than {}; name a TOML file",
        .path.display(),
        crate::units::format_bytes(MOST_BYTES)
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// What the file says is wrong; rendered with file, line, column and the line itself.
    #[error("{0}")]
    Invalid(Diagnostics),
    /// A name on the command line matches nothing.
    #[error(
        "{flag} '{name}' is neither a model nor a quantization of this experiment{}",
        overrides::hint(nearest.as_deref(), known)
    )]
    UnknownName {
        /// The flag.
        flag: &'static str,
        /// What was written.
        name: String,
        /// The nearest name there is.
        nearest: Option<String>,
        /// All names there are.
        known: Vec<String>,
    },
    /// `--model` names neither a model of the experiment nor a source.
    #[error(
        "--model '{name}' is no model of this experiment, and as a source it {reason}{}",
        overrides::hint(nearest.as_deref(), known)
    )]
    UnknownModel {
        /// What was written.
        name: String,
        /// Why it is no source either.
        reason: String,
        /// The nearest model there is.
        nearest: Option<String>,
        /// All models there are.
        known: Vec<String>,
    },
    /// A model is asked for that this build cannot measure.
    #[error("{flag} {name}: {reason}")]
    LeftOut {
        /// The flag.
        flag: &'static str,
        /// The model.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A quantization on the command line cannot be made.
    #[error("--quant {quantization}: {reason}; {remedy}")]
    NotMakeable {
        /// What was written.
        quantization: String,
        /// Why not.
        reason: String,
        /// What would do.
        remedy: String,
    },
    /// A variant that the command line asks for cannot be calibrated.
    #[error("{quantization} of '{model}' is calibrated on a text, and {reason}{}", if matches!(**reason, CalibrationError::NoText) { "; name one with --calibration FILE, or in the experiment: [calibration] with text = \"FILE\"" } else { "" })]
    Calibration {
        /// The variant.
        quantization: String,
        /// The model.
        model: String,
        /// Why not.
        reason: Box<CalibrationError>,
    },
    /// `--calibration` names no text.
    #[error("--calibration: {0}")]
    CalibrationText(Box<CalibrationError>),
    /// A number on the command line is out of range.
    #[error("{flag} {value} must be from {least} to {most}")]
    OutOfRange {
        /// The flag.
        flag: String,
        /// What was written.
        value: u32,
        /// Least.
        least: i64,
        /// Most.
        most: i64,
    },
    /// The command line leaves no variant.
    #[error("--only and --skip leave no variant to measure; there are {}", known.join(", "))]
    NothingLeft {
        /// All names there are.
        known: Vec<String>,
    },
}

/// Loads the experiment in `path` and applies `overrides`. A GGUF in place of a file is an experiment on that
/// model, with the workloads of the one built in. Without a path: `models.toml` in the
/// current folder if it is there, else the experiment built into the program.
///
/// # Errors
/// When the file cannot be read, says something wrong, or the overrides do not fit it.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Experiment, ExperimentError> {
    let default = Path::new(DEFAULT_FILE);
    match path.or_else(|| default.is_file().then_some(default)) {
        Some(path) if is_model(path) => {
            let mut overrides = overrides.clone();
            overrides.models.insert(0, path.display().to_string());
            built_in(&overrides)
        }
        Some(file) => parse_as(&read(file)?, file, path.is_none(), overrides),
        None => built_in(overrides),
    }
}

/// The experiment built into the program.
///
/// # Errors
/// When the overrides do not fit it.
pub fn built_in(overrides: &Overrides) -> Result<Experiment, ExperimentError> {
    let origin = Origin {
        base: Path::new(""),
        fallback_name: "demo",
        built_in: true,
        is_default: true,
        allow_requantize: overrides.allow_requantize,
    };
    interpret(BUILT_IN, Path::new(BUILT_IN_NAME), origin, overrides)
}

/// Reads `bytes` as the content of `path`; relative paths in it start at the folder of `path`.
///
/// # Errors
/// When it says something wrong, or the overrides do not fit it.
pub fn parse(
    bytes: &[u8],
    path: &Path,
    overrides: &Overrides,
) -> Result<Experiment, ExperimentError> {
    parse_as(bytes, path, false, overrides)
}

fn parse_as(
    bytes: &[u8],
    path: &Path,
    is_default: bool,
    overrides: &Overrides,
) -> Result<Experiment, ExperimentError> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let fallback_name = if stem.is_empty() { "experiment" } else { &stem };
    let base = path.parent().unwrap_or_else(|| Path::new(""));
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let start = error.valid_up_to();
        let problem = Problem::new(start..start + 1, "this is no UTF-8 text")
            .help("an experiment is a TOML file");
        // Lossy decoding leaves what stands before the first wrong byte as it is.
        let text = String::from_utf8_lossy(bytes);
        ExperimentError::Invalid(Diagnostics::new(path, &text, vec![problem]))
    })?;
    let allow_requantize = overrides.allow_requantize;
    let origin = Origin { base, fallback_name, built_in: false, is_default, allow_requantize };
    interpret(text, path, origin, overrides)
}

/// Whether a file is a model and no experiment, by its name or what it begins with.
fn is_model(path: &Path) -> bool {
    // Only of a regular file can a beginning be read without taking it away.
    if !path.is_file() {
        return false;
    }
    let mut magic = [0; 4];
    let begun = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    let is_named_so = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("gguf"));
    is_named_so || (begun.is_ok() && &magic == b"GGUF")
}

fn read(path: &Path) -> Result<Vec<u8>, ExperimentError> {
    if path.is_dir() {
        return Err(ExperimentError::Folder { path: path.to_owned() });
    }
    let unreadable = |source| ExperimentError::Unreadable { path: path.to_owned(), source };
    let bytes = crate::files::read_at_most(path, MOST_BYTES).map_err(unreadable)?;
    bytes.ok_or_else(|| ExperimentError::TooLarge { path: path.to_owned() })
}

fn interpret(
    text: &str,
    path: &Path,
    origin: Origin<'_>,
    overrides: &Overrides,
) -> Result<Experiment, ExperimentError> {
    let invalid = |problems| Err(ExperimentError::Invalid(Diagnostics::new(path, text, problems)));
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            return invalid(vec![Problem::new(span, error.message().replace('\n', "; "))]);
        }
    };
    let mut problems = Vec::new();
    let file = match ExperimentFile::read(root.get_ref(), &mut problems) {
        Ok(file) => file,
        Err(problem) => return invalid(vec![problem]),
    };
    let mut calibration = CalibrationChoice::new(&file.calibration, origin.base, &mut problems);
    if let Some(source) = &overrides.calibration {
        calibration = calibration
            .on_text(source)
            .map_err(|error| ExperimentError::CalibrationText(Box::new(error)))?;
    }
    let experiment = expand(&file, &calibration, origin, &mut problems);
    if !problems.is_empty() {
        return invalid(problems);
    }
    let list = file.quantizations.as_ref();
    let fallback = overrides::Fallback {
        quantizations: list.map(|list| list.iter().map(|written| written.value).collect()),
        calibration,
        is_default: origin.is_default,
    };
    let mut experiment = overrides::apply(experiment, overrides, &fallback)?;
    experiment.choose_texts();
    Ok(experiment)
}
