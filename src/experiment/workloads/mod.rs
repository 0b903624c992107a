//! Workloads: what is measured in a trial, as described by an experiment.
//!
//! This file lists them, with the part of a run in which each is measured. Keys, what was written and what it
//! means stand together.

mod latency;
mod quality;
mod speed;

pub use latency::{LatencyPlan, Sampling, TestPrompt};
pub use quality::{AnswersPlan, PlannedPrompt, QualityPlan, TextDomain};
pub use speed::{RateUnit, SpeedTest, SpeedTests};

use super::expand::{Expansion, readable};
use super::inputs;
use super::keys::Kind::{self, Flag, Named, Tables, Text};
use super::keys::{Key, TASKS, Table, spelled};
use super::reader::{Located, Many};
use super::tasks::{self, TaskFile, TaskPlan};
use latency::LatencyFile;
use quality::QualityFile;
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
    /// A text that is tokenized; `None`: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenization: Option<TokenizationPlan>,
    /// Perplexity and divergence; `None`: not measured.
    pub quality: Option<QualityPlan>,
    /// Tasks, in the order of their columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskPlan>,
}

/// A text whose tokenization is timed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizationPlan {
    /// The text itself.
    pub text: String,
    /// Where it came from, as the user wrote it.
    pub source: String,
}

/// One workload that is asked for.
#[derive(Debug, Clone, Copy)]
pub enum WorkloadPlan<'a> {
    /// A throughput test.
    Speed(SpeedTest),
    /// Real prompts.
    Latency(&'a LatencyPlan),
    /// A text that is tokenized.
    Tokenization(&'a TokenizationPlan),
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
    pub fn stage(self) -> Stage {
        match self {
            Self::Quality(_) => Stage::Quality,
            Self::Task(_) => Stage::Tasks,
            Self::Speed(_) | Self::Latency(_) | Self::Tokenization(_) => Stage::Rounds,
        }
    }
}

impl Workloads {
    /// All that are asked for, in the order in which they are measured and named.
    pub fn plans(&self) -> impl Iterator<Item = WorkloadPlan<'_>> {
        let speed = self.speed.iter().map(|&test| WorkloadPlan::Speed(test));
        speed
            .chain(self.latency.as_ref().map(WorkloadPlan::Latency))
            .chain(self.tokenization.as_ref().map(WorkloadPlan::Tokenization))
            .chain(self.quality.as_ref().map(WorkloadPlan::Quality))
            .chain(self.tasks.iter().map(WorkloadPlan::Task))
    }

    /// Whether there is something to do in a stage. Loads are measured in the rounds, if nothing else is.
    pub fn has(&self, stage: Stage) -> bool {
        let loads = stage == Stage::Rounds && (self.cold_load || self.plans().next().is_none());
        loads || self.plans().any(|plan| plan.stage() == stage)
    }

    /// Whether variants are compared with a reference.
    pub fn compare(&self) -> bool {
        self.quality.as_ref().is_some_and(|quality| quality.divergence)
    }
}

/// `[workloads]`.
#[rustfmt::skip]
pub(super) static WORKLOADS: Table = Table::new(
    "workloads",
    "What is measured.",
    &[
        Key::new("cold_load", Flag,
            "Also measure a load with the file dropped from the system's page cache.").default("true"),
        Key::new("speed", Named("speed test", spelled::<SpeedTests>),
            "Throughput, with llama-bench's meaning: pp512 processes a prompt of 512 tokens, tg128 generates 128, \
             \"pp512+tg128\" does one after the other, \"tg128@d4096\" generates after 4096 tokens of context. \
             \"tg128x16@d512\" generates in 16 sequences side by side, each after 512 tokens of its own (\"@d512 shared\": \
             that all have in common); its rate is that of all together. \"batched:pp512,tg128x16\" is pp512x16, \
             tg128x16@d512 and pp512+tg128x16, as llama-batched-bench measures. \"embed128x8\" embeds 8 texts of 128 tokens in one batch. What does not apply to a model stays blank.")
            .many().default("[\"pp512\", \"tg128\"]"),
        Key::new("tokenization", Text,
            "Time the tokenizer on a text: \"demo\" or a text file. Left out: it is not timed.").example("\"demo\""),
        Key::new("latency", Kind::Table(&latency::KEYS), ""),
        Key::new("quality", Kind::Table(&quality::KEYS), ""),
        Key::new("tasks", Tables(&TASKS), ""),
    ],
);

/// `[workloads]`, as it was written.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WorkloadsFile {
    pub cold_load: Located<bool>,
    pub speed: Many<SpeedTests>,
    pub latency: Located<LatencyFile>,
    pub tokenization: Option<Located<String>>,
    pub quality: Located<QualityFile>,
    pub tasks: Option<Many<TaskFile>>,
}

impl WorkloadsFile {
    /// The tasks that were written.
    pub(crate) fn tasks(&self) -> &[Located<TaskFile>] {
        self.tasks.as_deref().map_or(&[], Vec::as_slice)
    }
}

/// What is measured of a model that has keys of its own instead of some of the experiment's. What is wrong
/// with the experiment's is reported once, where it stands.
pub(super) fn expand_own(own: &WorkloadsFile, expansion: &mut Expansion<'_>) -> Workloads {
    let known = std::mem::take(&mut expansion.problems);
    let workloads = expand(own, expansion);
    expansion.problems.retain(|problem| !known.contains(problem));
    expansion.problems.splice(0..0, known);
    workloads
}

/// Every test that is named, once.
fn speed_tests(named: &Many<SpeedTests>) -> Vec<SpeedTest> {
    let mut tests = Vec::new();
    for &test in named.iter().flat_map(|tests| &tests.value.0) {
        if !tests.contains(&test) {
            tests.push(test);
        }
    }
    tests
}

/// Turns what was written into what it means.
pub(super) fn expand(file: &WorkloadsFile, expansion: &mut Expansion<'_>) -> Workloads {
    Workloads {
        cold_load: *file.cold_load,
        speed: speed_tests(&file.speed),
        latency: latency::expand(&file.latency, expansion),
        tokenization: file.tokenization.as_ref().map(|source| TokenizationPlan {
            text: readable(
                inputs::text(source, expansion.origin.base),
                source,
                &mut expansion.problems,
            ),
            source: source.value.clone(),
        }),
        quality: quality::expand(&file.quality, expansion),
        tasks: tasks::expand(file.tasks(), expansion),
    }
}
