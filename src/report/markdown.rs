//! Markdown: the comparison as a table for an issue or a README, with what it says and the chart; and how
//! any table is drawn there.

use super::columns::{ESSENTIAL, comparison};
use super::findings::findings;
use super::header::header;
use super::next::{Next, next};
use super::notes::{caveats, failures, unstable, unstable_throughout};
use super::table::{Align, Cell, Column, Group, Mark, Shows, Table};
use super::terminal::suffix;
use super::text::{sanitize, shorten};
use super::{canvas, plot};
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use crate::units::count;

/// Width of the chart: what GitHub shows of a code block without scrolling.
const CHART_COLUMNS: usize = 90;

/// Names are not cut, within reason.
const NAME_COLUMNS: usize = 60;

pub(super) fn render(run: &RunRecord, summary: &Summary) -> String {
    let mut paragraphs = vec![format!("## {}", escape(&sanitize(&run.name)))];
    paragraphs.push(header(run).iter().map(|line| escape(line)).collect::<Vec<_>>().join("\\\n"));
    let mut table = comparison(summary);
    table.columns.retain(|column| column.importance >= ESSENTIAL);
    for group in &table.groups {
        paragraphs.push(format!("**{}**", escape(&group.heading)));
        paragraphs.push(draw(&table.columns, group).join("\n"));
    }
    paragraphs.extend(legend(&table));
    let notes: Vec<String> = unstable_throughout(&table)
        .into_iter()
        .chain(failures(summary))
        .chain(caveats(run, summary))
        .chain(super::domains::notes(summary))
        .map(|note| format!("- {}", escape(&note)))
        .collect();
    if !notes.is_empty() {
        paragraphs.push(notes.join("\n"));
    }
    paragraphs.extend(findings(run, summary).iter().map(|finding| escape(finding)));
    for Next { sentence, commands } in next(run, summary) {
        paragraphs.push(escape(&sentence));
        // Sanitized paths hold no line ends, so nothing ends the block early.
        paragraphs.push(format!("```sh\n{}\n```", commands.join("\n")));
    }
    for plot in plot::divergence_over_size(run, summary) {
        if let Some(chart) = canvas::draw(&plot, CHART_COLUMNS) {
            let lines: Vec<&str> = chart.iter().map(|line| line.trim_end()).collect();
            // Nothing in a chart can end the block: names hold no line ends any more.
            paragraphs.push(format!("```text\n{}\n```", lines.join("\n")));
        }
    }
    paragraphs.push(environment(run));
    format!("{}\n", paragraphs.join("\n\n"))
}

/// The lines of a table with the rows of a group.
pub(super) fn draw(columns: &[Column], group: &Group) -> Vec<String> {
    let row = |text: &dyn Fn(&Column) -> String| {
        format!("| {} |", columns.iter().map(text).collect::<Vec<_>>().join(" | "))
    };
    let align = |column: &Column| match column.align() {
        Align::Left => ":--".to_owned(),
        Align::Right => "--:".to_owned(),
    };
    let title = |column: &Column| escape(format!("{} {}", column.name(), column.unit).trim_end());
    let mut lines = vec![row(&title), row(&align)];
    lines.extend(group.rows.iter().map(|&at| row(&|it| cell(it, &it.cells[at]))));
    lines
}

fn cell(column: &Column, cell: &Cell) -> String {
    let (mut text, half) = column.words(cell);
    if column.shows == Shows::Name {
        let arrow = if cell.has(Mark::Chosen) { "→ " } else { "" };
        text = format!("{arrow}{}{}", shorten(&text, NAME_COLUMNS), suffix(cell));
    }
    let half = half.map(|half| format!(" ±{half}")).unwrap_or_default();
    let open = if cell.has(Mark::Open) { "?" } else { "" };
    let unstable = if cell.has(Mark::Unstable) { "~" } else { "" };
    let text = format!("{unstable}{}", escape(&format!("{text}{half}{open}")));
    if cell.has(Mark::Best) { format!("**{text}**") } else { text }
}

pub(super) fn legend(table: &Table) -> Option<String> {
    let unstable = format!("~: unstable, {}", unstable());
    let parts = [
        (table.has(Mark::Chosen), "→ best trade-off"),
        (table.has(Mark::Best), "**bold**: best, or level with it within the noise"),
        (table.has_intervals(), "±: 95 % interval (half width)"),
        (table.has(Mark::Unstable), unstable.as_str()),
    ];
    let parts: Vec<&str> = parts.iter().filter(|(occurs, _)| *occurs).map(|(_, it)| *it).collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

fn environment(run: &RunRecord) -> String {
    let environment = run.environment();
    let governor = environment.governor.as_ref().map(|name| format!(", governor {name}"));
    format!(
        "Measured by quantbench {} with {} ({}), {}{}.",
        escape(&sanitize(&environment.quantbench)),
        escape(&sanitize(&environment.engines_in_words())),
        escape(&sanitize(&environment.build)),
        count(environment.logical_cpus, "logical processor"),
        escape(&sanitize(&governor.unwrap_or_default())),
    )
}

/// What would be read as markup stands for itself. Underscores within words, as in `Q4_K_M`, are
/// no markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '|' | '*' | '`' | '<' | '>' | '[' | ']') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
