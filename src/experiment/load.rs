//! Loading an experiment: read the file, expand it, apply what the command line says.

use super::calibration::CalibrationChoice;
use super::diagnostic::{Diagnostics, Problem};
use super::expand::{Expansion, Origin, expand};
use super::file::ExperimentFile;
use super::overrides::{self, Overrides};
use super::recommend::Order;
use super::resolved::Experiment;
use super::workloads::Workloads;
use super::written::Written;
use crate::model::source::{Source, SourceError};
use crate::units::format_bytes;
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
    /// What the file says is wrong; rendered with file, line, column and the line itself.
    #[error("{0}")]
    Invalid(Diagnostics),
    /// The file is no experiment, or the command line does not fit it.
    #[error("{0}")]
    Refused(String),
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
        Some(file) => {
            let bytes = read(file)?;
            if !is_toml(file, &bytes) {
                let message = format!(
                    "{} is neither a model nor an experiment: give a GGUF, a folder or a name of a model, or a TOML file",
                    file.display()
                );
                return Err(ExperimentError::Refused(message));
            }
            parse_as(&bytes, file, path.is_none(), overrides)
        }
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

/// Whether a path names a model and no experiment: a folder, a place on the hub, or a file by its name or what it begins
/// with.
fn is_model(path: &Path) -> bool {
    // Only of a regular file can a beginning be read without taking it away.
    if !path.is_file() {
        let source = path.to_str().map(|text| Source::parse(text, Path::new("")));
        // What is wrong with the name of a model is told as such.
        return source.is_some_and(|source| match source {
            Ok(source) => !matches!(source, Source::File(_)),
            Err(error) => !matches!(error, SourceError::Missing { .. } | SourceError::Empty),
        });
    }
    let mut magic = [0; 4];
    let begun = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    is_named_as_model(path) || (begun.is_ok() && &magic == b"GGUF")
}

fn is_named_as_model(path: &Path) -> bool {
    let is_one = |end: &str| ["gguf", "onnx"].iter().any(|it| end.eq_ignore_ascii_case(it));
    path.extension().and_then(|end| end.to_str()).is_some_and(is_one)
}

/// Whether a file says by its name or by what is in it that it is TOML: only then is its first mistake worth a word.
fn is_toml(path: &Path, bytes: &[u8]) -> bool {
    let is_named_so = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("toml"));
    is_named_so || std::str::from_utf8(bytes).is_ok_and(|text| DeTable::parse(text).is_ok())
}

fn read(path: &Path) -> Result<Vec<u8>, ExperimentError> {
    if is_named_as_model(path) && !path.exists() {
        return Err(ExperimentError::Refused(format!("there is no model file {}", path.display())));
    }
    let unreadable = |source| ExperimentError::Unreadable { path: path.to_owned(), source };
    let bytes = crate::files::read_at_most(path, MOST_BYTES).map_err(unreadable)?;
    bytes.ok_or_else(|| {
        let (path, most) = (path.display(), format_bytes(MOST_BYTES));
        let message = format!("the experiment file {path} is larger than {most}; name a TOML file");
        ExperimentError::Refused(message)
    })
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
    let mut expansion = Expansion { origin, problems: Vec::new() };
    let file = match ExperimentFile::read(root.get_ref(), &mut expansion.problems) {
        Ok(file) => file,
        Err(problem) => return invalid(vec![problem]),
    };
    let mut calibration = CalibrationChoice::new(&file.calibration, &mut expansion);
    if let Some(source) = &overrides.calibration {
        calibration = calibration
            .on_text(source)
            .map_err(|error| ExperimentError::Refused(format!("--calibration: {error}")))?;
    }
    let mut experiment = expand(&file, &mut expansion);
    let written = Written::of(&file, origin.base, &experiment.models);
    let other_calibration = overrides.calibration.is_some();
    experiment.written = Some(Written { other_calibration, ..written });
    if !expansion.problems.is_empty() {
        return invalid(expansion.problems);
    }
    let list = file.quantizations.as_ref();
    let fallback = overrides::Fallback {
        quantizations: list.map(|list| list.iter().map(|written| written.value).collect()),
        calibration,
        is_default: origin.is_default,
    };
    let mut experiment = overrides::apply(experiment, overrides, &fallback)?;
    if origin.built_in
        && experiment.recommend.is_some()
        && let Some(quality) = &mut experiment.workloads.quality
    {
        // Nobody said how much of the text.
        quality.chunks = None;
    }
    experiment.choose_texts();
    experiment.leave_out_of_shapes().map_err(ExperimentError::Refused)?;
    let compares = experiment.all_workloads().any(Workloads::compare);
    if experiment.recommend.as_ref().is_some_and(|it| it.order == Order::Closest) && !compares {
        let refused = "how far variants are from the reference is not measured here: recommend with --prefer fastest \
                       or --prefer smallest";
        return Err(ExperimentError::Refused(refused.to_owned()));
    }
    Ok(experiment)
}
