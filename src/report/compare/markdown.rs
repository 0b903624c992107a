//! A comparison in Markdown: what changed in sight, all the rest behind a click.

use super::{Shown, table, words};
use crate::report::markdown::{draw, escape};
use crate::report::table::Align::Left;
use crate::report::table::Table;
use crate::report::text::sanitize;
use crate::results::change::Verdict;

pub(super) fn render(shown: &Shown<'_>) -> String {
    let comparison = shown.comparison;
    let tripped = shown.gates.iter().filter(|result| result.is_tripped()).count();
    let mut paragraphs = vec![match (shown.gates.len(), tripped) {
        (0, _) => "## quantbench: what changed".to_owned(),
        (_, 0) => "## quantbench: gates held".to_owned(),
        _ => "## quantbench: gates failed".to_owned(),
    }];
    paragraphs.push(format!(
        "base: {}\\\nnew: {}",
        escape(&words::side(shown.base)),
        escape(&words::side(shown.new))
    ));
    if !shown.gates.is_empty() {
        let gates = shown.gates.iter().map(|result| {
            let outcome = if result.is_tripped() { "**failed**" } else { "held" };
            format!("- {outcome}: {}", escape(&words::gate(result)))
        });
        paragraphs.push(gates.collect::<Vec<_>>().join("\n"));
    }
    let differences = words::differences(comparison).into_iter();
    let rows = differences.map(|it| [it.what.to_owned(), it.base, it.new, it.meaning.to_owned()]);
    let titles = [("what differs", Left), ("base", Left), ("new", Left), ("what that means", Left)];
    let differences = Table::of_words(titles, rows);
    if differences.cells().next().is_some() {
        paragraphs.extend(drawn(&differences));
    } else {
        paragraphs.push("Nothing else differs that is known of.".to_owned());
    }
    paragraphs.extend(words::alike(comparison).map(|it| escape(&it)));
    paragraphs.push(escape(&words::outcome(comparison).join(" ")));
    let changed: Vec<_> = comparison
        .figures()
        .filter(|(_, figure)| matches!(figure.verdict, Verdict::Better | Verdict::Worse))
        .map(|(pair, figure)| {
            let [label, unit, base, new, change, interval, verdict] = table::row(figure);
            [sanitize(&pair.name()), label, unit, base, new, change, interval, verdict]
        })
        .collect();
    if !changed.is_empty() {
        let [figure, unit, base, new, change, interval, verdict] = table::TITLES;
        let titles = [("trial", Left), figure, unit, base, new, change, interval, verdict];
        paragraphs.extend(drawn(&Table::of_words(titles, changed)));
    }
    let mut details: Vec<String> = words::form(comparison).iter().map(|it| escape(it)).collect();
    details.extend(drawn(&table::figures(shown)));
    let answers = table::answers(shown);
    let have_changed = comparison.pairs.iter().flat_map(|it| &it.answers).any(|it| it.changed > 0);
    if have_changed { &mut paragraphs } else { &mut details }.extend(drawn(&answers));
    let left_out = words::left_out(comparison);
    if !left_out.is_empty() {
        let notes = left_out.iter().map(|note| format!("- {}", escape(note)));
        details.push(notes.collect::<Vec<_>>().join("\n"));
    }
    details.extend(words::advice(shown).map(|it| escape(&it)));
    paragraphs.push("<details><summary>All figures</summary>".to_owned());
    paragraphs.extend(details);
    paragraphs.push("</details>".to_owned());
    format!("{}\n", paragraphs.join("\n\n"))
}

/// Every group of a table under its heading.
fn drawn(table: &Table) -> Vec<String> {
    let mut paragraphs = Vec::new();
    for group in &table.groups {
        if !group.heading.is_empty() {
            paragraphs.push(format!("**{}**", escape(&group.heading)));
        }
        paragraphs.push(draw(&table.columns, group).join("\n"));
    }
    paragraphs
}
