//! Comparisons of runs: as a table for the terminal, as Markdown for a comment, and as JSON.

mod json;
mod markdown;
mod table;
mod words;

use super::RenderOptions;
use crate::causes::Problem;
use crate::results::change::gate::GateResult;
use crate::results::change::{Comparison, Side};

/// How a comparison is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum CompareFormat {
    /// Tables for the terminal
    #[default]
    Table,
    /// Markdown for a pull request or an issue
    Markdown,
    /// One document for programs (docs/schema/compare.json)
    Json,
}

/// A comparison with what was asked of it.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The base.
    pub base: &'a Side,
    /// The new side.
    pub new: &'a Side,
    /// What came of comparing them.
    pub comparison: &'a Comparison,
    /// What came of the gates; empty if none was set.
    pub gates: &'a [GateResult],
}

impl Shown<'_> {
    /// The comparison as bytes.
    ///
    /// # Errors
    /// A value has no form in JSON.
    pub fn render(
        &self,
        format: CompareFormat,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, Problem> {
        Ok(match format {
            CompareFormat::Table => table::render(self, options).into_bytes(),
            CompareFormat::Markdown => markdown::render(self).into_bytes(),
            CompareFormat::Json => json::render(self).map_err(|source| {
                Problem::because("the comparison could not be written as JSON", source)
            })?,
        })
    }

    /// Why the command fails, a line for each gate that tripped.
    pub fn reasons(&self) -> Vec<String> {
        let tripped = self.gates.iter().filter(|result| result.is_tripped());
        tripped.map(|result| format!("failed: {}", words::gate(result))).collect()
    }
}
