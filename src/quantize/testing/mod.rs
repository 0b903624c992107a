//! Helpers for tests of several methods.

pub(crate) mod made_up;

use crate::engine::batch::Batch;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::capture::{CapturingContext, Flow, Sink, WeightInput};
use crate::engine::llama::context::Context;
use crate::engine::llama::model::Model;
use crate::engine::llama::quantize::Importance;
use crate::engine::{Context as _, ContextPurpose, ContextShape, LoadExtent, Model as _};
use crate::experiment::calibration::CalibrationPlan;
use crate::experiment::parameters::Parameters;
use crate::experiment::settings::{CacheType, FlashAttention, Settings};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const THREADS: u32 = 2;

pub(crate) fn settings() -> Settings {
    // All in F32 (fused attention would round values to F16), so that nothing but the scales differs.
    Settings {
        threads: Some(THREADS),
        gpu_layers: 0,
        flash_attention: FlashAttention::Off,
        cache_type_k: CacheType::F32,
        cache_type_v: CacheType::F32,
        ..Settings::default()
    }
}

pub(crate) fn plan(text: &str, context: u32, chunks: Option<u32>) -> CalibrationPlan {
    let (text, source, parameters) = (text.to_owned(), String::new(), Parameters::default());
    CalibrationPlan { text, source, context, chunks, parameters }
}

/// A few tokens of a small vocabulary.
pub(crate) fn few_tokens() -> Vec<i32> {
    (0..24).map(|position| position * 7 % 37 + 1).collect()
}

/// Log-probabilities after each of at most 128 tokens.
pub(crate) fn log_probabilities(path: &Path, tokens: &[i32]) -> Vec<Vec<f64>> {
    let model =
        Model::load(Backend::initialise(), path, &settings(), LoadExtent::Everything).unwrap();
    let shape = ContextShape { tokens: 128, sequences: 1, batch: 128, ubatch: 128 };
    let mut context = Context::new(&model, &settings(), shape, ContextPurpose::Separate).unwrap();
    let mut batch = Batch::with_capacity(tokens.len());
    for (position, token) in (0..).zip(tokens) {
        batch.add(*token, position, 0, true).unwrap();
    }
    context.decode(&mut batch).unwrap();
    let logits = context.all_logits(tokens.len()).unwrap();
    logits
        .chunks(model.vocabulary_size())
        .map(|row| {
            let most = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
            let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
            row.iter().map(|logit| f64::from(*logit) - most - sum.ln()).collect()
        })
        .collect()
}

/// Mean divergence of one model from another.
pub(crate) fn divergence(reference: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    let of = |(p, q): (&Vec<f64>, &Vec<f64>)| -> f64 {
        p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
    };
    let count = u32::try_from(reference.len()).unwrap();
    reference.iter().zip(other).map(of).sum::<f64>() / f64::from(count)
}

/// Sums of squares of the inputs of every weight, `[matrices, columns]`, and vectors per matrix.
#[derive(Default)]
struct Squares(BTreeMap<String, (Vec<f64>, Vec<f64>)>);

impl Sink for Squares {
    fn wants_weight(&mut self, weight: &str) -> bool {
        weight.starts_with("blk.")
    }

    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow {
        let entry = self.0.entry(input.weight.to_owned());
        let (sums, counts) = entry.or_insert_with(|| {
            (vec![0.0; input.columns * input.matrices], vec![0.0; input.matrices])
        });
        for (matrix, row) in input.rows_with_matrix() {
            counts[matrix] += 1.0;
            let sums = &mut sums[matrix * input.columns..];
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(value * value));
        }
        Flow::Continue
    }
}

/// The importance of a model's weights for texts of up to 256 tokens.
pub(crate) fn importance_of(path: &Path, texts: &[&[i32]]) -> Vec<Importance> {
    let settings = settings();
    let model =
        Model::load(Backend::initialise(), path, &settings, LoadExtent::Everything).unwrap();
    let shape = ContextShape { tokens: 256, sequences: 1, batch: 256, ubatch: 256 };
    let mut context = CapturingContext::new(&model, &settings, shape).unwrap();
    let mut squares = Squares::default();
    for text in texts {
        context.evaluate(text, &mut squares).unwrap();
    }
    let mean = |(weight, (sums, counts)): (String, (Vec<f64>, Vec<f64>))| {
        let columns = sums.len() / counts.len();
        let means = sums.iter().enumerate().map(|(at, sum)| sum / counts[at / columns].max(1.0));
        #[expect(clippy::cast_possible_truncation, reason = "llama.cpp takes f32")]
        let values = means.map(|mean| mean as f32).collect();
        Importance { weight, values }
    };
    squares.0.into_iter().map(mean).collect()
}
