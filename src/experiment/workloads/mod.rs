//! Workloads: what is measured in a trial, as described by an experiment.

mod latency;
mod quality;
mod speed;

pub use latency::{LatencyPlan, Sampling, TestPrompt};
pub use quality::QualityPlan;
pub use speed::{RateUnit, SpeedTest, SpeedTestError};

use super::tasks::TaskPlan;
use serde::{Deserialize, Serialize};

/// What is measured in each trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Workloads {
    /// Measure load time with the file dropped from the page cache, besides the warm load.
    pub cold_load: bool,
    /// Throughput tests.
    pub speed: Vec<SpeedTest>,
    /// Real prompts; `None`: not measured.
    pub latency: Option<LatencyPlan>,
    /// Perplexity and divergence; `None`: not measured.
    pub quality: Option<QualityPlan>,
    /// Tasks, in the order of their columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskPlan>,
}

/// One workload that is asked for.
#[derive(Debug, Clone, Copy)]
pub enum WorkloadPlan<'a> {
    /// A throughput test.
    Speed(SpeedTest),
    /// Real prompts.
    Latency(&'a LatencyPlan),
    /// Perplexity and divergence.
    Quality(&'a QualityPlan),
    /// A task.
    Task(&'a TaskPlan),
}

/// The part of a run in which a workload is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Once, the reference first: perplexity, and divergence from the reference.
    Quality,
    /// Once: questions of tasks.
    Tasks,
    /// In every round, so that a restless machine shows.
    Rounds,
}

impl WorkloadPlan<'_> {
    /// When it is measured.
    #[must_use]
    pub fn stage(self) -> Stage {
        match self {
            Self::Quality(_) => Stage::Quality,
            Self::Task(_) => Stage::Tasks,
            Self::Speed(_) | Self::Latency(_) => Stage::Rounds,
        }
    }
}

impl Workloads {
    /// All that are asked for, in the order in which they are measured and named.
    pub fn plans(&self) -> impl Iterator<Item = WorkloadPlan<'_>> {
        let speed = self.speed.iter().map(|&test| WorkloadPlan::Speed(test));
        speed
            .chain(self.latency.as_ref().map(WorkloadPlan::Latency))
            .chain(self.quality.as_ref().map(WorkloadPlan::Quality))
            .chain(self.tasks.iter().map(WorkloadPlan::Task))
    }

    /// Whether there is something to do in a stage. Loads are measured in the rounds, if nothing else is.
    #[must_use]
    pub fn has(&self, stage: Stage) -> bool {
        let loads = stage == Stage::Rounds && (self.cold_load || self.plans().next().is_none());
        loads || self.plans().any(|plan| plan.stage() == stage)
    }

    /// Whether variants are compared with a reference.
    #[must_use]
    pub fn compare(&self) -> bool {
        self.quality.as_ref().is_some_and(|quality| quality.divergence)
    }
}
