//! Replays: what a strategy would have measured and answered, played from a run that measured everything many times.
//!
//! Nothing is run: a visit takes from the recorded run a round that was not taken yet, or as many chunks of the text,
//! with the time that it took then. So a strategy can be asked hundreds of times, and what it says be held against all
//! that was recorded, which `bars` does for recommendations.

pub mod bars;

use super::plan::{Origin, Plan, Variant};
use super::schedule::{PlannedVisit, Purpose};
use super::strategy::{Known, Step, Strategy};
use crate::causes::Problem;
use crate::experiment::resolved::Experiment;
use crate::results::annotations::Annotations;
use crate::results::recommendation::Predicted;
use crate::results::record::{
    OtherWork, PhaseUsage, RunRecord, Stage, StageRecord, TrialRecord, VisitRecord,
};
use crate::units::to_f64;
use crate::workload::Phase;
use crate::workload::divergence::{chunks_needed, fewest_chunks};
use crate::workload::measured::{MeanWithError, Quality};

/// A run that was recorded, and the rounds of it in the order in which they are taken.
pub struct Replay<'a> {
    /// What is asked for.
    pub experiment: &'a Experiment,
    /// Its trials, of which the recorded run has one each in the same order.
    pub plan: &'a Plan,
    /// What was recorded.
    pub recorded: &'a RunRecord,
    /// Positions of recorded visits, the same for all trials.
    pub rounds: Vec<usize>,
}

impl Replay<'_> {
    /// The run as a strategy would have made it.
    pub fn run(&self, strategy: &mut dyn Strategy) -> RunRecord {
        let empty = self.recorded.trials.iter().zip(self.plan.empty_records());
        let mut run = RunRecord {
            finished: None,
            active_seconds: Some(0.0),
            requirements: self.experiment.requirements.clone(),
            experiment: serde_json::to_value(self.experiment).unwrap_or_default(),
            trials: empty.map(|(recorded, empty)| nothing_measured(recorded, empty)).collect(),
            drift_controls: Vec::new(),
            annotations: Annotations::default(),
            ..self.recorded.clone()
        };
        loop {
            let known = Known {
                experiment: self.experiment,
                plan: self.plan,
                run: &run,
                past: &[],
                foreseen: &[],
            };
            match strategy.next(&known) {
                Step::Visit(visit) => self.visit(&mut run, visit),
                // What was not recorded cannot be played.
                Step::Add(_) | Step::Done => return run,
            }
        }
    }

    fn visit(&self, run: &mut RunRecord, visit: PlannedVisit) {
        let recorded = &self.recorded.trials[visit.trial];
        let trial = &mut run.trials[visit.trial];
        if trial.artifact.is_none() {
            trial.artifact.clone_from(&recorded.artifact);
            trial.other_times.clone_from(&recorded.other_times);
            trial.other_times.retain(|it| it.work == OtherWork::File);
            let making: f64 = trial.other_times.iter().map(|it| it.seconds).sum();
            run.active_seconds = Some(run.active_seconds.unwrap_or(0.0) + making);
        }
        let trial = &mut run.trials[visit.trial];
        trial.facts.clone_from(&recorded.facts);
        let usage = match visit.purpose {
            Purpose::Quality { until } => {
                let workloads = &self.experiment.workloads;
                let plan = workloads.quality.as_ref();
                let limit = plan.and_then(|plan| plan.chunks).unwrap_or(u32::MAX);
                let until = Some(until.unwrap_or(u32::MAX).min(limit));
                part_of_text(recorded, trial, until, plan.and_then(|plan| plan.precision))
            }
            Purpose::Tasks => whole_stage(recorded, trial, Stage::Tasks),
            Purpose::Round(round) => self.round(recorded, trial, round),
            Purpose::DriftControl(_) => Vec::new(),
        };
        let seconds: f64 = usage.iter().map(PhaseUsage::seconds).sum();
        run.active_seconds = Some(run.active_seconds.unwrap_or(0.0) + seconds);
    }

    fn round(
        &self,
        recorded: &TrialRecord,
        trial: &mut TrialRecord,
        round: u32,
    ) -> Vec<PhaseUsage> {
        let Some(at) = self.rounds.get(round as usize) else { return Vec::new() };
        let Some(visit) = recorded.visits.get(*at) else { return Vec::new() };
        let mut visit = VisitRecord { round, ..visit.clone() };
        // Prompts are dealt over the rounds that are asked for.
        let rounds = self.experiment.rounds.max(1);
        let all = || recorded.visits.iter().flat_map(|visit| &visit.responses);
        let (own, many) = (visit.responses.len(), all().count());
        visit.responses = all().skip(round as usize).step_by(rounds as usize).cloned().collect();
        if round >= rounds || many == 0 || self.experiment.workloads.latency.is_none() {
            visit.responses.clear();
        }
        let per_prompt = to_f64(visit.responses.len() as u64) / to_f64(own.max(1) as u64);
        for usage in &mut visit.usage {
            let is_asked = match &usage.phase {
                Phase::Latency => {
                    usage.usage.seconds = usage.seconds() * per_prompt;
                    per_prompt > 0.0
                }
                Phase::Speed(test) => self.experiment.workloads.speed.contains(test),
                Phase::ColdLoad => self.experiment.workloads.cold_load,
                _ => true,
            };
            if !is_asked {
                (usage.usage.seconds, usage.begin_seconds, usage.end_seconds) = (0.0, None, None);
            }
        }
        visit.speed.retain(|it| self.experiment.workloads.speed.contains(&it.test));
        let usage = visit.usage.clone();
        trial.visits.push(visit);
        usage
    }
}

