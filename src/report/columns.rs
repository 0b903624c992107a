//! The columns of the comparison: what each shows, how important it is, and its cells.

use super::numbers::Scale;
use super::text::{sanitize, shorten, width};
use crate::experiment::requirements::{GENERATION, MEMORY};
use crate::results::metric::{Digits, Metric, Shown};
use crate::results::summary::{Row, Summary};
use crate::results::verdict::{Check, Outcome, Verdict};
use crate::statistics::estimate::Estimate;

/// From this importance on a column stays even where it does not fit.
pub(super) const INDISPENSABLE: u32 = 93;

/// From this importance on a column is one to decide from.
pub(super) const DECIDES: u32 = 85;

/// One column, with a cell for every row of the summary.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// What it shows.
    pub(super) kind: Kind,
    /// Title, from general to unit; empty lines are left out.
    pub(super) title: Vec<String>,
    /// The cells, by row.
    pub(super) cells: Vec<Cell>,
}

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The trial's name.
    Variant,
    /// A figure.
    Figure(Metric),
    /// How many times the reference's a figure is.
    Ratio(Metric),
    /// Whether the requirements are met.
    Verdict,
}

/// What stands in one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// The text, padded so that points and signs stand below each other.
    pub(super) text: String,
    /// Whether no other of the model is better.
    pub(super) best: bool,
    /// Whether the interval is too wide.
    pub(super) unstable: bool,
}

impl Cell {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The mark behind the text: one column wide, a space if there is nothing to mark.
    pub(super) fn mark(&self) -> char {
        match (self.unstable, self.best) {
            (true, _) => '~',
            (false, true) => '*',
            (false, false) => ' ',
        }
    }
}

impl Column {
    /// Columns that the widest of title and cells takes, mark excluded.
    pub(super) fn width(&self) -> usize {
        let title = self.title.iter().map(|line| width(line));
        title.chain(self.cells.iter().map(|cell| width(&cell.text))).max().unwrap_or(0)
    }

    /// What it shows, in one line and without its unit: `TTFT p50`.
    pub(super) fn name(&self) -> String {
        in_a_line(&self.title)
    }

    /// How much a reader would miss it: the highest number is kept longest.
    ///
    /// A person who chooses a model file asks: does it fit (size, memory), is it fast enough
    /// (generation before prompt processing, first token), is it good enough (divergence before
    /// perplexity). What follows from other columns (bits per weight from size, latency between
    /// tokens from generation speed) goes first.
    pub(super) fn importance(&self, summary: &Summary) -> u32 {
        match self.kind {
            Kind::Variant => 100,
            Kind::Verdict => 92,
            Kind::Ratio(_) => 40,
            Kind::Figure(Metric::Speed(test)) if Some(test) == summary.generation => 94,
            Kind::Figure(metric) => metric.descriptor().importance,
        }
    }

    /// Whether it has no meaning for a row.
    pub(super) fn is_blank_for(&self, row: &Row) -> bool {
        matches!(self.kind, Kind::Figure(metric) | Kind::Ratio(metric) if row.is_inapplicable(metric))
    }

    /// Whether it belongs to the comparison itself and not to the details around it.
    pub(super) fn is_essential(&self, summary: &Summary) -> bool {
        self.importance(summary) > 50
    }
}

/// All columns in which at least one row has something, in their order.
pub(super) fn columns(summary: &Summary, label_columns: usize) -> Vec<Column> {
    let mut columns = vec![variants(summary, label_columns)];
    for &metric in &summary.metrics {
        columns.push(figures(summary, metric));
        if let Metric::Speed(test) = metric
            && Some(test) == summary.generation
        {
            columns.extend(ratios(summary, metric));
        }
    }
    columns.extend(verdicts(summary));
    columns.retain(|column| {
        column.cells.iter().any(|cell| !cell.text.is_empty()) && !column.title.is_empty()
    });
    columns
}

