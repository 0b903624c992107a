//! How a chart is drawn with characters.
//!
//! Own code, since the plotting crates for terminals draw curves and have no labels at points.

use super::chart::{Axis, Chart, Point, Rank};
use super::text::{NO_BREAK_SPACE, list, shorten, width, wrap};
use strum::VariantArray as _;
use unicode_width::UnicodeWidthChar;

/// Rows of the plotting area, for few points and for many.
const HEIGHTS: [usize; 2] = [12, 18];

/// From this many points on there are many.
const MANY_POINTS: usize = 7;

/// Wider charts are no easier to read.
const WIDEST: usize = 110;

/// Columns of the plotting area below which labels find no room.
const NARROWEST_PLOT: usize = 30;

/// Columns of a label.
const WIDEST_LABEL: usize = 24;

/// The lines of a chart; `None` where it has no room.
pub(super) fn draw(chart: &Chart, columns: usize) -> Option<Vec<String>> {
    let Chart { title, x, y, points } = chart;
    let columns = columns.min(WIDEST);
    let margin = y.ticks.iter().map(|(_, text)| width(text)).max().unwrap_or(1) + 1;
    let height = HEIGHTS[usize::from(points.len() >= MANY_POINTS)];
    let room = columns.checked_sub(margin + 2).filter(|room| *room >= NARROWEST_PLOT)?;
    let mut canvas = Canvas::new(room, height);
    let unplaced = plot(&mut canvas, chart);

    let mut lines = wrap(title, columns, "  ");
    for (row, content) in canvas.lines().enumerate() {
        let tick = y.ticks.iter().find(|(value, _)| canvas.row(y.position(*value)) == row);
        let (text, edge) = tick.map_or(("", '│'), |(_, text)| (text.as_str(), '┤'));
        lines.push(format!("{text:>margin$}{edge}{content}"));
    }
    lines.extend(horizontal_axis(&canvas, x, margin));
    lines.extend(wrap(&legend(points, &unplaced), columns, "  "));
    Some(lines)
}

fn symbol(rank: Rank) -> char {
    match rank {
        Rank::Chosen => '◆',
        Rank::OnFront => '●',
        Rank::Beaten => '○',
        Rank::Incomplete => '+',
    }
}

fn label(point: &Point) -> String {
    let less = if point.is_less { " (less)" } else { "" };
    format!("{}{less}", shorten(&point.label, WIDEST_LABEL))
}

fn legend(points: &[Point], unplaced: &[String]) -> String {
    let occurs = |rank: &Rank| points.iter().any(|point| point.rank == *rank);
    let told = |rank: Rank| format!("{} {rank}", symbol(rank)).replace(' ', NO_BREAK_SPACE);
    let mut parts: Vec<String> = Rank::VARIANTS.iter().copied().filter(occurs).map(told).collect();
    if !unplaced.is_empty() {
        parts.push(format!("no room to name {}", list(unplaced)));
    }
    format!("  {}", parts.join("   "))
}

/// What is drawn in one cell: all points that fall there.
struct Spot {
    column: usize,
    row: usize,
    symbol: char,
    labels: Vec<String>,
}

/// Draws points, then labels where there is room; returns the labels that found none.
fn plot(canvas: &mut Canvas, chart: &Chart) -> Vec<String> {
    let mut spots: Vec<Spot> = Vec::new();
    for point in &chart.points {
        let column = canvas.column(chart.x.position(point.x));
        let row = canvas.row(chart.y.position(point.y));
        match spots.iter_mut().find(|spot| (spot.column, spot.row) == (column, row)) {
            Some(spot) => spot.labels.push(label(point)),
            None => {
                spots.push(Spot {
                    column,
                    row,
                    symbol: symbol(point.rank),
                    labels: vec![label(point)],
                });
            }
        }
    }
    for spot in &spots {
        canvas.put(spot.column, spot.row, &spot.symbol.to_string());
    }
    let mut unplaced = Vec::new();
    for spot in spots {
        if !canvas.label(spot.column, spot.row, &spot.labels.join(", ")) {
            unplaced.extend(spot.labels);
        }
    }
    unplaced
}

