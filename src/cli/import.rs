//! `quantbench import`: a GPTQ or AWQ checkpoint as a GGUF.

use super::bar::Bar;
use super::output::{self, Product};
use super::quantize::QuantizeError;
use super::worker::work;
use crate::error::{Error, Outcome};
use crate::files;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::Cache;
use crate::orchestrator::reason;
use crate::orchestrator::worker_run::Ending;
use crate::quantize::import::CheckpointKind;
use crate::quantize::jobs::ImportJob;
use crate::units::{format_bytes, format_seconds};
use crate::worker::protocol::Job;
use clap::{Args, ValueEnum};
use std::fs;
use std::path::PathBuf;

/// What a checkpoint is, on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// Made by `AutoGPTQ` or `GPTQModel`
    Gptq,
    /// Made by `AutoAWQ`
    Awq,
}

/// Flags of `quantbench import`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What the checkpoint is
    kind: Kind,
    /// The folder with the safetensors files and their configuration
    checkpoint: PathBuf,
    /// A GGUF of the same model: what is not quantized comes from there
    #[arg(long, value_name = "GGUF")]
    base: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
#[error("cannot import {}: {reason}", checkpoint.display())]
pub struct NotImported {
    checkpoint: PathBuf,
    reason: String,
}

/// Has a worker write the file and prints one line about it.
///
/// # Errors
/// The checkpoint, BASE or the place of the file is not right, or the worker failed.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let path = &arguments.output;
    if output::is_there(path) && !arguments.force {
        return Err(QuantizeError::Exists { path: path.clone() }.into());
    }
    // Only the worker reads them.
    let checkpoint = fs::read_dir(&arguments.checkpoint).into_iter().flatten().flatten();
    checkpoint.for_each(|file| files::note_input(&file.path()));
    files::open(&arguments.base).map_err(|error| {
        let reason = format!("BASE {}: {error}", arguments.base.display());
        Error::command(NotImported { checkpoint: arguments.checkpoint.clone(), reason })
    })?;
    let product = Product::open(path, Cache::open)?;
    let job = Job::Import(ImportJob {
        checkpoint: ArtifactRef::here(&arguments.checkpoint),
        kind: match arguments.kind {
            Kind::Gptq => CheckpointKind::Gptq,
            Kind::Awq => CheckpointKind::Awq,
        },
        base: ArtifactRef::here(&arguments.base),
        output: ArtifactRef::output(product.path()),
    });
    let mut bar = Bar::new("import", arguments.quiet);
    let (report, length) = work(&job, &mut bar)?;
    drop(bar);
    match report.ending {
        Ending::Interrupted => Ok(Outcome::Interrupted),
        Ending::Failed(failure) => {
            let reason = reason::of_writing(failure.reason, product.path());
            let checkpoint = arguments.checkpoint.clone();
            Err(Error::command(NotImported { checkpoint, reason }))
        }
        Ending::Done => {
            let bytes = format_bytes(product.finish()?);
            let seconds = format_seconds(length.as_secs_f64());
            let line = format!("{}  {bytes}  {seconds}\n", path.display());
            Product::print_line(path, &line)?;
            Ok(Outcome::Done)
        }
    }
}
