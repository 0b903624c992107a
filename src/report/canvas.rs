//! How a plot of points is drawn with characters.
//!
//! Own code, since the plotting crates for terminals draw curves and have no labels at points.

use super::plot::{Axis, Colour, Draw, Plot, Series};
use super::text::{NO_BREAK_SPACE, list, shorten, width, wrap};
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

/// Fewer points show nothing that the table does not.
const POINTS_AT_LEAST: usize = 3;

/// Values that are named along the x axis.
const COLUMNS_NAMED: usize = 8;

/// The lines of a plot of points; `None` where it has no room, or too few points.
pub(super) fn draw(plot: &Plot, columns: usize) -> Option<Vec<String>> {
    let panel = plot.panels.first()?;
    let (x, y) = (&plot.x, &panel.y);
    // What lies on top elsewhere comes first here: that is the order in which labels find their place.
    let series = panel.series.iter().rev().filter(|it| it.draw == Draw::Points);
    let series: Vec<&Series> = series.collect();
    let count: usize = series.iter().map(|it| it.spots.len()).sum();
    if count < POINTS_AT_LEAST {
        return None;
    }
    let columns = columns.min(WIDEST);
    let height = HEIGHTS[usize::from(count >= MANY_POINTS)];
    let named = |axis: &Axis, most| -> Vec<(f64, String)> {
        axis.ticks(most).into_iter().map(|value| (axis.position(value), axis.name(value))).collect()
    };
    let ticks = named(y, height / 3);
    let margin = ticks.iter().map(|(_, text)| width(text)).max().unwrap_or(1) + 1;
    let room = columns.checked_sub(margin + 2).filter(|room| *room >= NARROWEST_PLOT)?;
    let mut canvas = Canvas::new(room, height);
    let unplaced = place(&mut canvas, [x, y], &series);

    let mut lines =
        wrap(&format!("{}: {} over {}", plot.title, y.title(), x.title()), columns, "  ");
    for (row, content) in canvas.lines().enumerate() {
        let tick = ticks.iter().find(|(position, _)| canvas.row(*position) == row);
        let (text, edge) = tick.map_or(("", '│'), |(_, text)| (text.as_str(), '┤'));
        lines.push(format!("{text:>margin$}{edge}{content}"));
    }
    lines.extend(horizontal_axis(&canvas, &named(x, COLUMNS_NAMED), margin));
    lines.extend(wrap(&legend(&series, &unplaced), columns, "  "));
    Some(lines)
}

/// What stands for a colour where there is none.
fn symbol(colour: Colour) -> char {
    match colour {
        Colour::Blue => '◆',
        Colour::Ink => '■',
        Colour::Sky => '●',
        Colour::Grey => '○',
        _ => '+',
    }
}

fn legend(series: &[&Series], unplaced: &[String]) -> String {
    let named = series.iter().filter(|it| !it.name.is_empty());
    let told =
        named.map(|it| format!("{} {}", symbol(it.colour), it.name).replace(' ', NO_BREAK_SPACE));
    let mut parts: Vec<String> = told.collect();
    if !unplaced.is_empty() {
        parts.push(format!("no room to name {}", list(unplaced)));
    }
    format!("  {}", parts.join("   "))
}

/// What is drawn in one cell: all points that fall there.
struct Mark {
    column: usize,
    row: usize,
    symbol: char,
    labels: Vec<String>,
}

/// Draws points, then labels where there is room; returns the labels that found none.
fn place(canvas: &mut Canvas, [x, y]: [&Axis; 2], series: &[&Series]) -> Vec<String> {
    let mut marks: Vec<Mark> = Vec::new();
    for (of, spot) in series.iter().flat_map(|it| it.spots.iter().map(move |spot| (it, spot))) {
        let column = canvas.column(x.position(spot.x));
        let row = canvas.row(y.position(spot.y));
        let label = Some(shorten(&spot.label, WIDEST_LABEL)).filter(|it| !it.is_empty());
        let same = marks.iter_mut().find(|mark| (mark.column, mark.row) == (column, row));
        if let Some(mark) = same {
            mark.labels.extend(label);
        } else {
            let labels = label.into_iter().collect();
            marks.push(Mark { column, row, symbol: symbol(of.colour), labels });
        }
    }
    for mark in &marks {
        canvas.put(mark.column, mark.row, &mark.symbol.to_string());
    }
    let mut unplaced = Vec::new();
    for mark in marks.into_iter().filter(|mark| !mark.labels.is_empty()) {
        if !canvas.label(mark.column, mark.row, &mark.labels.join(", ")) {
            unplaced.extend(mark.labels);
        }
    }
    unplaced
}

fn horizontal_axis(canvas: &Canvas, ticks: &[(f64, String)], margin: usize) -> [String; 2] {
    let mut line: Vec<char> = vec!['─'; canvas.columns];
    let mut numbers = Canvas::new(canvas.columns, 1);
    for (position, text) in ticks {
        let column = canvas.column(*position);
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
    use crate::report::plot;
    use crate::results::made_up::{LADDER, MadeUp, Truth};
    use crate::results::metric::Metric;
    use crate::results::summary::{Row, Summary};
    use proptest::prelude::*;

    #[test]
    fn absurd_figures_are_not_drawn_rather_than_drawn_wrongly() {
        let mut run = MadeUp { variants: LADDER[..5].to_vec(), ..MadeUp::default() }.run();
        for (trial, kld) in run.trials[1..].iter_mut().zip([1e300, 1e-300, f64::MAX, 1.0]) {
            let divergence = trial.quality.as_mut().unwrap().divergence.as_mut().unwrap();
            divergence.kld.mean = kld;
            divergence.chunk_kld.clear();
        }
        assert_eq!(plot::divergence_over_size(&run, &Summary::of(&run)), []);
    }

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
            let run = made_up.run();
            let summary = Summary::of(&run);
            // What is made up may diverge by nothing or less, which no logarithm shows.
            let kld = |row: &Row| row.figures.get(&Metric::Kld).map(|it| it.estimate.value);
            let points = summary.rows.iter().filter_map(kld).filter(|kld| *kld > 0.0).count();
            let plots = plot::divergence_over_size(&run, &summary);
            let lines = plots.first().and_then(|plot| draw(plot, columns));
            // The longest number at the axis is 0.0000000001.
            let has_room = columns >= NARROWEST_PLOT + 15;
            prop_assert!(lines.is_some() || points < POINTS_AT_LEAST || !has_room);
            for line in lines.unwrap_or_default() {
                prop_assert!(width(&line) <= columns.min(WIDEST), "{line}");
            }
        }
    }
}
