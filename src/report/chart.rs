//! The terminal chart: divergence over file size, both logarithmic, a labelled point per variant.
//!
//! Own code, since the plotting crates for terminals draw curves and have no labels at points.

use super::text::{NO_BREAK_SPACE, list, sanitize, shorten, width, wrap};
use crate::results::metric::Metric;
use crate::results::summary::{ModelSummary, Summary};
use crate::units::significant;
use unicode_width::UnicodeWidthChar;

/// Rows of the plotting area, for few points and for many.
const HEIGHTS: [usize; 2] = [12, 18];

/// From this many points on there are many.
const MANY_POINTS: usize = 7;

/// Wider charts are no easier to read.
const WIDEST: usize = 110;

/// Columns of the plotting area below which labels find no room.
const NARROWEST_PLOT: usize = 30;

/// Below this many points a chart shows nothing that the table does not.
const POINTS_AT_LEAST: usize = 3;

/// Divergences below this, rounding noise of equal weights, are drawn here: their decades would take
/// the room of those that matter.
const FLOOR: f64 = 1e-5;

/// One variant.
struct Point {
    label: String,
    mebibytes: f64,
    nats: f64,
    symbol: char,
}

/// Draws the divergence of a model's variants over their size; `None` if there are too few to show.
///
/// The variants are those of the settings under which the best trade-off was found (divergence
/// hardly depends on settings, and not on most of them).
pub(super) fn draw(summary: &Summary, model: &ModelSummary, columns: usize) -> Option<Vec<String>> {
    let points = points(summary, model);
    let columns = columns.min(WIDEST);
    if points.len() < POINTS_AT_LEAST {
        return None;
    }
    let vertical = Axis::logarithmic(points.iter().map(|point| point.nats))?;
    let ticks = vertical.decades();
    let margin = ticks.iter().map(|(_, text)| width(text)).max().unwrap_or(1) + 1;
    let height = HEIGHTS[usize::from(points.len() >= MANY_POINTS)];
    let room = columns.checked_sub(margin + 2).filter(|room| *room >= NARROWEST_PLOT)?;
    let mut canvas = Canvas::new(room, height);
    let horizontal = Axis::logarithmic(points.iter().map(|point| point.mebibytes))?;
    let unplaced = plot(&mut canvas, &points, &horizontal, &vertical);

    let mut lines = wrap(&title(summary, model), columns, "  ");
    for (row, content) in canvas.lines().enumerate() {
        let tick = ticks.iter().find(|(value, _)| canvas.row(vertical.position(*value)) == row);
        let (text, edge) = tick.map_or(("", '│'), |(_, text)| (text.as_str(), '┤'));
        lines.push(format!("{text:>margin$}{edge}{content}"));
    }
    lines.extend(horizontal_axis(&canvas, &horizontal, margin));
    lines.extend(wrap(&legend(&points, &unplaced), columns, "  "));
    Some(lines)
}

fn points(summary: &Summary, model: &ModelSummary) -> Vec<Point> {
    let chosen = model.choice.as_ref().map(|choice| choice.row);
    let group = model
        .groups
        .iter()
        .find(|group| chosen.is_some_and(|row| group.rows.contains(&row)))
        .or_else(|| model.groups.first());
    let rows = group.map(|group| group.rows.as_slice()).unwrap_or_default();
    // The chosen one first and the beaten last: that is the order in which labels find their place.
    let rank = |row: usize| {
        if Some(row) == chosen {
            (0, '◆')
        } else if model.front.members.contains(&row) {
            (1, '●')
        } else if model.front.beaten.iter().any(|beaten| beaten.row == row) {
            (2, '○')
        } else {
            (3, '+')
        }
    };
    let mut points: Vec<(u8, Point)> = rows
        .iter()
        .filter_map(|&row| {
            let own = Some(&summary.rows[row]).filter(|own| own.failure.is_none())?;
            let nats = own.value(Metric::Kld).filter(|nats| *nats > 0.0)?;
            let bytes = own.value(Metric::FileBytes).filter(|bytes| *bytes > 0.0)?;
            let (rank, symbol) = rank(row);
            let mut label = shorten(&sanitize(&own.label), 24);
            if nats < FLOOR {
                label.push_str(" (less)");
            }
            let mebibytes = bytes / 1_048_576.0;
            Some((rank, Point { label, mebibytes, nats: nats.max(FLOOR), symbol }))
        })
        .collect();
    points.sort_by_key(|(rank, _)| *rank);
    points.into_iter().map(|(_, point)| point).collect()
}

fn title(summary: &Summary, model: &ModelSummary) -> String {
    let reference = model.reference.map(|row| &summary.rows[row]).and_then(|row| {
        let mebibytes = row.value(Metric::FileBytes)? / 1_048_576.0;
        let label = sanitize(&row.label);
        Some(format!("; {label}, the reference, has 0 at {}", significant(mebibytes, 3)))
    });
    let model_name = if summary.models.len() > 1 {
        format!("{}: ", sanitize(&model.name))
    } else {
        String::new()
    };
    format!(
        "{model_name}divergence (KLD, nats) over file size (MiB){}",
        reference.unwrap_or_default()
    )
}

