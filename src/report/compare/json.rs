//! A comparison as JSON, described in docs/schema/compare.json.

use super::Shown;
use crate::results::change::gate::{GateOutcome, GateResult};
use crate::results::change::{
    AnswersChange, Change, ChangeUnit, Difference, FigureChange, Form, PairChange, Side, TrialName,
};
use crate::results::metric::Metric;
use crate::statistics::estimate::Interval;
use serde::Serialize;
use time::OffsetDateTime;

/// Raised when a field changes its meaning or goes; new fields may come at any time.
const VERSION: u32 = 1;

pub(super) fn render(shown: &Shown<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let comparison = shown.comparison;
    let document = Document {
        format: "quantbench.compare",
        version: VERSION,
        failed: shown.gates.iter().any(GateResult::is_tripped),
        base: members(shown.base),
        new: members(shown.new),
        differences: &comparison.differences,
        alike: &comparison.alike,
        form: comparison.form,
        judged: comparison.judged,
        pairs: comparison.pairs.iter().map(ShownPair::from).collect(),
        only_base: &comparison.only_base,
        only_new: &comparison.only_new,
        gates: shown.gates.iter().map(ShownGate::from).collect(),
    };
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    version: u32,
    /// Whether a gate failed.
    failed: bool,
    base: Vec<ShownMember<'a>>,
    new: Vec<ShownMember<'a>>,
    differences: &'a [Difference],
    alike: &'a [&'static str],
    form: Form,
    judged: usize,
    pairs: Vec<ShownPair<'a>>,
    only_base: &'a [String],
    only_new: &'a [String],
    gates: Vec<ShownGate<'a>>,
}

#[derive(Serialize)]
struct ShownMember<'a> {
    run: &'a str,
    name: &'a str,
    variant: Option<&'a str>,
    #[serde(with = "time::serde::rfc3339")]
    started: OffsetDateTime,
}

fn members(side: &Side) -> Vec<ShownMember<'_>> {
    let member = side.0.iter().map(|it| ShownMember {
        run: &it.run.id,
        name: &it.run.name,
        variant: it.part.variant(),
        started: it.run.started,
    });
    member.collect()
}

#[derive(Serialize)]
struct ShownPair<'a> {
    base: &'a TrialName,
    new: &'a TrialName,
    failure: Option<&'a str>,
    figures: Vec<ShownFigure<'a>>,
    answers: &'a [AnswersChange],
}

impl<'a> From<&'a PairChange> for ShownPair<'a> {
    fn from(pair: &'a PairChange) -> Self {
        Self {
            base: &pair.base,
            new: &pair.new,
            failure: pair.failure.as_deref(),
            figures: pair.figures.iter().map(ShownFigure::from).collect(),
            answers: &pair.answers,
        }
    }
}

#[derive(Serialize)]
struct ShownFigure<'a> {
    figure: Metric,
    base: Option<f64>,
    new: Option<f64>,
    change: Option<ShownChange>,
    verdict: &'static str,
    why: Option<&'a str>,
    common_chunks: Option<usize>,
}

impl<'a> From<&'a FigureChange> for ShownFigure<'a> {
    fn from(figure: &'a FigureChange) -> Self {
        Self {
            figure: figure.metric,
            base: figure.base,
            new: figure.new,
            change: figure.change.map(ShownChange::from),
            verdict: figure.verdict.words(),
            why: figure.why.as_deref(),
            common_chunks: figure.common_chunks,
        }
    }
}

#[derive(Serialize)]
struct ShownChange {
    value: f64,
    low: f64,
    high: f64,
    low_alone: f64,
    high_alone: f64,
    unit: ChangeUnit,
    exact: bool,
}

impl From<Change> for ShownChange {
    fn from(Change { value, interval, alone, unit, exact }: Change) -> Self {
        let (Interval { low, high }, Interval { low: low_alone, high: high_alone }) =
            (interval, alone);
        Self { value, low, high, low_alone, high_alone, unit, exact }
    }
}

#[derive(Serialize)]
struct ShownGate<'a> {
    gate: &'a str,
    trial: &'a str,
    figure: &'a str,
    outcome: &'static str,
    failed: bool,
    change: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    why: Option<&'a str>,
}

impl<'a> From<&'a GateResult> for ShownGate<'a> {
    fn from(result: &'a GateResult) -> Self {
        let (outcome, moved, why) = match &result.outcome {
            GateOutcome::Held { change, interval, open, .. } => {
                (if *open { "open" } else { "held" }, Some((*change, *interval)), None)
            }
            GateOutcome::Tripped { change, interval, .. } => {
                ("failed", Some((*change, *interval)), None)
            }
            GateOutcome::NotJudged { why } => ("not judged", None, Some(why.as_str())),
        };
        Self {
            gate: &result.gate,
            trial: &result.trial,
            figure: &result.figure,
            outcome,
            failed: result.is_tripped(),
            change: moved.map(|(change, _)| change),
            low: moved.map(|(_, interval)| interval.low),
            high: moved.map(|(_, interval)| interval.high),
            why,
        }
    }
}
