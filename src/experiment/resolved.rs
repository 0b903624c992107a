//! What an experiment means: every default resolved, every name checked, ready to be run.
//!
//! The rest of the program sees only these types; what the user typed (`file.rs`) ends here.

use super::calibration::CalibrationPlan;
use super::recommend::Recommend;
use super::requirements::Requirements;
use super::settings::Settings;
use super::workloads::Workloads;
use super::written::Written;
use crate::model::adapter::AdapterSource;
use crate::model::quantization::Quantization;
use crate::model::source::Source;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use strum::{Display, VariantNames};

/// Why quality is not measured of shapes.
pub const GENERATED: &str = "the weights of a shape are generated, so that its answers mean nothing and only speed, latency and memory are measured";

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
    /// No repetition is begun later than this after the first of its visit; `None`: all are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_within: Option<Duration>,
    /// Time that it may take; `None`: as long as everything takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Duration>,
    /// Pause before each visit, for machines that grow hot.
    pub cool_down: Duration,
    /// Limit of each phase of a worker (load, one workload); a worker that is silent longer is
    /// ended.
    pub phase_limit: Duration,
    /// Which files stay that are fetched or made for the run.
    #[serde(default, skip_serializing_if = "Keep::is_all")]
    pub keep: Keep,
    /// What the user needs.
    pub requirements: Requirements,
    /// How it recommends; `None`: everything is measured, or what says most in the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommend: Option<Recommend>,
    /// The earlier run that is measured again in turns with this one, and the program that computes it; `None`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// Models of the file that this build cannot measure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOutModel>,
    /// What of the file it was read from is not in the other fields; `None`: of no file, or of a version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
}

/// Which of the files stay that are fetched or made for a run. Where not all do, the variants are measured one
/// after the other.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    VariantNames,
    Display,
    ValueEnum,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Keep {
    /// All of them
    #[default]
    All,
    /// Those that the run recommends
    Best,
    /// None of them
    None,
}

impl Keep {
    /// Whether every file stays.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// A model that is not measured, though the file names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutModel {
    /// Its name.
    pub model: String,
    /// Why, as half a sentence.
    pub reason: String,
}

impl std::fmt::Display for LeftOutModel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "model '{}' is left out: {}", self.model, self.reason)
    }
}

impl Default for Experiment {
    /// Nothing, once, under default settings.
    fn default() -> Self {
        Self {
            name: String::new(),
            models: Vec::new(),
            settings: vec![Settings::default()],
            workloads: Workloads::default(),
            rounds: 1,
            repetitions: 1,
            repeat_within: None,
            budget: None,
            cool_down: Duration::ZERO,
            phase_limit: Duration::from_mins(10),
            keep: Keep::All,
            requirements: Requirements::default(),
            recommend: None,
            against: None,
            left_out: Vec::new(),
            written: None,
        }
    }
}

/// What a run is measured against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Against {
    /// The earlier run.
    pub run: String,
    /// The quantbench whose workers compute its trials; `None`: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
}

impl Experiment {
    /// What is measured of the model at `position`.
    pub fn workloads_of(&self, position: usize) -> &Workloads {
        let own = self.models.get(position).and_then(|model| model.workloads.as_ref());
        own.unwrap_or(&self.workloads)
    }

    /// Settles what `auto` is: a text of one's own is for all models that are compared on it.
    pub(super) fn choose_texts(&mut self) {
        let is_demo = |model: &ModelPlan| model.source == Source::Demo;
        let only_demo = self.models.iter().filter(|it| it.workloads.is_none()).all(is_demo);
        self.workloads.quality.iter_mut().for_each(|quality| quality.choose_text(only_demo));
        for model in &mut self.models {
            let only_demo = is_demo(model);
            let own = model.workloads.iter_mut().filter_map(|own| own.quality.as_mut());
            own.for_each(|quality| quality.choose_text(only_demo));
        }
    }

    /// Takes from shapes what depends on the values of weights, which are generated.
    ///
    /// # Errors
    /// Nothing is left of what was asked for; in a sentence.
    pub(super) fn leave_out_of_shapes(&mut self) -> Result<(), String> {
        for position in 0..self.models.len() {
            let Source::Shape(_) = self.models[position].source else { continue };
            let asked = self.workloads_of(position);
            let left =
                Workloads { tokenization: None, quality: None, tasks: Vec::new(), ..asked.clone() };
            if left == *asked {
                continue;
            }
            if left.plans().next().is_none() && !left.cold_load {
                let name = &self.models[position].name;
                return Err(format!(
                    "nothing is left to measure of '{name}': {GENERATED}; ask for speed or latency, or name the model itself"
                ));
            }
            self.models[position].workloads = Some(left);
        }
        Ok(())
    }

    /// What is measured of each model, in order; of an experiment without models, what would be.
    pub fn all_workloads(&self) -> impl Iterator<Item = &Workloads> {
        let fallback = self.models.is_empty().then_some(&self.workloads);
        (0..self.models.len()).map(|position| self.workloads_of(position)).chain(fallback)
    }
}

/// One model and what is to be made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// Name in tables.
    pub name: String,
    /// Where its file comes from.
    pub source: Source,
    /// Where the same model is as ONNX.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub onnx: Vec<Source>,
    /// Variants to make from the source, in the order given. Empty if the source is a folder of
    /// ready variants: then each file in it is one.
    pub quantizations: Vec<Quantization>,
    /// What turns pictures into tokens, of a model that sees; used as it is for all variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<Source>,
    /// What changes it in all its variants, while it computes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<AdapterSource>,
    /// Which variant quality is measured against; `None`: the highest precision that is there, else that is made.
    pub reference: Option<Quantization>,
    /// Settings of this model, when they are not the experiment's.
    pub settings: Option<Vec<Settings>>,
    /// What is measured of this model, when it is not what the experiment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<Workloads>,
    /// Make variants even though the source is already quantized.
    pub allow_requantize: bool,
    /// What variants are calibrated on; `None` if none of them is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationPlan>,
}

impl ModelPlan {
    /// A model that is measured as the experiment says, its file taken as it is.
    pub fn new(name: String, source: Source) -> Self {
        Self {
            name,
            source,
            onnx: Vec::new(),
            quantizations: Vec::new(),
            projector: None,
            adapters: Vec::new(),
            reference: None,
            settings: None,
            workloads: None,
            allow_requantize: false,
            calibration: None,
        }
    }

    /// The first of the variants that is calibrated on a text.
    pub fn calibrated(&self) -> Option<Quantization> {
        // In a folder of ready variants the list chooses; nothing is made.
        let made = !matches!(self.source, Source::Directory(_)) || !self.source.holds_variants();
        let mut quantizations = self.quantizations.iter().copied().filter(|_| made);
        quantizations.find(|quantization| quantization.method.is_calibrated())
    }
}
