//! Schedules: in which order the trials of a plan are visited, and which prompts each round gets.

use super::plan::Plan;
use crate::experiment::resolved::Experiment;
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
    Anchor(u32),
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
    let mut visits = Vec::new();
    if experiment.workloads.quality.is_some() {
        let mut order: Vec<usize> = (0..plan.trials.len()).collect();
        order.sort_by_key(|&trial| {
            let planned = &plan.trials[trial];
            (planned.model_position, !planned.is_reference)
        });
        let visit = |trial| PlannedVisit { trial, purpose: Purpose::Quality };
        visits.extend(order.into_iter().map(visit));
    }
    if !experiment.workloads.tasks.is_empty() {
        let visit = |trial| PlannedVisit { trial, purpose: Purpose::Tasks };
        visits.extend((0..plan.trials.len()).map(visit));
    }
    let anchor = anchor_of(experiment, plan);
    let rounds = rounds(experiment);
    for round in 0..rounds {
        let visit = |trial| PlannedVisit { trial, purpose: Purpose::Round(round) };
        visits.extend((0..plan.trials.len()).map(visit));
        // With one round or one trial its own visits tell all there is to tell about drift.
        if let Some(trial) = anchor
            && plan.trials.len() > 1
            && rounds > 1
        {
            visits.push(PlannedVisit { trial, purpose: Purpose::Anchor(round) });
        }
    }
    visits
}

/// Rounds that have something to do: none if only quality or tasks are measured.
fn rounds(experiment: &Experiment) -> u32 {
    let workloads = &experiment.workloads;
    let nothing = workloads.speed.is_empty() && workloads.latency.is_none() && !workloads.cold_load;
    let judged = workloads.quality.is_some() || !workloads.tasks.is_empty();
    if nothing && judged { 0 } else { experiment.rounds }
}

/// The trial whose first speed test shows drift of the machine: the first model's reference.
#[must_use]
pub fn anchor_of(experiment: &Experiment, plan: &Plan) -> Option<usize> {
    if experiment.workloads.speed.is_empty() {
        return None;
    }
    plan.trials.iter().position(|trial| trial.is_reference)
}

/// The prompts of one round: prompt `i` is answered in round `i` modulo the number of rounds, so
/// that over a run every prompt is answered once by every trial.
#[must_use]
pub fn deal(prompts: &[TestPrompt], round: u32, rounds: u32) -> Vec<TestPrompt> {
    let (round, rounds) = (round as usize, rounds.max(1) as usize);
    prompts.iter().skip(round).step_by(rounds).cloned().collect()
}
