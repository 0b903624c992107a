//! Reading results back: runs exported as JSON or JSONL, and what llama-bench writes.

use super::llama_bench::read::{self as llama_bench, Fields};
use crate::causes::Problem;
use crate::results::annotations::Annotations;
use crate::results::exchange::{self, FORMAT, VERSION};
use crate::results::record::{Environment, HostRecord, RunRecord, TrialRecord};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

const TRIAL: &str = "quantbench.trial";

/// What can be read, for messages.
const READABLE: &str =
    "what 'show --format json' or 'jsonl' writes, or llama-bench with -o json, jsonl or csv";

/// The run that a file holds, by what stands in it; `name` is for messages, and the run's where it has none.
///
/// # Errors
/// It is none of the formats, of a later version, or damaged.
pub fn run(name: &str, bytes: &[u8]) -> Result<RunRecord, Problem> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Problem::because(format!("{name} is no text; give {READABLE}"), error))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.chars().next() {
        None => Err(Problem::new(format!("{name} is empty"))),
        Some('{' | '[') => of_json(name, text),
        Some('|') => Err(Problem::new(format!(
            "{name} is a table in Markdown, whose figures are rounded; give {READABLE}"
        ))),
        Some(_) => of_csv(name, text),
    }
}

fn of_json(name: &str, text: &str) -> Result<RunRecord, Problem> {
    let broken = |source: serde_json::Error| {
        Problem::because(format!("{name} cannot be read as JSON; it may be cut off"), source)
    };
    let values: Vec<Value> = serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .collect::<Result<_, _>>()
        .map_err(broken)?;
    let mut documents: Vec<Fields> = Vec::new();
    for value in values {
        let rows = match value {
            Value::Array(rows) => rows,
            value => vec![value],
        };
        for row in rows {
            let Value::Object(fields) = row else {
                return Err(Problem::new(format!("{name} holds no result; give {READABLE}")));
            };
            documents.push(fields);
        }
    }
    let Some(first) = documents.first() else {
        return Err(Problem::new(format!("{name} holds no result: its list is empty")));
    };
    if let Some(format) = first.get("format").and_then(Value::as_str) {
        let version = first.get("version").and_then(Value::as_u64).unwrap_or(0);
        if version > u64::from(VERSION) {
            return Err(Problem::new(format!(
                "{name} was written by a later quantbench (version {version} of {format}; this reads up to {VERSION})"
            )));
        }
        return match format {
            FORMAT => {
                let mut runs = exchange::read(text.as_bytes())
                    .map_err(|source| Problem::because(format!("{name} cannot be used"), source))?;
                match runs.len() {
                    1 => Ok(runs.swap_remove(0)),
                    _ => Err(several(name, &runs[0].id, &runs[1].id)),
                }
            }
            TRIAL => of_lines(name, documents),
            other => {
                let other: String = other.chars().take(40).collect();
                Err(Problem::new(format!("{name} is a '{other}' and no run; give {READABLE}")))
            }
        };
    }
    of_rows(name, &documents)
}

fn of_rows(name: &str, rows: &[Fields]) -> Result<RunRecord, Problem> {
    if rows.iter().all(llama_bench::is_row) {
        llama_bench::run(name, rows)
    } else {
        Err(Problem::new(format!("{name} holds no results that are known; give {READABLE}")))
    }
}

fn several(name: &str, one: &str, other: &str) -> Problem {
    Problem::new(format!(
        "{name} holds several runs ({one} and {other}); give one file for each, as A,B"
    ))
}

fn damaged(name: &str, source: serde_json::Error) -> Problem {
    Problem::because(format!("{name} is damaged or was changed by hand"), source)
}

/// A line of `--format jsonl`.
#[derive(Deserialize)]
struct Line {
    run: String,
    name: String,
    #[serde(with = "time::serde::rfc3339")]
    started: OffsetDateTime,
    environment: Environment,
    trial: TrialRecord,
}

/// The experiment is not in the lines.
fn of_lines(name: &str, lines: Vec<Fields>) -> Result<RunRecord, Problem> {
    let mut run: Option<RunRecord> = None;
    for line in lines {
        let line: Line =
            serde_json::from_value(Value::Object(line)).map_err(|source| damaged(name, source))?;
        let run = run.get_or_insert_with(|| RunRecord {
            id: line.run.clone(),
            name: line.name,
            started: line.started,
            // A line does not say so.
            finished: Some(line.started),
            active_seconds: None,
            hosts: Vec::new(),
            requirements: crate::experiment::requirements::Requirements::default(),
            experiment: Value::Null,
            annotations: Annotations::default(),
            trials: Vec::new(),
            drift_controls: Vec::new(),
        });
        if run.id != line.run {
            return Err(several(name, &run.id, &line.run));
        }
        if !run.hosts.iter().any(|host| host.id == line.trial.host) {
            run.hosts
                .push(HostRecord { id: line.trial.host.clone(), environment: line.environment });
        }
        run.trials.push(line.trial);
    }
    run.ok_or_else(|| Problem::new(format!("{name} holds no trial")))
}

fn of_csv(name: &str, text: &str) -> Result<RunRecord, Problem> {
    let broken =
        |source: csv::Error| Problem::because(format!("{name} cannot be read as CSV"), source);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let titles = reader.headers().map_err(broken)?.clone();
    if !titles.iter().any(|title| title == "avg_ns") {
        return Err(Problem::new(format!(
            "{name} is no result that can be compared; give {READABLE}"
        )));
    }
    let mut rows: Vec<Fields> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let fields = titles.iter().zip(&record);
        rows.push(fields.map(|(title, value)| (title.to_owned(), Value::from(value))).collect());
    }
    if rows.is_empty() {
        return Err(Problem::new(format!("{name} holds no result")));
    }
    of_rows(name, &rows)
}
