//! What says most in a given time.
//!
//! First of all the reference is visited, which tells what visits cost. Then one variant gets what it takes to be compared
//! with it: a part of the text, a round and its tasks. Then every trial gets the same; of a model too large for that, one
//! trial after the other. What time is left goes to what is not known yet: rounds for all until speeds have intervals, text
//! for divergences that are not precise, rounds for speeds that are not told apart. No visit is begun that is known not to
//! fit.

use super::{
    Known, Step, Strategy, further_step, is_pointless, is_quality_over, is_stored, reference_of,
    scored, waiting,
};
use crate::orchestrator::cost::{self, Costs};
use crate::orchestrator::schedule::{PlannedVisit, Purpose};
use crate::results::record::Stage;
use crate::results::separation::undecided;
use crate::results::summary::Summary;
use crate::workload::divergence::fewest_chunks;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Chunks of the text that tell what a chunk costs.
const PILOT_CHUNKS: u32 = 4;

/// One alone has no spread.
const FEWEST_CHUNKS: u32 = 2;

/// From this many rounds on a median has an interval that says something.
const FEWEST_ROUNDS: u32 = 3;

/// Speeds that so many rounds would not tell apart are level for whoever has to choose.
const MOST_ROUNDS: u32 = 24;

/// Part of the budget that making files may take.
const MAKING: f64 = 0.5;

/// Measures what says most, until nothing would change or the time is out.
#[derive(Debug)]
pub struct Budgeted {
    /// Seconds, those before the first visit included.
    budget: f64,
    next: VecDeque<PlannedVisit>,
    part: Part,
}

/// The parts of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Pilot,
    Pair,
    Each,
    Rounds,
    Undecided,
}

impl Budgeted {
    /// Within a time.
    pub fn new(budget: Duration) -> Self {
        Self { budget: budget.as_secs_f64(), next: VecDeque::new(), part: Part::Pilot }
    }

    fn left(&self, known: &Known<'_>) -> f64 {
        self.budget - known.run.active_seconds.unwrap_or(0.0)
    }

    /// A visit whose cost is not known yet is one of the first.
    fn fits(&self, known: &Known<'_>, visit: PlannedVisit) -> bool {
        let left = self.left(known);
        Costs::of(known).visit_at_most(visit).map_or(left > 0.0, |seconds| seconds <= left)
    }

    /// The visits of the next part in which there is something to do.
    fn batch(&mut self, known: &Known<'_>) -> Vec<PlannedVisit> {
        loop {
            let part = self.part;
            let mut batch = match part {
                Part::Pilot => pilot(known, self.pilot_chunks(known)),
                Part::Pair => self.pair(known),
                Part::Each => self.each(known),
                Part::Rounds => rounds(known, self.left(known)),
                Part::Undecided => self.undecided(known),
            };
            batch.retain(|&visit| {
                let is_there = known.run.trials[visit.trial].artifact.is_some();
                is_there && !is_pointless(known, visit) && self.fits(known, visit)
            });
            self.part = match part {
                Part::Pilot => Part::Pair,
                Part::Pair => Part::Each,
                Part::Each => Part::Rounds,
                Part::Rounds if batch.is_empty() => Part::Undecided,
                Part::Rounds | Part::Undecided => part,
            };
            if !batch.is_empty() || part == Part::Undecided {
                return batch;
            }
        }
    }

    /// Chunks that tell what one costs: fewer where it is known that two trials would have no time for a round.
    fn pilot_chunks(&self, known: &Known<'_>) -> u32 {
        let costs = Costs::of(known);
        let pairs = pairs(known);
        let left = self.left(known) - of_rows(known, &costs, &pairs);
        let affordable = chunks_within(known, left, &costs, &pairs, PILOT_CHUNKS);
        affordable.filter(|&it| it >= FEWEST_CHUNKS).unwrap_or(PILOT_CHUNKS)
    }

