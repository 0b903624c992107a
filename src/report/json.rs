//! JSON: the whole record of a run with its summary, versioned, described in docs/schema/run.json.

use super::findings::findings;
use crate::model::engine_name::EngineIdentity;
use crate::model::quantization::Method;
use crate::results::choice::Beaten;
use crate::results::domain::DomainFigure;
use crate::results::exchange::{FORMAT, VERSION};
use crate::results::format_test::FormatTest;
use crate::results::metric::Metric;
use crate::results::recommendation::Recommendation;
use crate::results::record::RunRecord;
use crate::results::summary::{ModelSummary, Summary};
use crate::results::task_figure::PairedTest;
use crate::results::verdict::Check;
use crate::results::words::InWords;
use crate::statistics::estimate::Estimate;
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) fn render(run: &RunRecord, summary: &Summary) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = serde_json::to_vec_pretty(&document(run, summary))?;
    json.push(b'\n');
    Ok(json)
}

/// The same on one line, for a file of several.
pub(super) fn line(run: &RunRecord, summary: &Summary) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = Vec::new();
    push_line(&mut json, &document(run, summary))?;
    Ok(json)
}

fn document<'a>(run: &'a RunRecord, summary: &'a Summary) -> Document<'a> {
    Document { format: FORMAT, version: VERSION, run, summary: shown(run, summary) }
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
    drift: Option<Estimate>,
    throttling: &'a [String],
    /// Labels of variants that are one file under several names.
    same_types: Vec<Vec<String>>,
    any_failed: bool,
    requirements_unmet: bool,
    /// What `recommend` proved, and what it takes.
    recommendation: Option<&'a Recommendation>,
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
    figures: BTreeMap<String, Estimate>,
    domains: &'a [DomainFigure],
    /// By text, where there are several.
    texts: &'a [DomainFigure],
    ratios: BTreeMap<String, Estimate>,
    paired_tests: BTreeMap<String, PairedTest>,
    best: Vec<Metric>,
    unstable: Vec<Metric>,
    /// The divergence in words.
    in_words: Option<&'static str>,
    /// Memory that it takes of what its host has.
    memory_share: Option<f64>,
    verdict: Option<ShownVerdict<'a>>,
    failed: bool,
    on_pareto_front: bool,
    best_trade_off: bool,
}

/// How two formats of a task compare, in one trial.
#[derive(Serialize)]
struct ShownFormatTest {
    row: usize,
    one: String,
    other: String,
    metric: String,
    #[serde(flatten)]
    test: PairedTest,
}

impl From<&FormatTest> for ShownFormatTest {
    fn from(FormatTest { row, one, other, test }: &FormatTest) -> Self {
        Self {
            row: *row,
            one: one.task.to_string(),
            other: other.task.to_string(),
            metric: one.metric.to_string(),
            test: *test,
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
    beaten: &'a [Beaten],
    best_trade_off: Option<usize>,
    equal_to_it: &'a [usize],
    next_closer: Option<usize>,
    next_smaller: Option<usize>,
}

fn shown<'a>(run: &RunRecord, summary: &'a Summary) -> ShownSummary<'a> {
    let model = |model: &'a ModelSummary| ShownModel {
        name: &model.name,
        reference: model.reference,
        pareto_front: &model.front.members,
        beaten: &model.front.beaten,
        best_trade_off: model.choice.as_ref().map(|choice| choice.row),
        equal_to_it: model.choice.as_ref().map_or(&[][..], |choice| choice.equals.as_slice()),
        next_closer: model.closer,
        next_smaller: model.smaller,
    };
    ShownSummary {
        rows: (0..summary.rows.len()).map(|row| shown_row(run, summary, row)).collect(),
        models: summary.models.iter().map(model).collect(),
        generation_test: summary.generation.map(|test| test.to_string()),
        format_tests: summary.format_tests.iter().map(ShownFormatTest::from).collect(),
        rounds_done: summary.rounds_done,
        rounds_planned: summary.rounds_planned,
        drift: summary.drift,
        throttling: &summary.throttling,
        same_types: super::types::same(run),
        any_failed: summary.any_failed(),
        requirements_unmet: summary.requirements_unmet(),
        recommendation: summary.recommendation.as_ref(),
        findings: findings(run, summary),
    }
}

/// A row as JSON shows it; the row's position in the summary is that of its trial in the run.
pub(super) fn shown_row<'a>(
    run: &RunRecord,
    summary: &'a Summary,
    position: usize,
) -> ShownRow<'a> {
    let (row, trial) = (&summary.rows[position], &run.trials[position]);
    let engine =
        EngineIdentity { name: trial.engine.name, version: run.engine_version(trial).to_owned() };
    ShownRow {
        trial: position,
        model: &row.model,
        label: &row.label,
        method: trial.quantization.method,
        engine,
        settings: row.settings.to_string(),
        is_reference: row.is_reference,
        compared_with: row.baseline,
        figures: named(row.figures.iter().map(|(metric, figure)| (metric, &figure.estimate))),
        domains: &row.domains,
        texts: &row.texts,
        ratios: named(&row.ratios),
        paired_tests: named(&row.tests),
        best: row.best.iter().copied().collect(),
        unstable: summary.metrics.iter().copied().filter(|&it| row.is_unstable(it)).collect(),
        in_words: row
            .figures
            .get(&Metric::Kld)
            .and_then(|kld| InWords::of(kld.estimate))
            .map(|found| found.words),
        memory_share: row.memory_share,
        verdict: row
            .verdict
            .as_ref()
            .map(|verdict| ShownVerdict { met: verdict.is_met(), checks: &verdict.checks }),
        failed: row.failure.is_some(),
        on_pareto_front: summary.is_on_front(position),
        best_trade_off: summary.is_chosen(position),
    }
}

/// By name, in the order of the names.
fn named<'a, T: Copy + 'a>(
    of: impl IntoIterator<Item = (&'a Metric, &'a T)>,
) -> BTreeMap<String, T> {
    of.into_iter().map(|(metric, value)| (metric.name(), *value)).collect()
}
