//! The table for the terminal: what a person decides from; and how any table is drawn there.

use super::columns::{DECIDES, INDISPENSABLE, comparison};
use super::findings::{findings, fronts};
use super::header::header;
use super::next::{Next, next};
use super::notes::notes;
use super::table::{Align, Cell, Column, Content, Mark, Shows, Table};
use super::text::{shorten, width, wrap};
use super::{RenderOptions, canvas, plot, recommend};
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use comfy_table::{
    Attribute, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, TableStyle,
};

/// Behind each column is the mark of its cell, then the space that comfy-table puts between columns.
const GAP: usize = 2;

/// Nothing but a line under the header: the space between columns is what a narrow terminal lacks.
const UNDERLINED: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Lines of prose longer than this are hard to read.
const WIDEST_PROSE: usize = 100;

pub(super) fn render(run: &RunRecord, summary: &Summary, options: &RenderOptions) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in header(run) {
        lines.extend(wrap(&line, options.columns, "  "));
    }
    let prose = options.columns.min(WIDEST_PROSE);
    if let Some(found) = &summary.recommendation {
        lines.push(String::new());
        for sentence in recommend::verdict(run, summary, found) {
            lines.extend(wrap(&sentence, prose, ""));
        }
        lines.push(String::new());
        for line in recommend::proofs(run, summary, found) {
            lines.extend(wrap(&line, prose, "    "));
        }
        lines.push(String::new());
    }
    let look =
        Look { color: options.color, name_columns: Some(name_columns(options)), ..Look::default() };
    let (table, left_out) = fit(comparison(summary), &look, options.columns);
    if !summary.rows.is_empty() {
        // Model and settings, if all trials have the same; else they head their groups.
        if let [only] = table.groups.as_slice() {
            lines.push(only.heading.clone());
        }
        lines.push(String::new());
        lines.extend(draw(&table, &look));
    }
    let notes = notes(run, summary, &table, &left_out, options);
    if !notes.is_empty() {
        lines.push(String::new());
    }
    for note in notes {
        lines.extend(wrap(&note, prose, "    "));
    }
    // What is recommended was said above.
    let is_recommended = summary.recommendation.is_some();
    let findings = if is_recommended { fronts(summary) } else { findings(run, summary) };
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
    for plot in plot::divergence_over_size(run, summary) {
        if let Some(chart) = canvas::draw(&plot, options.columns) {
            lines.push(String::new());
            lines.extend(chart);
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    format!("{}\n", lines.join("\n").trim_end())
}

/// How wide names may be.
pub(super) fn name_columns(options: &RenderOptions) -> usize {
    (options.columns / 4).max(12)
}

/// What was left out to fit, and how wide all of it would be.
pub(crate) struct LeftOut {
    /// Titles of the columns.
    pub(crate) names: Vec<String>,
    /// Columns of a terminal that shows all.
    pub(crate) columns_for_all: usize,
}

/// The columns that fit, most important first, in their order. Name, size, and what decides (speed,
/// divergence) stay even where they do not fit.
pub(crate) fn fit(table: Table, look: &Look, columns: usize) -> (Table, LeftOut) {
    let widths: Vec<usize> =
        table.columns.iter().map(|column| Drawn::of(column, look).width + GAP).collect();
    // The last column's gap is not shown, but its mark is.
    let total = |kept: &[usize]| {
        kept.iter().map(|&column| widths[column]).sum::<usize>().saturating_sub(GAP - 1)
    };
    let all: Vec<usize> = (0..widths.len()).collect();
    let mut by_importance = all.clone();
    by_importance.sort_by_key(|&column| std::cmp::Reverse(table.columns[column].importance));
    let mut kept: Vec<usize> = Vec::new();
    let mut lacks_one_that_decides = false;
    for column in by_importance {
        let importance = table.columns[column].importance;
        // What decides nothing takes no room where something that decides found none.
        if lacks_one_that_decides && importance < DECIDES {
            continue;
        }
        kept.push(column);
        if total(&kept) > columns && importance < INDISPENSABLE {
            kept.pop();
            lacks_one_that_decides |= importance >= DECIDES;
        }
    }
    let columns_for_all = total(&all);
    let (shown, out): (Vec<_>, Vec<_>) =
        table.columns.into_iter().enumerate().partition(|(column, _)| kept.contains(column));
    let names = out.iter().map(|(_, column)| column.name()).collect();
    let columns = shown.into_iter().map(|(_, column)| column).collect();
    (Table { columns, groups: table.groups }, LeftOut { names, columns_for_all })
}

/// How a table is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    pub(crate) color: bool,
    /// Columns that the last column's text is wrapped to fit.
    pub(crate) columns: Option<usize>,
    /// Columns that names are cut to.
    pub(crate) name_columns: Option<usize>,
}

/// A column as text.
struct Drawn<'a> {
    column: &'a Column,
    width: usize,
    title: Vec<String>,
    cells: Vec<String>,
}

