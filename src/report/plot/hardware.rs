//! Hardware: what the monitor saw over the time of a trial's visits, phase by phase.

use super::scope::{label, table};
use super::{Axis, Colour, Draw, Panel, Plot, Scope, Series, Shade, Spot};
use crate::hardware::timeline::{Column, Timeline, Trace};
use crate::hardware::usage::{GpuUsage, Usage};
use crate::report::text::sanitize;
use crate::results::each_once;
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
    instrument: Instrument,
    column: fn(&Trace) -> &Column,
    /// What a column is multiplied with to have the unit.
    factor: f64,
}

/// Whose column it is.
#[derive(Clone, Copy)]
enum Instrument {
    Worker,
    Processor,
    Gpus,
}

const MEBIBYTE: f64 = 1_048_576.0;

/// From this many trials on a page has no room for more than the first visit of each.
const MANY_TRIALS: usize = 20;

/// Points of a lane that a drawing has room for.
const MOST_POINTS: usize = 480;

const fn lane(
    [what, unit, how]: [&'static str; 3],
    of: fn(&Usage) -> Option<f64>,
    instrument: Instrument,
    column: fn(&Trace) -> &Column,
) -> Lane {
    Lane { what, unit, how, of, instrument, column, factor: 1.0 }
}

use Instrument::{Gpus, Processor, Worker};

const LANES: [Lane; 10] = [
    lane(["processor", "cores", "mean"], |it| it.cpu_cores_used, Worker, |it| &it.cpu_cores),
    lane(
        ["resident memory", "MiB", "highest"],
        |usage| usage.max_rss_bytes.map(|bytes| to_f64(bytes) / MEBIBYTE),
        Worker,
        |trace| &trace.rss_mebibytes,
    ),
    lane(["processor clock", "MHz", "lowest"], |it| it.min_cpu_mhz, Processor, |it| &it.mhz),
    lane(["processor", "°C", "highest"], |it| it.max_cpu_celsius, Processor, |it| &it.celsius),
    lane(
        ["processor power", "W", "mean"],
        |it| it.cpu_energy_joules.filter(|_| it.seconds > 0.0).map(|joules| joules / it.seconds),
        Processor,
        |trace| &trace.watts,
    ),
    Lane {
        factor: 100.0,
        ..lane(
            ["GPU use", "%", "mean of the busiest"],
            |usage| gpus(usage, |gpu| gpu.utilization, f64::max).map(|it| it * 100.0),
            Gpus,
            |trace| &trace.utilization,
        )
    },
    lane(
        ["GPU memory", "MiB", "highest"],
        |usage| {
            let bytes = |gpu: &GpuUsage| gpu.max_memory_bytes.or(gpu.max_worker_memory_bytes);
            gpus(usage, |gpu| bytes(gpu).map(to_f64), |a, b| a + b).map(|it| it / MEBIBYTE)
        },
        Gpus,
        |trace| &trace.memory_mebibytes,
    ),
    lane(
        ["GPU power", "W", "mean"],
        |usage| gpus(usage, |gpu| gpu.mean_power_watts, |a, b| a + b),
        Gpus,
        |trace| &trace.watts,
    ),
    lane(
        ["GPU", "°C", "highest"],
        |usage| gpus(usage, |gpu| gpu.max_celsius, f64::max),
        Gpus,
        |trace| &trace.celsius,
    ),
    lane(["GPU clock", "MHz", "lowest"], |_| None, Gpus, |trace| &trace.mhz),
];

fn gpus(
    usage: &Usage,
    of: impl Fn(&GpuUsage) -> Option<f64>,
    both: impl Fn(f64, f64) -> f64,
) -> Option<f64> {
    let used = usage.gpus.iter().filter(|gpu| gpu.max_worker_memory_bytes != Some(0));
    used.filter_map(of).reduce(both)
}

pub(super) fn plots(run: &RunRecord, summary: &Summary, scope: &Scope) -> Vec<Plot> {
    let is_short = run.trials.len() > MANY_TRIALS;
    scope
        .rows
        .iter()
        .filter_map(|&row| plot(summary, scope, row, &run.trials[row], is_short))
        .collect()
}

/// A visit on the trial's own clock, on which visits follow each other without a pause.
struct Visit<'a> {
    from: f64,
    to: f64,
    timeline: &'a Timeline,
    phases: Vec<Stretch<'a>>,
}

