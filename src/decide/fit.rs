//! Whether a model fits, and if not, with what: everything from the engine's own predictions.

use super::place::Place;
use crate::experiment::settings::{CacheType, Settings};
use crate::units::format_bytes;
use crate::workload::jobs::MemoryQuestion;
use crate::workload::measured::PredictedMemory;
use serde::Serialize;

/// Room above what is predicted, for its error: 2 %, or 16 MiB if that is more.
const ERROR_SHARE: u64 = 50;
const LEAST_ERROR: u64 = 16 << 20;

/// llama.cpp rounds a sequence's context up to a multiple of this.
const CONTEXT_STEP: u32 = 256;

/// A smaller context is of no use, tokens.
const LEAST_CONTEXT: u32 = 512;

/// Questions that are asked at a time while a limit is narrowed.
const QUESTIONS: u32 = 16;

/// Asks the engine, one answer per question. An error is about all of them, an answer's about one.
pub type Predict<'a> =
    dyn Fn(Vec<MemoryQuestion>) -> Result<Vec<Result<PredictedMemory, String>>, String> + 'a;

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Tokens of context of each sequence.
    pub context: u32,
    /// Sequences side by side.
    pub parallel: u32,
    /// What else is asked for.
    pub settings: Settings,
    /// The type of the KV cache that is asked for, and others that may take its place.
    pub cache_types: Vec<CacheType>,
    /// Layers that may lie on a GPU, the output being one.
    pub layers: u32,
    /// Whether it is a mixture of experts.
    pub has_experts: bool,
    /// Whether buffers are counted that only those touch who ask for every token's logits. A GPU sets them aside.
    pub all_logits: bool,
}

/// What differs from what was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Another type of the KV cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_type: Option<CacheType>,
    /// A smaller context, tokens of each sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Layers on GPUs, fewer than all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_layers: Option<u32>,
    /// The weights of experts on the host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub experts_on_host: bool,
}

/// What a plan says of a model at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// As asked.
    Fits,
    /// With any one of these changes.
    FitsWith {
        /// Each of them is enough.
        with: Vec<Change>,
    },
    /// Nothing that may be changed is enough.
    DoesNotFit {
        /// Bytes that are missing for what was asked, of the memory that lacks most.
        short_bytes: u64,
        /// Which memory that is.
        of: String,
    },
    /// It cannot be told.
    Unknown {
        /// Why, in words.
        reason: String,
    },
}

/// What the engine predicts of what was asked, for each type of cache.
pub type Forecast = Vec<(CacheType, Result<PredictedMemory, String>)>;

impl Demand {
    fn question(&self, change: &Change) -> MemoryQuestion {
        let asked = self.cache_types.first().copied().unwrap_or_default();
        let cache_type = change.cache_type.unwrap_or(asked);
        let layers = change.gpu_layers.and_then(|layers| i32::try_from(layers).ok());
        let settings = Settings {
            cache_type_k: cache_type,
            cache_type_v: cache_type,
            gpu_layers: layers.unwrap_or(self.settings.gpu_layers),
            ..self.settings.clone()
        };
        MemoryQuestion {
            settings,
            tokens: change.context.unwrap_or(self.context).saturating_mul(self.parallel),
            sequences: self.parallel,
            all_logits: self.all_logits,
            experts_on_host: change.experts_on_host,
        }
    }

    /// What the engine predicts, under every type of cache.
    ///
    /// # Errors
    /// The engine says nothing at all; why, in words.
    pub fn forecast(&self, predict: &Predict<'_>) -> Result<Forecast, String> {
        let change = |&cache_type| Change { cache_type: Some(cache_type), ..Change::default() };
        let questions = self.cache_types.iter().map(|it| self.question(&change(it))).collect();
        let answers = predict(questions)?;
        Ok(self.cache_types.iter().copied().zip(answers).collect())
    }

    /// Whether it fits, or with what.
    pub fn judge(&self, forecast: &Forecast, place: &Place, predict: &Predict<'_>) -> Verdict {
        let asked = match forecast.first() {
            Some((_, Ok(asked))) => asked,
            Some((_, Err(reason))) => return Verdict::Unknown { reason: reason.clone() },
            None => return Verdict::Unknown { reason: "nothing was predicted".to_owned() },
        };
        if let Some(pool) = place.pools.iter().find(|pool| pool.there.is_none()) {
            let reason = format!("what there is of {} is not known: {}", pool.name, pool.origin);
            return Verdict::Unknown { reason };
        }
        let Some((short_bytes, of)) = lacks(place, asked) else { return Verdict::Fits };
        let others = forecast.iter().skip(1).filter_map(|(cache_type, predicted)| {
            let is_enough = predicted.as_ref().is_ok_and(|it| lacks(place, it).is_none());
            is_enough.then_some(*cache_type)
        });
        let of_cache = |cache_type| Change { cache_type: Some(cache_type), ..Change::default() };
        let mut with: Vec<Change> = others.map(of_cache).take(1).collect();
        let search = || {
            let mut found = Vec::new();
            found.extend(self.largest_context(None, place, predict)?);
            // Where another type of cache alone is not enough, a smaller context with it is larger than without.
            let cache_type = forecast.iter().skip(1).rfind(|(_, it)| it.is_ok()).map(|it| it.0);
            if let Some(cache_type) = cache_type.filter(|_| with.is_empty()) {
                found.extend(self.largest_context(Some(cache_type), place, predict)?);
            }
            if place.has_gpu() {
                found.extend(self.on_gpu(place, predict)?);
            }
            Ok(found)
        };
        match search() {
            Ok(found) => with.extend(found),
            Err(reason) if with.is_empty() => return Verdict::Unknown { reason },
            Err(_) => {}
        }
        if with.is_empty() {
            Verdict::DoesNotFit { short_bytes, of }
        } else {
            Verdict::FitsWith { with }
        }
    }