impl<'a> Drawn<'a> {
    fn of(column: &'a Column, look: &Look) -> Self {
        let mut title = column.title.clone();
        title.extend(Some(column.unit.to_owned()).filter(|unit| !unit.is_empty()));
        let words: Vec<_> = column.cells.iter().map(|cell| column.words(cell)).collect();
        let halves = || words.iter().filter_map(|(_, half)| half.as_ref());
        let half_width = halves().map(|half| width(half) + 1).max().unwrap_or(0);
        let is_figure = |cell: &Cell| matches!(cell.content, Content::Figure(_));
        let values = column.cells.iter().zip(&words).filter(|(cell, _)| is_figure(cell));
        let value_width = values.map(|(_, (value, _))| width(value)).max().unwrap_or(0);
        let has_choice = column.cells.iter().any(|cell| cell.has(Mark::Chosen));
        let cells = column.cells.iter().zip(words).map(|(cell, (text, half))| match half {
            _ if column.shows == Shows::Name => name(cell, &text, has_choice, look),
            _ if cell.has(Mark::Open) => format!("{text}?"),
            // Points and signs stand below each other.
            half if half_width > 0 && is_figure(cell) => {
                let half = half.map(|half| format!("±{half}")).unwrap_or_default();
                format!("{text:>value_width$} {half:>half_width$}")
            }
            _ => text,
        });
        let cells: Vec<String> = cells.collect();
        let lines = title.iter().chain(&cells).flat_map(|text| text.lines());
        Self { column, width: lines.map(width).max().unwrap_or(0), title, cells }
    }

    /// A cell with its mark behind the text: one column wide, a space if there is nothing to mark.
    fn cell(&self, row: usize, color: bool) -> comfy_table::Cell {
        let cell = &self.column.cells[row];
        let (unstable, best) = (cell.has(Mark::Unstable), cell.has(Mark::Best));
        let mark = match (unstable, best) {
            (true, _) => '~',
            (false, true) => '*',
            (false, false) => ' ',
        };
        let drawn = comfy_table::Cell::new(format!("{}{mark}", self.cells[row]));
        match (color, unstable, best) {
            (true, true, _) => drawn.fg(Color::Yellow),
            (true, false, true) => drawn.fg(Color::Green).add_attribute(Attribute::Bold),
            _ => drawn,
        }
    }
}

/// The best trade-off with an arrow, the reference as such, failed trials with the number of their note.
fn name(cell: &Cell, text: &str, has_choice: bool, look: &Look) -> String {
    let arrow = match (has_choice, cell.has(Mark::Chosen)) {
        (true, true) => "→ ",
        (true, false) => "  ",
        (false, _) => "",
    };
    let text = look.name_columns.map_or_else(|| text.to_owned(), |columns| shorten(text, columns));
    format!("{arrow}{text}{}", suffix(cell))
}

/// What stands behind the name of a trial.
pub(super) fn suffix(cell: &Cell) -> String {
    let marks = cell.marks.iter().map(|mark| match mark {
        Mark::Reference => " ref".to_owned(),
        Mark::Failed(number) => format!(" [{number}]"),
        _ => String::new(),
    });
    marks.collect()
}

/// The lines of a table: a header if there are titles, then the rows, with headings before the groups
/// if there are several.
pub(crate) fn draw(table: &Table, look: &Look) -> Vec<String> {
    let columns: Vec<Drawn<'_>> =
        table.columns.iter().map(|column| Drawn::of(column, look)).collect();
    let mut grid = comfy_table::Table::new();
    grid.load_style(UNDERLINED).force_no_tty();
    if look.color {
        grid.enforce_styling();
    }
    let height = columns.iter().map(|column| column.title.len()).max().unwrap_or(0);
    if height > 0 {
        // Titles stand at the bottom of the header, above their figures; the space is the mark's.
        grid.set_header(columns.iter().map(|column| {
            let empty = vec![String::new(); height - column.title.len()];
            let title = column.title.iter().map(|line| format!("{line} "));
            empty.into_iter().chain(title).collect::<Vec<_>>().join("\n")
        }));
    }
    for &row in table.groups.iter().flat_map(|group| &group.rows) {
        grid.add_row(columns.iter().map(|column| column.cell(row, look.color)));
    }
    if let Some(limit) = look.columns {
        let limit = u16::try_from(limit + 1).unwrap_or(u16::MAX);
        grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(limit);
    }
    let last = columns.len().saturating_sub(1);
    for (index, column) in columns.iter().enumerate() {
        let Some(layout) = grid.column_mut(index) else { continue };
        // Text that is wrapped loses the space that stands for its mark.
        let wrapped = u16::from(look.columns.is_some() && index == last);
        layout.set_padding((0, wrapped)).set_cell_alignment(match column.column.align() {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
        if look.columns.is_some() && index < last {
            layout.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let mut drawn = grid.lines().map(|line| line.trim_end().to_owned());
    let header = if height == 0 { 0 } else { height + 1 };
    let mut lines: Vec<String> = drawn.by_ref().take(header).collect();
    if let [_, _, ..] = table.groups.as_slice() {
        for group in &table.groups {
            lines.push(group.heading.clone());
            lines.extend(drawn.by_ref().take(group.rows.len()));
        }
    }
    lines.extend(drawn);
    lines
}

/// The lines of a table as one text.
pub(crate) fn text(table: &Table, look: &Look) -> String {
    draw(table, look).iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}
