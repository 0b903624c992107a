//! What tasks say in words: which variants answer worse than the reference, and what was left out.

use super::notes::name;
use super::text::{list, sanitize};
use crate::results::each_once;
use crate::results::format_test::FormatTest;
use crate::results::metric::{Metric, TaskColumn};
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::{Row, Summary};
use crate::results::task_figure::PairedTest;
use crate::units::{count, format_bytes, significant};
use crate::workload::tasks::record::{RetrievalRecord, TaskRecord, VisionRecord};

/// A difference that is this improbable without a cause is told.
const SIGNIFICANT: f64 = 0.05;

/// Notes about tasks: what is worse or better than the reference beyond the noise, then what did not
/// fit.
pub(super) fn notes(run: &RunRecord, summary: &Summary) -> Vec<String> {
    let mut different = Vec::new();
    let mut alike = Vec::new();
    for metric in &summary.metrics {
        let Metric::Task(column) = metric else { continue };
        if !column.is_main {
            continue;
        }
        match differences(summary, *column) {
            None => {}
            Some(found) if found.is_empty() => alike.push(column.task.to_string()),
            Some(found) => different.push(format!("{}: {}", column.task, list(&found))),
        }
    }
    let mut notes = Vec::new();
    if !different.is_empty() {
        notes.push(format!(
            "Points against the reference, paired by question (McNemar's test, or bootstrap): {}.",
            different.join("; ")
        ));
    }
    if !alike.is_empty() {
        notes.push(format!(
            "No variant differs from the reference beyond the noise in {}.",
            list(&alike)
        ));
    }
    notes.extend(formats(summary));
    notes.extend(retrieval(run));
    notes.extend(vision(run));
    notes.extend(open_thoughts(run));
    notes.extend(left_out(run));
    notes
}

/// The tasks of all trials.
fn tasks(run: &RunRecord) -> impl Iterator<Item = (&TrialRecord, &TaskRecord)> {
    run.trials.iter().flat_map(|trial| trial.tasks.iter().map(move |task| (trial, task)))
}

/// Tasks that were answered within a thought, once per model.
fn open_thoughts(run: &RunRecord) -> Vec<String> {
    each_once(tasks(run).filter_map(|(trial, task)| {
        let open = task.open_thought.as_ref()?;
        Some(format!(
            "{}: the chat template of {} ends with an open {open}, so what was scored are words of a thought \
             rather than answers; chat_template_kwargs = {{ enable_thinking = false }} closes it if the \
             template reads that.",
            task.task,
            sanitize(&trial.model),
        ))
    }))
}

/// How the formats of a task compare, for the reference of each model: what a format is worth is not to be
/// read off figures side by side, whose questions are the same.
fn formats(summary: &Summary) -> Vec<String> {
    let mut notes = Vec::new();
    for (position, row) in summary.rows.iter().enumerate().filter(|(_, row)| row.is_reference) {
        let of_row = || summary.format_tests.iter().filter(|it| it.row == position);
        let mut names: Vec<String> = of_row().map(|it| it.one.task.parts().0.to_owned()).collect();
        names.dedup();
        for task in names {
            let of_task = || of_row().filter(|it| it.one.task.parts().0 == task);
            let different: Vec<String> = of_task()
                .filter(|it| it.test.p_value < SIGNIFICANT)
                .map(|FormatTest { one, other, test, .. }| {
                    let points = test.difference.value * one.metric.percent_factor();
                    let (better, worse) = if points < 0.0 { (other, one) } else { (one, other) };
                    format!(
                        "{} is {:.1} points above {} ({})",
                        format_of(better),
                        points.abs(),
                        format_of(worse),
                        p(test.p_value)
                    )
                })
                .collect();
            let pairs = count(of_task().count(), "pair");
            let told = if different.is_empty() {
                "no two differ beyond the noise".to_owned()
            } else {
                list(&different)
            };
            notes.push(format!(
                "Formats of {task} ({}, {}), {pairs} tested by question and corrected for their number: \
                 {told}.",
                sanitize(&row.model),
                sanitize(&row.label)
            ));
        }
    }
    notes
}

