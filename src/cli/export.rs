//! `quantbench export`: stored runs as files for other programs and other machines.

use super::output::Destination;
use super::selection::{Selection, store_to_read};
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::report::long::{Parquet, csv};
use crate::report::{self, RenderOptions};
use crate::results::long::{Table, Value};
use crate::results::record::RunRecord;
use crate::results::store::RunHeader;
use crate::results::summary::Summary;
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
    /// The file to write, whose ending says the format: .json, .jsonl, .parquet, .csv
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// The format, where the ending does not say it
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Which table, of Parquet and CSV
    #[arg(long, value_enum, value_name = "TABLE")]
    pub table: Option<Table>,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One run, whole, as `show --format json`; `merge` reads it
    Json,
    /// Any number of runs, one a line; `merge` reads it
    Jsonl,
    /// A row per figure, for data frames
    Parquet,
    /// The same as text
    Csv,
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

    fn is_of_tables(self) -> bool {
        matches!(self, Self::Parquet | Self::Csv)
    }
}

/// Writes runs.
///
/// # Errors
/// If none is meant, the store cannot be read, or the file not be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let format = arguments.format.map_or_else(|| Format::of(&arguments.output), Ok)?;
    if arguments.table.is_some() && !format.is_of_tables() {
        return Err(Problem::new("--table is of Parquet and CSV: JSON has whole runs").into());
    }
    let table = arguments.table.unwrap_or(Table::Figures);
    let store = store_to_read()?;
    let mut runs = arguments.selection.of(&store, &arguments.runs)?;
    // As they were measured.
    runs.reverse();
    if format == Format::Json && runs.len() > 1 {
        let message = "a .json holds one run, and these are several; a .jsonl holds any number";
        return Err(Problem::new(message).into());
    }
    let destination = Destination::open(Some(&arguments.output))?;
    let runs = runs.iter().map(|header| (header, store.load(&header.id)));
    let bytes = match format {
        Format::Json | Format::Jsonl => documents(format, runs.map(|(_, run)| run))?,
        Format::Parquet => {
            let mut file = Parquet::new(table)?;
            each_row(table, runs, |row| file.add(row))?;
            file.finish()?
        }
        Format::Csv => {
            let mut rows = Vec::new();
            each_row(table, runs, |row| {
                rows.push(row);
                Ok(())
            })?;
            csv(table.columns().iter().map(|column| column.name), &rows)?
        }
    };
    destination.write(&bytes)?;
    Ok(Outcome::Done)
}

fn documents(
    format: Format,
    runs: impl Iterator<Item = Result<RunRecord, Problem>>,
) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    for run in runs {
        bytes.extend(match format {
            Format::Json => report::render(report::Format::Json, &run?, &RenderOptions::default())?,
            _ => report::document_line(&run?)?,
        });
    }
    Ok(bytes)
}

/// Gives every row of a table to `take`.
fn each_row<'a>(
    table: Table,
    runs: impl Iterator<Item = (&'a RunHeader, Result<RunRecord, Problem>)>,
    mut take: impl FnMut(Vec<Value>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    for (header, run) in runs {
        table.rows_of_header(header).into_iter().try_for_each(&mut take)?;
        if table.needs_records() {
            let run = run?;
            let mut outcome = Ok(());
            table.rows(&run, &Summary::of(&run), &mut |row| {
                if outcome.is_ok() {
                    outcome = take(row);
                }
            });
            outcome?;
        }
    }
    Ok(())
}
