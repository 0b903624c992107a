//! The benchmark sequence, from the first variant to the last round.
//!
//! For each variant a worker loads it while the monitor watches, every test and prompt is processed
//! and recorded, the monitor stops and returns what was used.
//! How a worker is started is in `host/`, what is shown in `display/`, what is kept in
//! `store_writer.rs`.

use super::event::{BenchmarkEvent, Listener, ListenerError};
use super::plan::{Plan, PlannedTrial};
use super::quality::{QualityError, ReferenceLogits};
use super::schedule::{PlannedVisit, Purpose};
use super::strategy::{Known, Step, Strategy};
use super::tasks::TaskInputs;
use super::variants::{VariantError, VariantOutcome, prepare_variant};
use super::worker_run::{Limits, Report, run_worker};
use crate::experiment::resolved::Experiment;
use crate::host::Host;
use crate::model::cache::Cache;
use crate::results::record::{HostRecord, RunRecord};
use crate::worker::protocol::Job;
use crate::workload::jobs::{VisitJob, WorkloadJob};
use std::collections::BTreeSet;
use std::time::Duration;
use time::OffsetDateTime;

/// Everything that a run needs.
pub struct Benchmark<'a, H: Host> {
    /// What is measured and how often.
    pub experiment: &'a Experiment,
    /// The variants and trials it comes to.
    pub plan: Plan,
    /// Says what comes next.
    pub strategy: Box<dyn Strategy + 'a>,
    /// Where variants and scratch files are.
    pub cache: &'a Cache,
    /// Where the workers run.
    pub host: H,
    /// Is told what happens.
    pub listener: Box<dyn Listener + 'a>,
    /// What that is, as it is stored.
    pub host_record: HostRecord,
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

