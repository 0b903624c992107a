//! Costs: how long visits will take, to go by those that are over, by an earlier run, or by what is predicted.

use super::event::TimeLeft;
use super::plan::Plan;
use super::schedule::{PlannedVisit, Purpose};
use super::strategy::Known;
use crate::experiment::workloads::Stage;
use crate::results::record::{OtherWork, PhaseUsage, RunRecord, StageRecord, TrialRecord};
use crate::units::to_f64;
use crate::workload::Phase;

/// The standard deviation of the divergence of chunks over its mean: 0.49 to 0.59 for the demo's variants that need more
/// than the fewest.
const USUAL_SPREAD: f64 = 0.55;

/// Standard errors on both sides of a mean that 95 % are within.
const Z_95: f64 = 1.96;

/// Bytes of text that a token stands for.
pub const TOKEN_BYTES: f64 = 4.0;

/// What is left of a run to measure, seconds, where all of it is known.
pub fn seconds(known: &Known<'_>, ahead: &[PlannedVisit]) -> Option<f64> {
    Costs::of(known).left(ahead).filter(|left| !left.is_guess).map(|left| left.seconds)
}

/// What visits to each trial of a plan take, seconds.
#[derive(Debug)]
pub(super) struct Costs<'a> {
    known: Known<'a>,
    seen: Vec<Spent>,
    /// Of the trial in an earlier run, else what is predicted.
    expected: Vec<Option<Spent>>,
    /// The trial in an earlier run.
    past: Vec<Option<&'a TrialRecord>>,
    /// How many times as long as expected what was seen took: the machine may have been busy then, or be now.
    pace: f64,
}

/// What visits to a trial take, seconds; `None`: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// To start a worker and load.
    pub load: Option<f64>,
    /// To evaluate a chunk of the text.
    pub chunk: Option<f64>,
    /// To answer the questions of tasks.
    pub tasks: Option<f64>,
    /// A visit of a round.
    pub round: Option<f64>,
    /// A visit for quality, on the whole.
    pub evaluated: Option<f64>,
    /// The first throughput test of one.
    pub control: Option<f64>,
}

impl Spent {
    pub(super) fn of(trial: &TrialRecord) -> Self {
        let stages = |stage: Stage| trial.stages.iter().filter(move |it| it.stage == stage);
        let quality = || stages(Stage::Quality).map(|it| it.usage.as_slice());
        let visits = || trial.visits.iter().map(|it| it.usage.as_slice());
        let is_load = |phase: &Phase| matches!(phase, Phase::Start | Phase::Load);
        let first = trial.visits.first().and_then(|visit| visit.speed.first());
        let control = first.map(|first| Phase::Speed(first.test));
        let asked = trial.quality.as_ref().is_some_and(|quality| quality.answers > 0);
        let answers = trial.is_reference && asked;
        let tested = |phase: &Phase| Some(phase) == control.as_ref();
        Self {
            load: mean(quality().chain(visits()).map(|usage| sum(usage, is_load))),
            // A reference that answers prompts first takes its time for that.
            chunk: trial.chunk_seconds().filter(|_| !answers),
            tasks: mean(stages(Stage::Tasks).map(|it: &StageRecord| sum(&it.usage, |_| true))),
            round: mean(visits().map(|usage| sum(usage, |_| true))),
            evaluated: mean(quality().map(|usage| sum(usage, |_| true))),
            control: mean(visits().map(|usage| sum(usage, tested))),
        }
    }
}

/// What was seen over what was expected of it; 1 if there is nothing.
fn pace(seen: &[Spent], expected: &[Option<Spent>]) -> f64 {
    let pairs = seen.iter().zip(expected).filter_map(|(now, then)| Some((now, (*then)?)));
    let parts = pairs.flat_map(|(now, then)| {
        [(now.chunk, then.chunk), (now.tasks, then.tasks), (now.round, then.round)]
    });
    let ratios: Vec<f64> = parts
        .filter_map(|(now, then)| Some(now? / then?))
        .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
        .collect();
    mean(ratios.iter().map(|ratio| ratio.ln())).map_or(1.0, f64::exp)
}