fn format_of(column: &TaskColumn) -> String {
    column.task.parts().1.unwrap_or("none").to_owned()
}

/// The tasks of the reference of each model, as `task (model, label)`.
fn of_references(run: &RunRecord) -> impl Iterator<Item = (String, &TaskRecord)> {
    tasks(run).filter(|(trial, _)| trial.is_reference).map(|(trial, task)| {
        let (model, label) = (sanitize(&trial.model), sanitize(&trial.label));
        (format!("{} ({model}, {label})", task.task), task)
    })
}

fn ms(seconds: f64) -> String {
    format!("{} ms", significant(seconds * 1e3, 2))
}

/// Where the time of a question goes in tasks that find passages.
fn retrieval(run: &RunRecord) -> impl Iterator<Item = String> {
    of_references(run).filter_map(|(name, task)| {
        let RetrievalRecord { index, seconds } = task.retrieval?;
        let mut stages = vec![
            format!("{} to embed it", ms(seconds.embedding)),
            format!("{} to search {}", ms(seconds.search), count(index.chunks, "chunk")),
        ];
        if seconds.prefill > 0.0 {
            stages.push(format!("{} to read the request", ms(seconds.prefill)));
            stages.push(format!("{} to write the answer", ms(seconds.generation)));
        }
        Some(format!(
            "{name}, a question takes: {}; the index was {} in {}.",
            list(&stages),
            if index.was_read { "read" } else { "made" },
            ms(index.seconds)
        ))
    })
}

/// Where the time goes in tasks that show pictures.
fn vision(run: &RunRecord) -> impl Iterator<Item = String> {
    of_references(run).filter_map(|(name, task)| {
        let VisionRecord { pictures, tokens_per_picture, projector_bytes, seconds } = task.vision?;
        let memory = match projector_bytes {
            0 => String::new(),
            bytes => format!("; the projector takes {} beside the model", format_bytes(bytes)),
        };
        Some(format!(
            "{name}, {} of {} tokens: one takes {} to encode, a question then {} to read and \
             {} to answer{memory}.",
            count(pictures, "picture"),
            significant(tokens_per_picture, 3),
            ms(seconds.encoding),
            ms(seconds.prefill),
            ms(seconds.generation),
        ))
    })
}

/// `Q2_K −12.5 (p < 0.001)` for every variant that differs beyond the noise; `None` if none was
/// compared.
fn differences(summary: &Summary, column: TaskColumn) -> Option<Vec<String>> {
    let tested: Vec<(&Row, &PairedTest)> = summary
        .rows
        .iter()
        .filter_map(|row| Some((row, row.tests.get(&Metric::Task(column))?)))
        .collect();
    let told = |(row, test): &(&Row, &PairedTest)| {
        let points = test.difference.value * column.metric.percent_factor();
        let sign = if points < 0.0 { '−' } else { '+' };
        format!("{} {sign}{:.1} ({})", name(summary, row), points.abs(), p(test.p_value))
    };
    let different = tested.iter().filter(|(_, test)| test.p_value < SIGNIFICANT).map(told);
    (!tested.is_empty()).then(|| different.collect())
}

fn p(value: f64) -> String {
    if value < 0.001 { "p < 0.001".to_owned() } else { format!("p = {}", significant(value, 2)) }
}

/// Questions that do not fit the model's context.
fn left_out(run: &RunRecord) -> Vec<String> {
    each_once(tasks(run).filter(|(_, task)| !task.too_long.is_empty()).map(|(trial, task)| {
        let context = trial.facts.as_ref().map_or(0, |facts| facts.context_length);
        let out = task.too_long.len();
        let all = out + task.questions as usize;
        format!(
            "{}: {out} of {} left out: too long for {}'s context of {context} tokens.",
            task.task,
            count(all, "question"),
            sanitize(&trial.model)
        )
    }))
}
