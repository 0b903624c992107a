//! The proof: what a search found, against the defaults.

use crate::orchestrator::cost::Costs;
use crate::orchestrator::schedule::{PlannedVisit, Purpose};
use crate::orchestrator::strategy::{Known, Step, Strategy, is_pointless, scored};
use std::time::Duration;

/// Compares all trials with the first: quality if it is asked for, then rounds, as many as there is time for.
///
/// When it ends depends on the time alone and not on what was measured, so that its intervals mean what they say.
#[derive(Debug)]
pub struct Confirm {
    /// Seconds.
    budget: f64,
    /// Whether the first trial's quality was measured in this process, which others are compared with.
    has_reference: bool,
}

/// Fewer rounds make no interval.
const LEAST_ROUNDS: u32 = 3;

impl Confirm {
    /// Within a time, though three rounds are made in any case.
    pub fn new(budget: Duration) -> Self {
        Self { budget: budget.as_secs_f64(), has_reference: false }
    }

    /// The visits for quality that are left.
    fn quality(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        if known.experiment.workloads.quality.is_none() {
            return Vec::new();
        }
        let purpose = Purpose::Quality { until: None };
        let trials = 1..known.plan.trials.len();
        let mut visits: Vec<PlannedVisit> = trials
            .filter(|&trial| scored(known, trial) == 0)
            .filter(|&trial| {
                !known.run.trials[trial].stages.iter().any(|it| it.stage == purpose.stage())
            })
            .map(|trial| PlannedVisit { trial, purpose })
            .collect();
        if !visits.is_empty() && !self.has_reference {
            visits.insert(0, PlannedVisit { trial: 0, purpose });
        }
        visits.retain(|&visit| !is_pointless(known, visit));
        visits
    }

    /// The visits of a round that are left.
    fn round(known: &Known<'_>, round: u32) -> Vec<PlannedVisit> {
        let purpose = Purpose::Round(round);
        let is_left = |&trial: &usize| {
            known.run.trials[trial].visits.iter().all(|visit| visit.round != round)
        };
        let trials = (0..known.plan.trials.len()).filter(is_left);
        let mut visits: Vec<PlannedVisit> =
            trials.map(|trial| PlannedVisit { trial, purpose }).collect();
        // Who comes first changes, since a machine may be slower after a while.
        if round % 2 == 1 {
            visits.reverse();
        }
        visits.retain(|&visit| !is_pointless(known, visit));
        visits
    }

    fn rounds(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        if known.run.trials[0].failure.is_some() {
            return Vec::new();
        }
        let mut left = (0..known.experiment.rounds).map(|round| (round, Self::round(known, round)));
        let Some((round, visits)) = left.find(|(_, visits)| !visits.is_empty()) else {
            return Vec::new();
        };
        let time = self.budget - known.run.active_seconds.unwrap_or(0.0);
        let cost = Costs::of(known).all(&visits).unwrap_or(0.0);
        if round < LEAST_ROUNDS || cost <= time { visits } else { Vec::new() }
    }
}

impl Strategy for Confirm {
    fn next(&mut self, known: &Known<'_>) -> Step {
        let ahead = self.quality(known).into_iter().chain(self.rounds(known)).next();
        let Some(visit) = ahead else { return Step::Done };
        if visit.trial == 0 && matches!(visit.purpose, Purpose::Quality { .. }) {
            self.has_reference = true;
        }
        Step::Visit(visit)
    }

    fn ahead(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        let mut ahead = self.quality(known);
        ahead.extend(self.rounds(known));
        ahead
    }
}
