//! One visit: what a worker is asked to measure, and what of its answer is recorded.

use super::Benchmark;
use crate::experiment::workloads::Workloads;
use crate::host::Host;
use crate::model::artifact::Artifact;
use crate::orchestrator::cost::Costs;
use crate::orchestrator::event::{BenchmarkEvent, Rest, SequenceError};
use crate::orchestrator::schedule::{PlannedVisit, Purpose, drift_control_of};
use crate::orchestrator::worker_run::{Ending, Limits, WorkerRun, run_worker};
use crate::results::record::{DriftControl, OtherWork, VisitRecord};
use crate::statistics::sample::Sample;
use crate::worker::protocol::Job;
use crate::workload::jobs::{AdapterRef, Inputs, Target, VisitJob};
use crate::workload::measured::LeftOut;
use crate::workload::{Measurement, WorkloadJob};
use time::{Duration, OffsetDateTime};

/// A visit may take the run so far beyond its budget: what it takes is not known to the second.
const MOST_OF_BUDGET: f64 = 1.1;

/// Why a visit was ended, and what to do.
const CUT: &str =
    "the budget was exceeded by a tenth, so the visit was ended there (a larger --budget)";

impl<H: Host> Benchmark<'_, H> {
    /// One visit. The worker loads the variant and processes every test and prompt (`worker/visit.rs`) while the
    /// monitor watches; each response and metric is heard as it comes, and at the end what was used
    /// (`worker_run.rs`). A trial without a file is not visited.
    pub(super) async fn measure(
        &mut self,
        visit: PlannedVisit,
        inputs: &mut Inputs<'_>,
    ) -> Result<(), SequenceError> {
        let trial = &mut self.run.trials[visit.trial];
        let Some(artifact) = &trial.artifact else { return Ok(()) };
        if trial.facts.is_none() {
            trial.host = self.host_record.id.clone();
        }
        let (engine, model) = (trial.engine.name, artifact.as_input());
        let settings = trial.settings.clone();
        let planned = self.workloads_of(visit.trial);
        let target = self.target(visit);
        let workloads = match visit.purpose {
            Purpose::DriftControl(_) => {
                let first = planned.speed.first();
                first.map(|&test| WorkloadJob::speed(test, &target)).into_iter().collect()
            }
            purpose => inputs.jobs(planned, purpose.stage(), &target)?,
        };
        let is_round = matches!(visit.purpose, Purpose::Round(_));
        if workloads.is_empty() && !is_round {
            return Ok(());
        }
        let cold_load = is_round && planned.cold_load;
        let adapters = self.plan.variant_of(visit.trial).adapters.iter();
        let adapters = adapters.map(|it| AdapterRef { file: it.file.as_input(), scale: it.scale });
        let adapters = adapters.collect();
        let job = Job::Visit(VisitJob { engine, model, adapters, settings, cold_load, workloads });
        let mut ahead = vec![visit];
        ahead.extend(self.strategy.ahead(&self.known()));
        let trial = &self.run.trials[visit.trial];
        let rest = Rest { visits: &ahead, time: Costs::of(&self.known()).left(&ahead) };
        self.listener.on_event(&BenchmarkEvent::VisitBegan { visit, trial, rest })?;
        let limits = Limits { until: self.end_of_budget(), ..self.limits() };
        let version = self.plan.variant_of(visit.trial).engine.version.clone();
        self.host.choose_build(Some(&version));
        let run = run_worker(&mut self.host, &job, limits, self.listener.as_mut()).await;
        self.host.choose_build(None);
        let run = run?;
        if run.ending == Ending::Done {
            inputs.succeeded(visit.purpose.stage(), &target);
        }
        // One that was interrupted is made again: it has not ended.
        let has_ended = run.ending != Ending::Interrupted;
        self.record(visit, run)?;
        if has_ended {
            let ahead = self.strategy.ahead(&self.known());
            let rest = Rest { visits: &ahead, time: Costs::of(&self.known()).left(&ahead) };
            self.listener.on_event(&BenchmarkEvent::VisitEnded { visit, rest })?;
        }
        Ok(())
    }

    /// When a visit is ended that takes longer than the budget allows.
    fn end_of_budget(&self) -> Option<OffsetDateTime> {
        let budget = self.experiment.budget?.as_secs_f64() * MOST_OF_BUDGET;
        let spent = self.run.active_seconds.unwrap_or_default();
        Some(self.noted + Duration::seconds_f64(budget - spent))
    }

    /// Keeps what a visit measured; of one that was interrupted nothing, for it is made again.
    fn record(&mut self, visit: PlannedVisit, mut run: WorkerRun) -> Result<(), SequenceError> {
        if run.ending == Ending::Interrupted {
            return Ok(());
        }
        if run.ending == Ending::Done {
            self.note_drift(visit, &run)?;
        }
        // The trial has its own figures already; a drift control that fails takes none of them away.
        if let Purpose::DriftControl(_) = visit.purpose {
            let last = run.visit.usage.last().and_then(|phase| phase.end_seconds);
            let trial = &mut self.run.trials[visit.trial];
            trial.add_time(OtherWork::DriftControl, last.unwrap_or_default());
            return self.tell_trial(visit.trial);
        }
        if let Ending::Cut(phase) = &run.ending {
            let (what, reason) = (phase.to_string(), CUT.to_owned());
            run.measured.push(Measurement::LeftOut(LeftOut { what, reason }));
        }
        let is_empty = run.is_empty();
        let trial = &mut self.run.trials[visit.trial];
        trial.facts = run.facts.or(trial.facts.take());
        trial.add_failed(run.failed_workloads);
        // What a trial measured before it failed is worth showing beside the reason.
        if !is_empty {
            let record = VisitRecord { round: visit.purpose.round(), ..run.visit };
            trial.keep(visit.purpose.stage(), record, run.measured);
        }
        if let Ending::Failed(failure) = run.ending {
            trial.failure = Some(failure);
        }
        self.tell_trial(visit.trial)
    }

    /// Keeps the rate of the first speed test, if the trial is the one that shows drift of the machine.
    fn note_drift(&mut self, visit: PlannedVisit, run: &WorkerRun) -> Result<(), SequenceError> {
        let is_control = drift_control_of(self.experiment, &self.plan) == Some(visit.trial);
        let first = self.workloads_of(visit.trial).speed.first().filter(|_| is_control);
        let rates = run.measured.iter().filter_map(|it| match it {
            Measurement::Speed { test, sample } if Some(test) == first => {
                Some(sample.tokens_per_second())
            }
            _ => None,
        });
        let Some(rates) = Sample::new(rates) else { return Ok(()) };
        let control = DriftControl {
            round: visit.purpose.round(),
            at_seconds: (run.visit.started - self.run.started).as_seconds_f64(),
            tokens_per_second: rates.median(),
        };
        self.run.drift_controls.push(control);
        let event = BenchmarkEvent::DriftControlMeasured { run: &self.run, control };
        self.listener.on_event(&event)?;
        Ok(())
    }

    fn workloads_of(&self, trial: usize) -> &Workloads {
        self.experiment.workloads_of(self.plan.trials[trial].model_position)
    }

    fn target(&self, visit: PlannedVisit) -> Target {
        let planned = &self.plan.trials[visit.trial];
        let artifact = self.run.trials[visit.trial].artifact.as_ref();
        let projector = self.plan.variant_of(visit.trial).projector.as_ref();
        let quality = self.run.trials[visit.trial].quality.as_ref();
        let until = match visit.purpose {
            Purpose::Quality { until } => until,
            _ => None,
        };
        Target {
            trial: visit.trial,
            scored: quality.map_or(0, |quality| quality.chunks),
            until,
            model: planned.model_position,
            is_reference: planned.is_reference,
            checksum: artifact.map_or_else(String::new, |it| it.checksum.clone()),
            projector: projector.map(Artifact::as_input),
            repetitions: self.experiment.repetitions,
            repeat_within: self.experiment.repeat_within,
            round: visit.purpose.round(),
            rounds: self.experiment.rounds,
        }
    }

    pub(super) fn tell_trial(&mut self, position: usize) -> Result<(), SequenceError> {
        self.note_time();
        self.listener.on_event(&BenchmarkEvent::TrialChanged { position, run: &self.run })?;
        Ok(())
    }

    /// Adds the time since the last note to what the run has been under way.
    pub(super) fn note_time(&mut self) {
        let now = self.host.now();
        let since = (now - self.noted).as_seconds_f64().max(0.0);
        self.run.active_seconds = Some(self.run.active_seconds.unwrap_or(0.0) + since);
        self.noted = now;
    }
}
