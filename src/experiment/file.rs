//! The experiment file as it was written: every value typed and with its place, defaults filled in.
//!
//! Names, bounds and defaults of keys are in `keys`; what a value means, and whether it fits the others,
//! is decided in `expand.rs`.

use super::calibration::CalibrationFile;
use super::diagnostic::Problem;
use super::keys;
use super::reader::{Located, Many, Node, Value};
use super::resolved::Keep;
use super::workloads::WorkloadsFile;
use crate::model::quantization::Quantization;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::de::DeTable;

/// What the user wrote.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ExperimentFile {
    /// Of all models that have none of their own.
    pub quantizations: Option<Many<Quantization>>,
    /// Of all models that have none of their own.
    pub reference: Option<Located<Quantization>>,
    pub experiment: Located<RunFile>,
    pub settings: Located<SettingsFile>,
    pub workloads: Located<WorkloadsFile>,
    pub calibration: Located<CalibrationFile>,
    pub requirements: Located<BTreeMap<String, Located<f64>>>,
    /// `None`: no model was written, not even a wrong one.
    pub models: Option<Many<ModelFile>>,
}

/// `[experiment]`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RunFile {
    pub name: Option<Located<String>>,
    pub rounds: Located<u32>,
    pub repetitions: Located<u32>,
    pub budget: Option<Located<Duration>>,
    pub cool_down: Located<Duration>,
    pub phase_limit: Located<Duration>,
    pub keep: Located<Keep>,
}

/// `[settings]`: the values of each key.
pub(crate) type SettingsFile = BTreeMap<String, Many<serde_json::Value>>;

/// One `[[models]]` table.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ModelFile {
    /// Keys whose values are wrong; each is reported already.
    pub wrong: Many<String>,
    pub name: Option<Located<String>>,
    pub source: Option<Located<String>>,
    pub mmproj: Option<Located<String>>,
    pub lora: Option<Many<String>>,
    pub onnx: Option<Many<String>>,
    pub quantizations: Option<Many<Quantization>>,
    pub reference: Option<Located<Quantization>>,
    /// The experiment's, with keys of its own in place of theirs.
    pub settings: Option<Located<SettingsFile>>,
    /// The experiment's, with keys of its own in place of theirs.
    pub workloads: Option<Located<WorkloadsFile>>,
    pub allow_requantize: Located<bool>,
}

impl ExperimentFile {
    /// Reads the root table; what is wrong goes to `problems`.
    ///
    /// # Errors
    /// The table of keys and the types here do not agree, which no file should bring to light.
    pub(crate) fn read(root: &DeTable<'_>, problems: &mut Vec<Problem>) -> Result<Self, Problem> {
        let mut root = keys::read(root, problems);
        lay_models_over(&mut root);
        serde_json::to_value(&root)
            .and_then(serde_json::from_value::<Located<Self>>)
            .map(|file| file.value)
            .map_err(|error| Problem::new(0..0, format!("this cannot be understood: {error}")))
    }

    /// All models.
    pub(crate) fn models(&self) -> &[Located<ModelFile>] {
        self.models.as_deref().map_or(&[], Vec::as_slice)
    }
}

/// Puts the experiment's settings and workloads behind the keys that a model has of its own.
fn lay_models_over(root: &mut Node) {
    let Some(entries) = root.entries() else { return };
    let shared = ["settings", "workloads"].map(|name| (name, entries.get(name).cloned()));
    let Some(Located { value: Value::List(models), .. }) = entries.get_mut("models") else {
        return;
    };
    for model in models.iter_mut().filter_map(Node::entries) {
        for (name, shared) in &shared {
            if let (Some(own), Some(shared)) = (model.remove(*name), shared) {
                model.insert((*name).to_owned(), own.over(shared.clone()));
            }
        }
    }
}
