//! Records: what a run measured, as it is stored and as reports read it; statistics over it live in `summary.rs`.

use super::annotations::Annotations;
pub use super::other_time::{OtherTime, OtherWork};
use super::recommendation::Predicted;
use super::repeats::Repeats;
use crate::experiment::recommend::Recommend;
use crate::experiment::requirements::Requirements;
use crate::experiment::resolved::{Keep, LeftOutModel};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
pub use crate::experiment::workloads::Stage;
use crate::hardware::bandwidth::ReadRate;
use crate::hardware::rates::ComputeRates;
use crate::hardware::timeline::Timeline;
use crate::hardware::usage::Usage;
use crate::model::adapter::Adapter;
use crate::model::artifact::Artifact;
use crate::model::cache::of_bytes;
use crate::model::engine_name::{EngineIdentity, EngineName};
use crate::model::quantization::Quantization;
use crate::workload::measured::{
    BufferMemory, EmbeddingQuality, LeftOut, LoadSample, ModelFacts, Quality, Response, SpeedSample,
};
use crate::workload::tasks::record::TaskRecord;
use crate::workload::{Measurement, Phase};
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::LazyLock;
use std::time::Duration;
use time::OffsetDateTime;

/// The name of the machine on which quantbench itself runs, among hosts.
pub const LOCAL: &str = "local";
/// The name of every run of `quantbench bench`; no other command goes on with one.
pub const BENCH: &str = "bench";

/// Everything one run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Short unique name: date and a few letters, such as `2026-11-23-k3f9`.
    pub id: String,
    /// The experiment's name.
    pub name: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// When it ended; `None`: interrupted or under way.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished: Option<OffsetDateTime>,
    /// Seconds under way, without what lay between an interruption and going on. `None` in runs stored before.
    #[serde(default)]
    pub active_seconds: Option<f64>,
    /// What it ran on, each machine in each of its states once, in the order in which they joined.
    pub hosts: Vec<HostRecord>,
    /// What the user needs.
    pub requirements: Requirements,
    /// The experiment as expanded, as JSON: what a repetition needs.
    pub experiment: serde_json::Value,
    /// All trials, in the order of the experiment.
    pub trials: Vec<TrialRecord>,
    /// The drift control's repeated measurements, in order of time; empty if there were too few visits.
    pub drift_controls: Vec<DriftControl>,
    /// What people keep with it.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

/// What summaries and notes read from the experiment of a run, of whichever version that is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StoredExperiment {
    /// How often every trial is visited.
    pub rounds: Option<u32>,
    /// Time that the run might take; `None`: as long as everything took.
    pub budget: Option<Duration>,
    /// Models that the build could not measure.
    pub left_out: Vec<LeftOutModel>,
    /// Which files stayed.
    pub keep: Keep,
    /// How it recommends; `None`: it was not asked to.
    pub recommend: Option<Recommend>,
}

impl RunRecord {
    /// What a trial was measured on; a host that is not known is one without a figure.
    pub fn environment_of(&self, trial: &TrialRecord) -> &Environment {
        let host = self.hosts.iter().find(|host| host.id == trial.host);
        host.map_or_else(|| self.environment(), |host| &host.environment)
    }

    /// What the run began on.
    pub fn environment(&self) -> &Environment {
        static UNKNOWN: LazyLock<Environment> = LazyLock::new(Environment::default);
        self.hosts.first().map_or(&*UNKNOWN, |host| &host.environment)
    }

    /// The version of the engine of a trial; of a run that was stored before trials had it, the run's.
    pub fn engine_version<'a>(&'a self, trial: &'a TrialRecord) -> &'a str {
        if !trial.engine.version.is_empty() {
            return &trial.engine.version;
        }
        let engines = &self.environment_of(trial).engines;
        let engine = engines.iter().find(|engine| engine.name == trial.engine.name);
        engine.map_or("", |engine| &engine.version)
    }