    fn largest_context(
        &self,
        cache_type: Option<CacheType>,
        place: &Place,
        predict: &Predict<'_>,
    ) -> Result<Option<Change>, String> {
        let change = |context| Change { cache_type, context: Some(context), ..Change::default() };
        let most = self.context.saturating_sub(1);
        let steps = (LEAST_CONTEXT / CONTEXT_STEP, most / CONTEXT_STEP);
        let found = largest(steps, |steps| {
            let changes = steps.iter().map(|step| change(step * CONTEXT_STEP)).collect::<Vec<_>>();
            self.fit(&changes, place, predict)
        })?;
        Ok(found.map(|step| change(step * CONTEXT_STEP)))
    }

    /// Fewer layers on GPUs, or the experts on the host.
    fn on_gpu(&self, place: &Place, predict: &Predict<'_>) -> Result<Vec<Change>, String> {
        let mut found = Vec::new();
        let experts = Change { experts_on_host: true, ..Change::default() };
        if self.has_experts && self.fit(std::slice::from_ref(&experts), place, predict)? == [true] {
            found.push(experts);
        }
        let change = |layers| Change { gpu_layers: Some(layers), ..Change::default() };
        let layers = largest((0, self.layers.saturating_sub(1)), |layers| {
            let changes = layers.iter().map(|&layers| change(layers)).collect::<Vec<_>>();
            self.fit(&changes, place, predict)
        })?;
        found.extend(layers.map(change));
        Ok(found)
    }

    fn fit(
        &self,
        changes: &[Change],
        place: &Place,
        predict: &Predict<'_>,
    ) -> Result<Vec<bool>, String> {
        let answers = predict(changes.iter().map(|change| self.question(change)).collect())?;
        let is_enough = |it: &Result<PredictedMemory, String>| {
            it.as_ref().is_ok_and(|predicted| lacks(place, predicted).is_none())
        };
        Ok(answers.iter().map(is_enough).collect())
    }
}

/// Room that a prediction leaves for its error, bytes.
pub fn error_of(bytes: u64) -> u64 {
    (bytes / ERROR_SHARE).max(LEAST_ERROR)
}

/// Bytes that are missing, of the memory that lacks most; `None`: it fits.
pub fn lacks(place: &Place, predicted: &PredictedMemory) -> Option<(u64, String)> {
    let shares = place.shares(predicted);
    let missing = shares.iter().zip(&place.pools).filter_map(|(&share, pool)| {
        // What is not used at all fits everywhere.
        let needed = if share == 0 { 0 } else { share.saturating_add(error_of(share)) };
        let missing = needed.checked_sub(pool.there?)?;
        (missing > 0).then(|| (missing, pool.name.clone()))
    });
    missing.max_by_key(|(missing, _)| *missing)
}

/// The largest number within the limits that fits, if any does and those below it do, too: many are asked about at a
/// time, since each time starts a process.
fn largest(
    (least, most): (u32, u32),
    fits: impl Fn(&[u32]) -> Result<Vec<bool>, String>,
) -> Result<Option<u32>, String> {
    let (mut found, mut low, mut high) = (None, least, most);
    while low <= high {
        let step = ((high - low) / QUESTIONS).max(1);
        let mut asked: Vec<u32> = (low..=high).step_by(step as usize).collect();
        if asked.last() != Some(&high) {
            asked.push(high);
        }
        let answers = fits(&asked)?;
        let enough = answers.iter().take_while(|it| **it).count();
        let Some(last) = enough.checked_sub(1).and_then(|at| asked.get(at)) else { break };
        found = Some(*last);
        match asked.get(enough) {
            Some(first_too_large) => (low, high) = (last + 1, first_too_large - 1),
            None => break,
        }
    }
    Ok(found)
}

impl Change {
    /// What differs, in words that follow "fits with".
    pub fn in_words(&self, layers: u32) -> String {
        let mut words = Vec::new();
        words.extend(self.context.map(|tokens| format!("a context of {tokens}")));
        words.extend(self.cache_type.map(|it| format!("a {} cache", <&str>::from(it))));
        words.extend(self.gpu_layers.map(|own| format!("{own} of {layers} layers on the GPU")));
        words.extend(self.experts_on_host.then(|| "experts on the CPU".to_owned()));
        words.join(" and ")
    }
}

impl Verdict {
    /// The verdict in words.
    pub fn in_words(&self, layers: u32) -> String {
        match self {
            Self::Fits => "fits".to_owned(),
            Self::FitsWith { with } => {
                let changes: Vec<String> = with.iter().map(|it| it.in_words(layers)).collect();
                format!("fits with {}", changes.join(", or "))
            }
            Self::DoesNotFit { short_bytes, of } => {
                format!("does not fit: {} short ({of})", format_bytes(*short_bytes))
            }
            Self::Unknown { reason } => format!("unknown: {reason}"),
        }
    }
}
