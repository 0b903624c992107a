//! The benchmark sequence, from the first variant to the last round.
//!
//! For each variant a worker loads it while the monitor watches, every test and prompt is processed
//! and recorded, the monitor stops and returns what was used.
//! How a worker is started is in `process.rs`, what is shown in `display/`, what is kept in
//! `keeper.rs`.

use super::conversation::{Ending, Limits, Report, converse};
use super::event::{BenchmarkEvent, Listener, ListenerError};
use super::launcher::Launcher;
use super::plan::Plan;
use super::quality::{QualityError, ReferenceShelf};
use super::schedule::{PlannedVisit, Purpose, anchor_of, deal, schedule};
use super::tasks::TaskShelf;
use super::variants::{Provided, VariantError, provide};
use crate::experiment::resolved::{Experiment, Workloads};
use crate::model::cache::Cache;
use crate::results::record::{
    AnchorRecord, Failure, RunRecord, SpeedRecord, Stage, StageRecord, TrialRecord, VisitRecord,
};
use crate::statistics::sample::Sample;
use crate::worker::protocol::{Job, Phase, VisitJob, WorkloadJob};
use std::collections::BTreeSet;
use std::time::Duration;
use time::OffsetDateTime;

/// Everything that a run needs.
pub struct Benchmark<'a, L: Launcher> {
    /// What is measured and how often.
    pub experiment: &'a Experiment,
    /// The variants and trials it comes to.
    pub plan: &'a Plan,
    /// Where variants and scratch files are.
    pub cache: &'a Cache,
    /// Starts the workers.
    pub launcher: L,
    /// Is told what happens.
    pub listener: Box<dyn Listener + 'a>,
    /// Memory of the machine, bytes, to explain why a worker was killed.
    pub machine_bytes: Option<u64>,
    /// The run, with what it measured before an interruption.
    pub run: RunRecord,
    /// Whether it goes on with a run that is stored already.
    pub resumed: bool,
    /// Up to when the time that the run has been under way is noted: when it begins or goes on, now.
    pub noted: OffsetDateTime,
}

