//! Tables as the templates read them.

use crate::report::columns::ESSENTIAL;
use crate::report::table::{Align, Cell, Column, Content, Mark, Shows, Table};
use crate::report::terminal::suffix;
use crate::results::metric::Better;
use serde::Serialize;

/// The comparison: sortable, so every cell has its value.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// Whether rows stand in several groups; the last column then says in which.
    is_grouped: bool,
    columns: Vec<Head>,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Head {
    title: String,
    unit: &'static str,
    definition: String,
    right: bool,
    /// Until the reader chooses otherwise.
    shown: bool,
}

#[derive(Serialize)]
struct Group {
    heading: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    class: &'static str,
    cells: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    text: String,
    half: String,
    mark: String,
    /// What is told when it is pointed at.
    told: String,
    class: &'static str,
    /// What rows are sorted by; empty: stays at the end.
    sort: String,
}

impl Comparison {
    pub(super) fn of(table: &Table) -> Self {
        let is_grouped = table.groups.len() > 1;
        let row = |group: &Group, row: usize| {
            let mut row = self::row(table, row);
            row.cells.extend(is_grouped.then(|| Shown::of_words(&group.heading)));
            row
        };
        let groups = table.groups.iter().map(|group| {
            let mut shown = Group { heading: group.heading.clone(), rows: Vec::new() };
            shown.rows = group.rows.iter().map(|&at| row(&shown, at)).collect();
            shown
        });
        let mut columns: Vec<Head> = table.columns.iter().map(head).collect();
        columns.extend(is_grouped.then(|| Head {
            title: "group".to_owned(),
            unit: "",
            definition: "model and settings".to_owned(),
            right: false,
            shown: false,
        }));
        Self { is_grouped, columns, groups: groups.collect() }
    }
}

impl Shown {
    fn of_words(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            half: String::new(),
            mark: String::new(),
            told: String::new(),
            class: "",
            sort: text.to_owned(),
        }
    }
}

fn head(column: &Column) -> Head {
    let definition = match column.shows {
        Shows::Figure(metric) => {
            let descriptor = metric.descriptor();
            let better = match descriptor.better {
                Some(Better::Lower) => "; lower is better",
                Some(Better::Higher) => "; higher is better",
                None => "",
            };
            format!("{}{better}", descriptor.definition)
        }
        Shows::Ratio(metric) => {
            format!("{} over the reference's, paired by what was measured together", metric.label())
        }
        Shows::Verdict => "whether the requirements are met".to_owned(),
        Shows::Name => "the trial; → is the one to take".to_owned(),
        Shows::Text(_) => String::new(),
    };
    Head {
        title: column.name(),
        unit: column.unit,
        definition,
        right: column.align() == Align::Right,
        shown: column.importance >= ESSENTIAL || column.importance == 0,
    }
}

fn row(table: &Table, row: usize) -> Row {
    let name = table.columns.first().map(|column| &column.cells[row]);
    let has = |mark: fn(&Mark) -> bool| name.is_some_and(|cell| cell.marks.iter().any(mark));
    let class = if has(|mark| *mark == Mark::Chosen) {
        "chosen"
    } else if has(|mark| matches!(mark, Mark::Failed(_))) {
        "failed"
    } else {
        ""
    };
    Row {
        class,
        cells: table.columns.iter().map(|column| cell(column, &column.cells[row])).collect(),
    }
}

fn cell(column: &Column, cell: &Cell) -> Shown {
    let (mut text, half) = column.words(cell);
    if column.shows == Shows::Name {
        text.push_str(&suffix(cell));
    }
    let (mark, meaning) = if cell.has(Mark::Chosen) {
        ("→", "the one to take")
    } else if cell.has(Mark::Open) {
        ("?", "noise could turn it")
    } else if cell.has(Mark::Unstable) {
        ("~", "unstable: its interval is wide")
    } else {
        ("", "")
    };
    let mut told: Vec<String> = Vec::new();
    if let Content::Figure(estimate) = &cell.content {
        let show = |value: f64| column.scale.show(value);
        if let Some(interval) = estimate.interval {
            told.push(format!(
                "95 %: {} to {} {}",
                show(interval.low),
                show(interval.high),
                column.unit
            ));
        }
        if cell.has(Mark::Best) {
            told.push("best, or level with it within the noise".to_owned());
        }
    }
    told.extend((!meaning.is_empty()).then(|| meaning.to_owned()));
    let sort = match &cell.content {
        Content::Figure(estimate) => estimate.value.to_string(),
        Content::Text(text) => text.clone(),
        Content::Inapplicable | Content::Absent | Content::Reference => String::new(),
    };
    Shown {
        text,
        half: half.unwrap_or_default(),
        mark: mark.to_owned(),
        told: told.join("\n"),
        class: if cell.has(Mark::Best) { "best" } else { "" },
        sort,
    }
}

/// A table of words, such as that of a chart.
#[derive(Default, Serialize)]
pub(super) struct Words {
    columns: Vec<Title>,
    rows: Vec<Vec<String>>,
}

#[derive(Serialize)]
struct Title {
    title: String,
    right: bool,
}

impl Words {
    pub(super) fn of(table: &Table) -> Self {
        let title =
            |column: &Column| Title { title: column.name(), right: column.align() == Align::Right };
        let rows = table.groups.iter().flat_map(|group| &group.rows);
        let rows = rows.map(|&row| {
            table.columns.iter().map(|column| column.words(&column.cells[row]).0).collect()
        });
        Self { columns: table.columns.iter().map(title).collect(), rows: rows.collect() }
    }
}
