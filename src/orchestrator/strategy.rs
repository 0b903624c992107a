//! Strategies: what is measured next is asked after every visit.
//!
//! [`Matrix`] measures everything, in interleaved rounds; [`Budgeted`] what says most in a given time; [`Recommend`] what
//! decides which variant to run; `tuning` looks for the fastest settings and proves what it found. Another strategy is another implementation of
//! [`Strategy`]; it may add trials while a run goes on, which the store and a resumed run hold like those
//! that were there from the beginning.

mod budgeted;
mod looks;
mod recommend;
pub mod tuning;

pub use budgeted::Budgeted;
pub use recommend::{Other, Recommend};

use super::cost::Spent;
use super::plan::{Plan, PlannedTrial};
use super::schedule::{PlannedVisit, Purpose, schedule};
use crate::experiment::resolved::Experiment;
use crate::results::record::{RunRecord, Stage, TrialRecord};
use crate::workload::divergence::chunks_needed;
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
    /// Trials of earlier runs on the same machine, of which the same was measured.
    pub past: &'a [TrialRecord],
    /// What visits to each trial are predicted to take; it may end before the trials do.
    pub foreseen: &'a [Option<Spent>],
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

    /// Whether there is time to make the file of a variant.
    fn has_time_for_file(&self, _known: &Known<'_>, _variant: usize) -> bool {
        true
    }
}

/// Every trial in every round (A B C, A B C, …), quality and tasks first.
///
/// Quality goes in steps where evaluation stops once it is precise: the reference first, then the variants, each until
/// it is precise; then the reference as far as those that are not will need, and they once more.
#[derive(Debug, Default)]
pub struct Matrix {
    /// What is left; `None` before the first step.
    left: Option<VecDeque<PlannedVisit>>,
    /// The model whose quality is under way.
    compared: Option<usize>,
    /// The references by which that was planned.
    references: Vec<usize>,
}

impl Strategy for Matrix {
    fn next(&mut self, known: &Known<'_>) -> Step {
        let references = references(known);
        if self.references != references {
            // Another one is in the place of one that could not be computed: it goes first.
            *self = Self { references, ..Self::default() };
        }
        let left = self.left.get_or_insert_with(|| remaining_visits(known).into());
        loop {
            if let Some(model) = self.compared
                && !left.front().is_some_and(|next| is_quality_of(known, *next, model))
            {
                let further = further_step(known, model, waiting(known, model).collect());
                if further.is_empty() {
                    self.compared = None;
                }
                further.into_iter().rev().for_each(|visit| left.push_front(visit));
            }
            let Some(visit) = left.pop_front() else { return Step::Done };
            if !is_pointless(known, visit) {
                if let Purpose::Quality { until: Some(_) } = visit.purpose {
                    self.compared = Some(known.plan.trials[visit.trial].model_position);
                }
                return Step::Visit(visit);
            }
        }
    }

    fn ahead(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        let Some(left) = &self.left else { return remaining_visits(known) };
        left.iter().copied().filter(|visit| !is_pointless(known, *visit)).collect()
    }
}

fn is_quality_of(known: &Known<'_>, visit: PlannedVisit, model: usize) -> bool {
    visit.purpose.stage() == Stage::Quality
        && known.plan.trials[visit.trial].model_position == model
}

/// Whether a visit would fail, or is for a comparison with a reference that failed.
fn is_pointless(known: &Known<'_>, visit: PlannedVisit) -> bool {
    let trial = &known.run.trials[visit.trial];
    let compares = visit.purpose.stage() == Stage::Quality && trial.has_quality();
    trial.failure.is_some() || compares && has_failed_reference(known, visit.trial)
}

/// The visits of the schedule that are not stored yet.
fn remaining_visits(known: &Known<'_>) -> Vec<PlannedVisit> {
    let mut visits = schedule(known.experiment, known.plan);
    visits.retain(|visit| !is_stored(known, *visit));
    for visit in &mut visits {
        // As far as an interrupted run had evaluated the reference.
        let scored = reference_of(known, visit.trial).map_or(0, |trial| scored(known, trial));
        if let Purpose::Quality { until: Some(until) } = &mut visit.purpose {
            *until = scored.max(*until);
        }
    }
    visits
}

fn is_stored(known: &Known<'_>, visit: PlannedVisit) -> bool {
    let Known { plan, run, .. } = *known;
    let trial = &run.trials[visit.trial];
    let planned = &plan.trials[visit.trial];
    is_pointless(known, visit)
        || match visit.purpose {
            Purpose::Quality { .. } if planned.is_reference => {
                is_reference_over(known, visit.trial)
            }
            Purpose::Quality { .. } => is_quality_over(known, visit.trial),
            Purpose::Tasks => trial.stages.iter().any(|it| it.stage == visit.purpose.stage()),
            Purpose::Round(round) => trial.visits.iter().any(|visit| visit.round == round),
            // Two in each round: the reference's own visit and the one at the round's end.
            Purpose::DriftControl(round) => {
                run.drift_controls.iter().filter(|control| control.round == round).count() > 1
            }
        }
}