/// Names: the best trade-off with an arrow, the reference as such, failed trials with the number of
/// their footnote.
fn variants(summary: &Summary, label_columns: usize) -> Column {
    let chosen = |row: usize| {
        summary.models.iter().any(|model| model.choice.as_ref().is_some_and(|it| it.row == row))
    };
    let any_chosen = summary.models.iter().any(|model| model.choice.is_some());
    let mut failures = 0;
    let cells = summary.rows.iter().enumerate().map(|(position, row)| {
        let arrow = match (any_chosen, chosen(position)) {
            (true, true) => "→ ",
            (true, false) => "  ",
            (false, _) => "",
        };
        let reference = if row.is_reference { " ref" } else { "" };
        let failure = if row.failure.is_some() {
            failures += 1;
            format!(" [{failures}]")
        } else {
            String::new()
        };
        let name = shorten(&sanitize(&row.label), label_columns);
        Cell::plain(format!("{arrow}{name}{reference}{failure}"))
    });
    Column { kind: Kind::Variant, title: lines(["variant"]), cells: cells.collect() }
}

fn figures(summary: &Summary, metric: Metric) -> Column {
    let estimates: Vec<Option<Estimate>> = summary
        .rows
        .iter()
        .map(|row| row.figures.get(&metric).map(|figure| figure.estimate))
        .collect();
    let (title, scale) = presentation(metric, &estimates);
    let with_interval = matches!(metric, Metric::Speed(_) | Metric::Task(_));
    let parts: Vec<(String, String)> = estimates
        .iter()
        .map(|estimate| match estimate {
            None => (String::new(), String::new()),
            Some(estimate) => {
                let half = estimate.half_width().filter(|_| with_interval);
                let half = half
                    .map(|half| scale.show_half_width(half, estimate.value))
                    .unwrap_or_default();
                (scale.show(estimate.value), half)
            }
        })
        .collect();
    let widest = |part: fn(&(String, String)) -> &String| {
        parts.iter().map(|parts| width(part(parts))).max().unwrap_or(0)
    };
    let (value_width, half_width) = (widest(|parts| &parts.0), widest(|parts| &parts.1));
    let cells = summary.rows.iter().zip(&parts).map(|(row, (value, half))| {
        if value.is_empty() {
            return Cell::plain(absent(row, metric));
        }
        let gap = if half_width > 0 { " " } else { "" };
        Cell {
            text: format!("{value:>value_width$}{gap}{half:>half_width$}"),
            best: row.best.contains(&metric),
            unstable: row.is_unstable(metric),
        }
    });
    Column { kind: Kind::Figure(metric), title, cells: cells.collect() }
}

/// What stands for a figure that is not there.
fn absent(row: &Row, metric: Metric) -> &'static str {
    if row.is_inapplicable(metric) {
        ""
    } else if row.is_reference && metric.descriptor().is_comparison && row.failure.is_none() {
        "ref"
    } else {
        "-"
    }
}

fn ratios(summary: &Summary, metric: Metric) -> Option<Column> {
    let ratio = |row: &Row| row.ratios.get(&metric).copied();
    if !summary.rows.iter().any(|row| ratio(row).is_some()) {
        return None;
    }
    let cells = summary.rows.iter().map(|row| match ratio(row) {
        None if row.is_inapplicable(metric) => Cell::plain(""),
        None => Cell::plain(if row.baseline.is_none() && row.is_reference { "ref" } else { "-" }),
        Some(ratio) => Cell::plain(format!("{:.2}", ratio.value)),
    });
    let mut title = presentation(metric, &[]).0;
    title.pop();
    title.push("vs ref".to_owned());
    Some(Column { kind: Kind::Ratio(metric), title, cells: cells.collect() })
}

fn verdicts(summary: &Summary) -> Option<Column> {
    if summary.rows.iter().all(|row| row.verdict.is_none()) {
        return None;
    }
    let cells = summary.rows.iter().map(|row| match &row.verdict {
        None => Cell::plain("-"),
        Some(verdict) => Cell::plain(verdict_words(verdict)),
    });
    Some(Column { kind: Kind::Verdict, title: lines(["meets", "needs"]), cells: cells.collect() })
}