/// A plan of the variants of a recorded run.
///
/// # Errors
/// There are none, or none is the reference.
pub fn plan_of(experiment: &Experiment, recorded: &RunRecord) -> Result<Plan, Problem> {
    let variant = |trial: &TrialRecord| {
        let artifact = trial.artifact.clone();
        let artifact =
            artifact.ok_or_else(|| Problem::new(format!("{} has no file", trial.label)))?;
        Ok(Variant {
            repeats: None,
            model: trial.model.clone(),
            engine: trial.engine.clone(),
            quantization: trial.quantization,
            label: trial.label.clone(),
            origin: Origin::Ready(artifact),
            calibration: None,
            projector: None,
            adapters: Vec::new(),
        })
    };
    let variants = recorded.trials.iter().map(variant).collect::<Result<Vec<_>, Problem>>()?;
    Plan::new(experiment, vec![variants])
}

/// A trial of which the plan says what its file takes, and nothing of memory.
fn nothing_measured(recorded: &TrialRecord, empty: TrialRecord) -> TrialRecord {
    let file_bytes = recorded.artifact.as_ref().map_or(0, |artifact| artifact.file_bytes);
    let (peak_bytes, error_bytes, tokens) = (0, 0, 0);
    let predicted = Predicted { file_bytes, peak_bytes, error_bytes, tokens, does_not_fit: None };
    let (key, host) = (recorded.key.clone(), recorded.host.clone());
    TrialRecord { predicted: Some(predicted), artifact: None, key, host, ..empty }
}

fn whole_stage(recorded: &TrialRecord, trial: &mut TrialRecord, stage: Stage) -> Vec<PhaseUsage> {
    let Some(found) = recorded.stages.iter().find(|it| it.stage == stage) else {
        return Vec::new();
    };
    trial.tasks.clone_from(&recorded.tasks);
    trial.stages.push(found.clone());
    found.usage.clone()
}

/// The first chunks of the text, and what the rest of them took besides those that there were.
fn part_of_text(
    recorded: &TrialRecord,
    trial: &mut TrialRecord,
    until: Option<u32>,
    precision: Option<f64>,
) -> Vec<PhaseUsage> {
    let (Some(whole), Some(each)) = (&recorded.quality, recorded.chunk_seconds()) else {
        return Vec::new();
    };
    let before = trial.quality.as_ref().map_or(0, |quality| quality.chunks);
    let until = until.unwrap_or(whole.chunks).min(whole.chunks);
    let until = until.max(before);
    let chunk_kld = whole.divergence.as_ref().map_or(&[][..], |it| it.chunk_kld.as_slice());
    let is_precise = |&chunks: &u32| {
        let needed = chunk_kld.get(..chunks as usize).zip(precision);
        let needed = needed.and_then(|(chunk_kld, precision)| chunks_needed(chunk_kld, precision));
        needed.is_some_and(|needed| needed <= f64::from(chunks))
    };
    let fewest = u32::try_from(fewest_chunks(whole.domains.len())).unwrap_or(u32::MAX);
    let early = (fewest.max(before + 1)..=until).find(is_precise);
    let until = early.unwrap_or(until);
    let mut quality = first_chunks(whole, until);
    if let Some(divergence) = &mut quality.divergence {
        divergence.stopped_early = early.is_some() && until < whole.chunks;
    }
    let stage = recorded.stages.iter().find(|it| it.stage == Stage::Quality);
    let Some(stage) = stage else { return Vec::new() };
    let mut stage: StageRecord = stage.clone();
    for usage in &mut stage.usage {
        if usage.phase == Phase::Quality {
            usage.usage.seconds = each * f64::from(until.saturating_sub(before));
        }
    }
    let usage = stage.usage.clone();
    trial.quality = Some(quality);
    trial.stages.push(stage);
    usage
}

/// What an evaluation would have said that ended after so many chunks.
pub fn first_chunks(whole: &Quality, chunks: u32) -> Quality {
    let count = chunks as usize;
    let mut part = whole.clone();
    // What was recorded is the text.
    (part.chunks, part.chunks_available) = (chunks, whole.chunks);
    part.chunk_nll.truncate(count);
    part.scored_tokens = whole.scored_tokens * u64::from(chunks) / u64::from(whole.chunks.max(1));
    part.perplexity.mean = mean(&part.chunk_nll).exp();
    if let Some(divergence) = &mut part.divergence {
        divergence.chunk_kld.truncate(count);
        divergence.chunk_top_token_agreement.truncate(count);
        divergence.kld = MeanWithError { mean: mean(&divergence.chunk_kld), standard_error: 0.0 };
    }
    part
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / to_f64(values.len().max(1) as u64)
}
