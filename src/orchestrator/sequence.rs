//! The benchmark sequence, from the first variant to the last round: [`Benchmark::run`].
//!
//! ```text
//! start
//! for each variant                            make_variant: made, fetched, or there (keeping.rs: or at its turn)
//!   for each visit that the strategy asks for
//!     start monitoring, load                  visits.rs starts a worker on a host; worker/visit.rs loads
//!     for each prompt and test                worker/visit.rs runs the workloads (src/workload/)
//!       process, response and metrics, record   the worker tells them, visits.rs records them
//!     stop monitoring, usage                  visits.rs
//! compile                                     results/summary.rs
//! visualise, display                          src/report/, printed by cli/run.rs
//! ```
//!
//! The worker's page of the same sequence is `src/worker/visit.rs`.

use super::cost::Spent;
use super::event::{BenchmarkEvent, Listener, SequenceError};
use super::maker::{Maker, NotMade};
use super::plan::{Plan, PlannedTrial};
use super::schedule::PlannedVisit;
use super::strategy::{Known, Step, Strategy};
use super::worker_run::Limits;
use crate::experiment::resolved::Experiment;
use crate::host::Host;
use crate::model::cache::Cache;
use crate::model::resolve::ResolveOptions;
use crate::results::each_once;
use crate::results::record::{HostRecord, OtherWork, RunRecord, TrialRecord};
use crate::workload::jobs::Inputs;
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
    /// How files that lie elsewhere are fetched.
    pub files: ResolveOptions,
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
    /// Trials of earlier runs on the same machine, which tell how long this one will take.
    pub past: Vec<TrialRecord>,
    /// What visits to each trial are predicted to take.
    pub foreseen: Vec<Option<Spent>>,
    /// Up to when the time that the run has been under way is noted: when it begins or goes on, now.
    pub noted: OffsetDateTime,
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
        self.take_stored_references();
        let ahead = self.strategy.ahead(&self.known());
        let variants = each_once(ahead.iter().map(|it| self.plan.trials[it.trial].variant));
        self.listener.on_event(&BenchmarkEvent::RunBegan {
            run: &self.run,
            resumed: self.resumed,
            visits: &ahead,
            variants: variants.len(),
        })?;
        let mut keeping = self.prepare(variants).await?;
        let mut inputs = Inputs::new(self.cache);
        while !self.host.is_interrupted() {
            self.replace_lost_references()?;
            match self.next_step() {
                Step::Done => {
                    self.keep_what_stays(&mut keeping).await?;
                    self.run.finished = Some(self.host.now());
                    break;
                }
                Step::Add(trial) => self.add_trial(*trial).await?,
                Step::Visit(visit) => {
                    self.at_turn(visit, &mut keeping).await?;
                    if self.lacks_file(visit) {
                        self.make_variant(self.plan.trials[visit.trial].variant).await?;
                    }
                    self.cool_down().await?;
                    self.measure(visit, &mut inputs).await?;
                    self.delete_after(&mut keeping)?;
                }
            }
        }
        self.note_time();
        self.listener.on_event(&BenchmarkEvent::RunEnded { run: &self.run })?;
        Ok(self.run)
    }

    fn known(&self) -> Known<'_> {
        let Self { experiment, plan, run, past, foreseen, .. } = self;
        Known { experiment, plan, run, past, foreseen }
    }

    fn next_step(&mut self) -> Step {
        let Self { experiment, plan, run, past, foreseen, .. } = self;
        self.strategy.next(&Known { experiment, plan, run, past, foreseen })
    }

    /// Whether the file of a trial is still to be made, by a strategy that makes only what it visits.
    fn lacks_file(&self, visit: PlannedVisit) -> bool {
        let trial = &self.run.trials[visit.trial];
        trial.artifact.is_none() && trial.failure.is_none()
    }

    /// Takes a trial into the run that was not planned at its beginning.
    async fn add_trial(&mut self, trial: PlannedTrial) -> Result<(), SequenceError> {
        let (variant, position) = (trial.variant, self.plan.trials.len());
        let mut record = self.plan.empty_record(&trial);
        let of_variant = (0..position).filter(|&other| self.plan.trials[other].variant == variant);
        let of_variant = of_variant.map(|it| &self.run.trials[it]).collect::<Vec<_>>();
        record.artifact = of_variant.iter().find_map(|it| it.artifact.clone());
        record.predicted = of_variant.iter().find_map(|it| it.predicted.clone());
        let is_there = record.artifact.is_some();
        self.run.trials.push(record);
        self.plan.trials.push(trial);
        self.tell_trial(position)?;
        if is_there {
            return Ok(());
        }
        if self.experiment.keep.is_all() { self.make_variant(variant).await } else { Ok(()) }
    }

    /// Makes a variant or finds it in the cache, and notes its file in its trials.
    async fn make_variant(&mut self, position: usize) -> Result<(), SequenceError> {
        if self.host.is_interrupted() {
            return Ok(());
        }
        let variant = self.plan.variants[position].clone();
        let name = variant.name();
        self.listener.on_event(&BenchmarkEvent::VariantBegan { name: &name })?;
        let (limits, began) = (self.limits(), self.host.now());
        let listener = self.listener.as_mut();
        let mut maker = Maker { host: &mut self.host, limits, listener };
        let made = maker.variant(&variant, self.cache, &self.files).await;
        let seconds = (self.host.now() - began).as_seconds_f64();
        let trials: Vec<usize> = (0..self.plan.trials.len())
            .filter(|&trial| self.plan.trials[trial].variant == position)
            .collect();
        if let Some(&first) = trials.first() {
            self.run.trials[first].add_time(OtherWork::File, seconds);
        }
        match made {
            Err(NotMade::Interrupted) => {}
            Err(NotMade::Broken(error)) => return Err(error),
            Err(NotMade::Failed(failure)) => {
                for trial in trials {
                    self.run.trials[trial].failure = Some(failure.clone());
                    self.tell_trial(trial)?;
                }
            }
            Ok((artifact, made)) => {
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
            until: None,
            machine_bytes: Some(memory_bytes).filter(|&bytes| bytes > 0),
        }
    }
}

mod keeping;
mod reference;
mod visits;

#[cfg(test)]
mod along;
#[cfg(test)]
mod budget;
#[cfg(test)]
pub(crate) mod exact;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod recommended;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;
