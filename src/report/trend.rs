//! One figure over runs: a block per machine, in it a table per variant with a strip for every interval.
//!
//! A strip and no plane of points: each run stands on a line of its own with its name, so that none hides another, and
//! intervals lie above each other to be compared.

use super::columns::INDISPENSABLE;
use super::header::moment;
use super::numbers::Scale;
use super::table::Align::{Left, Right};
use super::table::{Column, Group, Table};
use super::terminal::{self, Look};
use super::text::{list, sanitize, shorten, wrap};
use crate::causes::Problem;
use crate::results::each_once;
use crate::results::trend::{Identity, Point, Series, Trend};
use crate::statistics::estimate::Interval;
use crate::units::{count, format_bytes};
use serde::Serialize;

/// Columns of a strip: fewer show nothing, more help nobody.
const STRIP: std::ops::RangeInclusive<usize> = 16..=48;

/// Columns that stand beside the strip.
const BESIDE: usize = 70;

/// Columns of an engine's version.
const ENGINE: usize = 20;

/// The trend for a terminal of so many columns.
pub fn text(trend: &Trend, columns: usize) -> String {
    let metric = trend.metric;
    let descriptor = metric.descriptor();
    let better = match descriptor.better {
        Some(crate::results::metric::Better::Lower) => ", lower is better",
        Some(crate::results::metric::Better::Higher) => ", higher is better",
        None => "",
    };
    let all = trend.machines.iter().flat_map(|machine| &machine.series);
    let values: Vec<f64> = all.flat_map(|it| &it.points).map(|it| it.estimate.value).collect();
    let (unit, scale) = Scale::of(descriptor.shown, &values);
    let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
    let title = format!("{}{unit}: {}{better}", metric.label(), descriptor.definition);
    let mut lines = wrap(&title, columns, "  ");
    let mut left_out = Vec::new();
    for machine in &trend.machines {
        lines.push(String::new());
        lines.extend(wrap(&in_words(&machine.identity), columns, "  "));
        for series in &machine.series {
            let Series { model, variant, settings, .. } = series;
            let name = [model, variant, settings].map(|part| sanitize(part)).join(" ");
            lines.extend([String::new(), shorten(name.trim(), columns)]);
            let look = Look::default();
            let (table, out) = terminal::fit(table(series, scale, columns), &look, columns);
            lines.extend(terminal::draw(&table, &look));
            left_out.extend(out.names);
        }
    }
    if !left_out.is_empty() {
        lines.push(String::new());
        let names = list(&each_once(left_out));
        let told = format!("Left out to fit {columns} columns: {names} (--columns shows them).");
        lines.extend(wrap(&told, columns, ""));
    }
    if trend.machines.len() > 1 {
        lines.push(String::new());
        lines.extend(wrap(
            "Machines stand apart: a difference between two is not one over time.",
            columns,
            "",
        ));
    }
    let mut all = trend.machines.iter().flat_map(|it| &it.series).flat_map(|it| &it.points);
    if let Some(other) = all.find(|it| it.over_changed) {
        let over = other.over.as_deref().unwrap_or_default();
        lines.push(String::new());
        lines.extend(wrap(
            &format!(
                "Over other text, or more or less of it (in {}: {}), a figure is another one: such runs are not compared with the first.",
                sanitize(&other.run),
                sanitize(over)
            ),
            columns,
            "",
        ));
    }
    let all = trend.machines.iter().flat_map(|it| &it.series).flat_map(|it| &it.points);
    let doubts = all.filter_map(|it| Some((sanitize(&it.run), it.doubt.as_deref()?)));
    for (run, doubt) in each_once(doubts) {
        lines.push(String::new());
        lines.extend(wrap(&format!("{run} says little: {}.", sanitize(doubt)), columns, "  "));
    }
    lines.push(String::new());
    lines.extend(wrap(
        "Intervals (95 %) are of each run alone: between runs a machine drifts, which they do not show.",
        columns,
        "",
    ));
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn in_words(identity: &Identity) -> String {
    let Identity { host, cpu, cores, memory_bytes, gpus } = identity;
    let mut parts = vec![sanitize(cpu)];
    parts.extend((*cores > 0).then(|| count(*cores, "core")));
    parts.extend((*memory_bytes > 0).then(|| format!("{} memory", format_bytes(*memory_bytes))));
    parts.extend(gpus.iter().map(|gpu| sanitize(gpu)));
    parts.retain(|part| !part.is_empty());
    format!("{}: {}", sanitize(host), parts.join(" · "))
}

fn table(series: &Series, scale: Scale, columns: usize) -> Table {
    let points = &series.points;
    let first = points.first().map_or(f64::NAN, |point| point.estimate.value);
    let column = |title: &str, align, of: &dyn Fn(usize, &Point) -> String| {
        let cells = points.iter().enumerate().map(|(position, point)| Some(of(position, point)));
        Column::of_words(title, align, cells.collect())
    };
    let mut shown = vec![
        column("run", Left, &|_, point| sanitize(&point.run)),
        column("begun", Left, &|_, point| moment(point.started).replace(" UTC", "")),
        column("value", Right, &|_, point| value(point, scale)),
        column("to first", Right, &|position, point| match &point.over {
            Some(_) if point.over_changed => "other text".to_owned(),
            _ => change(position, point.estimate.value, first),
        }),
        column("engine", Left, &|position, point| engine(position, point)),
    ];
    let room = columns.saturating_sub(BESIDE).min(*STRIP.end());
    if let Some(range) = range(points).filter(|_| points.len() > 1 && room >= *STRIP.start()) {
        let ends = (scale.show(range.low), scale.show(range.high));
        let gap = room.saturating_sub(ends.0.len() + ends.1.len());
        let title = format!("{}{}{}", ends.0, " ".repeat(gap), ends.1);
        shown.push(column(&title, Left, &|_, point| strip(point, range, room)));
    }
    // Run, begun, value, to first, engine, strip: the highest stay longest.
    let importance = [INDISPENSABLE, 2, INDISPENSABLE, 4, 3, 1];
    for (column, importance) in shown.iter_mut().zip(importance) {
        column.importance = importance;
    }
    let rows = Group { heading: String::new(), rows: (0..points.len()).collect() };
    Table { columns: shown, groups: vec![rows] }
}

fn value(point: &Point, scale: Scale) -> String {
    let value = scale.show(point.estimate.value);
    match point.estimate.half_width() {
        Some(half) if half > 0.0 => {
            format!("{value} ±{}", scale.half_width(half, point.estimate.value))
        }
        _ => value,
    }
}

fn change(position: usize, value: f64, first: f64) -> String {
    let percent = (value / first - 1.0) * 100.0;
    match position {
        0 => String::new(),
        _ if percent.is_finite() => format!("{percent:+.1} %"),
        _ => "-".to_owned(),
    }
}

/// The version where it begins or changes.
fn engine(position: usize, point: &Point) -> String {
    let version = point.engine.split(" (").next().unwrap_or_default();
    let version = shorten(&sanitize(version), ENGINE);
    let mut marks = Vec::new();
    if position == 0 {
        marks.push(version);
    } else if point.engine_changed {
        marks.push(format!("→ {version}"));
    }
    if point.file_changed {
        marks.push("→ other file".to_owned());
    }
    list(&marks)
}

/// From the lowest to the highest end of any interval.
fn range(points: &[Point]) -> Option<Interval> {
    let ends = points.iter().flat_map(|point| {
        let interval = point.estimate.interval;
        [Some(point.estimate.value), interval.map(|it| it.low), interval.map(|it| it.high)]
    });
    let ends: Vec<f64> = ends.flatten().filter(|end| end.is_finite()).collect();
    let low = ends.iter().copied().reduce(f64::min)?;
    let high = ends.iter().copied().reduce(f64::max)?;
    (high > low && (high - low).is_finite()).then_some(Interval { low, high })
}

/// `  ├──●──┤ `: the interval on a line from the low end of the range to its high end.
fn strip(point: &Point, range: Interval, room: usize) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a fraction of some tens of columns"
    )]
    let at = |value: f64| {
        let fraction = ((value - range.low) / (range.high - range.low)).clamp(0.0, 1.0);
        (fraction * (room - 1) as f64).round() as usize
    };
    let mut cells = vec![' '; room];
    if let Some(Interval { low, high }) = point.estimate.interval.filter(|it| it.low < it.high) {
        let (low, high) = (at(low), at(high));
        cells[low..=high].fill('─');
        (cells[low], cells[high]) = ('├', '┤');
    }
    cells[at(point.estimate.value)] = '●';
    cells.into_iter().collect()
}