fn sum(usage: &[PhaseUsage], counts: impl Fn(&Phase) -> bool) -> f64 {
    usage.iter().filter(|it| counts(&it.phase)).map(PhaseUsage::seconds).sum()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

impl<'a> Costs<'a> {
    pub(super) fn of(known: &Known<'a>) -> Self {
        let Known { run, past, foreseen, .. } = *known;
        let of_past = |trial: &TrialRecord| past.iter().find(|it| it.key == trial.key);
        let seen: Vec<Spent> = run.trials.iter().map(Spent::of).collect();
        let past: Vec<Option<&TrialRecord>> = run.trials.iter().map(of_past).collect();
        let foreseen = foreseen.iter().copied().chain(std::iter::repeat(None));
        let expected = past.iter().zip(foreseen).map(|(past, it)| past.map(Spent::of).or(it));
        let expected: Vec<Option<Spent>> = expected.collect();
        let pace = pace(&seen, &expected);
        Self { known: *known, seen, expected, past, pace }
    }

    /// What a visit takes, a pause before it included; `None` if none of its kind was seen.
    pub(super) fn visit(&self, visit: PlannedVisit) -> Option<f64> {
        let trial = visit.trial;
        let load = || self.seconds(trial, |seen| seen.load);
        let own = match visit.purpose {
            Purpose::Quality { until } => load()? + self.chunk(trial)? * self.chunks(trial, until),
            Purpose::Tasks => self.seconds(trial, |seen| seen.tasks)?,
            Purpose::Round(_) => self.seconds(trial, |seen| seen.round)?,
            Purpose::DriftControl(_) => load()? + self.seconds(trial, |seen| seen.control)?,
        };
        Some(own + self.known.experiment.cool_down.as_secs_f64())
    }

    /// What all these visits take.
    pub(super) fn all(&self, visits: &[PlannedVisit]) -> Option<f64> {
        visits.iter().map(|&visit| self.visit(visit)).sum()
    }

    /// What is left to do: these visits, and as much more of the text as variants will need that are not precise after
    /// them. Within a budget no more than is left of it.
    pub(super) fn left(&self, ahead: &[PlannedVisit]) -> Option<TimeLeft> {
        let costs: Vec<Option<f64>> = ahead.iter().map(|&visit| self.visit(visit)).collect();
        let usual = mean(costs.iter().flatten().copied()).or_else(|| {
            let parts =
                |seen: &Spent| seen.evaluated.into_iter().chain(seen.round).chain(seen.tasks);
            mean(self.seen.iter().flat_map(parts))
        });
        let Known { experiment, run, .. } = self.known;
        let budget = experiment.budget.map_or(f64::INFINITY, |budget| budget.as_secs_f64());
        let within_budget = (budget - run.active_seconds.unwrap_or(0.0)).max(0.0);
        if ahead.is_empty() {
            // Within a budget what comes next is not planned yet.
            let seconds = if within_budget.is_finite() { within_budget } else { 0.0 };
            return Some(TimeLeft { seconds, is_guess: seconds > 0.0 });
        }
        let is_guess = costs.iter().any(Option::is_none);
        let known = costs.iter().map(|cost| cost.or(usual)).sum::<Option<f64>>()?;
        let seconds = known + if is_guess { 0.0 } else { self.more_text(ahead)? };
        Some(TimeLeft { seconds: seconds.min(within_budget), is_guess })
    }

    /// Seconds for the text that variants will need beyond these visits.
    fn more_text(&self, ahead: &[PlannedVisit]) -> Option<f64> {
        let mut left = 0.0;
        for (visit, until) in ahead.iter().filter_map(|visit| match visit.purpose {
            Purpose::Quality { until: Some(until) } => Some((visit, until)),
            _ => None,
        }) {
            let more = (self.needed(visit.trial, until) - f64::from(until)).max(0.0);
            if more > 0.0 {
                left += self.seconds(visit.trial, |seen| seen.load)?
                    + more * self.chunk(visit.trial)?;
            }
        }
        Some(left)
    }

    /// Chunks that a trial will need in all: as many as in an earlier run, else as many as it takes for the precision that
    /// is asked for where chunks differ as they usually do.
    fn needed(&self, trial: usize, first: u32) -> f64 {
        let past = self.past[trial].and_then(|it| it.quality.as_ref());
        if let Some(quality) = past {
            return f64::from(quality.chunks);
        }
        let Known { plan, experiment, .. } = self.known;
        let quality = &experiment.workloads_of(plan.trials[trial].model_position).quality;
        let Some(quality) = quality else { return f64::from(first) };
        let usual = quality
            .precision
            .map_or(f64::INFINITY, |precision| (Z_95 * USUAL_SPREAD / precision).powi(2));
        let of_text = to_f64(quality.text.len() as u64) / TOKEN_BYTES / f64::from(quality.context);
        let answers = quality.answers.as_ref().map(|it| to_f64(it.prompts.len() as u64));
        let limit = quality.chunks.map_or(f64::INFINITY, f64::from);
        usual.min(answers.unwrap_or(of_text)).min(limit).max(f64::from(first))
    }

    /// What a chunk of the text takes.
    pub(super) fn chunk(&self, trial: usize) -> Option<f64> {
        self.seconds(trial, |seen| seen.chunk)
    }

    /// What was seen of the trial itself, in this run or an earlier one, or of the one of the same model whose file is
    /// nearest in size.
    fn seconds(&self, trial: usize, of: impl Fn(&Spent) -> Option<f64>) -> Option<f64> {
        let Known { plan, run, .. } = self.known;
        let model = plan.trials[trial].model_position;
        let size = |trial: usize| file_size(run, plan, trial);
        let own = size(trial);
        let expected = || Some(of(&self.expected[trial]?)? * self.pace);
        if let Some(seconds) = of(&self.seen[trial]).or_else(expected) {
            return Some(seconds);
        }
        let seen = self.seen.iter().enumerate().filter_map(|(at, seen)| Some((at, of(seen)?)));
        let distance = |at: usize| {
            let is_other_model = plan.trials[at].model_position != model;
            (is_other_model, size(at).abs_diff(own))
        };
        seen.min_by_key(|&(at, _)| distance(at)).map(|(_, seconds)| seconds)
    }

    /// Chunks that a visit would evaluate.
    fn chunks(&self, trial: usize, until: Option<u32>) -> f64 {
        let Known { plan, run, experiment, .. } = self.known;
        let model = plan.trials[trial].model_position;
        let limit = experiment.workloads_of(model).quality.as_ref().and_then(|it| it.chunks);
        let of_model = (0..run.trials.len()).filter(|&at| plan.trials[at].model_position == model);
        let qualities = of_model.filter_map(|at| run.trials[at].quality.as_ref());
        let past = self.past.iter().flatten().filter_map(|it| it.quality.as_ref());
        let available = qualities.chain(past).map(|quality| quality.chunks_available).max();
        let all = available.or(limit).unwrap_or(0);
        let all = limit.map_or(all, |limit| limit.min(all));
        let scored = run.trials[trial].quality.as_ref().map_or(0, |quality| quality.chunks);
        let until = until.unwrap_or(all).min(if all > 0 { all } else { u32::MAX });
        f64::from(until.saturating_sub(scored))
    }
}

/// Bytes of a trial's file, as far as that is known.
fn file_size(run: &RunRecord, plan: &Plan, trial: usize) -> u64 {
    let made = run.trials[trial].artifact.as_ref().map(|artifact| artifact.file_bytes);
    made.unwrap_or_else(|| plan.variant_of(trial).expected_bytes())
}

/// What the file of a variant will take to make, seconds, to go by those that were made; 0 before the first.
pub(super) fn making(known: &Known<'_>, variant: usize) -> f64 {
    let (mut seconds, mut bytes) = (0.0, 0_u64);
    for trial in &known.run.trials {
        let files = trial.other_times.iter().filter(|it| it.work == OtherWork::File);
        let spent: f64 = files.map(|it| it.seconds).sum();
        if let Some(artifact) = trial.artifact.as_ref().filter(|it| it.quantize_seconds.is_some()) {
            seconds += spent;
            bytes += artifact.file_bytes;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let size = |bytes: u64| bytes as f64;
    if bytes == 0 {
        0.0
    } else {
        seconds / size(bytes) * size(known.plan.variants[variant].expected_bytes())
    }
}
