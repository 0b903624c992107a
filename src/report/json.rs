//! JSON: the whole record of a run with its summary, versioned, described in docs/schema/run.json.

use super::findings::findings;
use super::format::{RenderOptions, Report, ReportError};
use crate::engine::name::EngineIdentity;
use crate::model::quantization::Method;
use crate::results::figure::Figure;
use crate::results::format_test::FormatTest;
use crate::results::metric::Metric;
use crate::results::record::RunRecord;
use crate::results::summary::{Row, Summary};
use crate::results::task_figure::{PairedTest, TestKind};
use crate::results::verdict::{Check, Verdict};
use crate::statistics::estimate::Estimate;
use serde::Serialize;
use std::collections::BTreeMap;

/// Raised when a field changes its meaning or goes; new fields may come at any time.
pub(super) const VERSION: u32 = 3;

pub(super) struct Json;

impl Report for Json {
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        _: &RenderOptions,
    ) -> Result<Vec<u8>, ReportError> {
        let document = Document {
            format: "quantbench.run",
            version: VERSION,
            run,
            summary: shown(run, summary),
        };
        let mut json =
            serde_json::to_vec_pretty(&document).map_err(|error| json_error(run, error))?;
        json.push(b'\n');
        Ok(json)
    }
}

/// The error of a run that serde cannot write.
pub(super) fn json_error(run: &RunRecord, source: serde_json::Error) -> ReportError {
    ReportError::Json { run: run.id.clone(), source }
}

/// Adds one line of JSON.
pub(super) fn push_line<T: Serialize>(
    lines: &mut Vec<u8>,
    value: &T,
) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *lines, value)?;
    lines.push(b'\n');
    Ok(())
}

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    version: u32,
    run: &'a RunRecord,
    summary: ShownSummary<'a>,
}

#[derive(Serialize)]
struct ShownSummary<'a> {
    rows: Vec<ShownRow<'a>>,
    models: Vec<ShownModel<'a>>,
    generation_test: Option<String>,
    format_tests: Vec<ShownFormatTest>,
    rounds_done: u32,
    rounds_planned: Option<u32>,
    drift: Option<ShownEstimate>,
    throttling: &'a [String],
    /// Labels of variants that are one file under several names.
    same_types: Vec<Vec<String>>,
    any_failed: bool,
    requirements_unmet: bool,
    findings: Vec<String>,
}

/// One trial's figures, by the names of [`Metric::name`].
#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "these are answers, not states")]
pub(super) struct ShownRow<'a> {
    trial: usize,
    model: &'a str,
    label: &'a str,
    method: Method,
    engine: EngineIdentity,
    settings: String,
    is_reference: bool,
    compared_with: Option<usize>,
    figures: BTreeMap<String, ShownEstimate>,
    ratios: BTreeMap<String, ShownEstimate>,
    paired_tests: BTreeMap<String, ShownTest>,
    best: Vec<Metric>,
    unstable: Vec<Metric>,
    verdict: Option<ShownVerdict<'a>>,
    failed: bool,
    on_pareto_front: bool,
    best_trade_off: bool,
}

/// How a task's figure compares with the baseline's.
#[derive(Serialize)]
struct ShownTest {
    difference: ShownEstimate,
    p_value: f64,
    test: TestKind,
}

/// How two formats of a task compare, in one trial.
#[derive(Serialize)]
struct ShownFormatTest {
    row: usize,
    one: String,
    other: String,
    metric: String,
    #[serde(flatten)]
    test: ShownTest,
}

impl From<&FormatTest> for ShownFormatTest {
    fn from(FormatTest { row, one, other, test }: &FormatTest) -> Self {
        Self {
            row: *row,
            one: one.task.to_string(),
            other: other.task.to_string(),
            metric: one.metric.to_string(),
            test: test.into(),
        }
    }
}

#[derive(Serialize)]
struct ShownVerdict<'a> {
    met: bool,
    checks: &'a [Check],
}