    /// What it takes to compare one variant with its reference.
    fn pair(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        let pairs = pairs(known);
        let chunks = self.chunks_of(known, &pairs, FEWEST_CHUNKS);
        let stages = [Stage::Quality, Stage::Rounds, Stage::Tasks];
        let of_trial = |trial: usize| {
            stages.into_iter().filter_map(move |it| first_visit(known, trial, it, chunks))
        };
        pairs.into_iter().flat_map(of_trial).collect()
    }

    /// A part of the text, the tasks and a round for every trial.
    fn each(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        let costs = Costs::of(known);
        let order = order(known);
        let chunks = self.chunks_of(known, &order, PILOT_CHUNKS);
        // A reference was evaluated as far as the first of its variants.
        let is_evaluated =
            |trial: usize| reference_of(known, trial) == Some(trial) && scored(known, trial) > 0;
        let of_stage = |stage: Stage| {
            let asked = order.iter().filter(|&&it| stage != Stage::Quality || !is_evaluated(it));
            asked.filter_map(|&it| first_visit(known, it, stage, chunks)).collect::<Vec<_>>()
        };
        let stages = [Stage::Quality, Stage::Tasks, Stage::Rounds];
        let by_stage = stages.map(of_stage).concat();
        if costs.all(&by_stage).is_some_and(|all| all <= self.left(known)) {
            return by_stage;
        }
        // Not all will be measured: whole rows say more than a column.
        let rank = |visit: &PlannedVisit| order.iter().position(|&trial| trial == visit.trial);
        let mut by_trial = by_stage;
        by_trial.sort_by_key(rank);
        by_trial
    }

    /// As many chunks for each of these trials as it takes to stop, or fewer where half of the time would not do for them,
    /// or what their rounds and tasks leave of it. Where that is less than `least`, not all will have them.
    fn chunks_of(&self, known: &Known<'_>, trials: &[usize], least: u32) -> u32 {
        let workloads = known.experiment.all_workloads();
        let domains = workloads.filter_map(|it| it.quality.as_ref()).map(|it| it.domains.len());
        let most = u32::try_from(fewest_chunks(domains.max().unwrap_or(0))).unwrap_or(u32::MAX);
        let costs = Costs::of(known);
        let left = self.left(known);
        let left = (left / 2.0).min(left - of_rows(known, &costs, trials));
        let affordable = chunks_within(known, left, &costs, trials, most);
        let affordable = affordable.map(|it| if it < least { PILOT_CHUNKS } else { it });
        affordable.unwrap_or(most).min(most)
    }

    /// Text for divergences that are not precise, else one more round for speeds that are not told apart.
    fn undecided(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        let text = (0..known.experiment.models.len())
            .flat_map(|model| self.affordable(known, further_text(known, model)))
            .collect::<Vec<_>>();
        if !text.is_empty() {
            return text;
        }
        let done = rounds_begun(known);
        let pairs = undecided(&Summary::of(known.run));
        let worthwhile = pairs.iter().filter(|pair| {
            pair.more.is_some_and(|more| u64::from(done) + more <= u64::from(MOST_ROUNDS))
        });
        let trials: BTreeSet<usize> = worthwhile.flat_map(|pair| pair.rows).collect();
        let round = |trial| PlannedVisit { trial, purpose: Purpose::Round(done) };
        let visits: Vec<PlannedVisit> = trials.into_iter().map(round).collect();
        // Speeds are compared within a round.
        let cost = Costs::of(known).all(&visits);
        if cost.is_some_and(|cost| cost <= self.left(known)) { visits } else { Vec::new() }
    }

    /// Visits to further chunks, to as many as there is time for; none if that is hardly any.
    fn affordable(&self, known: &Known<'_>, mut visits: Vec<PlannedVisit>) -> Vec<PlannedVisit> {
        let costs = Costs::of(known);
        let Some(&PlannedVisit {
            trial: reference,
            purpose: Purpose::Quality { until: Some(until) },
        }) = visits.first()
        else {
            return Vec::new();
        };
        let from = scored(known, reference);
        let (Some(cost), Some(each)) = (
            costs.all(&visits),
            visits.iter().map(|it| costs.chunk(it.trial)).sum::<Option<f64>>(),
        ) else {
            return visits;
        };
        let over = (cost - self.left(known)).max(0.0) / each.max(f64::MIN_POSITIVE);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count"
        )]
        let over = over.ceil() as u32;
        let until = until.saturating_sub(over);
        if until < from + PILOT_CHUNKS {
            return Vec::new();
        }
        for visit in &mut visits {
            visit.purpose = Purpose::Quality { until: Some(until) };
        }
        visits
    }
}

