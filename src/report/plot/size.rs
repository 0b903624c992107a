//! What size buys: divergence and speed over the size of the file, with the front of those that nobody beats in both.

use super::scope::{between, estimate, label, ranked, span, table};
use super::{Axis, Colour, Draw, Plot, Scope, Series, Spot};
use crate::report::numbers::Scale;
use crate::report::text::sanitize;
use crate::results::metric::{Better, Metric};
use crate::results::record::RunRecord;
use crate::results::summary::Summary;

/// Divergences below this, rounding noise of equal weights, are drawn here: their decades would take
/// the room of those that matter.
const FLOOR: f64 = 1e-5;

/// Below this many points a chart of speed shows nothing that the table does not. Of divergence the reference is one more
/// end, though it has no point.
const POINTS_AT_LEAST: usize = 2;

pub(super) fn plots(_: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Plot> {
    let speed = summary.generation.map(Metric::Speed);
    let divergence = divergence(summary, scope);
    let speed = speed
        .and_then(|metric| over_size(summary, scope, metric, "speed-over-size", POINTS_AT_LEAST));
    divergence.into_iter().chain(speed).collect()
}

/// Divergence over size.
pub(super) fn divergence(summary: &Summary, scope: &Scope) -> Option<Plot> {
    over_size(summary, scope, Metric::Kld, "divergence-over-size", 1)
}

fn over_size(
    summary: &Summary,
    scope: &Scope,
    metric: Metric,
    name: &str,
    points_at_least: usize,
) -> Option<Plot> {
    let is_divergence = metric == Metric::Kld;
    // Divergence hardly depends on settings.
    let rows = if is_divergence { scope.alike(summary) } else { scope.rows.clone() };
    let values = rows.into_iter().filter_map(|row| {
        let size = estimate(summary, row, Metric::FileBytes)?.value;
        let value = estimate(summary, row, metric)?;
        // The reference diverges from nothing, which no logarithm shows.
        let is_shown = size > 0.0 && (!is_divergence || value.value > 0.0);
        is_shown.then_some((row, size, value))
    });
    let values: Vec<_> = values.collect();
    if values.len() < points_at_least {
        return None;
    }
    let sizes: Vec<f64> = values.iter().map(|it| it.1).collect();
    let (size_unit, size_scale) = Scale::of(Metric::FileBytes.descriptor().shown, &sizes);
    let figures: Vec<f64> = values.iter().map(|it| it.2.value).collect();
    let (unit, scale) = Scale::of(metric.descriptor().shown, &figures);
    let unit = if is_divergence { "nats" } else { unit };
    let spots = values.iter().map(|&(row, size, value)| {
        let name = label(summary, row);
        let (value_text, size_text) = (scale.show(value.value), size_scale.show(size));
        let drawn = if is_divergence { value.value.max(FLOOR) } else { value.value };
        let range = between(value, scale).map(|range| format!("\n95 %: {range} {unit}"));
        let span = span(value, 1.0)
            .map(|(low, high)| (low.max(if is_divergence { FLOOR } else { 0.0 }), high));
        let tip = format!(
            "{name}\n{} {value_text} {unit}\nfile {size_text} {size_unit}{}",
            metric.label(),
            range.unwrap_or_default()
        );
        let x = size * size_scale.factor;
        // These are of one setting, and where one lies lower than it is drawn, its name says so.
        let less = if is_divergence && value.value < FLOOR { " (less)" } else { "" };
        let own = sanitize(&summary.rows[row].label);
        let label = if is_divergence { format!("{own}{less}") } else { name };
        (row, Spot { x, y: drawn, span, label, tip, ..Spot::default() })
    });
    let spots: Vec<(usize, Spot)> = spots.collect();
    let x = Axis::logarithmic(format!("file size ({size_unit})"), spots.iter().map(|it| it.1.x))?;
    let ends =
        spots.iter().flat_map(|(_, spot)| spot.span.map_or([spot.y; 2], |(low, high)| [low, high]));
    let ends: Vec<f64> = ends.collect();
    let y = if is_divergence {
        Axis::logarithmic("divergence from the reference (KLD, nats)", ends)?
    } else {
        Axis::from_zero(format!("{} ({unit})", metric.label()), ends)?
    };
    let best_is_lower = metric.descriptor().better == Some(Better::Lower);
    let front = Series {
        name: String::new(),
        colour: Colour::Sky,
        draw: Draw::Front,
        spots: front(spots.iter().map(|(_, spot)| spot), best_is_lower),
    };
    let (title, reading) = words(is_divergence);
    let rows = values.iter().map(|&(row, size, value)| {
        let range = between(value, scale).unwrap_or_default();
        vec![label(summary, row), size_scale.show(size), scale.show(value.value), range]
    });
    let titles = [
        "variant".to_owned(),
        format!("file {size_unit}"),
        format!("{} {unit}", metric.label()),
        "95 % interval".to_owned(),
    ];
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let table = table(&titles, &rows.collect::<Vec<_>>());
    let mut series = vec![front];
    series.extend(ranked(summary, Draw::Points, &spots));
    Some(Plot::simple(name, scope.titled(title), reading, [x, y], series).with_table(table))
}

/// Title and reading.
fn words(is_divergence: bool) -> (&'static str, &'static str) {
    if is_divergence {
        (
            "Divergence over size",
            "Each point is a variant: further left is smaller, lower is nearer to the reference. The line joins those that no \
             other beats in both; both scales are logarithmic. The reference itself has no divergence and is not shown.",
        )
    } else {
        (
            "Generation speed over size",
            "Each point is a variant: further left is smaller, higher is faster. The line joins those that no other beats in \
             both.",
        )
    }
}

/// Points of which no other is both smaller and better, from left to right.
fn front<'a>(spots: impl Iterator<Item = &'a Spot>, best_is_lower: bool) -> Vec<Spot> {
    let mut sorted: Vec<&Spot> = spots.collect();
    sorted.sort_by(|one, other| one.x.total_cmp(&other.x).then(one.y.total_cmp(&other.y)));
    let mut front: Vec<Spot> = Vec::new();
    for spot in sorted {
        let is_better = |best: &Spot| if best_is_lower { spot.y < best.y } else { spot.y > best.y };
        if front.last().is_none_or(is_better) {
            front.push(Spot { x: spot.x, y: spot.y, ..Spot::default() });
        }
    }
    front
}
