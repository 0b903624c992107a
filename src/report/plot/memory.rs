//! Memory: what a trial took, in parts.

use super::scope::{estimate, label, table};
use super::{Axis, Colour, Draw, Plot, Scope, Series, Spot};
use crate::report::numbers::Scale;
use crate::results::metric::Metric;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;

const PARTS: [(&str, Colour); 4] = [
    ("weights", Colour::Blue),
    ("KV cache", Colour::Orange),
    ("compute", Colour::Green),
    ("other", Colour::Grey),
];

pub(super) fn plots(_: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Plot> {
    let parts = |row: usize| {
        let value = |metric| estimate(summary, row, metric).map(|estimate| estimate.value);
        let weights = value(Metric::WeightsBytes)?;
        let (kv, compute) =
            (value(Metric::KvBytes).unwrap_or(0.0), value(Metric::ComputeBytes).unwrap_or(0.0));
        let peak = value(Metric::PeakRssBytes);
        // What is mapped and was not touched is not resident: then nothing is known of the rest.
        let used = peak.map(|peak| peak + value(Metric::DeviceBytes).unwrap_or(0.0));
        let other = used.map_or(0.0, |used| (used - weights - kv - compute).max(0.0));
        Some((row, [weights, kv, compute, other], used))
    };
    let found: Vec<_> = scope.rows.iter().filter_map(|&row| parts(row)).collect();
    plot(summary, scope, &found).into_iter().collect()
}

fn plot(
    summary: &Summary,
    scope: &Scope,
    found: &[(usize, [f64; 4], Option<f64>)],
) -> Option<Plot> {
    let sums: Vec<f64> = found.iter().map(|(_, parts, _)| parts.iter().sum()).collect();
    let (unit, scale) = Scale::of(Metric::PeakRssBytes.descriptor().shown, &sums);
    let x = Axis::from_zero(format!("memory ({unit})"), sums.iter().map(|sum| sum * scale.factor))?;
    let series = PARTS.iter().enumerate().map(|(part, (name, colour))| {
        let spots = found.iter().enumerate().map(|(at, (row, parts, _))| {
            let from = parts[..part].iter().sum::<f64>() * scale.factor;
            let to = from + parts[part] * scale.factor;
            let tip = format!(
                "{}\n{name} {} {unit}\nall {} {unit}",
                label(summary, *row),
                scale.show(parts[part]),
                scale.show(sums[at])
            );
            Spot { from, ..Spot::in_row(at, to, tip) }
        });
        let spots = spots.filter(|spot| spot.x > spot.from).collect();
        Series { name: (*name).to_owned(), colour: *colour, draw: Draw::Bars(0.62), spots }
    });
    let series = series.collect();
    let y = Axis::Rows(found.iter().map(|(row, _, _)| label(summary, *row)).collect());
    let rows = found.iter().map(|(row, parts, used)| {
        let used = used.map_or_else(String::new, |used| scale.show(used));
        [label(summary, *row)]
            .into_iter()
            .chain(parts.map(|part| scale.show(part)))
            .chain([used])
            .collect()
    });
    let titles =
        ["weights", "KV cache", "compute", "other", "peak"].map(|title| format!("{title} {unit}"));
    let titles: Vec<&str> =
        ["variant"].into_iter().chain(titles.iter().map(String::as_str)).collect();
    let table = table(&titles, &rows.collect::<Vec<_>>());
    let reading = "What the engine keeps in its buffers, host and GPUs together, and what the process takes besides (program, \
                   vocabulary, driver). Weights that are mapped count whole, whether they are resident or not.";
    Some(Plot::simple("memory", scope.titled("Memory"), reading, [x, y], series).with_table(table))
}
