//! A comparison for the terminal.

use super::{Shown, words};
use crate::report::RenderOptions;
use crate::report::columns::INDISPENSABLE;
use crate::report::table::Align::{Left, Right};
use crate::report::table::{Cell, Column, Content, Group, Table};
use crate::report::terminal::{Look, draw, fit};
use crate::report::text::{list, sanitize, shorten, wrap};
use crate::results::change::{FigureChange, PairChange, Verdict};

/// Lines of prose longer than this are hard to read.
const WIDEST_PROSE: usize = 100;

pub(super) fn render(shown: &Shown<'_>, options: &RenderOptions) -> String {
    let comparison = shown.comparison;
    let prose = options.columns.min(WIDEST_PROSE);
    let mut lines: Vec<String> = Vec::new();
    let say = |lines: &mut Vec<String>, sentences: Vec<String>| {
        for sentence in sentences {
            lines.extend(wrap(&sentence, prose, "  "));
        }
    };
    for (name, side) in [("base", shown.base), ("new ", shown.new)] {
        lines.extend(wrap(&format!("{name}  {}", words::side(side)), options.columns, "      "));
    }
    lines.push(String::new());
    lines.push("What differs".to_owned());
    let differences = words::differences(comparison);
    for difference in &differences {
        lines.extend(wrap(&words::difference(difference), options.columns, "    "));
    }
    if differences.is_empty() {
        lines.push("Nothing that is known of.".to_owned());
    }
    say(&mut lines, words::alike(comparison).into_iter().collect());
    lines.push(String::new());
    say(&mut lines, words::outcome(comparison));
    say(&mut lines, words::form(comparison));
    let look = Look { color: options.color, ..Look::default() };
    let (table, note) = fitted(figures(shown), &look, options.columns);
    if table.cells().next().is_some() {
        lines.push(String::new());
        if let [only] = table.groups.as_slice() {
            lines.push(only.heading.clone());
        }
        lines.extend(draw(&table, &look));
        say(&mut lines, note.into_iter().collect());
    }
    let table = answers(shown);
    if table.cells().next().is_some() {
        lines.push(String::new());
        lines.extend(draw(&table, &look));
    }
    let left_out = words::left_out(comparison);
    if !left_out.is_empty() {
        lines.push(String::new());
        say(&mut lines, left_out);
    }
    if !shown.gates.is_empty() {
        lines.push(String::new());
        for result in shown.gates {
            let outcome = if result.is_tripped() { "FAILED" } else { "held" };
            say(&mut lines, vec![format!("{outcome}  {}", words::gate(result))]);
        }
    }
    if let Some(advice) = words::advice(shown) {
        lines.push(String::new());
        say(&mut lines, vec![advice]);
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    format!("{}\n", lines.join("\n").trim_end())
}

/// The columns of figures that fit, with fewer words in them where not all do, and what is said of those left out.
fn fitted(mut table: Table, look: &Look, columns: usize) -> (Table, Option<String>) {
    /// Of figure, unit, base, new, change, interval, verdict: the highest stay longest.
    const IMPORTANCE: [u32; 7] =
        [INDISPENSABLE, 1, 2, 3, INDISPENSABLE, INDISPENSABLE, INDISPENSABLE];
    for (column, importance) in table.columns.iter_mut().zip(IMPORTANCE) {
        column.importance = importance;
    }
    let (_, left_out) = fit(table.clone(), look, columns);
    if left_out.names.is_empty() {
        return (table, None);
    }
    if let Some(verdicts) = table.columns.last_mut() {
        for cell in &mut verdicts.cells {
            if cell.content == Content::Text(Verdict::NoDifference.words().to_owned()) {
                *cell = Cell::text(NONE_SHOWN);
            }
        }
    }
    if let Some(names) = table.columns.first_mut() {
        for cell in &mut names.cells {
            if let Content::Text(name) = &cell.content {
                *cell = Cell::text(shorten(name, NAME_COLUMNS));
            }
        }
    }
    let all = left_out.columns_for_all;
    let (table, left_out) = fit(table, look, columns);
    let left_out = (!left_out.names.is_empty()).then(|| {
        format!(
            "Left out to fit {columns} columns: {} (--columns {all} shows all).",
            list(&left_out.names)
        )
    });
    (table, left_out)
}

/// "No difference shown" where there is little room, and columns of a name.
const NONE_SHOWN: &str = "none shown";
const NAME_COLUMNS: usize = 16;

/// A row of a figure, as text.
pub(super) fn row(figure: &FigureChange) -> [String; 7] {
    let [base, new, unit] = words::values(figure);
    let (change, interval) = figure.change.as_ref().map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |change| (words::change(change), words::interval(change)),
    );
    [figure.metric.label(), unit, base, new, change, interval, figure.verdict.words().to_owned()]
}

pub(super) const TITLES: [(&str, crate::report::table::Align); 7] = [
    ("figure", Left),
    ("unit", Left),
    ("base", Right),
    ("new", Right),
    ("change", Right),
    ("95 % interval", Right),
    ("verdict", Left),
];

/// The figures that both sides have, pair by pair.
pub(super) fn figures(shown: &Shown<'_>) -> Table {
    of_pairs(
        shown,
        |pair| {
            let there = pair.figures.iter().filter(|figure| !words::is_missing(pair, figure));
            there.map(row).collect()
        },
        TITLES,
    )
}

/// The answers that changed, pair by pair.
pub(super) fn answers(shown: &Shown<'_>) -> Table {
    let titles = [
        ("answers of", Left),
        ("asked", Right),
        ("changed", Right),
        ("to right", Right),
        ("to wrong", Right),
    ];
    of_pairs(shown, |pair| pair.answers.iter().map(words::answers_row).collect(), titles)
}

fn of_pairs<const N: usize>(
    shown: &Shown<'_>,
    rows: impl Fn(&PairChange) -> Vec<[String; N]>,
    titles: [(&str, crate::report::table::Align); N],
) -> Table {
    let (mut all, mut groups) = (Vec::new(), Vec::new());
    for pair in &shown.comparison.pairs {
        let own = rows(pair);
        if own.is_empty() {
            continue;
        }
        let rows = (all.len()..all.len() + own.len()).collect();
        groups.push(Group { heading: sanitize(&pair.name()), rows });
        all.extend(own);
    }
    let columns: Vec<Column> = Table::of_words(titles, all).columns;
    Table { columns, groups }
}
