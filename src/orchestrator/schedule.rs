//! Schedules: in which order the trials of a plan are visited.

use super::plan::Plan;
use crate::experiment::resolved::Experiment;
use crate::experiment::workloads::Stage;
use crate::workload::divergence::fewest_chunks;
use std::collections::BTreeSet;

/// What a visit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Perplexity, and divergence from the reference.
    Quality {
        /// The chunk of the text to stop before; `None`: at its end.
        until: Option<u32>,
    },
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

impl Purpose {
    /// Which workloads are measured.
    pub fn stage(self) -> Stage {
        match self {
            Self::Quality { .. } => Stage::Quality,
            Self::Tasks => Stage::Tasks,
            Self::Round(_) | Self::DriftControl(_) => Stage::Rounds,
        }
    }

    /// The round, from 0; what is measured once counts as part of the first.
    pub fn round(self) -> u32 {
        match self {
            Self::Quality { .. } | Self::Tasks => 0,
            Self::Round(round) | Self::DriftControl(round) => round,
        }
    }
}

/// All visits of a plan, in order.
///
/// Quality and tasks come first, model by model and the reference before the others, for they are compared
/// with what its visit writes down. Where evaluation stops once it is precise, the first visits are to no more chunks
/// than that takes at least. Then come the rounds, each of which visits every trial once
/// (A B C, A B C, …): whatever slows the machine for a while slows all of them alike. Where not every file is
/// kept, one variant is done before the next begins.
pub fn schedule(experiment: &Experiment, plan: &Plan) -> Vec<PlannedVisit> {
    let of = |purpose: Purpose| {
        let asks = move |&trial: &usize| {
            let model = plan.trials[trial].model_position;
            experiment.workloads_of(model).has(purpose.stage())
        };
        (0..plan.trials.len()).filter(asks).map(move |trial| PlannedVisit { trial, purpose })
    };
    let mut visits: Vec<PlannedVisit> = of(Purpose::Quality { until: None }).collect();
    for visit in &mut visits {
        visit.purpose = Purpose::Quality { until: first_step(experiment, plan, visit.trial) };
    }
    visits.sort_by_key(|visit| {
        let planned = &plan.trials[visit.trial];
        (planned.model_position, !planned.is_reference)
    });
    visits.extend(of(Purpose::Tasks));
    let control = drift_control_of(experiment, plan);
    for round in 0..experiment.rounds {
        let before = visits.len();
        visits.extend(of(Purpose::Round(round)));
        // Of two that are compared each goes first as often as the other.
        if experiment.against.is_some() && round % 2 == 1 {
            visits[before..].reverse();
        }
        // With one round or one trial its own visits tell all there is to tell about drift.
        if let Some(trial) = control
            && visits.len() - before > 1
            && experiment.rounds > 1
        {
            visits.push(PlannedVisit { trial, purpose: Purpose::DriftControl(round) });
        }
    }
    if !experiment.keep.is_all() {
        let references = plan.trials.iter().filter(|it| it.is_reference);
        let references: BTreeSet<usize> = references.map(|it| it.variant).collect();
        visits.sort_by_key(|visit| {
            let planned = &plan.trials[visit.trial];
            (planned.model_position, !references.contains(&planned.variant), planned.variant)
        });
    }
    visits
}

/// Chunks that a trial is evaluated on in its first visit; `None`: all at once. A variant alone is not compared, and
/// one whose file is gone afterwards is not visited again.
fn first_step(experiment: &Experiment, plan: &Plan, trial: usize) -> Option<u32> {
    let model = plan.trials[trial].model_position;
    let quality = experiment.workloads_of(model).quality.as_ref()?;
    quality.precision?;
    let others = plan.trials.iter().filter(|other| other.model_position == model).count();
    let fewest = u32::try_from(fewest_chunks(quality.domain_count())).unwrap_or(u32::MAX);
    (others > 1 && experiment.keep.is_all()).then_some(fewest)
}

/// The trial whose first speed test shows drift of the machine: the first reference that has one. There is none
/// where its file is gone before the others are measured.
pub fn drift_control_of(experiment: &Experiment, plan: &Plan) -> Option<usize> {
    if !experiment.keep.is_all() {
        return None;
    }
    plan.trials.iter().position(|trial| {
        trial.is_reference && !experiment.workloads_of(trial.model_position).speed.is_empty()
    })
}