/// A phase on that clock.
struct Stretch<'a> {
    from: f64,
    to: f64,
    phase: &'a PhaseUsage,
}

fn visits(trial: &TrialRecord, is_short: bool) -> Vec<Visit<'_>> {
    let stages = trial.stages.iter().map(|it| (it.started, &it.usage, &it.timeline));
    let visits = if is_short { &trial.visits[..trial.visits.len().min(1)] } else { &trial.visits };
    let visits = visits.iter().map(|it| (it.started, &it.usage, &it.timeline));
    let mut all: Vec<_> = stages.chain(visits).collect();
    all.sort_by_key(|(started, ..)| *started);
    let mut clock = 0.0;
    let visits = all.into_iter().map(|(_, usage, timeline)| {
        let from = clock;
        let mut phases = Vec::new();
        for phase in usage {
            let seconds = phase.seconds();
            if seconds > 0.0 && seconds.is_finite() {
                phases.push(Stretch { from: clock, to: clock + seconds, phase });
                clock += seconds;
            }
        }
        Visit { from, to: clock, timeline, phases }
    });
    visits.filter(|visit| !visit.phases.is_empty()).collect()
}

impl Lane {
    /// The traces that have its column, with their names where there are several.
    fn traces<'a>(&self, timeline: &'a Timeline) -> Vec<(&'a str, &'a Trace)> {
        let traces: Vec<(&str, &Trace)> = match self.instrument {
            Worker => vec![("", &timeline.worker)],
            Processor => vec![("", &timeline.processor)],
            Gpus => timeline.gpus.iter().map(|gpu| (gpu.name.as_str(), &gpu.trace)).collect(),
        };
        traces.into_iter().filter(|(_, trace)| !(self.column)(trace).is_empty()).collect()
    }

    /// Lines: what was seen over time, and of visits of which that was not kept one figure for each phase.
    fn series(&self, visits: &[Visit<'_>]) -> Vec<Series> {
        let traces = visits.iter().flat_map(|visit| self.traces(visit.timeline));
        let mut names: Vec<String> = each_once(traces.map(|(name, _)| name.to_owned()));
        if names.is_empty() {
            names.push(String::new());
        }
        let line = |(at, name): (usize, &String)| {
            let spots = visits.iter().flat_map(|visit| {
                let traces = self.traces(visit.timeline);
                match traces.iter().find(|(own, _)| own == name) {
                    Some((_, trace)) => self.seen(visit, trace),
                    None if traces.is_empty() && at == 0 => self.told(visit),
                    None => Vec::new(),
                }
            });
            Series {
                name: if names.len() > 1 { sanitize(name) } else { String::new() },
                colour: Colour::OF_SERIES[at % Colour::OF_SERIES.len()],
                draw: Draw::Trace,
                spots: thinned(spots.collect()),
            }
        };
        names.iter().enumerate().map(line).collect()
    }

    fn seen(&self, visit: &Visit<'_>, trace: &Trace) -> Vec<Spot> {
        let points = trace.seconds.iter().zip((self.column)(trace));
        let points = points.filter_map(|(seconds, value)| Some((*seconds, (*value)?)));
        let spot = |(seconds, value): (f64, f64)| Spot {
            x: (visit.from + seconds).min(visit.to),
            y: value * self.factor,
            ..Spot::default()
        };
        points.map(spot).filter(|spot| spot.x.is_finite() && spot.y.is_finite()).collect()
    }

    fn told(&self, visit: &Visit<'_>) -> Vec<Spot> {
        let known = visit.phases.iter().filter_map(|it| Some((it, (self.of)(&it.phase.usage)?)));
        let steps = known.flat_map(|(it, value)| {
            [it.from, it.to].map(|x| Spot { x, y: value, ..Spot::default() })
        });
        steps.collect()
    }
}

