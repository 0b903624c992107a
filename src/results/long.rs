//! The long form of runs: tables with a row per trial, figure or raw value, as data frames and SQL like them.
//!
//! Each table is a list of columns, each with its name, kind, meaning and where its value comes from; `query` makes
//! SQL tables of them, `export` files, and the reference page its description. Every row says which run, machine and
//! variant it is of, so that rows of many runs may lie in one table.

use super::figure::Figure;
use super::metric::{Better, Metric};
use super::record::{Environment, RunRecord, TrialRecord};
use super::store::RunHeader;
use super::summary::{Row, Summary};
use crate::units::to_f64;
use crate::workload::Measurement;
use std::collections::BTreeSet;
use std::fmt;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: not measured, not known, or without a meaning.
    Null,
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// Yes or no.
    Bool(bool),
    /// A moment.
    Time(OffsetDateTime),
}

/// As files have it: numbers with all their digits, nothing for what is not there.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Text(text) => formatter.write_str(text),
            Self::Integer(number) => number.fmt(formatter),
            Self::Real(number) => number.fmt(formatter),
            Self::Bool(is) => is.fmt(formatter),
            Self::Time(at) => formatter
                .write_str(&at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()),
        }
    }
}

/// What stands in the cells of a column, where anything does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
#[expect(missing_docs, reason = "those of Value")]
pub enum Kind {
    Text,
    Integer,
    Real,
    Bool,
    Time,
}

/// A column: what it is called and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name in SQL and in data frames.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What it is, in a few words, with its unit.
    pub meaning: &'static str,
}

/// A column with the function that gives its value.
type Made<F> = (Column, F);

type OfHeader = fn(&RunHeader) -> Value;
type OfTag = fn((&str, &str)) -> Value;
type OfPlace = fn(&Place<'_>) -> Value;
type OfEstimate = fn(&OfFigure<'_>) -> Value;
type OfSample = fn(&Sample<'_>) -> Value;

/// A table of what runs measured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::VariantArray, strum::Display, clap::ValueEnum,
)]
#[strum(serialize_all = "lowercase")]
pub enum Table {
    /// A row per run.
    Runs,
    /// A row per tag of a run.
    Tags,
    /// A row per trial of a run: a variant under settings.
    Trials,
    /// A row per figure of a trial, with its 95 % interval.
    Figures,
    /// A row per raw value behind the figures.
    Samples,
}

impl Table {
    /// What a row is, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Runs => "a row per run",
            Self::Tags => "a row per tag of a run",
            Self::Trials => "a row per trial: a variant under one set of settings",
            Self::Figures => "a row per figure of a trial, with its 95 % interval",
            Self::Samples => "a row per raw value: repetition, load, answer, token, chunk of text",
        }
    }

    /// Its columns in their order.
    pub fn columns(self) -> Vec<Column> {
        fn of<F>(made: &[Made<F>]) -> Vec<Column> {
            made.iter().map(|(column, _)| *column).collect()
        }
        match self {
            Self::Runs => of(RUN),
            Self::Tags => of(TAG),
            Self::Trials => [of(OF_RUN), of(OF_TRIAL), of(TRIAL)].concat(),
            Self::Figures => [of(OF_RUN), of(OF_TRIAL), of(FIGURE)].concat(),
            Self::Samples => [of(OF_RUN), of(SAMPLE)].concat(),
        }
    }

    /// Its rows of a run as it is listed; of the others there are none without its record.
    pub fn rows_of_header(self, run: &RunHeader) -> Vec<Vec<Value>> {
        match self {
            Self::Runs => vec![cells(RUN, |of| of(run)).collect()],
            Self::Tags => {
                let tags = run.annotations.tags.iter();
                tags.map(|tag| cells(TAG, |of| of((&run.id, tag))).collect()).collect()
            }
            Self::Trials | Self::Figures | Self::Samples => Vec::new(),
        }
    }

    /// Whether its rows are made of records.
    pub fn needs_records(self) -> bool {
        matches!(self, Self::Trials | Self::Figures | Self::Samples)
    }

    /// Gives its rows of a run to `take`; `summary` is the run's. Of tables that are made of headers there are none.
    pub fn rows(self, run: &RunRecord, summary: &Summary, take: &mut dyn FnMut(Vec<Value>)) {
        for (position, (trial, row)) in run.trials.iter().zip(&summary.rows).enumerate() {
            let place = Place { run, summary, position, trial, row };
            let of_run: Vec<Value> = cells(OF_RUN, |of| of(&place)).collect();
            let of_trial = || of_run.iter().cloned().chain(cells(OF_TRIAL, |of| of(&place)));
            match self {
                Self::Runs | Self::Tags => {}
                Self::Trials => take(of_trial().chain(cells(TRIAL, |of| of(&place))).collect()),
                Self::Figures => {
                    for (metric, figure) in &row.figures {
                        let it = OfFigure { place: &place, metric: *metric, figure };
                        take(of_trial().chain(cells(FIGURE, |of| of(&it))).collect());
                    }
                }
                Self::Samples => samples(trial, &mut |it| {
                    take(of_run.iter().cloned().chain(cells(SAMPLE, |of| of(&it))).collect());
                }),
            }
        }
    }
}

