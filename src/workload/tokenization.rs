//! Tokenization: how fast a text becomes tokens. The tokenizer is the model's, not the variant's.

use super::applicability::Applies;
use super::jobs::{InputError, Inputs, Target};
use super::measured::{LiveFigure, ModelFacts};
use super::{Measurement, Phase, Visit, Workload, WorkloadError};
use crate::engine::memory::BufferMemory;
use crate::experiment::metric::Metric;
use crate::experiment::workloads::TokenizationPlan;
use crate::model::artifact::ArtifactRef;
use crate::model::cache;
use crate::units::significant;
use serde::{Deserialize, Serialize};
use std::fs;

/// Tokenize a text, after once that is not counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenizationJob {
    /// File with the text.
    pub text: ArtifactRef,
    /// How many timed repetitions.
    pub repetitions: u32,
}

/// How long a text took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tokenization {
    /// Tokens of the text.
    pub tokens: u64,
    /// Time of each repetition, nanoseconds.
    pub nanoseconds: Vec<u64>,
}

impl TokenizationJob {
    pub(super) fn new(
        plan: &TokenizationPlan,
        target: &Target,
        inputs: &mut Inputs<'_>,
    ) -> Result<Self, InputError> {
        let bytes = plan.text.as_bytes();
        let text = inputs.file("evaluation-text", &cache::of_bytes(bytes), || bytes.to_vec())?;
        Ok(Self { text, repetitions: target.repetitions })
    }
}

impl Workload for TokenizationJob {
    fn phase(&self) -> Phase {
        Phase::Tokenization
    }

    fn applies(&self, _: &ModelFacts) -> Applies {
        Applies::Yes
    }

    fn files_mut(&mut self) -> Vec<&mut ArtifactRef> {
        vec![&mut self.text]
    }

    fn run(&self, visit: &Visit<'_>) -> Result<Vec<BufferMemory>, WorkloadError> {
        let path = &self.text.path;
        let text = fs::read_to_string(path).map_err(|error| {
            WorkloadError::ThisOne(format!("cannot read {}: {error}", path.display()))
        })?;
        let tokenize = || visit.model.tokenize(&text, true, false);
        let tokens = tokenize().map_err(|error| WorkloadError::visit(&error))?.len() as u64;
        let mut nanoseconds = Vec::new();
        for _ in 0..self.repetitions {
            let start = visit.clock.now();
            tokenize().map_err(|error| WorkloadError::visit(&error))?;
            let taken = visit.clock.since(start).as_nanos();
            nanoseconds.push(u64::try_from(taken).unwrap_or(u64::MAX).max(1));
        }
        let tokenization = Tokenization { tokens, nanoseconds };
        visit.observer.measured(Measurement::Tokenization(tokenization));
        Ok(Vec::new())
    }
}

impl Tokenization {
    /// One value per repetition.
    pub(super) fn figures(&self) -> Vec<(Metric, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let rate = |&nanoseconds: &u64| self.tokens as f64 * 1e9 / nanoseconds as f64;
        self.nanoseconds.iter().map(|it| (Metric::TokenizerSpeed, rate(it))).collect()
    }

    /// `tokenizer 1230000 t/s`.
    pub(super) fn live(&self) -> Option<LiveFigure> {
        let (_, rate) = self.figures().pop()?;
        Some(LiveFigure::latest("tokenizer", rate, |rate| format!("{} t/s", significant(rate, 3))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repetition_has_a_rate() {
        let measured = Tokenization { tokens: 300, nanoseconds: vec![1_000_000, 2_000_000] };
        let rates: Vec<f64> = measured.figures().into_iter().map(|(_, rate)| rate).collect();
        assert_eq!(rates, [300_000.0, 150_000.0]);
        assert_eq!(measured.live().map(|it| (it.show)(it.value)).as_deref(), Some("150000 t/s"));
    }
}
