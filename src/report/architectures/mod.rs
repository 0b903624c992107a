//! Architecture × use case: what a run measured of each class of architecture, beside the word that
//! the diagram *Model Architecture Comparison* has for it, and where the two disagree.
//!
//! `seed` is the diagram as data, `measured` finds a run's figures for it; this file puts them into
//! tables. Uses `results`; used by `cli::report`. docs/ARCHITECTURES.md says how words and figures are
//! compared.

mod measured;
mod seed;
#[cfg(test)]
mod tests;

use super::header::header;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use measured::{Entry, Measured};
use seed::{Architecture, Trait, Use};

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

/// From this share of right answers on they count as excellent, in per cent.
const EXCELLENT: f64 = 90.0;
/// From this share of right answers on they count as good, in per cent.
const GOOD: f64 = 60.0;

/// The comparison in Markdown, of the variant labelled so in every model, or of the references.
///
/// # Errors
/// [`ArchitecturesError`].
pub fn render(run: &RunRecord, variant: Option<&str>) -> Result<String, ArchitecturesError> {
    let summary = Summary::of(run);
    let measured = Measured::of(run, &summary, variant)?;
    let mut lines: Vec<String> = header(run).iter().map(|line| plain(line)).collect();
    let which =
        variant.map_or("the references".to_owned(), |label| format!("the {label} variants"));
    lines.push(format!(
        "Figures of {which}; in front the word of the diagram, behind a figure the model if its \
         class has several."
    ));
    lines.push(String::new());
    lines.extend(uses(&measured));
    lines.push(String::new());
    lines.extend(traits(&measured));
    let disagreements = disagreements(&measured);
    if !disagreements.is_empty() {
        lines.push(String::new());
        lines.push("Where measurement and diagram disagree:".to_owned());
        lines.push(String::new());
        lines.extend(disagreements.into_iter().map(|sentence| format!("- {sentence}")));
    }
    Ok(format!("{}\n", lines.join("\n")))
}

/// Markdown keeps no space that does not break.
fn plain(line: &str) -> String {
    line.replace('\u{a0}', " ")
}

fn uses(measured: &Measured<'_>) -> Vec<String> {
    let names: Vec<&str> = Use::ALL.iter().map(|use_case| use_case.name()).collect();
    let mut lines = table_head("architecture", &names);
    for architecture in Architecture::ALL {
        let cells = Use::ALL.map(|use_case| {
            let found = measured.use_case(architecture, use_case).map(|entry| entry.text.clone());
            let writes =
                (architecture, use_case) != (Architecture::EncoderOnly, Use::TextGeneration);
            let found = if writes { found } else { Some("it generates nothing".to_owned()) };
            cell(architecture.word_for(use_case), found)
        });
        lines.push(table_row(architecture.name(), &cells));
    }
    lines
}

fn traits(measured: &Measured<'_>) -> Vec<String> {
    let names: Vec<&str> = Trait::ALL.iter().map(|characteristic| characteristic.name()).collect();
    let mut lines = table_head("architecture", &names);
    for architecture in Architecture::ALL {
        let cells = Trait::ALL.map(|characteristic| {
            let found = measured.characteristic(architecture, characteristic);
            cell(architecture.word_of(characteristic), found)
        });
        lines.push(table_row(architecture.name(), &cells));
    }
    lines
}

/// `Good: 81.5 % acc`; the word alone where nothing was measured, and nothing where neither is.
fn cell(word: Option<&str>, figure: Option<String>) -> String {
    match (word, figure) {
        (Some(word), Some(figure)) => format!("{word}: {figure}"),
        (Some(word), None) => format!("{word}: not measured"),
        (None, Some(figure)) => figure,
        (None, None) => String::new(),
    }
}

fn table_head(first: &str, names: &[&str]) -> Vec<String> {
    let rule = std::iter::repeat_n("---", names.len() + 1).collect::<Vec<_>>().join(" | ");
    vec![format!("| {first} | {} |", names.join(" | ")), format!("| {rule} |")]
}

fn table_row(first: &str, cells: &[String]) -> String {
    format!("| {first} | {} |", cells.join(" | "))
}

/// The word that a share of right answers deserves.
fn word_of_share(percent: f64) -> &'static str {
    if percent >= EXCELLENT {
        "Excellent"
    } else if percent >= GOOD {
        "Good"
    } else {
        "Limited"
    }
}

fn disagreements(measured: &Measured<'_>) -> Vec<String> {
    let mut sentences = Vec::new();
    for architecture in Architecture::ALL {
        for use_case in Use::ALL {
            let said = architecture.word_for(use_case);
            let Some(Entry { percent: Some(percent), text, .. }) =
                measured.use_case(architecture, use_case)
            else {
                continue;
            };
            let found = word_of_share(*percent);
            if let Some(said) = said.filter(|said| *said != found && *said != "Enables") {
                sentences.push(format!(
                    "{}, {}: the diagram says {said}; {text} is {}.",
                    architecture.name(),
                    use_case.name(),
                    found.to_lowercase()
                ));
            } else if said.is_none() && *percent >= GOOD {
                sentences.push(format!(
                    "{}, {}: the diagram draws no arrow; {text} is {}.",
                    architecture.name(),
                    use_case.name(),
                    found.to_lowercase()
                ));
            }
        }
    }
    sentences.extend(measured.comparisons());
    sentences
}