fn cells<F: Copy>(made: &[Made<F>], value: impl Fn(F) -> Value) -> impl Iterator<Item = Value> {
    made.iter().map(move |(_, of)| value(*of))
}

/// A trial of a run.
struct Place<'a> {
    run: &'a RunRecord,
    summary: &'a Summary,
    position: usize,
    trial: &'a TrialRecord,
    row: &'a Row,
}

impl Place<'_> {
    fn environment(&self) -> &Environment {
        self.run.environment_of(self.trial)
    }
}

struct OfFigure<'a> {
    place: &'a Place<'a>,
    metric: Metric,
    figure: &'a Figure,
}

/// A raw value.
#[derive(Debug, Clone, Default)]
struct Sample<'a> {
    what: String,
    unit: &'static str,
    round: Option<u32>,
    prompt: Option<&'a str>,
    number: usize,
    value: f64,
}

fn text(value: &(impl ToString + ?Sized)) -> Value {
    Value::Text(value.to_string())
}

fn some<T>(value: Option<T>, of: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, of)
}

fn whole(value: impl TryInto<i64>) -> Value {
    value.try_into().map_or(Value::Null, Value::Integer)
}

fn real(value: f64) -> Value {
    if value.is_finite() { Value::Real(value) } else { Value::Null }
}

const fn column<F>(name: &'static str, kind: Kind, meaning: &'static str, of: F) -> Made<F> {
    (Column { name, kind, meaning }, of)
}

use Kind::{Bool, Integer, Real, Text, Time};

#[rustfmt::skip]
const RUN: &[Made<OfHeader>] = &[
    column("run", Text, "its name", |it| text(&it.id)),
    column("experiment", Text, "the experiment's name", |it| text(&it.name)),
    column("started", Time, "when it began, UTC", |it| Value::Time(it.started)),
    column("finished", Time, "when it ended; null: interrupted or under way", |it| some(it.finished, Value::Time)),
    column("active_seconds", Real, "how long it was under way, pauses left out", |it| some(it.active_seconds, real)),
    column("hosts", Text, "the machines that it ran on, by name", |it| Value::Text(it.hosts.join(", "))),
    column("models", Text, "its models, by name", |it| Value::Text(it.models.join(", "))),
    column("trials", Integer, "number of trials", |it| whole(it.trials)),
    column("failed", Integer, "how many of them failed", |it| whole(it.failed)),
    column("visits", Integer, "visits over all trials", |it| whole(it.visits)),
    column("note", Text, "its note", |it| some(it.annotations.note.as_ref(), text)),
    column("origin_run", Text, "its name where it was measured; null: here",
        |it| some(it.annotations.origin.as_ref(), |origin| text(&origin.run))),
    column("origin_source", Text, "the file that it was taken from",
        |it| some(it.annotations.origin.as_ref(), |origin| text(&origin.source))),
    column("merged", Time, "when it was taken from there",
        |it| some(it.annotations.origin.as_ref(), |origin| Value::Time(origin.merged))),
];

const TAG: &[Made<OfTag>] = &[
    column("run", Text, "the run's name", |(run, _)| text(run)),
    column("tag", Text, "one of its tags", |(_, tag)| text(tag)),
];