/// Why a run ended early. What was measured until then is kept.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// What was measured could not be kept.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// No variant can be made.
    #[error(transparent)]
    Variant(#[from] VariantError),
    /// Nothing can be written for the quality workload.
    #[error(transparent)]
    Quality(#[from] QualityError),
}

impl<L: Launcher> Benchmark<'_, L> {
    /// Runs the benchmark: variants, quality, rounds. Returns the run; its `finished` is `None` if
    /// the user stopped it.
    ///
    /// # Errors
    /// What was measured cannot be kept or files cannot be written at all. That trials fail is no
    /// error: they say why, and the run goes on.
    pub async fn run(mut self) -> Result<RunRecord, SequenceError> {
        let visits = self.remaining_visits();
        let variants = self.variants_of(&visits);
        self.listener.hear(&BenchmarkEvent::RunBegan {
            run: &self.run,
            resumed: self.resumed,
            visits: &visits,
            variants: variants.len(),
        })?;
        for variant in variants {
            self.make_variant(variant).await?;
        }
        let mut shelf = ReferenceShelf::new(self.cache, self.experiment);
        let tasks = TaskShelf::new(self.cache, self.experiment)?;
        for visit in visits {
            if self.launcher.is_interrupted() {
                break;
            }
            if self.run.trials[visit.trial].failure.is_none() {
                self.cool_down().await?;
                match visit.purpose {
                    Purpose::Quality => self.measure_quality(visit, &mut shelf).await?,
                    Purpose::Tasks => self.measure_tasks(visit, &tasks).await?,
                    Purpose::Round(round) => self.measure_round(visit, round).await?,
                    Purpose::Anchor(round) => self.measure_anchor(visit, round).await?,
                }
            }
        }
        if !self.launcher.is_interrupted() {
            self.run.finished = Some(self.launcher.now());
        }
        self.note_time();
        self.listener.hear(&BenchmarkEvent::RunEnded { run: &self.run })?;
        Ok(self.run)
    }

    /// Makes a variant or finds it in the cache, and notes its file in its trials.
    async fn make_variant(&mut self, position: usize) -> Result<(), SequenceError> {
        if self.launcher.is_interrupted() {
            return Ok(());
        }
        let variant = &self.plan.variants[position];
        let name = variant.name();
        self.listener.hear(&BenchmarkEvent::VariantBegan { name: &name })?;
        let limits = self.limits();
        let listener = self.listener.as_mut();
        let provided = provide(variant, self.cache, &mut self.launcher, limits, listener).await?;
        let trials: Vec<usize> = (0..self.plan.trials.len())
            .filter(|&trial| self.plan.trials[trial].variant == position)
            .collect();
        match provided {
            Provided::Interrupted => {}
            Provided::Failed(failure) => {
                for trial in trials {
                    self.run.trials[trial].failure = Some(failure.clone());
                    self.tell_trial(trial)?;
                }
            }
            Provided::Ready { artifact, made } => {
                let event = BenchmarkEvent::VariantReady { name: &name, artifact: &artifact, made };
                self.listener.hear(&event)?;
                for trial in trials {
                    self.run.trials[trial].artifact = Some(artifact.clone());
                    self.tell_trial(trial)?;
                }
            }
        }
        Ok(())
    }

    /// Perplexity of a trial, and its divergence from what the reference's visit wrote down.
    async fn measure_quality(
        &mut self,
        visit: PlannedVisit,
        shelf: &mut ReferenceShelf<'_>,
    ) -> Result<(), SequenceError> {
        let planned = &self.plan.trials[visit.trial];
        let Some(job) = shelf.job(planned)? else { return Ok(()) };
        let Some(report) = self.visit(visit, vec![WorkloadJob::Quality(job)], false).await? else {
            return Ok(());
        };
        let trial = &mut self.run.trials[visit.trial];
        keep_stage(trial, Stage::Quality, &report);
        trial.facts = report.facts.or(trial.facts.take());
        trial.quality = report.quality.or(trial.quality.take());
        trial.embedding_quality = report.embedding_quality.or(trial.embedding_quality.take());
        if report.ending == Ending::Done {
            shelf.reference_done(planned);
        }
        self.note_ending(visit.trial, report.ending);
        self.tell_trial(visit.trial)
    }

    /// All tasks of a trial.
    async fn measure_tasks(
        &mut self,
        visit: PlannedVisit,
        tasks: &TaskShelf,
    ) -> Result<(), SequenceError> {
        let model = self.plan.trials[visit.trial].model_position;
        let artifact = self.run.trials[visit.trial].artifact.as_ref();
        let checksum = artifact.map_or("", |artifact| artifact.checksum.as_str());
        let projector = self.plan.variant_of(visit.trial).projector.as_ref();
        let jobs = tasks.jobs(model, checksum, projector).into_iter();
        let jobs = jobs.map(|job| WorkloadJob::Task(Box::new(job))).collect();
        let Some(report) = self.visit(visit, jobs, false).await? else { return Ok(()) };
        if report.ending == Ending::Interrupted {
            return Ok(());
        }
        let trial = &mut self.run.trials[visit.trial];
        keep_stage(trial, Stage::Tasks, &report);
        trial.facts = report.facts.or(trial.facts.take());
        trial.tasks = report.tasks;
        trial.add_failed(report.failed_workloads);
        self.note_ending(visit.trial, report.ending);
        self.tell_trial(visit.trial)
    }

    /// One visit of a round: loads, every speed test, this round's share of the prompts.
    async fn measure_round(
        &mut self,
        visit: PlannedVisit,
        round: u32,
    ) -> Result<(), SequenceError> {
        let started = self.launcher.now();
        let workloads = self.workloads_of_round(visit.trial, round);
        let cold_load = self.workloads_of(visit.trial).cold_load;
        let Some(report) = self.visit(visit, workloads, cold_load).await? else { return Ok(()) };
        if report.ending == Ending::Interrupted {
            return Ok(());
        }
        if report.ending == Ending::Done && self.is_anchor(visit.trial) {
            self.note_anchor(visit.trial, round, started, &report.speed)?;
        }
        let trial = &mut self.run.trials[visit.trial];
        trial.facts = report.facts.clone().or(trial.facts.take());
        // What a trial measured before it failed is worth showing beside the reason.
        if !report.is_empty() {
            trial.visits.push(visit_record(round, &report));
        }
        trial.add_failed(report.failed_workloads);
        self.note_ending(visit.trial, report.ending);
        self.tell_trial(visit.trial)
    }

    /// The reference's first speed test once more, to show whether the machine has drifted.
    async fn measure_anchor(
        &mut self,
        visit: PlannedVisit,
        round: u32,
    ) -> Result<(), SequenceError> {
        let started = self.launcher.now();
        let Some(&test) = self.workloads_of(visit.trial).speed.first() else { return Ok(()) };
        let workload = WorkloadJob::Speed { test, repetitions: self.experiment.repetitions };
        let Some(report) = self.visit(visit, vec![workload], false).await? else { return Ok(()) };
        if report.ending == Ending::Done {
            self.note_anchor(visit.trial, round, started, &report.speed)?;
        }
        // The trial has its own figures already; an anchor that fails takes none of them away.
        Ok(())
    }

    /// Starts a worker for a visit and listens until it ends. `None`: the trial has no file.
    async fn visit(
        &mut self,
        visit: PlannedVisit,
        workloads: Vec<WorkloadJob>,
        cold_load: bool,
    ) -> Result<Option<Report>, SequenceError> {
        let trial = &self.run.trials[visit.trial];
        let Some(artifact) = &trial.artifact else { return Ok(None) };
        let job = Job::Visit(VisitJob {
            model: artifact.path.clone(),
            settings: trial.settings.clone(),
            cold_load,
            workloads,
        });
        let started = self.launcher.now();
        self.listener.hear(&BenchmarkEvent::VisitBegan { visit, trial })?;
        let limits = self.limits();
        let report = converse(&mut self.launcher, &job, limits, self.listener.as_mut()).await?;
        let known = &mut self.run.trials[visit.trial].left_out;
        for left_out in &report.left_out {
            if !known.contains(left_out) {
                known.push(left_out.clone());
            }
        }
        let length = (self.launcher.now() - started).try_into().unwrap_or_default();
        self.listener.hear(&BenchmarkEvent::VisitEnded { visit, length })?;
        Ok(Some(report))
    }

    fn workloads_of(&self, trial: usize) -> &Workloads {
        self.experiment.workloads_of(self.plan.trials[trial].model_position)
    }

    fn workloads_of_round(&self, trial: usize, round: u32) -> Vec<WorkloadJob> {
        let experiment = self.experiment;
        let repetitions = experiment.repetitions;
        let planned = self.workloads_of(trial);
        let speed = planned.speed.iter();
        let mut workloads: Vec<WorkloadJob> =
            speed.map(|&test| WorkloadJob::Speed { test, repetitions }).collect();
        if let Some(latency) = &planned.latency {
            let prompts = deal(&latency.prompts, round, experiment.rounds);
            if !prompts.is_empty() {
                workloads.push(WorkloadJob::Latency {
                    prompts,
                    max_tokens: latency.max_tokens,
                    sampling: latency.sampling,
                    format: latency.format,
                    chat_template_kwargs: latency.chat_template_kwargs.clone(),
                });
            }
        }
        workloads
    }

    async fn cool_down(&mut self) -> Result<(), SequenceError> {
        let length = self.experiment.cool_down;
        if length > Duration::ZERO {
            self.listener.hear(&BenchmarkEvent::Paused(length))?;
            self.launcher.pause(length).await;
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits { silence: self.experiment.phase_limit, machine_bytes: self.machine_bytes }
    }

    fn is_anchor(&self, trial: usize) -> bool {
        anchor_of(self.experiment, self.plan) == Some(trial)
    }

    /// Keeps the median of the first speed test's repetitions.
    fn note_anchor(
        &mut self,
        trial: usize,
        round: u32,
        started: OffsetDateTime,
        speed: &[SpeedRecord],
    ) -> Result<(), SequenceError> {
        let Some(&test) = self.workloads_of(trial).speed.first() else { return Ok(()) };
        let Some(record) = speed.iter().find(|record| record.test == test) else { return Ok(()) };
        let rates = record.samples.iter().map(|sample| sample.tokens_per_second());
        let Some(rates) = Sample::new(rates) else { return Ok(()) };
        let tokens_per_second = rates.median();
        let at_seconds = (started - self.run.started).as_seconds_f64();
        let anchor = AnchorRecord { round, at_seconds, tokens_per_second };
        self.run.anchor.push(anchor);
        self.listener.hear(&BenchmarkEvent::AnchorMeasured(&anchor))?;
        Ok(())
    }

    fn note_ending(&mut self, trial: usize, ending: Ending) {
        if let Ending::Failed(failure) = ending {
            self.run.trials[trial].failure = Some(failure);
        }
    }

    fn tell_trial(&mut self, position: usize) -> Result<(), SequenceError> {
        self.note_time();
        let trial = &self.run.trials[position];
        let active_seconds = self.run.active_seconds;
        self.listener.hear(&BenchmarkEvent::TrialChanged { position, trial, active_seconds })?;
        Ok(())
    }

    /// Adds the time since the last note to what the run has been under way.
    fn note_time(&mut self) {
        let now = self.launcher.now();
        let since = (now - self.noted).as_seconds_f64().max(0.0);
        self.run.active_seconds = Some(self.run.active_seconds.unwrap_or(0.0) + since);
        self.noted = now;
    }

    /// The visits of the schedule that are not stored yet.
    fn remaining_visits(&self) -> Vec<PlannedVisit> {
        let mut visits = schedule(self.experiment, self.plan);
        visits.retain(|visit| !self.is_stored(*visit));
        visits
    }

    fn is_stored(&self, visit: PlannedVisit) -> bool {
        let trial = &self.run.trials[visit.trial];
        trial.failure.is_some()
            || match visit.purpose {
                Purpose::Quality if self.plan.trials[visit.trial].is_reference => {
                    self.is_reference_over(visit.trial)
                }
                Purpose::Quality => trial.has_quality(),
                Purpose::Tasks => {
                    let is_task = |it: &&Failure| matches!(it.phase, Phase::Task(_));
                    let failed = trial.failed_workloads.iter().filter(is_task).count();
                    trial.tasks.len() + failed == self.workloads_of(visit.trial).tasks.len()
                }
                Purpose::Round(round) => trial.visits.iter().any(|visit| visit.round == round),
                // Two in each round: the reference's own visit and the one at the round's end.
                Purpose::Anchor(round) => {
                    self.run.anchor.iter().filter(|anchor| anchor.round == round).count() > 1
                }
            }
    }

    /// A reference that has its perplexity is visited again if others are still to be compared with
    /// it, for what it wrote down is not kept longer than a run.
    fn is_reference_over(&self, reference: usize) -> bool {
        let model = self.plan.trials[reference].model_position;
        let others = self.plan.trials.iter().zip(&self.run.trials);
        let waiting = others
            .filter(|(planned, _)| planned.model_position == model && !planned.is_reference)
            .any(|(_, trial)| !trial.has_quality() && trial.failure.is_none());
        let compare = self.workloads_of(reference).compare();
        self.run.trials[reference].has_quality() && !(waiting && compare)
    }

    /// The variants that visits need, in the plan's order.
    fn variants_of(&self, visits: &[PlannedVisit]) -> BTreeSet<usize> {
        visits.iter().map(|visit| self.plan.trials[visit.trial].variant).collect()
    }
}

/// Keeps what a visit for quality or tasks used; one that is made again replaces the one before.
fn keep_stage(trial: &mut TrialRecord, stage: Stage, report: &Report) {
    trial.stages.retain(|other| other.stage != stage);
    trial.stages.push(StageRecord {
        stage,
        started: report.started,
        usage: report.usage.clone(),
        peak_rss_bytes: report.peak_rss_bytes,
    });
}

fn visit_record(round: u32, report: &Report) -> VisitRecord {
    VisitRecord {
        round,
        started: report.started,
        loads: report.loads.clone(),
        memory: report.memory.clone(),
        speed: report.speed.clone(),
        responses: report.responses.clone(),
        usage: report.usage.clone(),
        peak_rss_bytes: report.peak_rss_bytes,
        pss_bytes: report.pss_bytes,
    }
}

#[cfg(test)]
mod exact;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod tests;