impl Strategy for Budgeted {
    fn next(&mut self, known: &Known<'_>) -> Step {
        loop {
            while let Some(visit) = self.next.pop_front() {
                let visit = within_reference(known, visit);
                if let Some(visit) = visit.filter(|&visit| !is_pointless(known, visit))
                    && self.fits(known, visit)
                {
                    return Step::Visit(visit);
                }
            }
            self.next = self.batch(known).into();
            if self.next.is_empty() {
                return Step::Done;
            }
        }
    }

    fn ahead(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        if self.part > Part::Pilot {
            return self.next.iter().copied().collect();
        }
        let stages = [Stage::Quality, Stage::Tasks, Stage::Rounds];
        let visits = order(known).into_iter().flat_map(|trial| {
            stages.into_iter().filter_map(move |it| first_visit(known, trial, it, PILOT_CHUNKS))
        });
        visits.collect()
    }

    fn has_time_for_file(&self, known: &Known<'_>, variant: usize) -> bool {
        let is_reference = |trial: usize| known.plan.trials[trial].is_reference;
        let mut trials =
            (0..known.plan.trials.len()).filter(|&it| known.plan.trials[it].variant == variant);
        let spent = known.run.active_seconds.unwrap_or(0.0);
        trials.any(is_reference) || spent + cost::making(known, variant) <= self.budget * MAKING
    }
}

/// All trials, model after model, so that the first of them say most of all: the reference, then the middle of the ladder of
/// sizes, the middles of its halves, and so on; last what saves no byte.
fn order(known: &Known<'_>) -> Vec<usize> {
    let Known { plan, experiment, .. } = known;
    let bytes = |trial: usize| plan.variant_of(trial).expected_bytes();
    let of_model = |model: usize| {
        let of_model = |&trial: &usize| plan.trials[trial].model_position == model;
        let (mut order, mut others): (Vec<usize>, Vec<usize>) = (0..plan.trials.len())
            .filter(of_model)
            .partition(|&trial| plan.trials[trial].is_reference);
        let most = order.first().map_or(u64::MAX, |&reference| bytes(reference));
        others.sort_by_key(|&trial| std::cmp::Reverse(bytes(trial)));
        let (large, ladder): (Vec<usize>, Vec<usize>) =
            others.into_iter().partition(|&trial| bytes(trial) >= most);
        order.extend(middles_first(&ladder));
        order.extend(large);
        order
    };
    (0..experiment.models.len()).flat_map(of_model).collect()
}

/// Of each model the reference and the first of its variants whose files are there.
fn pairs(known: &Known<'_>) -> Vec<usize> {
    let Known { plan, experiment, run, .. } = known;
    let can_run = |&trial: &usize| {
        run.trials[trial].artifact.is_some() && run.trials[trial].failure.is_none()
    };
    let order: Vec<usize> = order(known).into_iter().filter(can_run).collect();
    let first = |model: usize, is_reference: bool| {
        let of_kind = |trial: &&usize| {
            let planned = &plan.trials[**trial];
            planned.model_position == model && planned.is_reference == is_reference
        };
        order.iter().find(of_kind).copied()
    };
    let of_model = |model| [first(model, true), first(model, false)].into_iter().flatten();
    (0..experiment.models.len()).flat_map(of_model).collect()
}

