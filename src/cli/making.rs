//! What commands that make files share: what they are made from, the worker, and what is said of the result.

use super::output::{self, Product};
use super::session::{Workers, resolve_options};
use crate::error::Error;
use crate::experiment::calibration::{CalibrationChoice, CalibrationPlan};
use crate::experiment::inputs::InputError;
use crate::experiment::parameters::Parameters;
use crate::model::cache::Cache;
use crate::model::resolve::{self, SourceFile};
use crate::model::source::{Source, SourceError};
use crate::orchestrator::display::WorkDisplay;
use crate::orchestrator::maker::{Finished, Maker, NotMade, Task};
use crate::orchestrator::worker_run::Limits;
use crate::units::{format_bytes, format_seconds};
use crate::worker::protocol::Made;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A worker that reports no progress for longer is ended.
const LIMITS: Limits =
    Limits { silence: Duration::from_mins(10), until: None, machine_bytes: None };

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum NoFile {
    /// The model is no source.
    #[error("{argument} {reason}")]
    Source {
        /// The argument's name in the help.
        argument: &'static str,
        /// Why not.
        reason: SourceError,
    },
    /// The model is a shape.
    #[error(
        "{argument} is '{shape}', whose weights are generated: what a text says of them means nothing; name the model itself"
    )]
    Generated {
        /// The argument's name in the help.
        argument: &'static str,
        /// What was written.
        shape: Source,
    },
    /// The model is a folder or gives no single file.
    #[error("'{model}' is no single model; name one GGUF file")]
    NotOne {
        /// What was written.
        model: String,
    },
    /// The text cannot be used.
    #[error("--calibration")]
    Text(#[source] InputError),
    /// The result is there already.
    #[error("{} is there already; use --force to replace it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The worker failed.
    #[error("cannot {action}: {reason}")]
    Failed {
        /// What was to be done.
        action: String,
        /// Why not.
        reason: String,
    },
}

impl From<NoFile> for Error {
    fn from(error: NoFile) -> Self {
        Self::command(error)
    }
}

/// A file that was made.
pub(super) struct Done {
    pub(super) made: Option<Made>,
    bytes: u64,
    seconds: f64,
}

impl Done {
    /// Prints the line about the file, with what is to be said before and after its size, and lines below it.
    pub(super) fn print(
        &self,
        path: &Path,
        before: &str,
        after: &str,
        below: &str,
    ) -> Result<(), Error> {
        let (bytes, seconds) = (format_bytes(self.bytes), format_seconds(self.seconds));
        let name = path.display().to_string();
        let parts = [&name, before, &bytes, after, &seconds];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Product::print_line(path, &format!("{}\n{below}", parts.join("  ")))
    }
}

/// Makes files, one after the other.
pub(super) struct Workshop {
    workers: Workers,
    quiet: bool,
}

impl Workshop {
    pub(super) fn open(quiet: bool) -> Result<Self, Error> {
        Ok(Self { workers: Workers::start()?, quiet })
    }

    /// Has a file made and gives it its name; `action` is what fails if it fails. `None`: the user stopped it.
    pub(super) fn make(
        &mut self,
        subject: &str,
        action: &str,
        task: Task<'_>,
        product: Product,
    ) -> Result<Option<Done>, Error> {
        let Some(Finished { made, seconds }) =
            self.attempt(subject, action, task, product.path())?
        else {
            return Ok(None);
        };
        Ok(Some(Done { made, bytes: product.finish()?, seconds }))
    }

    /// Has files made that the caller gives their names; `output` is named in what is said of a full disk.
    pub(super) fn attempt(
        &mut self,
        subject: &str,
        action: &str,
        task: Task<'_>,
        output: &Path,
    ) -> Result<Option<Finished>, Error> {
        let mut display = WorkDisplay::new(subject, self.quiet);
        let Workers { runtime, host } = &mut self.workers;
        let mut maker = Maker { host, limits: LIMITS, listener: &mut display };
        let keeps = task.is_resumable();
        let made = runtime.block_on(maker.make(task, output));
        drop(display);
        match made {
            Ok(finished) => Ok(Some(finished)),
            Err(NotMade::Interrupted) => {
                let kept = "What is done so far is kept: the same command goes on from there.";
                output::tell(if keeps { kept } else { "Interrupted: no file was written." });
                Ok(None)
            }
            Err(NotMade::Broken(error)) => Err(error.into()),
            Err(NotMade::Failed(failure)) => {
                let (action, reason) = (action.to_owned(), failure.reason);
                Err(NoFile::Failed { action, reason }.into())
            }
        }
    }
}

/// Refuses a file that is there, unless it may be replaced.
pub(super) fn check_free(path: &Path, force: bool) -> Result<(), NoFile> {
    if output::is_there(path) && !force {
        return Err(NoFile::Exists { path: path.to_owned() });
    }
    Ok(())
}

/// The source that an argument names.
pub(super) fn source(argument: &'static str, written: &str) -> Result<Source, NoFile> {
    Source::parse(written, Path::new("")).map_err(|reason| NoFile::Source { argument, reason })
}

/// The source of a model whose weights matter.
pub(super) fn trained(argument: &'static str, written: &str) -> Result<Source, NoFile> {
    match source(argument, written)? {
        shape @ Source::Shape(_) => Err(NoFile::Generated { argument, shape }),
        source => Ok(source),
    }
}

/// Finds or fetches a model of one file.
pub(super) fn model(
    source: &Source,
    written: &str,
    cache: &Cache,
    quiet: bool,
) -> Result<SourceFile, Error> {
    let options = resolve_options(quiet);
    let resolved = resolve::resolve(source, cache, &options)?;
    let source = resolved.source.ok_or_else(|| NoFile::NotOne { model: written.to_owned() })?;
    if let Some(remote) = &source.remote {
        resolve::fetch(remote, &options)?;
    }
    Ok(source)
}

/// The text that a model is evaluated on, and how much of it.
pub(super) fn text(
    source: &Source,
    named: Option<&str>,
    context: u32,
    chunks: Option<u32>,
) -> Result<CalibrationPlan, NoFile> {
    let mut choice = CalibrationChoice::of(Some(context), chunks, Parameters::default());
    if let Some(text) = named {
        choice = choice.on_text(text).map_err(NoFile::Text)?;
    }
    Ok(choice.plan_for(source))
}
