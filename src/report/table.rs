//! The table for the terminal: what a person decides from.

use super::chart;
use super::columns::{Column, DECIDES, INDISPENSABLE, Kind, columns};
use super::findings::findings;
use super::format::{RenderOptions, Report, ReportError};
use super::header::header;
use super::next::{Next, next};
use super::notes::notes;
use super::text::{sanitize, wrap};
use crate::model::architecture::ArchitectureClass;
use crate::results::record::RunRecord;
use crate::results::summary::{Group, ModelSummary, Summary};
use crate::units::format_count;
use crate::workload::measured::ModelFacts;
use comfy_table::{Attribute, Cell, CellAlignment, Color, LineStyle, TableStyle};

/// Nothing but a line under the header: the space between columns is what a narrow terminal lacks.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Each column is followed by its mark and the space that comfy-table puts between columns.
const GAP: usize = 2;

/// Lines of prose longer than this are hard to read.
const WIDEST_PROSE: usize = 100;

pub(super) struct Table;

impl Report for Table {
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, ReportError> {
        let mut lines: Vec<String> = Vec::new();
        for line in header(run) {
            lines.extend(wrap(&line, options.columns, "  "));
        }
        let all = columns(summary, label_columns(options));
        let (shown, left_out) = fit(&all, summary, options.columns);
        if !summary.rows.is_empty() {
            lines.extend(only_group(summary));
            lines.push(String::new());
            lines.extend(grid(summary, &shown, options.color));
        }
        let prose = options.columns.min(WIDEST_PROSE);
        let notes = notes(run, summary, &shown, &left_out, options);
        if !notes.is_empty() {
            lines.push(String::new());
        }
        for note in notes {
            lines.extend(wrap(&note, prose, "    "));
        }
        let findings = findings(run, summary);
        if !findings.is_empty() {
            lines.push(String::new());
        }
        for sentence in findings {
            lines.extend(wrap(&sentence, prose, ""));
        }
        for Next { sentence, commands } in next(run, summary) {
            lines.extend(wrap(&sentence, prose, ""));
            // Whole, so that it can be copied.
            lines.extend(commands.iter().map(|command| format!("$ {command}")));
        }
        for model in &summary.models {
            if let Some(chart) = chart::draw(summary, model, options.columns) {
                lines.push(String::new());
                lines.extend(chart);
            }
        }
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        let text = format!("{}\n", lines.join("\n").trim_end());
        Ok(text.into_bytes())
    }
}

/// How wide names may be.
pub(super) fn label_columns(options: &RenderOptions) -> usize {
    (options.columns / 4).max(12)
}

/// What was left out to fit, and how wide all of it would be.
pub(super) struct LeftOut {
    /// Titles of the columns.
    pub(super) names: Vec<String>,
    /// Columns of a terminal that shows all.
    pub(super) columns_for_all: usize,
}

/// The columns that fit, most important first, in their order. Name, size, and what decides (speed,
/// divergence) stay even where they do not fit.
fn fit(all: &[Column], summary: &Summary, columns: usize) -> (Vec<Column>, LeftOut) {
    let taken = |column: &Column| column.width() + GAP;
    let total = |columns: &mut dyn Iterator<Item = &Column>| {
        // The last column's gap is not shown, but its mark is.
        columns.map(taken).sum::<usize>().saturating_sub(GAP - 1)
    };
    let mut by_importance: Vec<usize> = (0..all.len()).collect();
    by_importance.sort_by_key(|&column| std::cmp::Reverse(all[column].importance(summary)));
    let mut kept: Vec<usize> = Vec::new();
    let mut lacks_one_that_decides = false;
    for column in by_importance {
        let importance = all[column].importance(summary);
        // What decides nothing takes no room where something that decides found none.
        if lacks_one_that_decides && importance < DECIDES {
            continue;
        }
        kept.push(column);
        let too_wide = total(&mut kept.iter().map(|&column| &all[column])) > columns;
        if too_wide && importance < INDISPENSABLE {
            kept.pop();
            lacks_one_that_decides |= importance >= DECIDES;
        }
    }
    kept.sort_unstable();
    let names = (0..all.len()).filter(|column| !kept.contains(column));
    let left_out = LeftOut {
        names: names.map(|column| all[column].name()).collect(),
        columns_for_all: total(&mut all.iter()),
    };
    (kept.into_iter().map(|column| all[column].clone()).collect(), left_out)
}

