//! What each kind of visit asks of a worker, and what of its answer is recorded.

use super::{Benchmark, SequenceError};
use crate::experiment::resolved::Workloads;
use crate::host::Host;
use crate::orchestrator::event::BenchmarkEvent;
use crate::orchestrator::quality::ReferenceLogits;
use crate::orchestrator::schedule::{PlannedVisit, deal, drift_control_of};
use crate::orchestrator::tasks::TaskInputs;
use crate::orchestrator::worker_run::{Ending, Report};
use crate::results::record::{
    DriftControl, SpeedRecord, Stage, StageRecord, TrialRecord, VisitRecord,
};
use crate::statistics::sample::Sample;
use crate::workload::jobs::WorkloadJob;
use time::OffsetDateTime;

impl<H: Host> Benchmark<'_, H> {
    /// Perplexity of a trial, and its divergence from what the reference's visit wrote down.
    pub(super) async fn measure_quality(
        &mut self,
        visit: PlannedVisit,
        logits: &mut ReferenceLogits<'_>,
    ) -> Result<(), SequenceError> {
        let planned = self.plan.trials[visit.trial].clone();
        let Some(job) = logits.job(&planned)? else { return Ok(()) };
        let Some(report) = self.visit(visit, vec![WorkloadJob::Quality(job)], false).await? else {
            return Ok(());
        };
        let trial = &mut self.run.trials[visit.trial];
        keep_stage(trial, Stage::Quality, &report);
        trial.facts = report.facts.or(trial.facts.take());
        trial.quality = report.quality.or(trial.quality.take());
        trial.embedding_quality = report.embedding_quality.or(trial.embedding_quality.take());
        if report.ending == Ending::Done {
            logits.reference_done(&planned);
        }
        self.note_ending(visit.trial, report.ending);
        self.tell_trial(visit.trial)
    }

    /// All tasks of a trial.
    pub(super) async fn measure_tasks(
        &mut self,
        visit: PlannedVisit,
        tasks: &TaskInputs,
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
    pub(super) async fn measure_round(
        &mut self,
        visit: PlannedVisit,
        round: u32,
    ) -> Result<(), SequenceError> {
        let started = self.host.now();
        let workloads = self.workloads_of_round(visit.trial, round);
        let cold_load = self.workloads_of(visit.trial).cold_load;
        let Some(report) = self.visit(visit, workloads, cold_load).await? else { return Ok(()) };
        if report.ending == Ending::Interrupted {
            return Ok(());
        }
        if report.ending == Ending::Done && self.is_drift_control(visit.trial) {
            self.note_drift_control(visit.trial, round, started, &report.speed)?;
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
    pub(super) async fn measure_drift_control(
        &mut self,
        visit: PlannedVisit,
        round: u32,
    ) -> Result<(), SequenceError> {
        let started = self.host.now();
        let Some(&test) = self.workloads_of(visit.trial).speed.first() else { return Ok(()) };
        let workload = WorkloadJob::Speed { test, repetitions: self.experiment.repetitions };
        let Some(report) = self.visit(visit, vec![workload], false).await? else { return Ok(()) };
        if report.ending == Ending::Done {
            self.note_drift_control(visit.trial, round, started, &report.speed)?;
        }
        // The trial has its own figures already; a drift control that fails takes none of them away.
        Ok(())
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

    fn is_drift_control(&self, trial: usize) -> bool {
        drift_control_of(self.experiment, &self.plan) == Some(trial)
    }

    /// Keeps the median of the first speed test's repetitions.
    fn note_drift_control(
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
        let control = DriftControl { round, at_seconds, tokens_per_second };
        self.run.drift_controls.push(control);
        self.listener.on_event(&BenchmarkEvent::DriftControlMeasured(&control))?;
        Ok(())
    }

    fn note_ending(&mut self, trial: usize, ending: Ending) {
        if let Ending::Failed(failure) = ending {
            self.run.trials[trial].failure = Some(failure);
        }
    }

    pub(super) fn tell_trial(&mut self, position: usize) -> Result<(), SequenceError> {
        self.note_time();
        let trial = &self.run.trials[position];
        let active_seconds = self.run.active_seconds;
        self.listener.on_event(&BenchmarkEvent::TrialChanged {
            position,
            trial,
            active_seconds,
        })?;
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