fn legend(points: &[Point], unplaced: &[String]) -> String {
    let uses = |symbol: char| points.iter().any(|point| point.symbol == symbol);
    let mut parts: Vec<String> = [
        ('◆', "best trade-off"),
        ('●', "on the Pareto front"),
        ('○', "beaten by another"),
        ('+', "not measured in full"),
    ]
    .into_iter()
    .filter(|(symbol, _)| uses(*symbol))
    .map(|(symbol, meaning)| format!("{symbol} {meaning}").replace(' ', NO_BREAK_SPACE))
    .collect();
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
fn plot(canvas: &mut Canvas, points: &[Point], horizontal: &Axis, vertical: &Axis) -> Vec<String> {
    let mut spots: Vec<Spot> = Vec::new();
    for point in points {
        let column = canvas.column(horizontal.position(point.mebibytes));
        let row = canvas.row(vertical.position(point.nats));
        match spots.iter_mut().find(|spot| (spot.column, spot.row) == (column, row)) {
            Some(spot) => spot.labels.push(point.label.clone()),
            None => spots.push(Spot {
                column,
                row,
                symbol: point.symbol,
                labels: vec![point.label.clone()],
            }),
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
    for (value, text) in axis.round_numbers() {
        let column = canvas.column(axis.position(value));
        line[column] = '┬';
        let latest = canvas.columns.saturating_sub(text.len());
        let start = column.saturating_sub(text.len() / 2).min(latest);
        if numbers.is_free(start, 0, text.len()) {
            numbers.put(start, 0, &text);
        }
    }
    let line: String = line.into_iter().collect();
    let numbers = numbers.lines().next().unwrap_or_default();
    [format!("{:>margin$}└{line}", ""), format!("{:>margin$} {numbers}", "")]
}

/// A logarithmic range of values, mapped to 0..1: what matters about sizes as about divergences is
/// how many times one is the other.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn logarithmic(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let low = values.clone().reduce(f64::min)?.log10();
        let high = values.reduce(f64::max)?.log10();
        let room = ((high - low) * 0.04).max(0.02);
        (low.is_finite() && high.is_finite()).then_some(Self { low: low - room, high: high + room })
    }

    fn position(&self, value: f64) -> f64 {
        (value.log10() - self.low) / (self.high - self.low)
    }

    /// Powers of ten within the range, with 2 and 5 times them if they are few.
    #[expect(clippy::cast_possible_truncation, reason = "log10 of a finite f64 is within ±324")]
    fn decades(&self) -> Vec<(f64, String)> {
        let decades = (self.low.floor() as i32)..=(self.high.ceil() as i32);
        let factors: &[f64] = if self.high - self.low > 1.6 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let values = decades.flat_map(|decade| {
            factors.iter().map(move |factor| (factor * 10.0_f64.powi(decade), decade))
        });
        values
            .filter(|(value, _)| (0.0..=1.0).contains(&self.position(*value)))
            .map(|(value, decade)| {
                let decimals = usize::try_from(-decade).unwrap_or(0);
                (value, format!("{value:.decimals$}"))
            })
            .collect()
    }

    /// Round numbers evenly apart, four to nine of them.
    #[expect(clippy::cast_possible_truncation, reason = "log10 of a finite f64 is within ±324")]
    fn round_numbers(&self) -> Vec<(f64, String)> {
        let (low, high) = (10.0_f64.powf(self.low), 10.0_f64.powf(self.high));
        let rough = (high - low) / 6.0;
        let magnitude = rough.log10().floor() as i32;
        let power = 10.0_f64.powi(magnitude);
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let decimals = usize::try_from(-magnitude).unwrap_or(0);
        let first = (low / step).ceil() * step;
        (0..12)
            .map(|tick| first + f64::from(tick) * step)
            .take_while(|value| *value <= high)
            .map(|value| (value, format!("{value:.decimals$}")))
            .collect()
    }
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
    use crate::results::made_up::{LADDER, MadeUp, Truth};
    use proptest::prelude::*;

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
            let lines = draw(&summary, &summary.models[0], columns);
            // The longest number at the axis is 1000000000.
            let has_room = columns >= NARROWEST_PLOT + 13;
            prop_assert!(lines.is_some() || points < POINTS_AT_LEAST || !has_room);
            for line in lines.unwrap_or_default() {
                prop_assert!(width(&line) <= columns.min(WIDEST), "{line}");
            }
        }
    }

    #[test]
    fn absurd_figures_are_not_drawn_rather_than_drawn_wrongly() {
        let mut run = MadeUp { variants: LADDER[..5].to_vec(), ..MadeUp::default() }.run();
        for (trial, kld) in run.trials[1..].iter_mut().zip([1e300, 1e-300, f64::MAX, 1.0]) {
            let divergence = trial.quality.as_mut().unwrap().divergence.as_mut().unwrap();
            divergence.kld.mean = kld;
            divergence.chunk_kld.clear();
        }
        let summary = Summary::of(&run);
        assert_eq!(draw(&summary, &summary.models[0], 100), None);
    }
}
