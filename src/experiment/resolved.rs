//! What an experiment means: every default resolved, every name checked, ready to be run.
//!
//! The rest of the program sees only these types; what the user typed (`file.rs`) ends here.

use super::requirements::Requirements;
use super::settings::Settings;
use super::tasks::TaskPlan;
use super::workloads::{LatencyPlan, QualityPlan, SpeedTest};
use crate::model::quantization::Quantization;
use crate::model::source::Source;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One experiment, ready to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Name shown above the table and in `quantbench list`.
    pub name: String,
    /// The models with the variants to make or take.
    pub models: Vec<ModelPlan>,
    /// The settings under which every variant is measured; a trial is a variant under one of them.
    pub settings: Vec<Settings>,
    /// What is measured in each trial.
    pub workloads: Workloads,
    /// How often every trial is visited; in each round every trial is visited once.
    pub rounds: u32,
    /// Timed repetitions of each speed test within one visit.
    pub repetitions: u32,
    /// Pause before each visit, for machines that grow hot.
    pub cool_down: Duration,
    /// Limit of each phase of a worker (load, one workload); a worker that is silent longer is
    /// ended.
    pub phase_limit: Duration,
    /// What the user needs.
    pub requirements: Requirements,
}

/// One model and what is to be made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// Name in tables.
    pub name: String,
    /// Where its file comes from.
    pub source: Source,
    /// Variants to make from the source, in the order given. Empty if the source is a folder of
    /// ready variants: then each file in it is one.
    pub quantizations: Vec<Quantization>,
    /// Which variant quality is measured against; `None`: the highest precision present.
    pub reference: Option<Quantization>,
    /// Settings of this model, when they are not the experiment's.
    pub settings: Option<Vec<Settings>>,
    /// Make variants even though the source is already quantized.
    pub allow_requantize: bool,
}

/// What is measured in each trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