/// Whether nothing is left to evaluate of a variant.
fn is_quality_over(known: &Known<'_>, trial: usize) -> bool {
    let plan = known.experiment.workloads_of(known.plan.trials[trial].model_position);
    let limit = plan.quality.as_ref().and_then(|quality| quality.chunks);
    let trial = &known.run.trials[trial];
    // A visit that measured nothing found that nothing can be measured.
    let visited = || trial.stages.iter().any(|it| it.stage == Stage::Quality);
    trial.quality.as_ref().map_or_else(visited, |quality| quality.is_over(limit))
}

/// A reference that has its perplexity is visited again if others are still to be compared with it, for
/// what it wrote down is not kept longer than a run.
fn is_reference_over(known: &Known<'_>, reference: usize) -> bool {
    let model = known.plan.trials[reference].model_position;
    let compare = known.experiment.workloads_of(model).compare();
    known.run.trials[reference].has_quality()
        && !(compare && waiting(known, model).next().is_some())
}

/// The variants of a model that are still to be compared with its reference.
fn waiting<'a>(known: &'a Known<'_>, model: usize) -> impl Iterator<Item = usize> + 'a {
    let Known { plan, run, .. } = *known;
    (0..plan.trials.len()).filter(move |&trial| {
        let planned = &plan.trials[trial];
        planned.model_position == model
            && !planned.is_reference
            && run.trials[trial].failure.is_none()
            && !is_quality_over(known, trial)
    })
}

/// The reference that a trial is compared with, which may be itself.
fn reference_of(known: &Known<'_>, trial: usize) -> Option<usize> {
    let trials = &known.plan.trials;
    let model = trials[trial].model_position;
    trials.iter().position(|trial| trial.model_position == model && trial.is_reference)
}

fn references(known: &Known<'_>) -> Vec<usize> {
    let trials = known.plan.trials.iter().enumerate();
    trials.filter(|(_, trial)| trial.is_reference).map(|(at, _)| at).collect()
}

fn has_failed_reference(known: &Known<'_>, trial: usize) -> bool {
    let reference = reference_of(known, trial);
    reference.is_some_and(|reference| known.run.trials[reference].failure.is_some())
}

/// Chunks of the text that a trial scored.
fn scored(known: &Known<'_>, trial: usize) -> u32 {
    known.run.trials[trial].quality.as_ref().map_or(0, |quality| quality.chunks)
}

/// More of the text for these variants of a model, which are not precise yet: as far as the reference was evaluated; else
/// the reference and they, up to where the last of them will be, to go by what they scored so far.
fn further_step(known: &Known<'_>, model: usize, mut trials: Vec<usize>) -> Vec<PlannedVisit> {
    let Some(reference) = trials.first().and_then(|&trial| reference_of(known, trial)) else {
        return Vec::new();
    };
    let has = scored(known, reference);
    let visit =
        |trial, until| PlannedVisit { trial, purpose: Purpose::Quality { until: Some(until) } };
    let behind = trials.iter().filter(|&&trial| scored(known, trial) < has);
    let behind: Vec<PlannedVisit> = behind.map(|&trial| visit(trial, has)).collect();
    if known.run.trials[reference].failure.is_some() {
        return Vec::new();
    }
    if is_quality_over(known, reference) || !behind.is_empty() {
        return behind;
    }
    let precision =
        known.experiment.workloads_of(model).quality.as_ref().and_then(|it| it.precision);
    let needed = trials.iter().map(|&trial| {
        let divergence = known.run.trials[trial].quality.as_ref()?.divergence.as_ref()?;
        chunks_needed(&divergence.chunk_kld, precision?)
    });
    let has = f64::from(has).max(1.0);
    let needed = needed.map(|chunks| chunks.unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
    let until = (needed * MARGIN).clamp(has * SMALLEST_STEP, has * LARGEST_STEP).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let until = until as u32;
    trials.insert(0, reference);
    trials.into_iter().map(|trial| visit(trial, until)).collect()
}

/// More than variants seem to need: what is seen of their spread has an error, too.
const MARGIN: f64 = 1.1;

/// The text grows in a step by this factor or more, since every visit costs a load …
const SMALLEST_STEP: f64 = 1.25;

/// … and by this factor at most, since a few chunks tell little of how many it takes.
const LARGEST_STEP: f64 = 4.0;