#[derive(Serialize)]
struct ShownModel<'a> {
    name: &'a str,
    reference: Option<usize>,
    pareto_front: &'a [usize],
    beaten: Vec<ShownBeaten>,
    best_trade_off: Option<usize>,
    equal_to_it: &'a [usize],
    next_closer: Option<usize>,
    next_smaller: Option<usize>,
}

#[derive(Serialize)]
struct ShownBeaten {
    row: usize,
    by: usize,
}

#[derive(Serialize)]
struct ShownEstimate {
    value: f64,
    low: Option<f64>,
    high: Option<f64>,
    n: usize,
}

impl From<&PairedTest> for ShownTest {
    fn from(test: &PairedTest) -> Self {
        let PairedTest { difference, p_value, test } = test;
        Self { difference: difference.into(), p_value: *p_value, test: *test }
    }
}

impl From<&Estimate> for ShownEstimate {
    fn from(estimate: &Estimate) -> Self {
        Self {
            value: estimate.value,
            low: estimate.interval.map(|interval| interval.low),
            high: estimate.interval.map(|interval| interval.high),
            n: estimate.n,
        }
    }
}

fn shown<'a>(run: &RunRecord, summary: &'a Summary) -> ShownSummary<'a> {
    ShownSummary {
        rows: (0..summary.rows.len()).map(|row| shown_row(run, summary, row)).collect(),
        models: summary
            .models
            .iter()
            .map(|model| ShownModel {
                name: &model.name,
                reference: model.reference,
                pareto_front: &model.front.members,
                beaten: model
                    .front
                    .beaten
                    .iter()
                    .map(|beaten| ShownBeaten { row: beaten.row, by: beaten.by })
                    .collect(),
                best_trade_off: model.choice.as_ref().map(|choice| choice.row),
                equal_to_it: model
                    .choice
                    .as_ref()
                    .map(|choice| choice.equals.as_slice())
                    .unwrap_or_default(),
                next_closer: model.closer,
                next_smaller: model.smaller,
            })
            .collect(),
        generation_test: summary.generation.map(|test| test.to_string()),
        format_tests: summary.format_tests.iter().map(ShownFormatTest::from).collect(),
        rounds_done: summary.rounds_done,
        rounds_planned: summary.rounds_planned,
        drift: summary.drift.as_ref().map(ShownEstimate::from),
        throttling: &summary.throttling,
        same_types: super::types::same(run),
        any_failed: summary.any_failed(),
        requirements_unmet: summary.requirements_unmet(),
        findings: findings(run, summary),
    }
}

/// A row as JSON shows it; the row's position in the summary is that of its trial in the run.
pub(super) fn shown_row<'a>(
    run: &RunRecord,
    summary: &'a Summary,
    position: usize,
) -> ShownRow<'a> {
    let row: &Row = &summary.rows[position];
    let named = |(metric, figure): (&Metric, &Figure)| {
        (metric.name(), ShownEstimate::from(&figure.estimate))
    };
    let ratios = row.ratios.iter();
    ShownRow {
        trial: position,
        model: &row.model,
        label: &row.label,
        method: run.trials[position].quantization.method,
        engine: EngineIdentity {
            name: run.trials[position].engine.name,
            version: run.engine_version(&run.trials[position]).to_owned(),
        },
        settings: row.settings.to_string(),
        is_reference: row.is_reference,
        compared_with: row.baseline,
        figures: row.figures.iter().map(named).collect(),
        ratios: ratios.map(|(metric, ratio)| (metric.name(), ratio.into())).collect(),
        paired_tests: row.tests.iter().map(|(metric, test)| (metric.name(), test.into())).collect(),
        best: row.best.iter().copied().collect(),
        unstable: summary.metrics.iter().copied().filter(|&it| row.is_unstable(it)).collect(),
        verdict: row.verdict.as_ref().map(|verdict: &Verdict| ShownVerdict {
            met: verdict.is_met(),
            checks: &verdict.checks,
        }),
        failed: row.failure.is_some(),
        on_pareto_front: summary.models.iter().any(|model| model.front.members.contains(&position)),
        best_trade_off: summary
            .models
            .iter()
            .any(|model| model.choice.as_ref().is_some_and(|choice| choice.row == position)),
    }
}
