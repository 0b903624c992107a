//! `quantbench import`: a GPTQ or AWQ checkpoint as a GGUF.

use super::making::{self, NoFile, Workshop};
use super::output::Product;
use crate::error::{Error, Outcome};
use crate::files;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::Cache;
use crate::orchestrator::maker::Task;
use crate::quantize::import::CheckpointKind;
use crate::quantize::jobs::ImportJob;
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

/// Has a worker write the file and prints one line about it.
///
/// # Errors
/// The checkpoint, BASE or the place of the file is not right, or the worker failed.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let Arguments { checkpoint, base, output, .. } = arguments;
    making::check_free(output, arguments.force)?;
    // Only the worker reads them.
    let files = fs::read_dir(checkpoint).into_iter().flatten().flatten();
    files.for_each(|file| files::note_input(&file.path()));
    let action = format!("import {}", checkpoint.display());
    files::open(base).map_err(|error| NoFile::Failed {
        action: action.clone(),
        reason: format!("BASE {}: {error}", base.display()),
    })?;
    let product = Product::open(output, Cache::open)?;
    let job = Job::Import(ImportJob {
        checkpoint: ArtifactRef::here(checkpoint),
        kind: match arguments.kind {
            Kind::Gptq => CheckpointKind::Gptq,
            Kind::Awq => CheckpointKind::Awq,
        },
        base: ArtifactRef::here(base),
        output: ArtifactRef::output(product.path()),
    });
    let mut workshop = Workshop::open(arguments.quiet)?;
    let made =
        workshop.make(&checkpoint.display().to_string(), &action, Task::Job(&job), product)?;
    let Some(done) = made else { return Ok(Outcome::Interrupted) };
    done.print(output, "", "", "")?;
    Ok(Outcome::Done)
}
