//! What the machine grants and the model bears: fewer processors than there are, what does not fit a model,
//! figures beyond the context that it was trained with.

use super::text::{list, sanitize};
use crate::results::each_once;
use crate::results::record::{RunRecord, TrialRecord};
use crate::units::significant;
use crate::workload::measured::LeftOut;
use std::collections::BTreeMap;

/// All notes, each a paragraph.
pub(super) fn notes(run: &RunRecord) -> Vec<String> {
    let of_trial = |trial| left_out(trial).into_iter().chain(beyond_context(trial));
    // Variants of a model have the same to say.
    each_once(processors(run).into_iter().chain(run.trials.iter().flat_map(of_trial)))
}

/// Fewer processors, or less of their time, than the machine has.
fn processors(run: &RunRecord) -> Option<String> {
    let environment = run.environment();
    let all = environment.logical_cpus;
    let usable = environment.usable_cpus.filter(|&cpus| cpus < all);
    let granted = f64::from(usable.unwrap_or(all));
    let quota = environment.cpu_quota_cores.filter(|&cores| cores < granted);
    let mut limits = Vec::new();
    if let Some(cpus) = usable {
        limits.push(format!("{cpus} of {all} processors (affinity)"));
    }
    if let Some(cores) = quota {
        let cores = significant(cores, 3);
        limits.push(format!("the time of {cores} of {all} processors (control group)"));
    }
    if limits.is_empty() {
        return None;
    }
    let granted = quota.unwrap_or(granted).max(1.0);
    let mut more: Vec<u32> = run
        .trials
        .iter()
        .filter_map(|trial| trial.facts.as_ref().map(|facts| facts.threads))
        .filter(|&threads| f64::from(threads) > granted)
        .collect();
    more.sort_unstable();
    more.dedup();
    let more: Vec<String> = more.iter().map(ToString::to_string).collect();
    let waiting = (!more.is_empty())
        .then(|| format!("; {} threads are more than that, and wait for each other", list(&more)));
    let more = waiting.unwrap_or_default();
    Some(format!("The run may use {}{more}.", list(&limits)))
}

/// What could not be measured of a trial that was measured otherwise.
fn left_out(trial: &TrialRecord) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for LeftOut { what, reason } in &trial.left_out {
        by_reason.entry(reason.as_str()).or_default().push(sanitize(what));
    }
    let told = |(reason, mut what): (&str, Vec<String>)| {
        what.sort_unstable();
        format!("Left out of {}: {}; {}.", sanitize(&trial.model), list(&what), sanitize(reason))
    };
    by_reason.into_iter().map(told).collect()
}

/// Figures that are measured, as llama.cpp's tools do, but not of what the model is used for.
fn beyond_context(trial: &TrialRecord) -> Option<String> {
    let facts = trial.facts.as_ref().filter(|facts| facts.context_length > 0)?;
    let beyond = |tokens: u32| tokens > facts.context_length;
    let records = trial.visits.iter().flat_map(|visit| &visit.speed);
    let records = records.filter(|record| beyond(record.test.positions()));
    let mut figures = each_once(records.map(|record| record.test.to_string()));
    let quality = trial.quality.as_ref().filter(|it| beyond(it.context) && it.answers < it.chunks);
    figures.extend(quality.map(|it| format!("PPL and KLD over chunks of {}", it.context)));
    (!figures.is_empty()).then(|| {
        format!(
            "{} was trained with a context of {} tokens: figures beyond it ({}) say little of its use.",
            sanitize(&trial.model),
            facts.context_length,
            list(&figures)
        )
    })
}
