//! Lists that fit the terminal: whole where there is none, or a wide one.

use crate::report::table::{Content, Table};
use crate::report::terminal::{self, Look};
use crate::report::{shorten, wrap};

/// Columns of the terminal; `None`: standard output is none.
pub(super) fn terminal_width() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| columns.into())
}

/// A column of names that may be shortened, and to how few columns.
pub(super) struct Names {
    pub(super) column: usize,
    pub(super) least: usize,
}

/// The table within `width` columns. Of those with the lowest importance some are left out, and names shortened; a last
/// line says so.
pub(super) fn text<const N: usize>(
    mut table: Table,
    importance: [u32; N],
    names: &Names,
    width: Option<usize>,
) -> String {
    for (column, importance) in table.columns.iter_mut().zip(importance) {
        column.importance = importance;
    }
    let look = Look::default();
    let whole_width = terminal::fit(table.clone(), &look, usize::MAX).1.columns_for_all;
    let Some(width) = width.filter(|width| *width < whole_width) else {
        return terminal::text(&table, &look);
    };
    let title = table.columns[names.column].title.clone();
    let full = table.columns[names.column].clone();
    // On a narrow terminal something else is to be seen, too.
    let least = names.least.min(width * 7 / 10);
    cut(&mut table, names.column, least);
    let (mut table, left_out) = terminal::fit(table, &look, width);
    let mut was_cut = false;
    if let Some(column) = table.columns.iter().position(|column| column.title == title) {
        // What is left of the terminal is theirs.
        let others = terminal::fit(table.clone(), &look, usize::MAX).1.columns_for_all;
        let room = least + width.saturating_sub(others);
        table.columns[column].cells.clone_from(&full.cells);
        cut(&mut table, column, room);
        was_cut = table.columns[column].cells != full.cells;
    }
    let mut said = Vec::new();
    if !left_out.names.is_empty() {
        said.push(format!("left out to fit: {}", left_out.names.join(", ")));
    }
    if was_cut {
        said.push(format!("names with … are cut to fit ({})", title.join(" ")));
    }
    let said = format!("{} (--format json has all)", said.join("; "));
    terminal::text(&table, &look) + &prose(&said, Some(width))
}

/// Sentences as lines of at most `width` columns.
pub(super) fn prose(text: &str, width: Option<usize>) -> String {
    let wrapped = |line: &str| match width {
        Some(width) => wrap(line, width, "  "),
        None => vec![line.to_owned()],
    };
    text.lines().flat_map(wrapped).map(|line| line + "\n").collect()
}

fn cut(table: &mut Table, column: usize, columns: usize) {
    for cell in &mut table.columns[column].cells {
        if let Content::Text(text) = &mut cell.content {
            *text = shorten(text, columns);
        }
    }
}