/// The trend as CSV, a line per run.
///
/// # Errors
/// Only where memory does not do.
pub fn csv(trend: &Trend) -> Result<Vec<u8>, Problem> {
    #[derive(Serialize)]
    struct Line<'a> {
        metric: String,
        unit: &'a str,
        host: String,
        cpu: String,
        model: String,
        variant: String,
        settings: &'a str,
        run: &'a str,
        started: String,
        engine: String,
        engine_changed: bool,
        file_changed: bool,
        over: Option<&'a str>,
        doubt: Option<&'a str>,
        value: f64,
        low: Option<f64>,
        high: Option<f64>,
        n: usize,
    }
    let failed = |source| Problem::because("the trend could not be written as CSV", source);
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    for machine in &trend.machines {
        for series in &machine.series {
            for point in &series.points {
                let interval = point.estimate.interval;
                let line = Line {
                    metric: trend.metric.name(),
                    unit: trend.unit,
                    host: sanitize(&machine.identity.host),
                    cpu: sanitize(&machine.identity.cpu),
                    model: sanitize(&series.model),
                    variant: sanitize(&series.variant),
                    settings: &series.settings,
                    run: &point.run,
                    started: moment(point.started),
                    engine: sanitize(&point.engine),
                    engine_changed: point.engine_changed,
                    file_changed: point.file_changed,
                    over: point.over.as_deref(),
                    doubt: point.doubt.as_deref(),
                    value: point.estimate.value,
                    low: interval.map(|it| it.low),
                    high: interval.map(|it| it.high),
                    n: point.estimate.n,
                };
                writer.serialize(line).map_err(failed)?;
            }
        }
    }
    writer.into_inner().map_err(|error| {
        Problem::because("the trend could not be written as CSV", error.into_error())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::{LADDER, MadeUp};
    use crate::results::record::RunRecord;
    use time::Duration;

    fn trend() -> Trend {
        let run = |number: u8, noise| -> RunRecord {
            let mut run = MadeUp {
                variants: LADDER[5..6].to_vec(),
                seed: u64::from(number),
                noise,
                ..MadeUp::default()
            }
            .run();
            run.id = format!("2026-11-2{number}-k3f{number}");
            run.started += Duration::days(i64::from(number));
            run
        };
        let mut runs = [run(1, 0.01), run(2, 0.03), run(3, 0.01), run(4, 0.01)];
        for run in &mut runs[2..] {
            run.trials[0].engine.version = "0.7.0 (llama-cpp-sys-2 0.1.170)".to_owned();
        }
        runs[3].rename_host("local", "bo\u{1b}ard");
        runs[3].hosts[0].environment.cpu = "Cortex-A76".to_owned();
        Trend::of("tg128", None, runs.map(Ok)).unwrap()
    }

    #[test]
    fn a_trend_is_a_block_per_machine_with_a_strip_per_run() {
        insta::assert_snapshot!(text(&trend(), 110));
        let narrow = text(&trend(), 72);
        assert!(!narrow.contains('●'), "{narrow}");
        for columns in [40, 50, 60, 72] {
            let narrow = text(&trend(), columns);
            let widest = narrow.lines().map(crate::report::text::width).max().unwrap();
            assert!(widest <= columns, "{columns}:\n{narrow}");
            assert!(narrow.contains("2026-11-21-k3f1"), "{narrow}");
            assert!(columns > 50 || narrow.contains("Left out to fit"), "{narrow}");
        }
    }

    #[test]
    fn a_trend_for_programs_has_every_run_on_a_line() {
        let text = String::from_utf8(csv(&trend()).unwrap()).unwrap();
        assert_eq!(text.lines().count(), 5);
        assert!(
            text.starts_with("metric,unit,host,cpu,model,variant,settings,run,started,engine,"),
            "{text}"
        );
        assert!(text.contains("bo\u{fffd}ard,Cortex-A76"), "{text}");
    }
}