    /// What is read from the experiment; what is not there, or is not such, is left out.
    pub fn stored_experiment(&self) -> StoredExperiment {
        StoredExperiment::deserialize(&self.experiment).unwrap_or_default()
    }
}

/// Names a machine as it was at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostId {
    /// The host's name.
    pub name: String,
    /// Tells apart what it was and ran at different times; empty in runs stored before this was kept.
    pub environment_id: String,
}

impl Default for HostId {
    fn default() -> Self {
        Self { name: LOCAL.to_owned(), environment_id: String::new() }
    }
}

/// A machine that trials were measured on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its name, and the id of its environment.
    #[serde(flatten)]
    pub id: HostId,
    /// What it was and ran.
    pub environment: Environment,
}

impl HostRecord {
    /// A host that is what `environment` says.
    pub fn new(name: &str, environment: Environment) -> Self {
        // Plain data with string keys always serializes.
        let text = serde_json::to_vec(&environment).unwrap_or_default();
        let environment_id = of_bytes(&text).chars().take(8).collect();
        Self { id: HostId { name: name.to_owned(), environment_id }, environment }
    }
}

/// What a machine is, and what its quantbench was built from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// quantbench's version and commit.
    pub quantbench: String,
    /// The engines of the build.
    #[serde(alias = "llama_cpp", deserialize_with = "engines")]
    pub engines: Vec<EngineIdentity>,
    /// Compiler, flags and features of the build.
    pub build: String,
    /// Operating system and kernel.
    pub operating_system: String,
    /// Processor's name.
    pub cpu: String,
    /// Physical cores.
    pub physical_cores: u32,
    /// Logical processors.
    pub logical_cpus: u32,
    /// Logical processors that the run may use (affinity); `None`: not known.
    #[serde(default)]
    pub usable_cpus: Option<u32>,
    /// Processor time per time that its control group may use, in cores; `None`: no limit.
    #[serde(default)]
    pub cpu_quota_cores: Option<f64>,
    /// Frequency governor, if the system tells.
    pub governor: Option<String>,
    /// Memory of the machine, bytes.
    pub memory_bytes: u64,
    /// How fast memory is read, if that was measured on this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_rates: Vec<ReadRate>,
    /// What its processors compute, if that was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compute_rates: Vec<ComputeRates>,
    /// GPUs with driver.
    pub gpus: Vec<String>,
}

impl Environment {
    /// The engines with their versions, in words.
    pub fn engines_in_words(&self) -> String {
        let engines: Vec<String> = self.engines.iter().map(ToString::to_string).collect();
        engines.join(", ")
    }
}

/// Before there were several engines, the version of llama.cpp stood there.
fn engines<'de, D: Deserializer<'de>>(stored: D) -> Result<Vec<EngineIdentity>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        LlamaCpp(String),
        All(Vec<EngineIdentity>),
    }
    Ok(match Stored::deserialize(stored)? {
        Stored::LlamaCpp(version) => vec![EngineIdentity { name: EngineName::LlamaCpp, version }],
        Stored::All(engines) => engines,
    })
}

