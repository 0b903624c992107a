//! Hardware: what the monitor saw during the phases of a trial's visits.

use super::scope::{label, table};
use super::{Axis, Colour, Draw, Panel, Plot, Scope, Series, Shade, Spot};
use crate::hardware::usage::Usage;
use crate::results::record::{PhaseUsage, RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::units::{significant, to_f64};

/// A lane of the timeline.
struct Lane {
    what: &'static str,
    unit: &'static str,
    /// What one figure for a phase is.
    how: &'static str,
    of: fn(&Usage) -> Option<f64>,
}

const MEBIBYTE: f64 = 1_048_576.0;

/// From this many trials on a page has no room for more than the first visit of each.
const MANY_TRIALS: usize = 20;

const fn lane(
    what: &'static str,
    unit: &'static str,
    how: &'static str,
    of: fn(&Usage) -> Option<f64>,
) -> Lane {
    Lane { what, unit, how, of }
}

const LANES: [Lane; 9] = [
    lane("processor", "cores", "mean", |usage| usage.cpu_cores_used),
    lane("resident memory", "MiB", "highest", |usage| {
        usage.max_rss_bytes.map(|bytes| to_f64(bytes) / MEBIBYTE)
    }),
    lane("processor clock", "MHz", "lowest", |usage| usage.min_cpu_mhz),
    lane("processor", "°C", "highest", |usage| usage.max_cpu_celsius),
    lane("processor power", "W", "mean", |usage| {
        usage.cpu_energy_joules.filter(|_| usage.seconds > 0.0).map(|it| it / usage.seconds)
    }),
    lane("GPU use", "%", "mean of the busiest", |usage| {
        gpus(usage, |gpu| gpu.utilization, f64::max).map(|it| it * 100.0)
    }),
    lane("GPU memory", "MiB", "highest", |usage| {
        gpus(
            usage,
            |gpu| gpu.max_worker_memory_bytes.or(gpu.max_memory_bytes).map(to_f64),
            |a, b| a + b,
        )
        .map(|it| it / MEBIBYTE)
    }),
    lane("GPU power", "W", "mean", |usage| gpus(usage, |gpu| gpu.mean_power_watts, |a, b| a + b)),
    lane("GPU", "°C", "highest", |usage| gpus(usage, |gpu| gpu.max_celsius, f64::max)),
];

fn gpus(
    usage: &Usage,
    of: impl Fn(&crate::hardware::usage::GpuUsage) -> Option<f64>,
    both: impl Fn(f64, f64) -> f64,
) -> Option<f64> {
    usage.gpus.iter().filter_map(of).reduce(both)
}

pub(super) fn plots(run: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Plot> {
    let is_short = run.trials.len() > MANY_TRIALS;
    scope
        .rows
        .iter()
        .filter_map(|&row| plot(summary, scope, row, &run.trials[row], is_short))
        .collect()
}

/// A phase on the trial's own clock: its visits one after the other.
struct Stretch<'a> {
    from: f64,
    to: f64,
    phase: &'a PhaseUsage,
}

fn stretches(trial: &TrialRecord, is_short: bool) -> Vec<Stretch<'_>> {
    let stages = trial.stages.iter().map(|stage| (stage.started, &stage.usage));
    let visits = if is_short { &trial.visits[..trial.visits.len().min(1)] } else { &trial.visits };
    let visits = visits.iter().map(|visit| (visit.started, &visit.usage));
    let mut all: Vec<_> = stages.chain(visits).collect();
    all.sort_by_key(|(started, _)| *started);
    let mut clock = 0.0;
    let mut found = Vec::new();
    for phase in all.into_iter().flat_map(|(_, usage)| usage) {
        let seconds = phase.seconds();
        if seconds > 0.0 && seconds.is_finite() {
            found.push(Stretch { from: clock, to: clock + seconds, phase });
            clock += seconds;
        }
    }
    found
}

fn plot(
    summary: &Summary,
    scope: &Scope,
    row: usize,
    trial: &TrialRecord,
    is_short: bool,
) -> Option<Plot> {
    let stretches = stretches(trial, is_short);
    let end = stretches.last()?.to;
    let x = Axis::between("seconds of its visits, one after the other", 0.0, end);
    let mut panels = Vec::new();
    let mut lanes = Vec::new();
    for lane in &LANES {
        let Lane { what, unit, how, of } = lane;
        let title = format!("{what} ({unit}, {how})");
        let values: Vec<Option<f64>> = stretches.iter().map(|it| of(&it.phase.usage)).collect();
        let known = || values.iter().flatten().copied();
        let Some(y) = Axis::from_zero(title, known()) else { continue };
        let spots = stretches.iter().zip(&values).filter_map(|(it, value)| Some((it, (*value)?)));
        let spots = spots.flat_map(|(it, value)| {
            let spot = |x| Spot { x, y: value, ..Spot::default() };
            [spot(it.from), spot(it.to)]
        });
        let series = Series {
            name: String::new(),
            colour: Colour::Blue,
            draw: Draw::Trace,
            spots: spots.collect(),
        };
        panels.push(Panel { y, series: vec![series] });
        lanes.push((lane, values));
    }
    if panels.is_empty() {
        return None;
    }
    let shades = stretches.iter().enumerate().map(|(at, it)| {
        let told = lanes.iter().filter_map(|(lane, values)| {
            Some(format!("\n{} {} {}", lane.what, significant(values[at]?, 3), lane.unit))
        });
        let name = it.phase.phase.to_string();
        let tip =
            format!("{name}, {} s{}", significant(it.to - it.from, 3), told.collect::<String>());
        Shade { from: it.from, to: it.to, name, tip }
    });
    let shades = shades.collect();
    let rows = stretches.iter().enumerate().map(|(at, it)| {
        let own = lanes
            .iter()
            .map(|(_, values)| values[at].map_or_else(String::new, |value| significant(value, 3)));
        let head = [it.phase.phase.to_string(), significant(it.to - it.from, 3)];
        head.into_iter().chain(own).collect()
    });
    let heads: Vec<String> =
        lanes.iter().map(|(lane, _)| format!("{} {}", lane.what, lane.unit)).collect();
    let titles: Vec<&str> =
        ["phase", "seconds"].into_iter().chain(heads.iter().map(String::as_str)).collect();
    let table = table(&titles, &rows.collect::<Vec<_>>());
    let name = label(summary, row);
    Some(Plot {
        name: format!("hardware-{}", row + 1),
        title: scope.titled(&format!("Hardware while {name} was measured")),
        reading: format!(
            "Phases are shaded in turn, in the order in which they were; a visit begins with start and load.{}",
            if is_short {
                " Of so many trials the first visit alone is shown; the data has all."
            } else {
                ""
            }
        ),
        x,
        panels,
        shades,
        table,
    })
}