fn horizontal_axis(canvas: &Canvas, axis: &Axis, margin: usize) -> [String; 2] {
    let mut line: Vec<char> = vec!['─'; canvas.columns];
    let mut numbers = Canvas::new(canvas.columns, 1);
    for (value, text) in &axis.ticks {
        let column = canvas.column(axis.position(*value));
        line[column] = '┬';
        let latest = canvas.columns.saturating_sub(text.len());
        let start = column.saturating_sub(text.len() / 2).min(latest);
        if numbers.is_free(start, 0, text.len()) {
            numbers.put(start, 0, text);
        }
    }
    let line: String = line.into_iter().collect();
    let numbers = numbers.lines().next().unwrap_or_default();
    [format!("{:>margin$}└{line}", ""), format!("{:>margin$} {numbers}", "")]
}

/// Rows of characters, each one column wide; the second column of a wide character is `None`.
struct Canvas {
    columns: usize,
    cells: Vec<Vec<Option<char>>>,
}

impl Canvas {
    fn new(columns: usize, rows: usize) -> Self {
        Self { columns, cells: vec![vec![Some(' '); columns]; rows] }
    }

    fn column(&self, position: f64) -> usize {
        scaled(position, self.columns)
    }

    /// Rows count from the top, positions from below.
    fn row(&self, position: f64) -> usize {
        scaled(1.0 - position, self.cells.len())
    }

    fn is_free(&self, column: usize, row: usize, columns: usize) -> bool {
        self.cells
            .get(row)
            .and_then(|cells| cells.get(column..column + columns))
            .is_some_and(|cells| cells.iter().all(|cell| *cell == Some(' ')))
    }

    fn put(&mut self, column: usize, row: usize, text: &str) {
        let mut at = column;
        for character in text.chars() {
            let columns = character.width().unwrap_or(0);
            if columns == 0 || at + columns > self.columns {
                continue;
            }
            self.cells[row][at] = Some(character);
            for covered in at + 1..at + columns {
                self.cells[row][covered] = None;
            }
            at += columns;
        }
    }

    /// Writes a label beside a point, or diagonally above or below it, where nothing is so near that
    /// the label could be taken for another point's; false if there is no such place.
    fn label(&mut self, column: usize, row: usize, label: &str) -> bool {
        const CLEARANCE: usize = 2;
        let columns = width(label);
        let beside = [Some(column + 2), column.checked_sub(columns + 1)];
        let diagonal = [Some(column + 1), column.checked_sub(columns)];
        let places =
            [(Some(row), beside), (row.checked_sub(1), diagonal), (Some(row + 1), diagonal)];
        for (index, (at_row, starts)) in places.into_iter().enumerate() {
            let Some(at_row) = at_row else { continue };
            for start in starts.into_iter().flatten() {
                let mut from = start.saturating_sub(CLEARANCE);
                let mut to = (start + columns + CLEARANCE).min(self.columns);
                if index == 0 && start > column {
                    from = start - 1;
                } else if index == 0 {
                    to = start + columns;
                }
                let fits = start + columns <= self.columns;
                if fits && self.is_free(from, at_row, to - from) {
                    self.put(start, at_row, label);
                    return true;
                }
            }
        }
        false
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.cells.iter().map(|cells| cells.iter().flatten().collect())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a position on a canvas of a few hundred cells"
)]
fn scaled(position: f64, cells: usize) -> usize {
    let last = cells.saturating_sub(1);
    ((position.clamp(0.0, 1.0) * last as f64).round() as usize).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chart;
    use crate::results::made_up::{LADDER, MadeUp, Truth};
    use crate::results::summary::Summary;
    use proptest::prelude::*;

    /// Points that a chart needs.
    const POINTS_AT_LEAST: usize = 3;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn any_figures_at_all_make_a_chart_that_fits_or_none(
            figures in prop::collection::vec((1.0..1e9_f64, -9.0..9.0_f64), 2..14),
            columns in 0_usize..200,
        ) {
            let mut variants = vec![LADDER[0]];
            variants.extend(figures.into_iter().enumerate().map(|(index, (mebibytes, power))| Truth {
                mebibytes,
                kld: 10.0_f64.powf(power),
                ..LADDER[1 + index % 11]
            }));
            let made_up = MadeUp { variants, rounds: 1, prompts: 0, ..MadeUp::default() };
            let summary = Summary::of(&made_up.run());
            let points = summary.rows.len() - 1;
            let charts = chart::of(&summary);
            let lines = charts.first().and_then(|chart| draw(chart, columns));
            // The longest number at the axis is 1000000000.
            let has_room = columns >= NARROWEST_PLOT + 13;
            prop_assert!(lines.is_some() || points < POINTS_AT_LEAST || !has_room);
            for line in lines.unwrap_or_default() {
                prop_assert!(width(&line) <= columns.min(WIDEST), "{line}");
            }
        }
    }
}
