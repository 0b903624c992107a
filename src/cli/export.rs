//! `quantbench export`: stored runs as files for other programs and other machines.

use super::output::Destination;
use super::selection::{Selection, store_to_read};
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::report::{self, RenderOptions};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Flags of `quantbench export`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The runs, as `show` takes them; without any, all that the conditions leave
    #[arg(value_name = "RUN")]
    pub runs: Vec<String>,
    /// What else they have to be.
    #[command(flatten)]
    pub selection: Selection,
    /// The file to write, whose ending says the format: .json, .jsonl
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// The format, where the ending does not say it
    #[arg(long, value_enum)]
    pub format: Option<Format>,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One run, whole, as `show --format json`; `merge` reads it
    Json,
    /// Any number of runs, one a line; `merge` reads it
    Jsonl,
}

impl Format {
    fn of(path: &Path) -> Result<Self, Problem> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        Self::from_str(ending, true).map_err(|_| {
            let endings: Vec<String> = Self::value_variants()
                .iter()
                .filter_map(|format| Some(format!(".{}", format.to_possible_value()?.get_name())))
                .collect();
            Problem::new(format!(
                "'{}' does not say the format: end it in one of {}, or name one with --format",
                path.display(),
                endings.join(", ")
            ))
        })
    }
}

/// Writes runs.
///
/// # Errors
/// If none is meant, the store cannot be read, or the file not be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let format = arguments.format.map_or_else(|| Format::of(&arguments.output), Ok)?;
    let store = store_to_read()?;
    let mut runs = arguments.selection.of(&store, &arguments.runs)?;
    // As they were measured.
    runs.reverse();
    if format == Format::Json && runs.len() > 1 {
        return Err(Problem::new(format!(
            "a .json holds one run, and these are {}; a .jsonl holds any number",
            runs.len()
        ))
        .into());
    }
    let destination = Destination::open(Some(&arguments.output))?;
    let mut bytes = Vec::new();
    for run in &runs {
        let run = store.load(&run.id)?;
        let options = RenderOptions::default();
        match format {
            Format::Json => bytes = report::render(report::Format::Json, &run, &options)?,
            Format::Jsonl => bytes.extend(report::document_line(&run)?),
        }
    }
    destination.write(&bytes)?;
    Ok(Outcome::Done)
}