/// So few that they can be drawn: of each stretch the lowest and the highest.
fn thinned(spots: Vec<Spot>) -> Vec<Spot> {
    if spots.len() <= MOST_POINTS {
        return spots;
    }
    let stretches = spots.chunks(spots.len().div_ceil(MOST_POINTS / 2));
    let ends = stretches.flat_map(|stretch| {
        let by_value = |one: &&Spot, other: &&Spot| one.y.total_cmp(&other.y);
        let ends = stretch.iter().min_by(by_value).zip(stretch.iter().max_by(by_value));
        let mut ends: Vec<Spot> =
            ends.into_iter().flat_map(|(low, high)| [low, high]).cloned().collect();
        ends.sort_by(|one, other| one.x.total_cmp(&other.x));
        ends.dedup();
        ends
    });
    ends.collect()
}

fn plot(
    summary: &Summary,
    scope: &Scope,
    row: usize,
    trial: &TrialRecord,
    is_short: bool,
) -> Option<Plot> {
    let visits = visits(trial, is_short);
    let end = visits.last()?.to;
    let x = Axis::between("seconds of its visits, one after the other", 0.0, end);
    let any_seen = visits.iter().any(|visit| !visit.timeline.is_empty());
    let stretches: Vec<&Stretch<'_>> = visits.iter().flat_map(|visit| &visit.phases).collect();
    let mut panels = Vec::new();
    let mut told = Vec::new();
    for lane in &LANES {
        let Lane { what, unit, how, of, .. } = lane;
        let series = lane.series(&visits);
        let is_seen = visits.iter().any(|visit| !lane.traces(visit.timeline).is_empty());
        let title =
            if is_seen { format!("{what} ({unit})") } else { format!("{what} ({unit}, {how})") };
        let values: Vec<Option<f64>> = stretches.iter().map(|it| of(&it.phase.usage)).collect();
        let drawn = series.iter().flat_map(|series| &series.spots).map(|spot| spot.y);
        let Some(y) = Axis::from_zero(title, drawn) else { continue };
        panels.push(Panel { y, series });
        if values.iter().any(Option::is_some) {
            told.push((lane, values));
        }
    }
    if panels.is_empty() {
        return None;
    }
    let shades = stretches.iter().enumerate().map(|(at, it)| {
        let told = told.iter().filter_map(|(lane, values)| {
            Some(format!(
                "\n{} {} {}, {}",
                lane.what,
                significant(values[at]?, 3),
                lane.unit,
                lane.how
            ))
        });
        let name = it.phase.phase.to_string();
        let tip =
            format!("{name}, {} s{}", significant(it.to - it.from, 3), told.collect::<String>());
        Shade { from: it.from, to: it.to, name, tip }
    });
    let shades = shades.collect();
    let rows = stretches.iter().enumerate().map(|(at, it)| {
        let own = told
            .iter()
            .map(|(_, values)| values[at].map_or_else(String::new, |value| significant(value, 3)));
        let head = [it.phase.phase.to_string(), significant(it.to - it.from, 3)];
        head.into_iter().chain(own).collect()
    });
    let heads: Vec<String> =
        told.iter().map(|(lane, _)| format!("{} {}, {}", lane.what, lane.unit, lane.how)).collect();
    let titles: Vec<&str> =
        ["phase", "seconds"].into_iter().chain(heads.iter().map(String::as_str)).collect();
    let table = table(&titles, &rows.collect::<Vec<_>>());
    let name = label(summary, row);
    let lines = if any_seen {
        "Lines are what the monitor saw over time; the table has one figure for each phase."
    } else {
        "Of each phase one figure was kept."
    };
    let part = if is_short {
        " Of so many trials the first visit alone is shown; the data has all."
    } else {
        ""
    };
    Some(Plot {
        name: format!("hardware-{}", row + 1),
        title: scope.titled(&format!("Hardware while {name} was measured")),
        reading: format!(
            "{lines} Phases are shaded in turn, in the order in which they were; a visit begins with start and load.{part}"
        ),
        x,
        panels,
        shades,
        table,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::timeline::GpuTrace;
    use crate::results::made_up::MadeUp;

    fn run() -> RunRecord {
        MadeUp { gpu: true, rounds: 2, ..MadeUp::default() }.run()
    }

    fn first(run: &RunRecord) -> Plot {
        let summary = Summary::of(run);
        let scope = &super::super::scopes(run, &summary)[0];
        plots(run, &summary, scope).swap_remove(0)
    }

    fn panel<'a>(plot: &'a Plot, title: &str) -> &'a Panel {
        let found = plot.panels.iter().find(|panel| panel.y.title() == title);
        found.unwrap_or_else(|| panic!("{title} is not in {:?}", plot.panels))
    }

    #[test]
    fn a_lane_is_what_was_seen_over_the_time_of_all_visits() {
        let plot = first(&run());
        assert_eq!((plot.shades.len(), plot.panels.len()), (2, 10));
        let [memory] = panel(&plot, "resident memory (MiB)").series.as_slice() else { panic!() };
        let times: Vec<f64> = memory.spots.iter().map(|spot| spot.x).collect();
        assert!(times.is_sorted() && times.len() == 12, "two visits of six points: {times:?}");
        assert_eq!((times[0], times[11], plot.shades[1].to), (0.0, 10.0, 10.0));
        let used = &panel(&plot, "GPU use (%)").series[0].spots;
        assert!(used.iter().all(|spot| spot.y <= 100.0) && used.iter().any(|spot| spot.y > 99.0));
    }

    #[test]
    fn a_run_of_before_has_a_step_for_each_phase() {
        let mut run = run();
        for visit in run.trials.iter_mut().flat_map(|trial| &mut trial.visits) {
            visit.timeline = Timeline::default();
        }
        let plot = first(&run);
        let [cores] = panel(&plot, "processor (cores, mean)").series.as_slice() else { panic!() };
        assert_eq!(cores.spots.len(), 4, "a step for the only phase of each visit");
        assert!(plot.reading.starts_with("Of each phase one figure was kept."));
    }

    #[test]
    fn each_gpu_has_a_line_of_its_own() {
        let mut run = run();
        for visit in run.trials.iter_mut().flat_map(|trial| &mut trial.visits) {
            let second = visit.timeline.gpus[0].clone();
            visit.timeline.gpus.push(GpuTrace { name: "1: \u{1b}".to_owned(), ..second });
        }
        let plot = first(&run);
        let [one, other] = panel(&plot, "GPU power (W)").series.as_slice() else { panic!() };
        assert_eq!((one.name.as_str(), other.name.as_str()), ("0: NVIDIA H200", "1: \u{fffd}"));
        assert_eq!((one.spots.len(), other.spots.len()), (12, 12));
        assert_ne!(one.colour, other.colour);
    }

    #[test]
    fn more_points_than_a_drawing_has_room_for_lose_no_peak() {
        let spot = |at: u32| {
            let y = if at == 7_777 { 99.0 } else { f64::from(at % 7) + 1.0 };
            Spot { x: f64::from(at), y: if at == 3_333 { 0.0 } else { y }, ..Spot::default() }
        };
        let thin = thinned((0..10_000).map(spot).collect());
        assert!(thin.len() <= MOST_POINTS, "{}", thin.len());
        assert!(thin.iter().any(|spot| spot.y > 98.0) && thin.iter().any(|spot| spot.y < 0.5));
        assert!(thin.is_sorted_by(|one, other| one.x <= other.x));
    }
}