/// One trial: a variant under one set of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// Identifies the trial within an experiment: changes when variant, settings or workloads do.
    pub key: String,
    /// The model's name.
    pub model: String,
    /// How its weights are stored.
    pub quantization: Quantization,
    /// The name in tables: the quantization, or a ready file's stem where that says more.
    pub label: String,
    /// What computes it.
    #[serde(default)]
    pub engine: EngineIdentity,
    /// What it is measured on.
    #[serde(default)]
    pub host: HostId,
    /// Whether quality is measured against this trial.
    pub is_reference: bool,
    /// The label of the reference that could not be computed, in whose place it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_in_for: Option<String>,
    /// The trial of an earlier run that it repeats, so that the others are compared with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// The settings.
    pub settings: Settings,
    /// What changed it while it computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<Adapter>,
    /// What was predicted before anything was measured, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
    /// The file; `None` if it could not be made.
    pub artifact: Option<Artifact>,
    /// What was loaded; `None` before the first visit.
    pub facts: Option<ModelFacts>,
    /// All visits, in order of time.
    pub visits: Vec<VisitRecord>,
    /// What the visits for quality and tasks used.
    #[serde(default)]
    pub stages: Vec<StageRecord>,
    /// What it took besides; empty in runs stored before this was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_times: Vec<OtherTime>,
    /// Perplexity and divergence.
    pub quality: Option<Quality>,
    /// Tasks that were answered.
    #[serde(default)]
    pub tasks: Vec<TaskRecord>,
    /// How alike an encoder's embeddings and the reference's are.
    #[serde(default)]
    pub embedding_quality: Option<EmbeddingQuality>,
    /// Workloads that failed, while the others were measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_workloads: Vec<Failure>,
    /// What could not be measured of it, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Why the trial failed; `None`: it did not.
    pub failure: Option<Failure>,
}

impl TrialRecord {
    /// What evaluating a chunk of the text took, seconds.
    pub fn chunk_seconds(&self) -> Option<f64> {
        let chunks = self.quality.as_ref().map(|it| it.chunks).filter(|&chunks| chunks > 0)?;
        let usage = self.stages.iter().flat_map(|stage| &stage.usage);
        let evaluated = usage.filter(|it| it.phase == Phase::Quality).map(PhaseUsage::seconds);
        Some(evaluated.sum::<f64>() / f64::from(chunks))
    }

    /// One of which nothing is measured yet.
    pub fn new(model: String, quantization: Quantization, settings: Settings) -> Self {
        Self {
            key: String::new(),
            model,
            quantization,
            label: quantization.to_string(),
            engine: EngineIdentity::default(),
            host: HostId::default(),
            is_reference: false,
            stands_in_for: None,
            repeats: None,
            settings,
            adapters: Vec::new(),
            predicted: None,
            artifact: None,
            facts: None,
            visits: Vec::new(),
            stages: Vec::new(),
            other_times: Vec::new(),
            quality: None,
            tasks: Vec::new(),
            embedding_quality: None,
            failed_workloads: Vec::new(),
            left_out: Vec::new(),
            failure: None,
        }
    }

    /// Whether what quality means for its class of architecture was measured.
    pub fn has_quality(&self) -> bool {
        self.quality.is_some() || self.embedding_quality.is_some()
    }

    /// Keeps what a visit measured and used. One for tasks that is made again replaces the one before; of those for
    /// quality each took its part of the text.
    #[expect(
        clippy::match_wildcard_for_single_variants,
        reason = "the list takes every kind that has no field"
    )]
    pub fn keep(&mut self, stage: Stage, mut visit: VisitRecord, measured: Vec<Measurement>) {
        for measurement in measured {
            match measurement {
                Measurement::Speed { test, sample } => visit.add_speed(test, sample),
                Measurement::Response(response) => visit.responses.push(response),
                Measurement::Quality(quality) => self.quality = Some(quality),
                Measurement::EmbeddingQuality(quality) => self.embedding_quality = Some(quality),
                Measurement::Task(task) => {
                    self.tasks.retain(|known| known.task != task.task);
                    self.tasks.push(task);
                }
                Measurement::LeftOut(left_out) => {
                    if !self.left_out.contains(&left_out) {
                        self.left_out.push(left_out);
                    }
                }
                other => visit.measured.push(other),
            }
        }
        if stage == Stage::Rounds {
            self.visits.push(visit);
            return;
        }
        let VisitRecord { started, measured, usage, timeline, peak_rss_bytes, .. } = visit;
        self.stages.retain(|known| known.stage != stage || stage == Stage::Quality);
        self.stages.push(StageRecord { stage, started, measured, usage, timeline, peak_rss_bytes });
    }

    /// Adds what something besides its visits took.
    pub fn add_time(&mut self, work: OtherWork, seconds: f64) {
        match self.other_times.iter_mut().find(|known| known.work == work) {
            Some(known) => known.seconds += seconds,
            None => self.other_times.push(OtherTime { work, seconds }),
        }
    }

    /// Adds workloads that failed; each is told of once.
    pub fn add_failed(&mut self, workloads: Vec<Failure>) {
        for workload in workloads {
            if !self.failed_workloads.iter().any(|known| known.phase == workload.phase) {
                self.failed_workloads.push(workload);
            }
        }
    }
}

