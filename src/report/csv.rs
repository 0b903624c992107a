//! CSV: one line per trial, every figure in its base unit with its interval.
//!
//! All columns are there in every file, but for the throughput tests and tasks, which are those of the run;
//! what was not measured is empty.

use super::format::{RenderOptions, Report, ReportError};
use super::text::sanitize;
use crate::results::metric::Metric;
use crate::results::record::RunRecord;
use crate::results::summary::{Row, Summary};

pub(super) struct Csv;

impl Report for Csv {
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        _: &RenderOptions,
    ) -> Result<Vec<u8>, ReportError> {
        write(run, summary).map_err(|source| ReportError::Csv { run: run.id.clone(), source })
    }
}

/// Columns before the figures.
const ABOUT: [&str; 16] = [
    "run",
    "host",
    "model",
    "variant",
    "quantization",
    "method",
    "engine",
    "engine_version",
    "settings",
    "reference",
    "failed_in",
    "failed_because",
    "requirements",
    "best_trade_off",
    "pareto_front",
    "rounds",
];

fn write(run: &RunRecord, summary: &Summary) -> Result<Vec<u8>, ::csv::Error> {
    let tests: Vec<_> = summary
        .metrics
        .iter()
        .filter_map(|metric| match metric {
            Metric::Speed(test) => Some(*test),
            _ => None,
        })
        .collect();
    let tasks: Vec<_> = summary
        .metrics
        .iter()
        .filter_map(|metric| match metric {
            Metric::Task(column) => Some(*column),
            _ => None,
        })
        .collect();
    let metrics = Metric::all(&tests, &tasks);
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let mut titles: Vec<String> = ABOUT.map(str::to_owned).to_vec();
    for metric in &metrics {
        titles.push(metric.name());
        if metric.descriptor().has_interval {
            titles.push(format!("{}_low", metric.name()));
            titles.push(format!("{}_high", metric.name()));
        }
    }
    writer.write_record(&titles)?;
    for (position, row) in summary.rows.iter().enumerate() {
        let mut fields = about(run, summary, position);
        fields.extend(metrics.iter().flat_map(|&metric| figure(row, metric)));
        writer.write_record(&fields)?;
    }
    writer.into_inner().map_err(|error| ::csv::Error::from(error.into_error()))
}

fn about(run: &RunRecord, summary: &Summary, position: usize) -> Vec<String> {
    let row = &summary.rows[position];
    let model = summary.models.iter().find(|model| model.name == row.model);
    let chosen =
        model.and_then(|model| model.choice.as_ref()).is_some_and(|choice| choice.row == position);
    let on_front = model.is_some_and(|model| model.front.members.contains(&position));
    let failure = row.failure.as_ref();
    let requirements = match &row.verdict {
        None => "",
        Some(verdict) if verdict.is_met() => "met",
        Some(_) => "missed",
    };
    let trial = &run.trials[position];
    let rounds: std::collections::BTreeSet<u32> =
        trial.visits.iter().map(|visit| visit.round).collect();
    vec![
        run.id.clone(),
        sanitize(&trial.host.name),
        sanitize(&row.model),
        sanitize(&row.label),
        trial.quantization.to_string(),
        trial.quantization.method.to_string(),
        trial.engine.name.to_string(),
        run.engine_version(trial).to_owned(),
        row.settings.to_string(),
        row.is_reference.to_string(),
        failure.map(|failure| failure.phase.to_string()).unwrap_or_default(),
        failure.map(|failure| sanitize(&failure.reason)).unwrap_or_default(),
        requirements.to_owned(),
        chosen.to_string(),
        on_front.to_string(),
        rounds.len().to_string(),
    ]
}

fn figure(row: &Row, metric: Metric) -> Vec<String> {
    let estimate = row.figures.get(&metric).map(|figure| figure.estimate);
    let interval = estimate.and_then(|estimate| estimate.interval);
    let text = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut fields = vec![text(estimate.map(|estimate| estimate.value))];
    if metric.descriptor().has_interval {
        fields.push(text(interval.map(|interval| interval.low)));
        fields.push(text(interval.map(|interval| interval.high)));
    }
    fields
}
