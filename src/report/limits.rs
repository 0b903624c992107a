//! What the machine grants: fewer processors than there are.

use super::text::list;
use crate::results::record::RunRecord;
use crate::units::significant;

/// All notes, each a paragraph.
pub(super) fn notes(run: &RunRecord) -> Vec<String> {
    processors(run).into_iter().collect()
}

/// Fewer processors, or less of their time, than the machine has.
fn processors(run: &RunRecord) -> Option<String> {
    let environment = &run.environment;
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
    let more = if more.is_empty() {
        String::new()
    } else {
        format!("; {} threads are more than that, and wait for each other", list(&more))
    };
    Some(format!("The run may use {}{more}.", list(&limits)))
}