/// Why a trial, or one of its workloads, failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In which phase.
    pub phase: Phase,
    /// One sentence for the table's footnote.
    pub reason: String,
}

/// One visit of a worker to a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisitRecord {
    /// Round, from 0.
    pub round: u32,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// Loads.
    pub loads: Vec<LoadSample>,
    /// What llama.cpp allocated for the largest context of the visit.
    pub memory: Vec<BufferMemory>,
    /// Repetitions of throughput tests.
    pub speed: Vec<SpeedRecord>,
    /// Answered prompts.
    pub responses: Vec<Response>,
    /// What was measured that has no field of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measurement>,
    /// Usage per phase.
    pub usage: Vec<PhaseUsage>,
    /// What was seen over time, counted from the beginning of the first phase; empty in runs stored before this was kept.
    #[serde(default, skip_serializing_if = "Timeline::is_empty")]
    pub timeline: Timeline,
    /// Peak resident memory of the worker, bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Proportional share of resident memory at the end, bytes.
    pub pss_bytes: Option<u64>,
}

impl VisitRecord {
    /// A visit that begins.
    pub fn new(started: OffsetDateTime) -> Self {
        Self {
            round: 0,
            started,
            loads: Vec::new(),
            memory: Vec::new(),
            speed: Vec::new(),
            responses: Vec::new(),
            measured: Vec::new(),
            usage: Vec::new(),
            timeline: Timeline::default(),
            peak_rss_bytes: None,
            pss_bytes: None,
        }
    }

    fn add_speed(&mut self, test: SpeedTest, sample: SpeedSample) {
        match self.speed.iter_mut().find(|record| record.test == test) {
            Some(record) => record.samples.push(sample),
            None => self.speed.push(SpeedRecord { test, samples: vec![sample] }),
        }
    }
}

/// What a visit for quality or tasks used: its figures are the trial's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// What the visit was for.
    pub stage: Stage,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// What was measured that the trial has no field for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measurement>,
    /// Usage per phase.
    pub usage: Vec<PhaseUsage>,
    /// What was seen over time, counted from the beginning of the first phase; empty in runs stored before this was kept.
    #[serde(default, skip_serializing_if = "Timeline::is_empty")]
    pub timeline: Timeline,
    /// Peak resident memory of the worker, bytes.
    pub peak_rss_bytes: Option<u64>,
}

/// The repetitions of one throughput test within one visit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeedRecord {
    /// The test.
    pub test: SpeedTest,
    /// Its timed repetitions.
    pub samples: Vec<SpeedSample>,
}

/// Usage during one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseUsage {
    /// The phase.
    pub phase: Phase,
    /// When it began, seconds since the start of the visit. `None` in runs stored before this was kept.
    #[serde(default)]
    pub begin_seconds: Option<f64>,
    /// When it ended, seconds since the start of the visit.
    #[serde(default)]
    pub end_seconds: Option<f64>,
    /// What was used.
    pub usage: Usage,
}

impl PhaseUsage {
    /// How long it took, seconds.
    pub fn seconds(&self) -> f64 {
        match (self.begin_seconds, self.end_seconds) {
            (Some(begin), Some(end)) if self.usage.seconds <= 0.0 => end - begin,
            _ => self.usage.seconds,
        }
    }
}

/// The reference's first throughput test, measured again in a round to show drift of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DriftControl {
    /// Round, from 0.
    pub round: u32,
    /// Seconds since the run began.
    pub at_seconds: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
}
