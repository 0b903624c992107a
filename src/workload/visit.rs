//! What workloads have in common: the visit that they are part of, and how one of them is run.

use super::applicability::Applies;
use super::measured::{LeftOut, ModelFacts};
use super::{Measurement, Phase};
use crate::causes;
use crate::engine::clock::Clock;
use crate::engine::memory::BufferMemory;
use crate::engine::{Engine, Model};
use crate::experiment::settings::Settings;
use crate::model::artifact::ArtifactRef;
use crate::prompt::choice::{FormatChoice, Prompter};
use crate::prompt::template::ChatTemplate;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::error::Error;
use std::fmt;
use time::OffsetDateTime;

/// What the workloads of a visit have in common.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// What loads further models.
    pub engine: &'a dyn Engine,
    /// What times are taken from.
    pub clock: &'a dyn Clock,
    /// The model.
    pub model: &'a dyn Model,
    /// What it is.
    pub facts: &'a ModelFacts,
    /// Under which settings.
    pub settings: &'a Settings,
    /// Who hears of it.
    pub observer: &'a dyn Observer,
}

/// Who hears what a workload measures, as it happens.
pub trait Observer: fmt::Debug {
    /// Something was measured.
    fn measured(&self, measurement: Measurement);

    /// How far the workload is: a fraction from 0 to 1 and the latest figure in words.
    fn progress(&self, fraction: f64, note: &str);
}

/// Something that is measured of a loaded model.
pub trait Workload {
    /// What the worker is doing meanwhile.
    fn phase(&self) -> Phase;

    /// Whether it has a meaning for a model.
    fn applies(&self, facts: &ModelFacts) -> Applies;

    /// Its files, to be given a place.
    fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        Vec::new()
    }

    /// Measures, and tells the observer; returns what the engine allocated.
    ///
    /// # Errors
    /// [`WorkloadError`].
    fn run(&self, visit: &Visit<'_>) -> Result<Vec<BufferMemory>, WorkloadError>;
}

/// Why a workload was not measured, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// This one cannot be measured, but what comes after it can.
    #[error("{0}")]
    ThisOne(String),
    /// Nothing more can be measured in this visit.
    #[error("{0}")]
    Visit(String),
}

impl WorkloadError {
    /// Costs only the workload.
    pub(super) fn this_one(error: &dyn Error) -> Self {
        Self::ThisOne(causes::in_words(error))
    }

    /// Costs the visit.
    pub(super) fn visit(error: &dyn Error) -> Self {
        Self::Visit(causes::in_words(error))
    }
}

impl Visit<'_> {
    /// Tells the observer how far the workload is.
    pub(super) fn progress(&self) -> impl FnMut(f64, &str) {
        |fraction, note| self.observer.progress(fraction, note)
    }

    /// Tells the observer what cannot be measured.
    pub(super) fn leave_out(&self, left_out: LeftOut) {
        self.observer.measured(Measurement::LeftOut(left_out));
    }

    /// What puts requests into a format; the model's own template is read from its file. What is wrong with it
    /// costs only what needs it.
    pub(super) fn prompter(
        &self,
        format: FormatChoice,
        variables: &Map<String, Value>,
    ) -> Result<Prompter, WorkloadError> {
        let own = self.model.chat_template().map_err(|error| WorkloadError::visit(&error))?;
        let template = || {
            let Some((source, tokens)) = own else { return Ok(None) };
            let template = ChatTemplate::new(&source, tokens, OffsetDateTime::now_utc())?;
            Ok(Some(template.with_variables(variables.clone())))
        };
        Prompter::new(format, template).map_err(|error| WorkloadError::this_one(&error))
    }
}

/// A list that was written for the worker as JSON.
pub(super) fn read_list<T: DeserializeOwned>(file: &ArtifactRef) -> Result<Vec<T>, WorkloadError> {
    let unreadable = |error: &dyn Error| {
        WorkloadError::Visit(format!("cannot read {}: {error}", file.path.display()))
    };
    let bytes = std::fs::read(&file.path).map_err(|error| unreadable(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))
}
