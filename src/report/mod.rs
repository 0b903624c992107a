//! Reports: one small file per output format behind one trait.
//!
//! A report turns a run's record and its summary into bytes; it measures, stores and prints nothing.
//! `table` and `plot` are what is shown as values: `columns` makes the comparison's table, `terminal` and `markdown` draw
//! any table; `plot` makes the charts of a run, which `canvas` draws with characters and `plot::svg` as SVG. `numbers` says how figures are written, `findings`,
//! `notes`, `limits`, `types`, `tasks`, `requirements` and `recommend` what is said in words. `architectures` is a
//! comparison of its own, `compare/` shows runs beside each other, and `read` reads back what was written. `html` makes
//! pages that hold both; `card` and `scoreboard` are Markdown for others. Uses `results`; used by the command line.

mod answers;
pub mod architectures;
mod budget;
mod canvas;
mod card;
mod columns;
pub mod compare;
mod csv;
mod domains;
mod engines;
mod findings;
mod header;
mod html;
mod json;
mod jsonl;
mod limits;
mod llama_bench;
pub mod long;
mod markdown;
mod next;
mod notes;
mod numbers;
mod plot;
pub mod read;
mod recommend;
mod requirements;
mod scoreboard;
pub(crate) mod table;
mod tasks;
pub(crate) mod terminal;
mod text;
mod times;
pub mod trend;
mod types;
mod why;

#[cfg(test)]
mod tests;

pub use answers::Answers;
pub use card::Card;
pub use domains::Domains;
pub use header::one_line as machine;
pub use llama_bench::BenchFormat;
pub(crate) use next::{server_flags, server_settings};
pub use scoreboard::Scoreboard;
pub use text::{quoted, sanitize};
pub(crate) use text::{shorten, wrap};
pub use times::Times;

use crate::causes::Problem;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for the terminal, with what it says and a chart
    #[default]
    Table,
    /// The same for a Markdown file or an issue
    Markdown,
    /// One line per trial, every figure with its interval
    Csv,
    /// The whole record and its summary as one document (docs/schema/run.json)
    Json,
    /// The same, one line per trial
    Jsonl,
    /// llama-bench's JSONL fields, one line per trial and throughput test
    LlamaBench,
}

impl Renderer for Format {
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, Problem> {
        match self {
            Self::Table => Ok(terminal::render(run, summary, options).into_bytes()),
            Self::Markdown => Ok(markdown::render(run, summary).into_bytes()),
            Self::Csv => csv::render(run, summary).map_err(unwritable(run, "CSV")),
            Self::Json => json::render(run, summary).map_err(unwritable(run, "JSON")),
            Self::Jsonl => jsonl::render(run, summary).map_err(unwritable(run, "JSON")),
            Self::LlamaBench => BenchFormat::Jsonl.render(run, summary, options),
        }
    }
}

/// A run as a document on one line: of these `merge` reads any number from a file.
///
/// # Errors
/// Only if a value of the record has no form in JSON.
pub fn document_line(run: &RunRecord) -> Result<Vec<u8>, Problem> {
    json::line(run, &Summary::of(run)).map_err(unwritable(run, "JSON"))
}

/// What a report may use of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderOptions {
    /// Width that text must fit, in columns.
    pub columns: usize,
    /// Whether ANSI colors may be used.
    pub color: bool,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self { columns: 100, color: false }
    }
}

/// A value of a run's record has no form in the format.
fn unwritable<E: std::error::Error + Send + Sync + 'static>(
    run: &RunRecord,
    format: &'static str,
) -> impl Fn(E) -> Problem {
    move |source| {
        Problem::because(format!("run '{}' could not be written as {format}", run.id), source)
    }
}

/// What shows a run: a format, or a choice of several.
pub trait Renderer {
    /// The run as bytes; `summary` is the run's.
    ///
    /// # Errors
    /// Only if a value of the record has no form in that format.
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, Problem>;
}

/// Shows a run in a format.
///
/// # Errors
/// Only if a value of the record has no form in that format.
pub fn render(
    format: impl Renderer + Copy,
    run: &RunRecord,
    options: &RenderOptions,
) -> Result<Vec<u8>, Problem> {
    format.render(run, &Summary::of(run), options)
}

/// One HTML page with all that runs show, and their data.
///
/// # Errors
/// Only if a value of a record has no form in JSON or CSV.
pub fn page(runs: &[RunRecord]) -> Result<Vec<u8>, Problem> {
    html::page(runs)
}

/// A run in Markdown that others read.
pub fn card(run: &RunRecord, card: Card) -> String {
    card::render(run, &Summary::of(run), card)
}

/// The row of a public scoreboard, with its evidence.
///
/// # Errors
/// The run has nothing that belongs there.
pub fn scoreboard(run: &RunRecord, board: Scoreboard) -> Result<String, Problem> {
    scoreboard::render(run, &Summary::of(run), board)
}

/// A chart as a file of its own.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Short and plain, without the ending of a file.
    pub name: String,
    /// The SVG.
    pub svg: String,
}

/// All charts of a run, each as an SVG that needs nothing else.
///
/// # Errors
/// A chart could not be drawn.
pub fn figures(run: &RunRecord) -> Result<Vec<Figure>, Problem> {
    let chapters = plot::all(run, &Summary::of(run));
    let plots = chapters.into_iter().flat_map(|chapter| chapter.plots);
    let figure = |plot: plot::Plot| {
        let svg = plot::svg::draw(&plot, plot::svg::Use::Alone)?;
        Ok(Figure { name: plot.name, svg })
    };
    plots.map(figure).collect()
}

/// Draws figures as PNG, with the fonts of this machine.
#[cfg(feature = "png")]
pub use plot::png::Fonts;
