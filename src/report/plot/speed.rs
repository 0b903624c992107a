//! Speed: of every trial, over depth, over sequences side by side, over layers on a GPU; and energy.

use super::scope::{between, estimate, label, ranked, span, table};
use super::{Axis, Draw, Plot, Scope, Series, Spot};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
use crate::report::numbers::Scale;
use crate::results::metric::Metric;
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use crate::results::{each_once, grouped};

pub(super) fn plots(_: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Plot> {
    let tests: Vec<SpeedTest> = summary
        .metrics
        .iter()
        .filter_map(|metric| match metric {
            Metric::Speed(test) => Some(*test),
            _ => None,
        })
        .collect();
    let plain = tests.iter().filter(|test| test.depth == 0 && test.sequences == 1 || test.embeds);
    let mut plots: Vec<Plot> = plain.filter_map(|&test| by_trial(summary, scope, test)).collect();
    plots.extend(over(summary, scope, &tests, &DEPTH));
    plots.extend(over(summary, scope, &tests, &SEQUENCES));
    plots.extend(over_layers(summary, scope));
    plots.extend(bars(
        summary,
        scope,
        Metric::JoulesPerToken,
        ("energy-per-token", "Energy per generated token"),
        "Energy of everything that could be read (processor, memory, GPUs) while generating; shorter is better.",
    ));
    plots
}

fn by_trial(summary: &Summary, scope: &Scope, test: SpeedTest) -> Option<Plot> {
    let kind = match (test.prompt_tokens, test.generated_tokens) {
        _ if test.embeds => "Embedding speed",
        (_, 0) => "Prompt speed",
        (0, _) => "Generation speed",
        _ => "Speed of prompt and generation",
    };
    let name =
        format!("speed-{}", test.to_string().replace([' ', '@', '+'], "-").replace("--", "-"));
    let reading = "Medians over the rounds with their 95 % intervals; longer is faster. Two trials whose intervals overlap may \
                   still differ: comparisons in the table are paired by round.";
    bars(summary, scope, Metric::Speed(test), (&name, &format!("{kind}: {test}")), reading)
}

/// A bar for each trial, with its interval.
pub(super) fn bars(
    summary: &Summary,
    scope: &Scope,
    metric: Metric,
    (name, title): (&str, &str),
    reading: &str,
) -> Option<Plot> {
    let values: Vec<_> =
        scope.rows.iter().filter_map(|&row| Some((row, estimate(summary, row, metric)?))).collect();
    let figures: Vec<f64> = values.iter().map(|it| it.1.value).collect();
    let (unit, scale) = Scale::of(metric.descriptor().shown, &figures);
    let spots = values.iter().enumerate().map(|(at, &(row, value))| {
        let name = label(summary, row);
        let told = between(value, scale).map(|range| format!("\n95 %: {range} {unit}"));
        let tip = format!(
            "{name}\n{} {} {unit}{}",
            metric.label(),
            scale.show(value.value),
            told.unwrap_or_default()
        );
        (
            row,
            Spot {
                span: span(value, scale.factor),
                ..Spot::in_row(at, value.value * scale.factor, tip)
            },
        )
    });
    let spots: Vec<(usize, Spot)> = spots.collect();
    let ends = spots.iter().map(|(_, spot)| spot.span.map_or(spot.x, |(_, high)| high));
    let x = Axis::from_zero(format!("{} ({unit})", metric.label()), ends)?;
    let y = Axis::Rows(values.iter().map(|&(row, _)| label(summary, row)).collect());
    let rows = values.iter().map(|&(row, value)| {
        let range = between(value, scale);
        vec![label(summary, row), scale.show(value.value), range.unwrap_or_default()]
    });
    let figure = format!("{} {unit}", metric.label());
    let table = table(&["variant", &figure, "95 % interval"], &rows.collect::<Vec<_>>());
    let series = ranked(summary, Draw::Bars(0.62), &spots);
    Some(Plot::simple(name, scope.titled(title), reading, [x, y], series).with_table(table))
}

/// What a speed is shown over.
struct Over {
    name: &'static str,
    title: &'static str,
    axis: &'static str,
    reading: &'static str,
    value: fn(SpeedTest) -> u32,
    /// The test without it: tests that differ in it alone make a line.
    without: fn(SpeedTest) -> SpeedTest,
}

const DEPTH: Over = Over {
    name: "speed-over-depth",
    title: "Speed over depth",
    axis: "tokens in the context before",
    reading: "How speed falls as the context fills: medians with 95 % intervals; higher is faster.",
    value: |test| test.depth,
    without: |test| SpeedTest { depth: 0, shares_depth: false, ..test },
};

const SEQUENCES: Over = Over {
    name: "speed-over-sequences",
    title: "Speed over sequences side by side",
    axis: "sequences in a batch",
    reading: "Tokens per second of all sequences of a batch together: medians with 95 % intervals; higher is faster.",
    value: |test| test.sequences,
    without: |test| SpeedTest { sequences: 1, ..test },
};

fn over(summary: &Summary, scope: &Scope, tests: &[SpeedTest], over: &Over) -> Vec<Plot> {
    let kinds = each_once(tests.iter().map(|&test| (over.without)(test)));
    let plots = kinds.into_iter().filter_map(|kind| {
        let own: Vec<SpeedTest> =
            tests.iter().copied().filter(|&test| (over.without)(test) == kind).collect();
        if own.len() < 2 {
            return None;
        }
        let mut lines = Vec::new();
        for &row in &scope.rows {
            let mut spots: Vec<Spot> = Vec::new();
            for &test in &own {
                let Some(value) = estimate(summary, row, Metric::Speed(test)) else { continue };
                let unit = Scale::of(Metric::Speed(test).descriptor().shown, &[value.value]);
                let tip = format!(
                    "{}\n{test}: {} {}",
                    label(summary, row),
                    unit.1.show(value.value),
                    unit.0
                );
                let x = f64::from((over.value)(test));
                spots.push(Spot {
                    x,
                    y: value.value,
                    span: span(value, 1.0),
                    tip,
                    ..Spot::default()
                });
            }
            spots.sort_by(|one, other| one.x.total_cmp(&other.x));
            if spots.len() > 1 {
                lines.push((row, spots));
            }
        }
        let name = format!("{}-{kind}", over.name).replace([' ', '@', '+'], "-").replace("--", "-");
        let title = format!("{}: {kind}", over.title);
        let unit = Metric::Speed(kind).descriptor().shown;
        let unit = Scale::of(unit, &[1.0]).0;
        lines_plot(summary, scope, &lines, (&name, &title, over.reading), (over.axis, unit))
    });
    plots.collect()
}

/// A line for each row.
fn lines_plot(
    summary: &Summary,
    scope: &Scope,
    lines: &[(usize, Vec<Spot>)],
    (name, title, reading): (&str, &str, &str),
    (x_title, unit): (&str, &str),
) -> Option<Plot> {
    let all = || lines.iter().flat_map(|(_, spots)| spots);
    let low = all().map(|spot| spot.x).reduce(f64::min)?;
    let high = all().map(|spot| spot.x).reduce(f64::max).filter(|high| *high > low)?;
    let room = (high - low) * 0.04;
    let x = Axis::between(x_title, low - room, high + room);
    let y = Axis::from_zero(unit, all().map(|spot| spot.span.map_or(spot.y, |(_, high)| high)))?;
    let mut values: Vec<f64> = all().map(|spot| spot.x).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let heads: Vec<String> = values.iter().map(|value| x.name(*value)).collect();
    let titles: Vec<&str> = [x_title].into_iter().chain(heads.iter().map(String::as_str)).collect();
    let rows = lines.iter().map(|(row, spots)| {
        let cell = |value: &f64| {
            let spot = spots.iter().find(|spot| spot.x.total_cmp(value).is_eq());
            spot.map_or_else(String::new, |spot| crate::units::significant(spot.y, 3))
        };
        [label(summary, *row)].into_iter().chain(values.iter().map(cell)).collect()
    });
    let table = table(&titles, &rows.collect::<Vec<_>>());
    let measured: Vec<usize> = lines.iter().map(|(row, _)| *row).collect();
    let series =
        scope.identities(summary, &measured).into_iter().filter_map(|(row, colour, name)| {
            let (_, spots) = lines.iter().find(|(own, _)| *own == row)?;
            Some(Series { name, colour, draw: Draw::Line, spots: spots.clone() })
        });
    let series = series.collect();
    Some(Plot::simple(name, scope.titled(title), reading, [x, y], series).with_table(table))
}

/// How speed grows with the layers on a GPU, of trials that differ in nothing else.
fn over_layers(summary: &Summary, scope: &Scope) -> Option<Plot> {
    let metric = Metric::Speed(summary.generation?);
    let lines = grouped(scope.rows.iter().map(|&row| {
        let own = &summary.rows[row];
        let settings = Settings { gpu_layers: 0, ..own.settings.clone() };
        ((own.label.clone(), settings), row)
    }));
    let lines = lines.into_iter().filter_map(|(_, rows)| {
        let spots = rows.iter().filter_map(|&row| {
            let own = &summary.rows[row];
            let value = estimate(summary, row, metric)?;
            // All of them, the output included.
            let layers = own.facts.as_ref().map_or(0, |facts| facts.layers) + 1;
            let all = f64::from(layers);
            let asked = f64::from(own.settings.gpu_layers);
            let x = if asked < 0.0 { all } else { asked.min(all) };
            let tip = format!(
                "{}\n{x} layers on the GPU: {} t/s",
                own.label,
                crate::units::significant(value.value, 3)
            );
            Some(Spot { x, y: value.value, span: span(value, 1.0), tip, ..Spot::default() })
        });
        let mut spots: Vec<Spot> = spots.collect();
        spots.sort_by(|one, other| one.x.total_cmp(&other.x));
        spots.dedup_by(|one, other| one.x.total_cmp(&other.x).is_eq());
        (spots.len() > 1).then(|| (rows[0], spots))
    });
    let reading = "Generation speed by layers that a GPU computes, the output counted as one; the last layer often buys most.";
    let words = ("speed-over-gpu-layers", "Speed over layers on the GPU", reading);
    lines_plot(summary, scope, &lines.collect::<Vec<_>>(), words, ("layers on the GPU", "t/s"))
}
