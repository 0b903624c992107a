//! Plans: which variants an experiment needs and which trials they are measured in.
//!
//! Pure: nothing is read or started here. What comes in was resolved already (`sources.rs`).

use crate::causes::Problem;
use crate::experiment::calibration::CalibrationPlan;
use crate::experiment::resolved::Experiment;
use crate::experiment::settings::Settings;
use crate::experiment::workloads::Workloads;
use crate::model::adapter::Adapter;
use crate::model::artifact::Artifact;
use crate::model::cache::{CalibrationKey, of_bytes};
use crate::model::engine_name::EngineIdentity;
use crate::model::quantization::Quantization;
pub use crate::model::resolve::Origin;
use crate::results::record::TrialRecord;
use crate::results::repeats::Repeats;
use serde::Serialize;
use std::sync::Arc;

/// One variant that an experiment needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// The model's name.
    pub model: String,
    /// What computes it.
    pub engine: EngineIdentity,
    /// How its weights are stored.
    pub quantization: Quantization,
    /// The name in tables.
    pub label: String,
    /// Where its file is or how it is made.
    pub origin: Origin,
    /// What it is calibrated on, if its method looks at a text.
    pub calibration: Option<Arc<CalibrationPlan>>,
    /// The projector of a model that sees; the same file for all its variants.
    pub projector: Option<Artifact>,
    /// What changes it while it computes; the same for all its model's variants.
    pub adapters: Vec<Adapter>,
    /// The trial of an earlier run that its only trial repeats.
    pub repeats: Option<Repeats>,
}

impl Variant {
    /// `model Q4_K_M`, for messages.
    pub fn name(&self) -> String {
        format!("{} {}", self.model, self.label)
    }

    /// Bytes of its file; of one that is to be made, at most.
    pub fn expected_bytes(&self) -> u64 {
        match &self.origin {
            Origin::Ready(artifact) | Origin::Remote(artifact, _) => artifact.file_bytes,
            Origin::Make { expected_bytes, .. } => *expected_bytes,
        }
    }

    /// Rank among the variants that quality may be measured against. What is made of a file knows no more than the file, and
    /// takes longer where it is larger.
    pub fn reference_rank(&self) -> (bool, usize) {
        let is_made = matches!(self.origin, Origin::Make { .. });
        (is_made || !self.quantization.is_float(), self.quantization.precision_rank())
    }

    fn calibration_key(&self) -> Option<&CalibrationKey> {
        match &self.origin {
            Origin::Ready(_) | Origin::Remote(..) => None,
            Origin::Make { key, .. } => key.calibration.as_ref(),
        }
    }

    fn checksum(&self) -> &str {
        match &self.origin {
            Origin::Ready(artifact) | Origin::Remote(artifact, _) => &artifact.checksum,
            Origin::Make { key, .. } => &key.source_checksum,
        }
    }
}

/// One trial to be measured: a variant under one set of settings.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTrial {
    /// Identifies the trial: changes when the engine, the source, the quantization, the settings or the
    /// workloads do, and with nothing else.
    pub key: String,
    /// Which model of the experiment.
    pub model_position: usize,
    /// Which variant of the plan.
    pub variant: usize,
    /// The settings.
    pub settings: Settings,
    /// Whether the quality of the model's other trials is measured against this one.
    pub is_reference: bool,
}

/// Everything that an experiment needs and measures, in the order in which the user wrote it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The variants, each once.
    pub variants: Vec<Variant>,
    /// The trials, model by model, variant by variant.
    pub trials: Vec<PlannedTrial>,
}

impl Plan {
    /// Expands an experiment over the variants of its models (one list per model, in the
    /// experiment's order).
    ///
    /// The reference of a model is the variant it names, else the one of highest precision, one that is there
    /// before one that is made, under the first of its settings.
    ///
    /// # Errors
    /// A named reference is not among the variants, or there are none.
    pub fn new(experiment: &Experiment, variants: Vec<Vec<Variant>>) -> Result<Self, Problem> {
        let mut plan = Self::default();
        for (model_position, (model, variants)) in
            experiment.models.iter().zip(variants).enumerate()
        {
            let reference = reference_position(&model.name, model.reference, &variants)?;
            let settings = model.settings.as_ref().unwrap_or(&experiment.settings);
            for (position, variant) in variants.into_iter().enumerate() {
                for (nth, settings) in settings.iter().enumerate() {
                    plan.trials.push(PlannedTrial {
                        key: key_of(&variant, settings, model_position, experiment),
                        model_position,
                        variant: plan.variants.len(),
                        settings: settings.clone(),
                        is_reference: nth == 0 && reference == Some(position),
                    });
                }
                plan.variants.push(variant);
            }
        }
        if plan.trials.is_empty() {
            return Err(Problem::new("there is nothing to measure: no variant is left"));
        }
        Ok(plan)
    }