/// Seconds that these trials take besides the text, as far as that is known.
fn of_rows(known: &Known<'_>, costs: &Costs<'_>, trials: &[usize]) -> f64 {
    let stages = [Stage::Quality, Stage::Tasks, Stage::Rounds];
    let visits = trials.iter().flat_map(|&trial| {
        stages.into_iter().filter_map(move |stage| first_visit(known, trial, stage, 0))
    });
    costs.known(visits)
}

/// Chunks up to which all of these trials can be evaluated in this time, `most` at most; `None`: not known.
fn chunks_within(
    known: &Known<'_>,
    seconds: f64,
    costs: &Costs<'_>,
    trials: &[usize],
    most: u32,
) -> Option<u32> {
    let each = |&trial: &usize| Some((scored(known, trial), costs.chunk_at_most(trial)?));
    let each: Vec<(u32, f64)> = trials.iter().filter_map(each).collect();
    let all = |until: u32| -> f64 {
        each.iter().map(|&(from, chunk)| chunk * f64::from(until.saturating_sub(from))).sum()
    };
    let fits = |&until: &u32| all(until) <= seconds;
    let is_known = each.iter().any(|&(_, chunk)| chunk > 0.0);
    is_known.then(|| (1..=most).take_while(fits).last().unwrap_or(0))
}

/// More of the text for a model's variants, for those only that have a speed if any two trials have: others cannot be
/// compared, whatever is known of their divergence.
fn further_text(known: &Known<'_>, model: usize) -> Vec<PlannedVisit> {
    let has_speed = |&trial: &usize| !known.run.trials[trial].visits.is_empty();
    let of_model = |&trial: &usize| known.plan.trials[trial].model_position == model;
    let with_speed = (0..known.plan.trials.len()).filter(of_model).filter(has_speed).count();
    let waiting = waiting(known, model).filter(|trial| with_speed < 2 || has_speed(trial));
    further_step(known, model, waiting.collect())
}

/// The middle, then the middles of the halves, and so on.
fn middles_first(ladder: &[usize]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut parts = VecDeque::from([ladder]);
    while let Some(part) = parts.pop_front() {
        let (before, rest) = part.split_at(part.len().saturating_sub(1) / 2);
        if let Some((&middle, after)) = rest.split_first() {
            order.push(middle);
            parts.extend([before, after]);
        }
    }
    order
}

/// The first visit to a trial for a stage; `None`: it was made, or nothing is asked for.
fn first_visit(known: &Known<'_>, trial: usize, stage: Stage, chunks: u32) -> Option<PlannedVisit> {
    let workloads = known.experiment.workloads_of(known.plan.trials[trial].model_position);
    if !workloads.has(stage) {
        return None;
    }
    let until = Some(chunks).filter(|_| workloads.compare());
    let purpose = match stage {
        Stage::Quality => Purpose::Quality { until },
        Stage::Tasks => Purpose::Tasks,
        Stage::Rounds => Purpose::Round(0),
    };
    let visit = PlannedVisit { trial, purpose };
    let is_there = match stage {
        // A reference's file is gone if an earlier process wrote it.
        Stage::Quality if known.plan.trials[trial].is_reference => {
            scored(known, trial) >= chunks || is_quality_over(known, trial)
        }
        Stage::Quality => is_quality_over(known, trial) || scored(known, trial) > 0,
        Stage::Tasks | Stage::Rounds => is_stored(known, visit),
    };
    (!is_there).then_some(visit)
}

/// A visit to no more of the text than the reference was evaluated on, whose own visit may not have fit.
fn within_reference(known: &Known<'_>, visit: PlannedVisit) -> Option<PlannedVisit> {
    let Purpose::Quality { until: Some(until) } = visit.purpose else { return Some(visit) };
    let reference = reference_of(known, visit.trial).filter(|&it| it != visit.trial);
    let of_reference = reference.and_then(|it| known.run.trials[it].quality.as_ref());
    // Answers are compared as far as the reference gave them.
    let Some(quality) = of_reference.filter(|quality| quality.context > 0) else {
        return Some(visit);
    };
    let until = until.min(quality.chunks);
    let purpose = Purpose::Quality { until: Some(until) };
    (until > scored(known, visit.trial)).then_some(PlannedVisit { purpose, ..visit })
}

