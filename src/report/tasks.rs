//! What tasks say in words: which variants answer worse than the reference, and what was left out.

use super::text::{list, sanitize};
use crate::results::metric::{Metric, TaskColumn};
use crate::results::record::RunRecord;
use crate::results::summary::{Row, Summary};
use crate::results::task_figure::{PairedTest, TestKind};
use crate::units::significant;

/// A difference that is this improbable without a cause is told.
const SIGNIFICANT: f64 = 0.05;

/// Notes about tasks: one per task with what is worse or better beyond the noise, then what did not
/// fit.
pub(super) fn notes(run: &RunRecord, summary: &Summary) -> Vec<String> {
    let columns = summary.metrics.iter().filter_map(|metric| match metric {
        Metric::Task(column) if column.is_main => Some(*column),
        _ => None,
    });
    let mut notes: Vec<String> =
        columns.filter_map(|column| differences(summary, column)).collect();
    notes.extend(left_out(run));
    notes
}

/// `questions (acc), against the reference: Q2_K −12.5 % (p < 0.001); …`
fn differences(summary: &Summary, column: TaskColumn) -> Option<String> {
    let several = summary.models.iter().map(|model| model.groups.len()).sum::<usize>() > 1;
    let tested: Vec<(&Row, &PairedTest)> = summary
        .rows
        .iter()
        .filter_map(|row| Some((row, row.tests.get(&Metric::Task(column))?)))
        .collect();
    let (_, first) = tested.first()?;
    let test = match first.test {
        TestKind::Mcnemar => "McNemar's test",
        TestKind::PairedBootstrap => "paired bootstrap",
    };
    let different: Vec<String> = tested
        .iter()
        .filter(|(_, test)| test.p_value < SIGNIFICANT)
        .map(|(row, test)| {
            let whose = if several {
                format!(" ({}, {})", sanitize(&row.model), row.settings)
            } else {
                String::new()
            };
            let points = test.difference.value * column.metric.percent_factor();
            let sign = if points < 0.0 { '−' } else { '+' };
            let points = points.abs();
            format!("{}{whose} {sign}{points:.1} ({})", sanitize(&row.label), p(test.p_value))
        })
        .collect();
    let found = if different.is_empty() {
        "no variant differs beyond the noise".to_owned()
    } else {
        format!("{} points", list(&different))
    };
    Some(format!(
        "{} ({}) against the reference: {found}; {test}, {} questions.",
        column.task, column.metric, first.difference.n
    ))
}

fn p(value: f64) -> String {
    if value < 0.001 { "p < 0.001".to_owned() } else { format!("p = {}", significant(value, 2)) }
}

/// Questions that do not fit the model's context.
fn left_out(run: &RunRecord) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for trial in &run.trials {
        for task in trial.tasks.iter().filter(|task| !task.too_long.is_empty()) {
            let context = trial.facts.as_ref().map_or(0, |facts| facts.context_length);
            let out = task.too_long.len();
            let all = out + task.questions as usize;
            let note = format!(
                "{}: {out} of {all} questions do not fit {}'s context of {context} tokens and are \
                 left out.",
                task.task,
                sanitize(&trial.model)
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    notes
}
