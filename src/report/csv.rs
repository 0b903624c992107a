//! CSV: one line per trial, every figure in its base unit with its interval.
//!
//! All columns are there in every file, but for the throughput tests and tasks, which are those of the run;
//! what was not measured is empty.

use super::text::sanitize;
use crate::results::metric::Metric;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::{Row, Summary};
use std::collections::BTreeSet;

/// What a line is about.
struct Line<'a> {
    run: &'a RunRecord,
    summary: &'a Summary,
    position: usize,
    trial: &'a TrialRecord,
    row: &'a Row,
}

/// What stands in a column.
type Field = fn(&Line<'_>) -> String;

/// Columns before the figures.
const ABOUT: [(&str, Field); 16] = [
    ("run", |it| it.run.id.clone()),
    ("host", |it| sanitize(&it.trial.host.name)),
    ("model", |it| sanitize(&it.row.model)),
    ("variant", |it| sanitize(&it.row.label)),
    ("quantization", |it| it.trial.quantization.to_string()),
    ("method", |it| it.trial.quantization.method.to_string()),
    ("engine", |it| it.trial.engine.name.to_string()),
    ("engine_version", |it| it.run.engine_version(it.trial).to_owned()),
    ("settings", |it| it.row.settings.to_string()),
    ("reference", |it| it.row.is_reference.to_string()),
    ("failed_in", |it| text(it.row.failure.as_ref().map(|failure| &failure.phase))),
    ("failed_because", |it| text(it.row.failure.as_ref().map(|it| sanitize(&it.reason)))),
    ("requirements", |it| {
        let met = it.row.verdict.as_ref().map(|it| if it.is_met() { "met" } else { "missed" });
        met.unwrap_or_default().to_owned()
    }),
    ("best_trade_off", |it| it.summary.is_chosen(it.position).to_string()),
    ("pareto_front", |it| it.summary.is_on_front(it.position).to_string()),
    ("rounds", |it| {
        let rounds: BTreeSet<u32> = it.trial.visits.iter().map(|visit| visit.round).collect();
        rounds.len().to_string()
    }),
];

/// What is not there is empty.
fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

pub(super) fn render(run: &RunRecord, summary: &Summary) -> Result<Vec<u8>, ::csv::Error> {
    let metrics = Metric::all_with(&summary.metrics);
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let mut titles: Vec<String> = ABOUT.map(|(title, _)| title.to_owned()).to_vec();
    for metric in &metrics {
        let name = metric.name();
        titles.push(name.clone());
        if metric.descriptor().has_interval {
            titles.extend(["low", "high"].map(|end| format!("{name}_{end}")));
        }
    }
    writer.write_record(&titles)?;
    for (position, (trial, row)) in run.trials.iter().zip(&summary.rows).enumerate() {
        let line = Line { run, summary, position, trial, row };
        let mut fields: Vec<String> = ABOUT.iter().map(|(_, field)| field(&line)).collect();
        for metric in &metrics {
            let estimate = row.figures.get(metric).map(|figure| figure.estimate);
            fields.push(text(estimate.map(|estimate| estimate.value)));
            if metric.descriptor().has_interval {
                let interval = estimate.and_then(|estimate| estimate.interval);
                fields.push(text(interval.map(|interval| interval.low)));
                fields.push(text(interval.map(|interval| interval.high)));
            }
        }
        writer.write_record(&fields)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}
