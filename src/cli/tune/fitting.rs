//! What of a space of settings fits into memory, by the engine's own plan.

use super::subject::Network;
use crate::causes::Problem;
use crate::cli::native;
use crate::decide::fit::{Demand, Verdict, lacks};
use crate::decide::place::Place;
use crate::engine::Device;
use crate::experiment::settings::{CacheType, Settings};
use crate::experiment::tuning::{Space, Use};
use crate::hardware::cgroup::Limits;
use crate::hardware::memory::Memory;
use crate::hardware::root::SystemRoot;
use crate::model::artifact::ArtifactRef;
use crate::model::engine_name::EngineName;
use crate::orchestrator::plan::Variant;
use crate::units::format_bytes;
use crate::workload::jobs::{MemoryQuestion, PredictJob};
use crate::workload::measured::PredictedMemory;
use std::path::Path;

/// A model on this machine.
pub(super) struct Fitting {
    place: Place,
    engine: EngineName,
    model: ArtifactRef,
    /// Tokens of each sequence.
    context: u32,
    layers: u32,
    has_experts: bool,
}

impl Fitting {
    pub(super) fn new(
        used: &Use,
        variant: &Variant,
        path: &Path,
        network: &Network,
        devices: &[Device],
    ) -> Result<Self, Problem> {
        let root = SystemRoot::default();
        let place = Place::here(&Memory::read(&root), &Limits::read(&root), devices, &[]);
        let read = used.prompt_tokens.max(used.depth);
        Ok(Self {
            place: place.map_err(Problem::new)?,
            engine: variant.engine.name,
            model: ArtifactRef::here(path),
            context: read.saturating_add(used.generated_tokens).max(256),
            layers: network.layers.saturating_add(1),
            has_experts: network.has_experts,
        })
    }

    fn predict(
        &self,
        questions: Vec<MemoryQuestion>,
    ) -> Result<Vec<Result<PredictedMemory, String>>, String> {
        let (engine, model) = (self.engine, self.model.clone());
        native::predict_memory(PredictJob { engine, model, questions })
    }

    fn question(&self, settings: &Settings, parallel: u32) -> MemoryQuestion {
        MemoryQuestion {
            settings: settings.clone(),
            tokens: self.context.saturating_mul(parallel),
            sequences: parallel,
            all_logits: self.place.has_gpu(),
            experts_on_host: false,
        }
    }

    /// What is short of memory, of those of some settings that the engine can say something of.
    fn refusal(&self, answer: &Result<PredictedMemory, String>) -> Option<String> {
        match answer {
            Err(reason) => Some(reason.clone()),
            Ok(predicted) => lacks(&self.place, predicted).map(|(bytes, of)| {
                format!("it does not fit, {} short ({of})", format_bytes(bytes))
            }),
        }
    }

    /// Those of some numbers of sequences that fit.
    pub(super) fn sequences(&self, counts: &[u32]) -> Result<Vec<u32>, Problem> {
        let questions =
            counts.iter().map(|&count| self.question(&Settings::default(), count)).collect();
        let answers = self.predict(questions).map_err(Problem::new)?;
        let fitting = counts.iter().zip(&answers).filter(|(_, it)| self.refusal(it).is_none());
        Ok(fitting.map(|(&count, _)| count).collect())
    }

    /// Takes from a space what does not fit, and says what that was. Where not all layers fit on a GPU, the defaults are those
    /// with as many as do. An error of the inner kind: nothing fits; the verdict.
    pub(super) fn keep_what_fits(
        &self,
        space: &mut Space,
        parallel: u32,
    ) -> Result<Result<Vec<String>, String>, Problem> {
        let Self { context, layers, has_experts, .. } = *self;
        let demand = Demand {
            context,
            parallel,
            settings: Settings::default(),
            cache_types: vec![CacheType::F16],
            layers,
            has_experts,
            all_logits: self.place.has_gpu(),
        };
        let predict = |questions| self.predict(questions);
        let forecast = demand.forecast(&predict).map_err(Problem::new)?;
        match demand.judge(&forecast, &self.place, &predict) {
            Verdict::Fits | Verdict::Unknown { .. } => {}
            Verdict::FitsWith { with } if with.iter().any(|it| it.gpu_layers.is_some()) => {
                let fewer = with.iter().find_map(|it| it.gpu_layers);
                let fewer = fewer.and_then(|it| i32::try_from(it).ok());
                space.base.gpu_layers = fewer.unwrap_or(space.base.gpu_layers);
            }
            other => return Ok(Err(other.in_words(layers))),
        }
        let singles = space.singles();
        let questions = singles.iter().map(|settings| self.question(settings, parallel));
        let answers = self.predict(questions.collect()).map_err(Problem::new)?;
        let refused: Vec<(Settings, String)> = singles
            .into_iter()
            .zip(&answers)
            .filter_map(|(settings, answer)| Some((settings, self.refusal(answer)?)))
            .collect();
        space.retain(|settings| refused.iter().all(|(it, _)| it != settings));
        let words = refused.iter().map(|(settings, reason)| format!("{settings}: {reason}"));
        Ok(Ok(words.collect()))
    }
}