/// Model and settings, if all trials have the same; else they head their groups.
fn only_group(summary: &Summary) -> Option<String> {
    match summary.models.as_slice() {
        [model] if model.groups.len() == 1 => Some(heading(summary, model, &model.groups[0])),
        _ => None,
    }
}

/// `llama-3.2-1b · settings: t=4 fa=on`; with what the model is where a plain decoder is not the only
/// kind.
pub(super) fn heading(summary: &Summary, model: &ModelSummary, group: &Group) -> String {
    let kind = kind(summary, model).map(|kind| format!(" · {kind}")).unwrap_or_default();
    format!("{}{kind} · settings: {}", sanitize(&model.name), group.settings)
}

/// `encoder-only, 1.42 M parameters`, `mixture of experts (2 of 4), 1.35 M of 2.13 M parameters
/// active`; `None` if all models of the run are decoders that use all of their weights.
fn kind(summary: &Summary, model: &ModelSummary) -> Option<String> {
    let plain = |facts: &ModelFacts| {
        facts.class == ArchitectureClass::DecoderOnly && facts.experts.is_none()
    };
    if summary.models.iter().filter_map(|model| model.facts.as_ref()).all(plain) {
        return None;
    }
    let facts = model.facts.as_ref()?;
    let total = format_count(facts.parameters);
    Some(match (facts.experts, facts.active_parameters) {
        (Some(experts), Some(active)) => format!(
            "mixture of experts ({} of {}), {} of {total} parameters active",
            experts.used,
            experts.total,
            format_count(active)
        ),
        _ => format!("{}, {total} parameters", facts.class),
    })
}

/// The grid itself, with a heading before each group if there are several.
fn grid(summary: &Summary, columns: &[Column], color: bool) -> Vec<String> {
    let groups: Vec<(&ModelSummary, &Group)> = summary
        .models
        .iter()
        .flat_map(|model| model.groups.iter().map(move |group| (model, group)))
        .collect();
    let mut table = comfy_table::Table::new();
    table.load_style(STYLE).force_no_tty();
    if color {
        table.enforce_styling();
    }
    table.set_header(titles(columns));
    for &row in groups.iter().flat_map(|(_, group)| &group.rows) {
        table.add_row(columns.iter().map(|column| cell(column, row, color)));
    }
    for (index, column) in columns.iter().enumerate() {
        if let Some(layout) = table.column_mut(index) {
            layout.set_padding((0, 0));
            let left = matches!(column.kind, Kind::Variant | Kind::Verdict);
            layout.set_cell_alignment(if left {
                CellAlignment::Left
            } else {
                CellAlignment::Right
            });
        }
    }
    let mut lines = table.lines();
    let title_lines = columns.iter().map(|column| column.title.len()).max().unwrap_or(1);
    let mut shown: Vec<String> = lines.by_ref().take(title_lines + 1).collect();
    for (model, group) in &groups {
        if groups.len() > 1 {
            shown.push(heading(summary, model, group));
        }
        shown.extend(lines.by_ref().take(group.rows.len()));
    }
    shown
}

/// Titles stand at the bottom of the header, above their figures.
fn titles(columns: &[Column]) -> Vec<String> {
    let height = columns.iter().map(|column| column.title.len()).max().unwrap_or(1);
    let title = |column: &Column| {
        let mut lines = vec![String::new(); height - column.title.len()];
        // The space is where figures have their mark.
        lines.extend(column.title.iter().map(|line| format!("{line} ")));
        lines.join("\n")
    };
    columns.iter().map(title).collect()
}

fn cell(column: &Column, row: usize, color: bool) -> Cell {
    let content = &column.cells[row];
    let cell = Cell::new(format!("{}{}", content.text, content.mark()));
    match (color, content.unstable, content.best) {
        (true, true, _) => cell.fg(Color::Yellow),
        (true, false, true) => cell.fg(Color::Green).add_attribute(Attribute::Bold),
        _ => cell,
    }
}
