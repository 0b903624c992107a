//! `quantbench calibrate`: the importance matrix of a model, in llama.cpp's format.

use super::bar::Bar;
use super::fetching::resolve_options;
use super::output::{self, Product};
use super::quantize::QuantizeError;
use super::worker::work;
use crate::causes;
use crate::error::{Error, Outcome};
use crate::experiment::inputs::{self, InputError};
use crate::files::Place;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{Cache, CacheError, Scratch};
use crate::model::resolve;
use crate::model::source::{Source, SourceError};
use crate::orchestrator::display::Verbosity;
use crate::orchestrator::reason;
use crate::orchestrator::worker_run::{Calibrated, Ending};
use crate::quantize::importance;
use crate::quantize::jobs::CalibrateJob;
use crate::units::{format_bytes, format_seconds};
use crate::worker::protocol::Job;
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

/// Tokens of a chunk, as llama-imatrix has it.
const CONTEXT: u32 = 512;

/// Flags of `quantbench calibrate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The model: a GGUF file, hf:// address or 'demo'
    model: String,
    /// The text that runs through the model, or 'demo' [demo, for the model 'demo']
    #[arg(long, alias = "text", value_name = "FILE")]
    calibration: Option<String>,
    /// The file to write; an interrupted calibration goes on from what lies beside it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Tokens of a chunk
    #[arg(short, long, value_name = "N", default_value_t = CONTEXT, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    context: u32,
    /// At most this many chunks [all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// Also for output.weight
    #[arg(long)]
    process_output: bool,
    /// Threads [physical cores]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Why there is no importance matrix.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The model is no source.
    #[error("MODEL {0}")]
    Source(SourceError),
    /// The model is a folder or gives no single file.
    #[error("'{model}' is no single model; name one GGUF file")]
    NoFile {
        /// What was written.
        model: String,
    },
    /// Only the demo model has a text of its own.
    #[error(
        "which text to calibrate '{model}' on is not said; name one with --calibration FILE (--calibration demo is the demo model's own)"
    )]
    NoText {
        /// What was written.
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
    /// The cache, which sources are fetched into.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The worker failed.
    #[error("cannot calibrate '{model}': {reason}")]
    Failed {
        /// What was written.
        model: String,
        /// Why.
        reason: String,
    },
}

impl From<InputError> for CalibrateError {
    fn from(error: InputError) -> Self {
        Self::Text { reason: causes::in_words(&error) }
    }
}

impl From<SourceError> for CalibrateError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<CalibrateError> for Error {
    fn from(error: CalibrateError) -> Self {
        Self::command(error)
    }
}

/// Has a worker make the matrix and prints one line about it.
///
/// # Errors
/// The model, the text or the place of the file is not right, or the worker failed.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    if output::is_there(&arguments.output) && !arguments.force {
        return Err(QuantizeError::Exists { path: arguments.output.clone() }.into());
    }
    let cache = Cache::open()?;
    let (job, _text) = prepare(arguments, &cache)?;
    let (output, product) = place(arguments, &cache)?;
    let job = CalibrateJob { output: ArtifactRef::output(&output), ..job };
    let mut bar = Bar::new("calibrate", arguments.quiet);
    let (report, length) = work(&Job::Calibrate(job), &mut bar)?;
    drop(bar);
    match report.ending {
        Ending::Interrupted => Ok(Outcome::Interrupted),
        Ending::Failed(failure) => {
            let reason = reason::of_writing(failure.reason, &output);
            Err(CalibrateError::Failed { model: arguments.model.clone(), reason }.into())
        }
        Ending::Done => {
            let seconds = length.as_secs_f64();
            let bytes = match product {
                Some(product) => product.finish()?,
                None => fs::metadata(&arguments.output).map_or(0, |metadata| metadata.len()),
            };
            let line = line(arguments, bytes, report.calibrated, seconds);
            Product::print_line(&arguments.output, &line)?;
            Ok(Outcome::Done)
        }
    }
}

/// Where the worker writes: to the name itself, beside which it keeps what it has done so far, or to a
/// product that is copied.
fn place(arguments: &Arguments, cache: &Cache) -> Result<(PathBuf, Option<Product>), Error> {
    let path = &arguments.output;
    let failed = |source| Error::Output { path: Some(path.clone()), source };
    let Place::File(target) = Place::of(path).map_err(failed)? else {
        let product = Product::open(path, || Ok(cache.clone()))?;
        return Ok((product.path().to_owned(), Some(product)));
    };
    for written in importance::files_written(&target) {
        output::spare_inputs(&written)?;
    }
    Ok((std::path::absolute(&target).unwrap_or(target), None))
}

fn line(arguments: &Arguments, bytes: u64, calibrated: Option<Calibrated>, seconds: f64) -> String {
    let path = &arguments.output;
    let bytes = format_bytes(bytes);
    let made = calibrated.map_or_else(String::new, |made| {
        let before = match made.resumed {
            0 => String::new(),
            resumed => format!(", {resumed} of them from before"),
        };
        let (chunks, context) = (made.chunks, arguments.context);
        format!("  {} weights from {chunks} chunks of {context} tokens{before}", made.weights)
    });
    format!("{}  {bytes}{made}  {}\n", path.display(), format_seconds(seconds))
}

/// Checks everything that can be checked before a worker starts. The text lives as long as the second
/// value.
fn prepare(arguments: &Arguments, cache: &Cache) -> Result<(CalibrateJob, Scratch), Error> {
    let source = Source::parse(&arguments.model, Path::new("")).map_err(CalibrateError::from)?;
    let named = arguments.calibration.as_deref();
    let demo = (source == Source::Demo).then_some(inputs::DEMO);
    let dataset = named
        .or(demo)
        .ok_or_else(|| Error::from(CalibrateError::NoText { model: arguments.model.clone() }))?;
    let text = inputs::calibration_text(dataset, Path::new("")).map_err(CalibrateError::from)?;
    let verbosity = if arguments.quiet { Verbosity::Quiet } else { Verbosity::Live };
    let resolved = resolve::resolve(&source, cache, &resolve_options(verbosity))?;
    let Some(file) = resolved.source else {
        return Err(CalibrateError::NoFile { model: arguments.model.clone() }.into());
    };
    let scratch = cache.scratch("calibration-text")?;
    fs::write(scratch.path(), &text)
        .map_err(|source| CalibrateError::Write { path: scratch.path().to_owned(), source })?;
    let job = CalibrateJob {
        model: file.artifact.as_input(),
        text: ArtifactRef::text(text.as_bytes(), scratch.path()),
        dataset: dataset.to_owned(),
        context: arguments.context,
        chunks: arguments.chunks,
        output_weight: arguments.process_output,
        threads: arguments.threads,
        output: ArtifactRef::output(&arguments.output),
    };
    Ok((job, scratch))
}