/// The references, on a few chunks and in a round.
fn pilot(known: &Known<'_>, chunks: u32) -> Vec<PlannedVisit> {
    let references = (0..known.plan.trials.len()).filter(|&it| reference_of(known, it) == Some(it));
    let stages = [Stage::Quality, Stage::Rounds];
    let of_reference = |trial: usize| {
        let visit = move |stage| match first_visit(known, trial, stage, chunks) {
            // An earlier process wrote what others are to be compared with: it is gone.
            None if stage == Stage::Quality && scored(known, trial) > 0 => {
                let purpose = Purpose::Quality { until: Some(scored(known, trial)) };
                Some(PlannedVisit { trial, purpose })
            }
            visit => visit,
        };
        stages.into_iter().filter_map(visit)
    };
    references.flat_map(of_reference).collect()
}

/// Rounds that were begun.
fn rounds_begun(known: &Known<'_>) -> u32 {
    let visits = known.run.trials.iter().flat_map(|trial| &trial.visits);
    visits.map(|visit| visit.round + 1).max().unwrap_or(0)
}

/// One more round for all, as long as there are too few for an interval. Where there is no time for all, that begins with
/// the best trade-offs and those that come next to them.
fn rounds(known: &Known<'_>, left: f64) -> Vec<PlannedVisit> {
    let visits = round_of_all(known);
    if Costs::of(known).all(&visits).is_none_or(|all| all <= left) {
        return visits;
    }
    best_first(&Summary::of(known.run), visits)
}

/// The best trade-offs' visits, then those of what may be as good, diverges less or is smaller, then the others.
fn best_first(summary: &Summary, mut visits: Vec<PlannedVisit>) -> Vec<PlannedVisit> {
    let rank = |visit: &PlannedVisit| {
        let models = summary.models.iter();
        let rank = models.filter_map(|model| {
            let choice = model.choice.as_ref()?;
            let next = choice.equals.iter().copied().chain(model.closer).chain(model.smaller);
            std::iter::once(choice.row).chain(next).position(|row| row == visit.trial)
        });
        rank.min().unwrap_or(usize::MAX)
    };
    visits.sort_by_key(rank);
    visits
}

fn round_of_all(known: &Known<'_>) -> Vec<PlannedVisit> {
    let round = rounds_begun(known);
    let trials = 0..known.plan.trials.len();
    let has_rounds = |&trial: &usize| {
        let model = known.plan.trials[trial].model_position;
        known.experiment.workloads_of(model).has(Stage::Rounds)
    };
    let visit = |trial| PlannedVisit { trial, purpose: Purpose::Round(round) };
    if round >= FEWEST_ROUNDS { Vec::new() } else { trials.filter(has_rounds).map(visit).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::MadeUp;

    #[test]
    fn of_a_round_without_time_for_all_the_best_comes_first_and_what_is_next_to_it() {
        let summary = Summary::of(&MadeUp::default().run());
        let model = &summary.models[0];
        let visit = |trial| PlannedVisit { trial, purpose: Purpose::Round(1) };
        let sorted = best_first(&summary, (0..summary.rows.len()).map(visit).collect());
        let order: Vec<usize> = sorted.iter().map(|visit| visit.trial).collect();
        let best =
            [model.choice.as_ref().unwrap().row, model.closer.unwrap(), model.smaller.unwrap()];
        assert_eq!(order[..3], best);
        assert!(best[0] > 0 && order.len() == summary.rows.len() && order[3] == 0, "{order:?}");
    }

    #[test]
    fn a_ladder_is_climbed_from_its_middle() {
        assert_eq!(middles_first(&[]), [0; 0]);
        assert_eq!(middles_first(&[7]), [7]);
        assert_eq!(middles_first(&[0, 1]), [0, 1]);
        assert_eq!(middles_first(&[0, 1, 2, 3, 4, 5, 6]), [3, 1, 5, 0, 2, 4, 6]);
    }
}