/// `yes`, `no: memory, KLD`, `unknown: TTFT`; a question mark where noise could turn it.
fn verdict_words(verdict: &Verdict) -> String {
    let with = |outcome: Outcome| -> Vec<String> {
        let checks = verdict.checks.iter().filter(|check| check.outcome == outcome);
        checks.map(word).collect()
    };
    let close = verdict.checks.iter().any(|check| check.close);
    let missed = with(Outcome::Missed);
    let unknown = with(Outcome::NotMeasured);
    let words = if !missed.is_empty() {
        format!("no: {}", missed.join(", "))
    } else if !unknown.is_empty() {
        format!("unknown: {}", unknown.join(", "))
    } else {
        "yes".to_owned()
    };
    // A trial that misses several limits by far stays missed, however one of them falls.
    let could_turn = close && missed.len() <= 1 && unknown.is_empty();
    if could_turn { format!("{words}?") } else { words }
}

/// What is required, as briefly as a table needs it: `memory`.
pub(super) fn word(check: &Check) -> String {
    let name = check.requirement.metric.as_str();
    let word = match (name, check.measured) {
        (MEMORY, _) => "memory",
        (GENERATION, _) => "speed",
        ("ttft_p90_seconds", _) => "TTFT",
        ("kld_nats", _) => "KLD",
        ("perplexity_increase", _) => "PPL",
        (_, Some(metric)) => return in_a_line(&presentation(metric, &[]).0),
        (name, None) => name,
    };
    word.to_owned()
}

/// A title without its unit.
fn in_a_line(title: &[String]) -> String {
    let lines = title.iter().map(String::as_str).filter(|line| !UNITS.contains(line));
    lines.collect::<Vec<_>>().join(" ").replace("/ ", "/")
}

/// Title lines that are units.
const UNITS: [&str; 13] =
    ["MiB", "GiB", "ms", "s", "t/s", "emb/s", "nats", "%", "+%", "W", "°C", "cores", "J/token"];

const MEBIBYTE: f64 = 1.0 / 1_048_576.0;
const GIBIBYTE: f64 = MEBIBYTE / 1024.0;

/// Title and scale of a figure's column.
fn presentation(metric: Metric, estimates: &[Option<Estimate>]) -> (Vec<String>, Scale) {
    let values: Vec<f64> = estimates.iter().flatten().map(|estimate| estimate.value).collect();
    let typical = |factor: f64, digits: i32| Scale::typical(&values, factor, digits);
    let fixed = |factor: f64, decimals: usize| Scale { factor, decimals };
    // From 10 GiB on a column in MiB has digits that nobody reads.
    let large = values.iter().any(|&value| value * GIBIBYTE >= 10.0);
    let descriptor = metric.descriptor();
    let mut title: Vec<String> = descriptor.title.iter().map(|&line| line.to_owned()).collect();
    match metric {
        Metric::Speed(test) => {
            title.extend(test.to_string().split(" @ ").map(str::to_owned));
            if let Some(depth) = title.get_mut(1) {
                *depth = format!("@ {depth}");
            }
        }
        Metric::Task(column) => {
            let (name, format) = column.task.parts();
            title.push(name.to_owned());
            title.extend(format.map(|format| format!("@{format}")));
            title.push(column.metric.to_string());
        }
        _ => {}
    }
    let (unit, scale) = match descriptor.shown {
        Shown::Bytes if large => ("GiB", fixed(GIBIBYTE, 2)),
        Shown::Bytes => ("MiB", typical(MEBIBYTE, 3)),
        Shown::In(unit, factor, digits) => {
            let factor = match metric {
                Metric::Task(column) => column.metric.percent_factor(),
                _ => factor,
            };
            let unit = match metric {
                Metric::Speed(test) => test.unit().short(),
                _ => unit,
            };
            let scale = match digits {
                Digits::Significant(digits) => typical(factor, digits),
                Digits::Decimals(decimals) => fixed(factor, decimals),
                Digits::OfSmallest(digits) => Scale::smallest(&values, digits, 3, 5),
            };
            (unit, scale)
        }
    };
    title.extend(Some(unit.to_owned()).filter(|unit| !unit.is_empty()));
    (title, scale)
}

fn lines<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(str::to_owned).to_vec()
}
