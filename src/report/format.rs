//! The formats, and the one function that shows a run in one of them.

use super::csv::Csv;
use super::json::Json;
use super::jsonl::Jsonl;
use super::llama_bench::LlamaBench;
use super::markdown::Markdown;
use super::table::Table;
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

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A value could not be written as JSON.
    #[error("run '{run}' could not be written as JSON")]
    Json {
        /// The run.
        run: String,
        /// What serde says.
        source: serde_json::Error,
    },
    /// A value could not be written as CSV.
    #[error("run '{run}' could not be written as CSV")]
    Csv {
        /// The run.
        run: String,
        /// What the writer says.
        source: ::csv::Error,
    },
}

/// One output format.
pub(super) trait Report {
    /// Shows a run.
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, ReportError>;
}

/// Shows a run in a format.
///
/// # Errors
/// Only if a value of the record has no form in that format.
pub fn render(
    format: Format,
    run: &RunRecord,
    options: &RenderOptions,
) -> Result<Vec<u8>, ReportError> {
    let report: &dyn Report = match format {
        Format::Table => &Table,
        Format::Markdown => &Markdown,
        Format::Csv => &Csv,
        Format::Json => &Json,
        Format::Jsonl => &Jsonl,
        Format::LlamaBench => &LlamaBench,
    };
    report.render(run, &Summary::of(run), options)
}
