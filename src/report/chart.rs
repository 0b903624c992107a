//! A chart as a value: divergence over file size, both logarithmic, a labelled point per variant.

use super::text::sanitize;
use crate::results::metric::Metric;
use crate::results::summary::{ModelSummary, Summary};
use crate::units::significant;

/// Below this many points a chart shows nothing that the table does not.
const POINTS_AT_LEAST: usize = 3;

/// Divergences below this, rounding noise of equal weights, are drawn here: their decades would take
/// the room of those that matter.
const FLOOR: f64 = 1e-5;

/// Decades that an axis has room for.
const MOST_DECADES: f64 = 30.0;

const BYTES_PER_MEBIBYTE: f64 = 1_048_576.0;

/// Points in a plane of two axes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// The chosen one first and the beaten last: that is the order in which labels find their place.
    pub(crate) points: Vec<Point>,
}

/// One variant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) label: String,
    pub(crate) rank: Rank,
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Whether the figure itself is lower than where the point stands.
    pub(crate) is_less: bool,
}

/// How a variant stands among the others of its model.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::VariantArray, strum::Display,
)]
pub(crate) enum Rank {
    #[strum(serialize = "best trade-off")]
    Chosen,
    #[strum(serialize = "on the Pareto front")]
    OnFront,
    #[strum(serialize = "beaten by another")]
    Beaten,
    /// Not judged, because not all of it was measured.
    #[strum(serialize = "not measured in full")]
    Incomplete,
}

/// A logarithmic range of values: what matters about sizes as about divergences is how many times one is the
/// other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// What it shows, with its unit: `file size (MiB)`.
    pub(crate) title: &'static str,
    /// Values to name, with what to call them.
    pub(crate) ticks: Vec<(f64, String)>,
    /// The ends, as powers of ten.
    low: f64,
    high: f64,
}

/// The charts of a run: of each model that has enough points to show.
pub(crate) fn of(summary: &Summary) -> Vec<Chart> {
    summary.models.iter().filter_map(|model| of_model(summary, model)).collect()
}

/// The variants are those of the settings under which the best trade-off was found (divergence
/// hardly depends on settings, and not on most of them).
fn of_model(summary: &Summary, model: &ModelSummary) -> Option<Chart> {
    let chosen = model.choice.as_ref().map(|choice| choice.row);
    let is_chosen_group = |rows: &[usize]| chosen.is_some_and(|row| rows.contains(&row));
    let group = model.groups.iter().find(|group| is_chosen_group(&group.rows));
    let group = group.or_else(|| model.groups.first())?;
    let rank = |row: usize| {
        if Some(row) == chosen {
            Rank::Chosen
        } else if model.front.members.contains(&row) {
            Rank::OnFront
        } else if model.front.beaten.iter().any(|beaten| beaten.row == row) {
            Rank::Beaten
        } else {
            Rank::Incomplete
        }
    };
    let point = |&row: &usize| {
        let own = Some(&summary.rows[row]).filter(|own| own.failure.is_none())?;
        let nats = own.value(Metric::Kld).filter(|nats| *nats > 0.0)?;
        let bytes = own.value(Metric::FileBytes).filter(|bytes| *bytes > 0.0)?;
        Some(Point {
            label: sanitize(&own.label),
            rank: rank(row),
            x: bytes / BYTES_PER_MEBIBYTE,
            y: nats.max(FLOOR),
            is_less: nats < FLOOR,
        })
    };
    let mut points: Vec<Point> = group.rows.iter().filter_map(point).collect();
    if points.len() < POINTS_AT_LEAST {
        return None;
    }
    points.sort_by_key(|point| point.rank);
    let mut x = Axis::of("file size (MiB)", points.iter().map(|point| point.x))?;
    let mut y = Axis::of("divergence (KLD, nats)", points.iter().map(|point| point.y))?;
    x.ticks = x.round_numbers();
    y.ticks = y.decades();
    Some(Chart { title: title(summary, model, &x, &y), x, y, points })
}

fn title(summary: &Summary, model: &ModelSummary, x: &Axis, y: &Axis) -> String {
    let reference = model.reference.map(|row| &summary.rows[row]).and_then(|row| {
        let size = significant(row.value(Metric::FileBytes)? / BYTES_PER_MEBIBYTE, 3);
        Some(format!("; {}, the reference, has 0 at {size}", sanitize(&row.label)))
    });
    let reference = reference.unwrap_or_default();
    let whose = (summary.models.len() > 1).then(|| format!("{}: ", sanitize(&model.name)));
    let whose = whose.unwrap_or_default();
    format!("{whose}{} over {}{reference}", y.title, x.title)
}

impl Axis {
    fn of(title: &'static str, values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let low = values.clone().reduce(f64::min)?.log10();
        let high = values.reduce(f64::max)?.log10();
        let room = ((high - low) * 0.04).max(0.02);
        let axis = Self { title, ticks: Vec::new(), low: low - room, high: high + room };
        // Beyond that something is no measurement.
        (high - low < MOST_DECADES).then_some(axis)
    }

    /// Where a value stands: 0 to 1.
    pub(crate) fn position(&self, value: f64) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::{LADDER, MadeUp};

    #[test]
    fn absurd_figures_are_not_drawn_rather_than_drawn_wrongly() {
        let mut run = MadeUp { variants: LADDER[..5].to_vec(), ..MadeUp::default() }.run();
        for (trial, kld) in run.trials[1..].iter_mut().zip([1e300, 1e-300, f64::MAX, 1.0]) {
            let divergence = trial.quality.as_mut().unwrap().divergence.as_mut().unwrap();
            divergence.kld.mean = kld;
            divergence.chunk_kld.clear();
        }
        let summary = Summary::of(&run);
        assert_eq!(of(&summary), []);
    }
}
