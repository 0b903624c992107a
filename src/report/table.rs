//! A table as values: what stands where. Whoever draws it pads, marks, colours, cuts and escapes.

use super::numbers::Scale;
use crate::results::metric::Metric;
use crate::statistics::estimate::Estimate;
use std::collections::BTreeSet;

/// Columns of equal length, and which of their rows stand together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) groups: Vec<Group>,
}

/// Rows under one heading.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Group {
    pub(crate) heading: String,
    pub(crate) rows: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    pub(crate) shows: Shows,
    /// Lines from general to special, without the unit; empty: the table has no header.
    pub(crate) title: Vec<String>,
    /// Of its figures; empty: a plain number.
    pub(crate) unit: &'static str,
    /// How its figures are written.
    pub(crate) scale: Scale,
    /// How much a reader would miss it: the highest number is kept longest.
    pub(crate) importance: u32,
    /// All of its figures are unstable, which is not marked at each.
    pub(crate) is_unstable: bool,
    pub(crate) cells: Vec<Cell>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// Trials, by their names.
    Name,
    Figure(Metric),
    /// How many times the baseline's a figure is.
    Ratio(Metric),
    /// Whether the requirements are met.
    Verdict,
    /// Words, or numbers that are words already.
    Text(Align),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cell {
    pub(crate) content: Content,
    pub(crate) marks: BTreeSet<Mark>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Content {
    /// Has no meaning for the row.
    #[default]
    Inapplicable,
    /// Is not there.
    Absent,
    /// The row is what others are compared with.
    Reference,
    Figure(Estimate),
    Text(String),
}

/// What is said of a cell besides what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// The best trade-off.
    Chosen,
    /// The others are compared with it.
    Reference,
    /// The trial failed: the number of its note, from 1.
    Failed(usize),
    /// No other of the model is better.
    Best,
    /// The interval is too wide.
    Unstable,
    /// Noise could turn the verdict.
    Open,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { content: Content::Text(text.into()), marks: BTreeSet::new() }
    }

    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }
}

impl Column {
    /// Words under a title, which may be empty.
    pub(crate) fn of_words(title: &str, align: Align, cells: Vec<Option<String>>) -> Self {
        Self {
            shows: Shows::Text(align),
            title: title.lines().map(str::to_owned).collect(),
            unit: "",
            scale: Scale::default(),
            importance: 0,
            is_unstable: false,
            cells: cells.into_iter().map(|it| it.map_or_else(Cell::default, Cell::text)).collect(),
        }
    }

    pub(crate) fn align(&self) -> Align {
        match self.shows {
            Shows::Name | Shows::Verdict => Align::Left,
            Shows::Figure(_) | Shows::Ratio(_) => Align::Right,
            Shows::Text(align) => align,
        }
    }

    /// What it shows, in one line and without its unit: `TTFT p50`.
    pub(crate) fn name(&self) -> String {
        self.title.join(" ").replace("/ ", "/")
    }

    /// Half the width of the interval, of figures that are shown with it.
    pub(crate) fn half_width(&self, cell: &Cell) -> Option<f64> {
        match (self.shows, &cell.content) {
            (Shows::Figure(metric), Content::Figure(it)) if metric.descriptor().shows_interval => {
                it.half_width()
            }
            _ => None,
        }
    }

    /// What stands in a cell, its interval, as digits or words.
    pub(crate) fn words(&self, cell: &Cell) -> (String, Option<String>) {
        let text = match &cell.content {
            Content::Inapplicable => String::new(),
            Content::Absent => "-".to_owned(),
            Content::Reference => "ref".to_owned(),
            Content::Text(text) => text.clone(),
            Content::Figure(estimate) => {
                let half = self.half_width(cell);
                let half = half.map(|half| self.scale.half_width(half, estimate.value));
                return (self.scale.show(estimate.value), half);
            }
        };
        (text, None)
    }
}

impl Table {
    /// Rows of words under titles, or without a header if no column has one.
    pub(crate) fn of_words<const N: usize>(
        titles: [(&str, Align); N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Self {
        let mut columns = titles.map(|(title, align)| Column::of_words(title, align, Vec::new()));
        for row in rows {
            for (column, text) in columns.iter_mut().zip(row) {
                column.cells.push(Cell::text(text));
            }
        }
        let rows = (0..columns.first().map_or(0, |column| column.cells.len())).collect();
        let groups = vec![Group { heading: String::new(), rows }];
        Self { columns: columns.into(), groups }
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.columns.iter().flat_map(|column| &column.cells)
    }

    /// Whether any cell has a mark.
    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.cells().any(|cell| cell.has(mark))
    }

    /// Whether any figure is shown with its interval.
    pub(crate) fn has_intervals(&self) -> bool {
        let shown =
            |column: &Column| column.cells.iter().any(|cell| column.half_width(cell).is_some());
        self.columns.iter().any(shown)
    }
}
