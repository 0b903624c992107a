//! `quantbench trend METRIC`: one figure over stored runs.

use super::output::{self, Destination};
use super::query::Format;
use super::selection::{Selection, store_to_read};
use crate::error::{Error, Outcome};
use crate::report::trend;
use crate::results::trend::Trend;
use crate::units::parse_within;
use clap::Args;
use std::path::PathBuf;

/// Flags of `quantbench trend`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The figure: its name in JSON and CSV, with or without its unit, or as tables title it: tg128, kld, 'TTFT p50'
    #[arg(value_name = "METRIC")]
    pub metric: String,
    /// Only this variant
    #[arg(long, value_name = "LABEL")]
    pub variant: Option<String>,
    /// Which runs.
    #[command(flatten)]
    pub selection: Selection,
    /// How it is shown
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write the result to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Width of the table, at least 40
    #[arg(long, value_name = "COLUMNS", default_value_t = 110, value_parser = parse_within(40_usize..))]
    pub columns: usize,
}

/// Shows how a figure changed from run to run.
///
/// # Errors
/// If no run is meant or none has the figure, the store cannot be read, or the result not be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let store = store_to_read()?;
    let runs = arguments.selection.of(&store, &[])?;
    let destination = Destination::open(arguments.output.as_deref())?;
    let runs = runs.iter().rev().map(|run| store.load(&run.id));
    let trend = Trend::of(&arguments.metric, arguments.variant.as_deref(), runs)?;
    let bytes = match arguments.format {
        Format::Table => trend::text(&trend, arguments.columns).into_bytes(),
        Format::Csv => trend::csv(&trend)?,
        Format::Json => output::json("quantbench.trend", &trend)?.into_bytes(),
    };
    destination.write(&bytes)?;
    Ok(Outcome::Done)
}