    /// A trial like another, under other settings.
    pub fn under(&self, experiment: &Experiment, trial: usize, settings: Settings) -> PlannedTrial {
        let PlannedTrial { model_position, variant, .. } = self.trials[trial];
        let key = key_of(&self.variants[variant], &settings, model_position, experiment);
        PlannedTrial { key, model_position, variant, settings, is_reference: false }
    }

    /// The variant of a trial.
    pub fn variant_of(&self, trial: usize) -> &Variant {
        &self.variants[self.trials[trial].variant]
    }

    /// Records of all trials, with nothing measured yet.
    pub fn empty_records(&self) -> Vec<TrialRecord> {
        self.trials.iter().map(|trial| self.empty_record(trial)).collect()
    }

    /// The record of a trial of which nothing is measured yet.
    pub fn empty_record(&self, trial: &PlannedTrial) -> TrialRecord {
        let variant = &self.variants[trial.variant];
        TrialRecord {
            key: trial.key.clone(),
            label: variant.label.clone(),
            engine: variant.engine.clone(),
            is_reference: trial.is_reference,
            adapters: variant.adapters.clone(),
            repeats: variant.repeats.clone(),
            ..TrialRecord::new(variant.model.clone(), variant.quantization, trial.settings.clone())
        }
    }

    /// Takes in trials of an earlier run, each directly before the planned one (by its position) that it is the base of.
    pub fn interleave(
        &mut self,
        experiment: &Experiment,
        earlier: impl IntoIterator<Item = (usize, Variant, Settings)>,
    ) {
        let mut earlier: Vec<_> = earlier.into_iter().collect();
        earlier.sort_by_key(|(position, ..)| std::cmp::Reverse(*position));
        for (position, variant, settings) in earlier {
            let model_position = self.trials[position].model_position;
            let trial = PlannedTrial {
                key: key_of(&variant, &settings, model_position, experiment),
                model_position,
                variant: self.variants.len(),
                settings,
                is_reference: false,
            };
            self.variants.push(variant);
            self.trials.insert(position, trial);
        }
    }

    /// Takes in the trials that were added to a stored run while it went on: those behind the planned ones.
    /// One whose variant is no longer there is left out.
    pub fn adopt(&mut self, stored: &[TrialRecord]) {
        for record in stored.iter().skip(self.trials.len()) {
            let is_of =
                |variant: &Variant| variant.model == record.model && variant.label == record.label;
            let Some(variant) = self.variants.iter().position(is_of) else { return };
            let of_variant = self.trials.iter().find(|trial| trial.variant == variant);
            let Some(model_position) = of_variant.map(|trial| trial.model_position) else { return };
            self.trials.push(PlannedTrial {
                key: record.key.clone(),
                model_position,
                variant,
                settings: record.settings.clone(),
                is_reference: record.is_reference,
            });
        }
    }
}

fn reference_position(
    model: &str,
    named: Option<Quantization>,
    variants: &[Variant],
) -> Result<Option<usize>, Problem> {
    let Some(reference) = named else {
        let best = variants.iter().enumerate().min_by_key(|(_, it)| it.reference_rank());
        return Ok(best.map(|(position, _)| position));
    };
    let is_named = |it: &Variant| it.quantization == reference;
    let meets = |it: &Variant| it.quantization.meets(reference);
    let named = variants.iter().position(is_named).or_else(|| variants.iter().position(meets));
    named.map(Some).ok_or_else(|| {
        let present: Vec<String> =
            variants.iter().map(|variant| variant.quantization.to_string()).collect();
        Problem::new(format!(
            "{reference} is the reference of model '{model}' but not among its variants ({}); \
             add it to them or name another reference",
            present.join(", ")
        ))
    })
}

/// What a key is the hash of: everything that changes what a trial's figures mean. The number of
/// rounds is left out, since more rounds give more of the same.
#[derive(Serialize)]
struct Identity<'a> {
    engine: &'a EngineIdentity,
    checksum: &'a str,
    quantization: Quantization,
    settings: &'a Settings,
    workloads: &'a Workloads,
    repetitions: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<&'a CalibrationKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    projector: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    adapters: Vec<(&'a str, f64)>,
}

fn key_of(
    variant: &Variant,
    settings: &Settings,
    model_position: usize,
    experiment: &Experiment,
) -> String {
    let identity = Identity {
        engine: &variant.engine,
        checksum: variant.checksum(),
        quantization: variant.quantization,
        settings,
        workloads: experiment.workloads_of(model_position),
        repetitions: experiment.repetitions,
        calibration: variant.calibration_key(),
        projector: variant.projector.as_ref().map(|projector| projector.checksum.as_str()),
        adapters: variant.adapters.iter().map(|it| (it.file.checksum.as_str(), it.scale)).collect(),
    };
    // Plain data with string keys always serializes; an empty text would only make keys equal.
    let text = serde_json::to_vec(&identity).unwrap_or_default();
    of_bytes(&text)[..16].to_owned()
}
