//! Strategies: what is measured next is asked after every visit.
//!
//! [`Matrix`] measures everything, in interleaved rounds. Another strategy is another implementation of
//! [`Strategy`]; it may add trials while a run goes on, which the store and a resumed run hold like those
//! that were there from the beginning.

use super::plan::{Plan, PlannedTrial};
use super::schedule::{PlannedVisit, Purpose, schedule};
use crate::experiment::resolved::Experiment;
use crate::results::record::RunRecord;
use std::collections::VecDeque;

/// What is known when a step is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What was asked for.
    pub experiment: &'a Experiment,
    /// Variants and trials, those included that were added.
    pub plan: &'a Plan,
    /// What was measured of them.
    pub run: &'a RunRecord,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A trial is visited.
    Visit(PlannedVisit),
    /// A trial of a variant of the plan joins the others.
    Add(Box<PlannedTrial>),
    /// Nothing is left that would change the answer.
    Done,
}

/// Decides after every visit what is measured next.
pub trait Strategy {
    /// The next step.
    fn next(&mut self, known: &Known<'_>) -> Step;

    /// The visits that will be made unless something changes the strategy's mind, in order: what the
    /// display counts, and whose variants are made first.
    fn ahead(&self, known: &Known<'_>) -> Vec<PlannedVisit>;
}

/// Every trial in every round (A B C, A B C, …), quality and tasks first.
#[derive(Debug, Default)]
pub struct Matrix {
    /// What is left; `None` before the first step.
    left: Option<VecDeque<PlannedVisit>>,
}

impl Strategy for Matrix {
    fn next(&mut self, known: &Known<'_>) -> Step {
        let left = self.left.get_or_insert_with(|| remaining_visits(known).into());
        let failed = |visit: &PlannedVisit| known.run.trials[visit.trial].failure.is_some();
        while let Some(visit) = left.pop_front() {
            if !failed(&visit) {
                return Step::Visit(visit);
            }
        }
        Step::Done
    }

    fn ahead(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        let left = self.left.as_ref().map(|left| left.iter().copied().collect());
        left.unwrap_or_else(|| remaining_visits(known))
    }
}

/// The visits of the schedule that are not stored yet.
fn remaining_visits(known: &Known<'_>) -> Vec<PlannedVisit> {
    let mut visits = schedule(known.experiment, known.plan);
    visits.retain(|visit| !is_stored(known, *visit));
    visits
}

fn is_stored(known: &Known<'_>, visit: PlannedVisit) -> bool {
    let Known { plan, run, .. } = *known;
    let trial = &run.trials[visit.trial];
    let planned = &plan.trials[visit.trial];
    trial.failure.is_some()
        || match visit.purpose {
            Purpose::Quality if planned.is_reference => is_reference_over(known, visit.trial),
            Purpose::Quality => trial.has_quality(),
            Purpose::Tasks => trial.stages.iter().any(|it| it.stage == visit.purpose.stage()),
            Purpose::Round(round) => trial.visits.iter().any(|visit| visit.round == round),
            // Two in each round: the reference's own visit and the one at the round's end.
            Purpose::DriftControl(round) => {
                run.drift_controls.iter().filter(|control| control.round == round).count() > 1
            }
        }
}

/// A reference that has its perplexity is visited again if others are still to be compared with it, for
/// what it wrote down is not kept longer than a run.
fn is_reference_over(known: &Known<'_>, reference: usize) -> bool {
    let Known { experiment, plan, run } = *known;
    let model = plan.trials[reference].model_position;
    let waiting = plan
        .trials
        .iter()
        .zip(&run.trials)
        .filter(|(planned, _)| planned.model_position == model && !planned.is_reference)
        .any(|(_, trial)| !trial.has_quality() && trial.failure.is_none());
    let compare = experiment.workloads_of(model).compare();
    run.trials[reference].has_quality() && !(waiting && compare)
}
