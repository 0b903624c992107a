//! `quantbench calibrate`: the importance matrix of a model, in llama.cpp's format.

use super::making::{self, Workshop};
use super::output::Product;
use crate::error::{Error, Outcome};
use crate::experiment::calibration::CONTEXT;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::Cache;
use crate::orchestrator::maker::Task;
use crate::quantize::importance;
use crate::quantize::jobs::CalibrateJob;
use crate::units::{count, parse_within};
use crate::worker::protocol::{Job, Made};
use clap::Args;
use std::path::PathBuf;

/// Flags of `quantbench calibrate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The model: a GGUF file, hf:// address or 'demo'
    model: String,
    /// The text that runs through the model, or 'demo' [demo, for the model 'demo']
    #[arg(long, value_name = "FILE")]
    calibration: Option<String>,
    /// The file to write; an interrupted calibration goes on from what lies beside it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Tokens of a chunk
    #[arg(short, long, value_name = "N", default_value_t = CONTEXT, value_parser = parse_within(16_u32..=1_048_576))]
    context: u32,
    /// At most this many chunks [all]
    #[arg(long, value_name = "N", value_parser = parse_within(1_u32..))]
    chunks: Option<u32>,
    /// Also for output.weight
    #[arg(long)]
    process_output: bool,
    /// Threads [physical cores]
    #[arg(short, long, value_name = "N", value_parser = parse_within(1_u32..=4096))]
    threads: Option<u32>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Has a worker make the matrix and prints one line about it.
///
/// # Errors
/// The model, the text or the place of the file is not right, or the worker failed.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let Arguments { model, output, context, chunks, .. } = arguments;
    making::check_free(output, arguments.force)?;
    let cache = Cache::open()?;
    let source = making::trained("MODEL", model)?;
    let text = arguments.calibration.as_deref();
    let plan = making::text(&source, text, *context, *chunks)?;
    let quiet = arguments.quiet;
    let file = making::model(&source, model, &cache, quiet)?.artifact;
    let written = |path: &_| importance::files_written(path).into();
    let product = Product::resumable(output, written, &cache)?;
    let job = Job::Calibrate(CalibrateJob {
        model: file.as_input(),
        plan,
        output_weight: arguments.process_output,
        threads: arguments.threads,
        output: ArtifactRef::output(product.path()),
    });
    let action = format!("calibrate '{model}'");
    let made = Workshop::open(quiet)?.make(model, &action, Task::Job(&job), product)?;
    let Some(done) = made else { return Ok(Outcome::Interrupted) };
    let what = match &done.made {
        Some(Made::Importance(made)) => {
            let before = match made.resumed {
                0 => String::new(),
                resumed => format!(", {resumed} of them from before"),
            };
            let (weights, chunks) = (made.weights, made.chunks);
            let (weights, chunks) = (count(weights, "weight"), count(chunks, "chunk"));
            format!("{weights} from {chunks} of {context} tokens{before}")
        }
        _ => String::new(),
    };
    done.print(output, "", &what, "")?;
    Ok(Outcome::Done)
}