#[rustfmt::skip]
const OF_RUN: &[Made<OfPlace>] = &[
    column("run", Text, "the run's name", |it| text(&it.run.id)),
    column("started", Time, "when the run began, UTC", |it| Value::Time(it.run.started)),
    column("trial", Integer, "position of the trial in its run, from 0", |it| whole(it.position)),
    column("host", Text, "the machine, by name", |it| text(&it.trial.host.name)),
    column("model", Text, "the model's name", |it| text(&it.row.model)),
    column("variant", Text, "the variant's name in tables", |it| text(&it.row.label)),
];

#[rustfmt::skip]
const OF_TRIAL: &[Made<OfPlace>] = &[
    column("quantization", Text, "how its weights are stored, with the method", |it| text(&it.trial.quantization)),
    column("method", Text, "how its weights were chosen", |it| text(&it.trial.quantization.method)),
    column("settings", Text, "run-time choices that are not llama.cpp's defaults", |it| text(&it.row.settings)),
    column("reference", Bool, "whether quality is measured against it", |it| Value::Bool(it.row.is_reference)),
    column("engine", Text, "what computed it", |it| text(&it.trial.engine.name)),
    column("engine_version", Text, "in which version", |it| text(it.run.engine_version(it.trial))),
    column("quantbench", Text, "version and commit of quantbench", |it| text(&it.environment().quantbench)),
    column("experiment", Text, "the experiment's name", |it| text(&it.run.name)),
    column("tags", Text, "the run's tags, a space between them", |it| {
        Value::Text(it.run.annotations.tags.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
    }),
    column("cpu", Text, "the machine's processor", |it| text(&it.environment().cpu)),
    column("cores", Integer, "physical cores", |it| whole(it.environment().physical_cores)),
    column("memory_bytes", Integer, "memory of the machine", |it| whole(it.environment().memory_bytes)),
    column("gpus", Text, "GPUs with driver", |it| Value::Text(it.environment().gpus.join(", "))),
    column("operating_system", Text, "operating system and kernel", |it| text(&it.environment().operating_system)),
    column("checksum", Text, "SHA-256 of the variant's file", |it| {
        some(it.trial.artifact.as_ref(), |artifact| text(&artifact.checksum))
    }),
];

#[rustfmt::skip]
const TRIAL: &[Made<OfPlace>] = &[
    column("file", Text, "the variant's file", |it| some(it.trial.artifact.as_ref(), |artifact| text(&artifact.path.display()))),
    column("parameters", Integer, "number of weights", |it| some(it.row.facts.as_ref(), |facts| whole(facts.parameters))),
    column("threads", Integer, "threads that the settings came to", |it| some(it.row.facts.as_ref(), |facts| whole(facts.threads))),
    column("rounds", Integer, "rounds that were measured", |it| {
        whole(it.trial.visits.iter().map(|visit| visit.round).collect::<BTreeSet<_>>().len())
    }),
    column("requirements_met", Bool, "whether it meets the run's requirements; null: none, or it failed",
        |it| some(it.row.verdict.as_ref(), |verdict| Value::Bool(verdict.is_met()))),
    column("best_trade_off", Bool, "whether it is its model's best trade-off", |it| Value::Bool(it.summary.is_chosen(it.position))),
    column("pareto_front", Bool, "whether none of its model is better in everything",
        |it| Value::Bool(it.summary.is_on_front(it.position))),
    column("failed_in", Text, "the phase in which it failed; null: it did not", |it| some(it.row.failure.as_ref(), |it| text(&it.phase))),
    column("failed_because", Text, "why", |it| some(it.row.failure.as_ref(), |it| text(&it.reason))),
];

#[rustfmt::skip]
const FIGURE: &[Made<OfEstimate>] = &[
    column("metric", Text, "the figure's name, as in JSON and CSV", |it| Value::Text(it.metric.name())),
    column("unit", Text, "its unit; empty: a plain number, or a fraction", |it| text(it.metric.base_unit())),
    column("value", Real, "its value", |it| real(it.figure.estimate.value)),
    column("low", Real, "lower end of its 95 % interval; null: measured too seldom",
        |it| some(it.figure.estimate.interval, |interval| real(interval.low))),
    column("high", Real, "upper end", |it| some(it.figure.estimate.interval, |interval| real(interval.high))),
    column("n", Integer, "independent observations behind it: rounds, prompts, chunks or questions", |it| whole(it.figure.estimate.n)),
    column("better", Text, "lower or higher: which is better; null: neither", |it| {
        some(it.metric.descriptor().better, |better| text(match better { Better::Lower => "lower", Better::Higher => "higher" }))
    }),
    column("best", Bool, "whether no other trial of the model beats it beyond the noise",
        |it| Value::Bool(it.place.row.best.contains(&it.metric))),
    column("unstable", Bool, "whether its interval is wider than a stable figure's",
        |it| Value::Bool(it.place.row.is_unstable(it.metric))),
];

#[rustfmt::skip]
const SAMPLE: &[Made<OfSample>] = &[
    column("metric", Text, "what was measured, with its unit at the end", |it| text(&it.what)),
    column("unit", Text, "its unit", |it| text(it.unit)),
    column("round", Integer, "the round, from 0; null: not in rounds", |it| some(it.round, whole)),
    column("prompt", Text, "which prompt was answered; null: none", |it| some(it.prompt, text)),
    column("number", Integer, "which of several, from 0: repetition, load, token, chunk", |it| whole(it.number)),
    column("value", Real, "the value", |it| real(it.value)),
];

/// Every raw value of a trial.
fn samples<'a>(trial: &'a TrialRecord, take: &mut dyn FnMut(Sample<'a>)) {
    for visit in &trial.visits {
        let sample = Sample { round: Some(visit.round), ..Sample::default() };
        for (number, load) in visit.loads.iter().enumerate() {
            let metric = if load.cold { Metric::ColdLoadSeconds } else { Metric::WarmLoadSeconds };
            take(Sample { what: metric.name(), unit: "s", number, value: load.seconds, ..sample });
        }
        for record in &visit.speed {
            let metric = Metric::Speed(record.test);
            for (number, repetition) in record.samples.iter().enumerate() {
                let value = repetition.rate(record.test);
                take(Sample {
                    what: metric.name(),
                    unit: metric.base_unit(),
                    number,
                    value,
                    ..sample
                });
            }
        }
        for response in &visit.responses {
            let sample = Sample { prompt: Some(&response.prompt_id), unit: "s", ..sample.clone() };
            if let Some(value) = response.ttft_seconds() {
                take(Sample { what: "ttft_seconds".to_owned(), value, ..sample });
            }
            for (before, value) in response.itl_seconds().enumerate() {
                take(Sample {
                    what: "itl_seconds".to_owned(),
                    number: before + 1,
                    value,
                    ..sample
                });
            }
        }
        for (number, measurement) in visit.measured.iter().enumerate() {
            for (metric, value) in Measurement::figures(measurement) {
                take(Sample {
                    what: metric.name(),
                    unit: metric.base_unit(),
                    number,
                    value,
                    ..sample
                });
            }
        }
        if let Some(bytes) = visit.peak_rss_bytes {
            let metric = Metric::PeakRssBytes;
            take(Sample { what: metric.name(), unit: "bytes", value: to_f64(bytes), ..sample });
        }
    }
    let Some(quality) = &trial.quality else { return };
    let divergence = quality.divergence.as_ref().map(|it| &it.chunk_kld);
    for (what, chunks) in
        [("chunk_nll_nats", Some(&quality.chunk_nll)), ("chunk_kld_nats", divergence)]
    {
        for (number, &value) in chunks.into_iter().flatten().enumerate() {
            take(Sample {
                what: what.to_owned(),
                unit: "nats",
                number,
                value,
                ..Sample::default()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::path::Path;
    use strum::VariantArray as _;

    #[test]
    fn the_tables_of_the_guide_are_these() {
        let mut made = String::new();
        for table in Table::VARIANTS {
            write!(made, "\n\n`{table}`: {}.\n\n| column | kind | meaning |\n", table.meaning())
                .unwrap();
            made.push_str("| --- | --- | --- |\n");
            for Column { name, kind, meaning } in table.columns() {
                writeln!(made, "| `{name}` | {kind} | {meaning} |").unwrap();
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/HISTORY.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- made from the tables of results -->", "<!-- end -->");
        let (before, rest) = text.split_once(begin).unwrap();
        let (_, after) = rest.split_once(end).unwrap();
        let whole = format!("{before}{begin}{made}\n{end}{after}");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &whole).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == whole,
            "docs/HISTORY.md is stale; UPDATE=1 cargo test --lib long writes it"
        );
    }
}
