//! Architecture × use case: what a run measured of each class of architecture.
//!
//! `measured` finds a run's figures; this file puts them into tables. Uses `results`; used by
//! `cli::report`.

mod measured;
#[cfg(test)]
mod tests;

use super::header::header;
use super::markdown;
use super::table::{Align, Column, Group};
use crate::causes::Problem;
use crate::experiment::tasks::UseCase;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use measured::{Architecture, Measured};
use strum::VariantArray as _;

/// What a run tells of a class.
type Describe<'a> = fn(&Measured<'a>, Architecture) -> Option<String>;

/// The comparison in Markdown, of the variant labelled so in every model, or of the references.
///
/// # Errors
/// The run's experiment is of another version, or nothing was measured of such a variant.
pub fn render(run: &RunRecord, variant: Option<&str>) -> Result<String, Problem> {
    let summary = Summary::of(run);
    let measured = Measured::of(run, &summary, variant)?;
    // Markdown keeps no space that does not break.
    let mut lines: Vec<String> =
        header(run).iter().map(|line| line.replace('\u{a0}', " ")).collect();
    let which =
        variant.map_or("the references".to_owned(), |label| format!("the {label} variants"));
    lines.push(format!("Figures of {which}; behind a figure the model, if its class has several."));
    let uses: Vec<(&str, UseCase)> = UseCase::VARIANTS.iter().map(|&it| (it.into(), it)).collect();
    let uses = table(&uses, |class, use_case| measured.use_case(class, use_case));
    let traits: [(&str, Describe<'_>); 3] = [
        ("context length", Measured::context),
        ("inference speed", Measured::speed),
        ("memory usage", Measured::memory),
    ];
    let traits = table(&traits, |class, told| told(&measured, class));
    for table in [uses, traits].into_iter().filter(|table| !table.is_empty()) {
        lines.push(String::new());
        lines.extend(table);
    }
    Ok(format!("{}\n", lines.join("\n")))
}

/// A table of what was measured: classes and columns of which nothing was are left out.
fn table<T: Copy>(
    columns: &[(&str, T)],
    figure: impl Fn(Architecture, T) -> Option<String>,
) -> Vec<String> {
    let is_measured =
        |class: &Architecture| columns.iter().any(|&(_, it)| figure(*class, it).is_some());
    let classes: Vec<Architecture> =
        Architecture::VARIANTS.iter().copied().filter(is_measured).collect();
    let names = classes.iter().map(|class| Some(<&str>::from(class).to_owned())).collect();
    let mut shown = vec![Column::of_words("architecture", Align::Left, names)];
    for &(name, column) in columns {
        let figures: Vec<_> = classes.iter().map(|&class| figure(class, column)).collect();
        if figures.iter().any(Option::is_some) {
            shown.push(Column::of_words(name, Align::Left, figures));
        }
    }
    if shown.len() == 1 {
        return Vec::new();
    }
    markdown::draw(&shown, &Group { heading: String::new(), rows: (0..classes.len()).collect() })
}
