//! Architecture × use case: what a run measured of each class of architecture.
//!
//! `measured` finds a run's figures; this file puts them into tables. Uses `results`; used by
//! `cli::report`.

mod measured;
#[cfg(test)]
mod tests;

use super::header::header;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use measured::{Architecture, Measured, Trait, Use};

/// Why the comparison cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchitecturesError {
    /// The run's experiment is of another version of the program.
    #[error("the experiment of run '{run}' cannot be read: {reason}")]
    Experiment {
        /// The run.
        run: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing was measured of such a variant.
    #[error("no model of run '{run}' was measured in {variant}")]
    NoVariant {
        /// The run.
        run: String,
        /// The label asked for.
        variant: String,
    },
}

/// The comparison in Markdown, of the variant labelled so in every model, or of the references.
///
/// # Errors
/// [`ArchitecturesError`].
pub fn render(run: &RunRecord, variant: Option<&str>) -> Result<String, ArchitecturesError> {
    let summary = Summary::of(run);
    let measured = Measured::of(run, &summary, variant)?;
    // Markdown keeps no space that does not break.
    let mut lines: Vec<String> =
        header(run).iter().map(|line| line.replace('\u{a0}', " ")).collect();
    let which =
        variant.map_or("the references".to_owned(), |label| format!("the {label} variants"));
    lines.push(format!("Figures of {which}; behind a figure the model, if its class has several."));
    let uses = table(Use::ALL.map(|it| (it, it.name())), |architecture, use_case| {
        measured.use_case(architecture, use_case)
    });
    let traits = table(Trait::ALL.map(|it| (it, it.name())), |architecture, characteristic| {
        measured.characteristic(architecture, characteristic)
    });
    for table in [uses, traits].into_iter().filter(|table| !table.is_empty()) {
        lines.push(String::new());
        lines.extend(table);
    }
    Ok(format!("{}\n", lines.join("\n")))
}

/// A table of what was measured: classes and columns of which nothing was are left out.
fn table<T: Copy, const N: usize>(
    columns: [(T, &str); N],
    figure: impl Fn(Architecture, T) -> Option<String>,
) -> Vec<String> {
    let measured = |column: T| Architecture::ALL.iter().any(|&it| figure(it, column).is_some());
    let columns: Vec<(T, &str)> =
        columns.into_iter().filter(|&(column, _)| measured(column)).collect();
    if columns.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = columns.iter().map(|&(_, name)| name).collect();
    let rule = vec!["---"; names.len() + 1].join(" | ");
    let mut lines =
        vec![format!("| architecture | {} |", names.join(" | ")), format!("| {rule} |")];
    for architecture in Architecture::ALL {
        let cells: Vec<Option<String>> =
            columns.iter().map(|&(column, _)| figure(architecture, column)).collect();
        if cells.iter().any(Option::is_some) {
            let cells: Vec<String> = cells.into_iter().map(Option::unwrap_or_default).collect();
            lines.push(format!("| {} | {} |", architecture.name(), cells.join(" | ")));
        }
    }
    lines
}
