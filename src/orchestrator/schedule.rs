//! Schedules: in which order the trials of a plan are visited, and which prompts each round gets.

use super::plan::Plan;
use crate::experiment::resolved::{Experiment, Workloads};
use crate::experiment::workloads::TestPrompt;

/// What a visit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Perplexity, and divergence from the reference.
    Quality,
    /// Questions of tasks.
    Tasks,
    /// Loads, speed tests and this round's share of the prompts.
    Round(u32),
    /// The reference's first speed test once more, at the end of this round.
    DriftControl(u32),
}

/// One worker process that is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlannedVisit {
    /// The trial, by its position in the plan.
    pub trial: usize,
    /// What for.
    pub purpose: Purpose,
}

/// All visits of a plan, in order.
///
/// Quality and tasks come first, model by model and the reference before the others, for they are compared
/// with what its visit writes down. Then come the rounds, each of which visits every trial once
/// (A B C, A B C, …): whatever slows the machine for a while slows all of them alike.
#[must_use]
pub fn schedule(experiment: &Experiment, plan: &Plan) -> Vec<PlannedVisit> {
    let workloads = |trial: &usize| experiment.workloads_of(plan.trials[*trial].model_position);
    let mut by_quality: Vec<usize> = (0..plan.trials.len()).collect();
    by_quality.retain(|trial| workloads(trial).quality.is_some());
    by_quality.sort_by_key(|&trial| {
        let planned = &plan.trials[trial];
        (planned.model_position, !planned.is_reference)
    });
    let quality = |trial| PlannedVisit { trial, purpose: Purpose::Quality };
    let mut visits: Vec<PlannedVisit> = by_quality.into_iter().map(quality).collect();
    let mut with_tasks: Vec<usize> = (0..plan.trials.len()).collect();
    with_tasks.retain(|trial| !workloads(trial).tasks.is_empty());
    let tasks = |trial| PlannedVisit { trial, purpose: Purpose::Tasks };
    visits.extend(with_tasks.into_iter().map(tasks));
    let mut in_rounds: Vec<usize> = (0..plan.trials.len()).collect();
    in_rounds.retain(|trial| have_rounds(workloads(trial)));
    let control = drift_control_of(experiment, plan);
    let rounds = if in_rounds.is_empty() { 0 } else { experiment.rounds };
    for round in 0..rounds {
        let visit = |&trial| PlannedVisit { trial, purpose: Purpose::Round(round) };
        visits.extend(in_rounds.iter().map(visit));
        // With one round or one trial its own visits tell all there is to tell about drift.
        if let Some(trial) = control
            && in_rounds.len() > 1
            && rounds > 1
        {
            visits.push(PlannedVisit { trial, purpose: Purpose::DriftControl(round) });
        }
    }
    visits
}

/// Whether rounds have something to do: not if only quality or tasks are measured.
fn have_rounds(workloads: &Workloads) -> bool {
    let nothing = workloads.speed.is_empty() && workloads.latency.is_none() && !workloads.cold_load;
    let judged = workloads.quality.is_some() || !workloads.tasks.is_empty();
    !(nothing && judged)
}

/// The trial whose first speed test shows drift of the machine: the first reference that has one.
#[must_use]
pub fn drift_control_of(experiment: &Experiment, plan: &Plan) -> Option<usize> {
    plan.trials.iter().position(|trial| {
        trial.is_reference && !experiment.workloads_of(trial.model_position).speed.is_empty()
    })
}

/// The prompts of one round: prompt `i` is answered in round `i` modulo the number of rounds, so
/// that over a run every prompt is answered once by every trial.
#[must_use]
pub fn deal(prompts: &[TestPrompt], round: u32, rounds: u32) -> Vec<TestPrompt> {
    let (round, rounds) = (round as usize, rounds.max(1) as usize);
    prompts.iter().skip(round).step_by(rounds).cloned().collect()
}