impl<H: Host> Benchmark<'_, H> {
    /// Runs the benchmark. Returns the run; its `finished` is `None` if the user stopped it.
    ///
    /// # Errors
    /// What was measured cannot be kept or files cannot be written at all. That trials fail is no
    /// error: they say why, and the run goes on.
    pub async fn run(mut self) -> Result<RunRecord, SequenceError> {
        if !self.run.hosts.iter().any(|known| known.id == self.host_record.id) {
            self.run.hosts.push(self.host_record.clone());
        }
        let ahead = self.strategy.ahead(&self.known());
        let variants: BTreeSet<usize> =
            ahead.iter().map(|visit| self.plan.trials[visit.trial].variant).collect();
        self.listener.on_event(&BenchmarkEvent::RunBegan {
            run: &self.run,
            resumed: self.resumed,
            visits: &ahead,
            variants: variants.len(),
        })?;
        for variant in variants {
            self.make_variant(variant).await?;
        }
        let mut logits = ReferenceLogits::new(self.cache, self.experiment);
        let tasks = TaskInputs::new(self.cache, self.experiment)?;
        while !self.host.is_interrupted() {
            match self.next_step() {
                Step::Done => {
                    self.run.finished = Some(self.host.now());
                    break;
                }
                Step::Add(trial) => self.add_trial(*trial).await?,
                Step::Visit(visit) => {
                    self.cool_down().await?;
                    match visit.purpose {
                        Purpose::Quality => self.measure_quality(visit, &mut logits).await?,
                        Purpose::Tasks => self.measure_tasks(visit, &tasks).await?,
                        Purpose::Round(round) => self.measure_round(visit, round).await?,
                        Purpose::DriftControl(round) => {
                            self.measure_drift_control(visit, round).await?;
                        }
                    }
                }
            }
        }
        self.note_time();
        self.listener.on_event(&BenchmarkEvent::RunEnded { run: &self.run })?;
        Ok(self.run)
    }

    fn known(&self) -> Known<'_> {
        Known { experiment: self.experiment, plan: &self.plan, run: &self.run }
    }

    fn next_step(&mut self) -> Step {
        let known = Known { experiment: self.experiment, plan: &self.plan, run: &self.run };
        self.strategy.next(&known)
    }

    /// Takes a trial into the run that was not planned at its beginning.
    async fn add_trial(&mut self, trial: PlannedTrial) -> Result<(), SequenceError> {
        let (variant, position) = (trial.variant, self.plan.trials.len());
        self.run.trials.push(self.plan.empty_record(&trial));
        self.plan.trials.push(trial);
        self.tell_trial(position)?;
        self.make_variant(variant).await
    }

    /// Makes a variant or finds it in the cache, and notes its file in its trials.
    async fn make_variant(&mut self, position: usize) -> Result<(), SequenceError> {
        if self.host.is_interrupted() {
            return Ok(());
        }
        let variant = self.plan.variants[position].clone();
        let name = variant.name();
        self.listener.on_event(&BenchmarkEvent::VariantBegan { name: &name })?;
        let limits = self.limits();
        let listener = self.listener.as_mut();
        let outcome =
            prepare_variant(&variant, self.cache, &mut self.host, limits, listener).await?;
        let trials: Vec<usize> = (0..self.plan.trials.len())
            .filter(|&trial| self.plan.trials[trial].variant == position)
            .collect();
        match outcome {
            VariantOutcome::Interrupted => {}
            VariantOutcome::Failed(failure) => {
                for trial in trials {
                    self.run.trials[trial].failure = Some(failure.clone());
                    self.tell_trial(trial)?;
                }
            }
            VariantOutcome::Ready { artifact, made } => {
                let event = BenchmarkEvent::VariantReady { name: &name, artifact: &artifact, made };
                self.listener.on_event(&event)?;
                for trial in trials {
                    self.run.trials[trial].artifact = Some(artifact.clone());
                    self.tell_trial(trial)?;
                }
            }
        }
        Ok(())
    }

    /// One visit. The worker loads the variant and processes every test and prompt (`worker/visit.rs`) while the
    /// monitor watches; each response and metric is recorded as it comes, and at the end what was used
    /// (`worker_run.rs`). `None`: the trial has no file.
    pub(super) async fn visit(
        &mut self,
        visit: PlannedVisit,
        workloads: Vec<WorkloadJob>,
        cold_load: bool,
    ) -> Result<Option<Report>, SequenceError> {
        let trial = &mut self.run.trials[visit.trial];
        if trial.facts.is_none() {
            trial.host = self.host_record.id.clone();
        }
        let trial = &self.run.trials[visit.trial];
        let Some(artifact) = &trial.artifact else { return Ok(None) };
        let job = Job::Visit(VisitJob {
            model: artifact.as_input(),
            settings: trial.settings.clone(),
            cold_load,
            workloads,
        });
        let started = self.host.now();
        self.listener.on_event(&BenchmarkEvent::VisitBegan { visit, trial })?;
        let limits = self.limits();
        let report = run_worker(&mut self.host, &job, limits, self.listener.as_mut()).await?;
        let known = &mut self.run.trials[visit.trial].left_out;
        for left_out in &report.left_out {
            if !known.contains(left_out) {
                known.push(left_out.clone());
            }
        }
        let length = (self.host.now() - started).try_into().unwrap_or_default();
        self.listener.on_event(&BenchmarkEvent::VisitEnded { visit, length })?;
        Ok(Some(report))
    }

    async fn cool_down(&mut self) -> Result<(), SequenceError> {
        let length = self.experiment.cool_down;
        if length > Duration::ZERO {
            self.listener.on_event(&BenchmarkEvent::Paused(length))?;
            self.host.pause(length).await;
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        let memory_bytes = self.host_record.environment.memory_bytes;
        Limits {
            silence: self.experiment.phase_limit,
            machine_bytes: Some(memory_bytes).filter(|&bytes| bytes > 0),
        }
    }
}

mod visits;

#[cfg(test)]
pub(crate) mod exact;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod tests;
