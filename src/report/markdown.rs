//! Markdown: the comparison as a table for an issue or a README, with what it says and the chart.

use super::chart;
use super::columns::{Column, Kind, columns};
use super::findings::findings;
use super::format::{RenderOptions, Report, ReportError};
use super::header::header;
use super::next::{Next, next};
use super::notes::{caveats, failures};
use super::table::heading;
use super::text::{count, sanitize};
use crate::results::record::RunRecord;
use crate::results::summary::{Group, Summary};

/// Width of the chart: what GitHub shows of a code block without scrolling.
const CHART_COLUMNS: usize = 90;

/// Names are not cut, within reason.
const LABEL_COLUMNS: usize = 60;

pub(super) struct Markdown;

impl Report for Markdown {
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        _: &RenderOptions,
    ) -> Result<Vec<u8>, ReportError> {
        let mut paragraphs = vec![format!("## {}", escape(&sanitize(&run.name)))];
        paragraphs
            .push(header(run).iter().map(|line| escape(line)).collect::<Vec<_>>().join("\\\n"));
        let mut columns = columns(summary, LABEL_COLUMNS);
        columns.retain(|column| column.is_essential(summary));
        for model in &summary.models {
            for group in &model.groups {
                paragraphs.push(format!("**{}**", escape(&heading(summary, model, group))));
                paragraphs.push(table(&columns, group));
            }
        }
        paragraphs.extend(legend(&columns));
        let notes: Vec<String> = failures(summary)
            .into_iter()
            .chain(caveats(run, summary))
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
        for model in &summary.models {
            if let Some(chart) = chart::draw(summary, model, CHART_COLUMNS) {
                let lines: Vec<&str> = chart.iter().map(|line| line.trim_end()).collect();
                // Nothing in a chart can end the block: names hold no line ends any more.
                paragraphs.push(format!("```text\n{}\n```", lines.join("\n")));
            }
        }
        paragraphs.push(environment(run));
        Ok(format!("{}\n", paragraphs.join("\n\n")).into_bytes())
    }
}

fn table(columns: &[Column], group: &Group) -> String {
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut lines = vec![
        row(columns
            .iter()
            .map(|column| escape(&column.title.join(" ").replace("/ ", "/")))
            .collect()),
        row(columns.iter().map(|column| alignment(column).to_owned()).collect()),
    ];
    for &position in &group.rows {
        lines.push(row(columns
            .iter()
            .map(|column| {
                let cell = &column.cells[position];
                let text = cell.text.split_whitespace().collect::<Vec<_>>().join(" ");
                let text = escape(&text);
                let text = if cell.unstable { format!("~{text}") } else { text };
                if cell.best { format!("**{text}**") } else { text }
            })
            .collect()));
    }
    lines.join("\n")
}

fn alignment(column: &Column) -> &'static str {
    match column.kind {
        Kind::Variant | Kind::Verdict => ":--",
        Kind::Figure(_) | Kind::Ratio(_) => "--:",
    }
}

fn legend(columns: &[Column]) -> Option<String> {
    let cells = || columns.iter().flat_map(|column| &column.cells);
    let mut parts = Vec::new();
    if cells().any(|cell| cell.text.starts_with('→')) {
        parts.push("→ best trade-off");
    }
    if cells().any(|cell| cell.best) {
        parts.push("**bold**: best, or level with it within the noise");
    }
    if cells().any(|cell| cell.text.contains('±')) {
        parts.push("±: 95 % interval (half width)");
    }
    if cells().any(|cell| cell.unstable) {
        parts.push("~: unstable, more than ±5 % (KLD: ±10 %)");
    }
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
        count(usize::try_from(environment.logical_cpus).unwrap_or(0), "logical processor"),
        escape(&sanitize(&governor.unwrap_or_default())),
    )
}

/// What would be read as markup stands for itself. Underscores within words, as in `Q4_K_M`, are
/// no markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '|' | '*' | '`' | '<' | '>' | '[' | ']') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
