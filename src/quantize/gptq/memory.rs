//! The memory that GPTQ takes: announced before it is allocated, and kept within a budget where there are many experts.

use super::GptqRequest;
use super::hessian::Moments;
use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::GgufInput;
use crate::engine::llama::model::Model;
use crate::engine::llama::partial::PartialContext;
use crate::engine::{LoadExtent, Model as _};
use crate::experiment::settings::Settings;
use crate::model::gguf::Value;
use crate::quantize::layer_shapes;
use crate::quantize::streams::{Streams, chunk_shape, context_bytes};
use crate::units::count;

/// Bytes per element of a Hessian while it is factorised: two matrices in f64, and the results in f32.
const FACTOR_BYTES: u64 = 24;

/// The contexts of the streams: each stream has one of each model.
pub(super) struct Contexts {
    streams: Streams,
    /// What llama.cpp allocates for all streams.
    bytes: u64,
    tokens: u32,
}

impl Contexts {
    /// Finds how many fit, from the models' metadata alone.
    pub(super) fn plan(
        backend: Backend,
        request: &GptqRequest<'_>,
        texts: usize,
    ) -> Result<Self, EngineError> {
        let tokens = request.plan.context;
        let settings = Settings { threads: Some(1), gpu_layers: 0, ..Settings::default() };
        let original = request.is_matched().then_some(request.source);
        let (mut each, mut weights) = (0, 0);
        for path in [Some(request.output), original].into_iter().flatten() {
            let planned = Model::load(backend, path, &settings, LoadExtent::MEMORY_PLAN)?;
            // llama.cpp computes no output, but has room for one at every position.
            let outputs = u64::from(tokens) * planned.vocabulary_size() as u64 * 4;
            each += context_bytes(&planned, &settings, chunk_shape(tokens, tokens))? + outputs;
            weights += planned.tensor_bytes();
        }
        let streams = Streams::fit(request.threads, texts, each, weights);
        Ok(Self { streams, bytes: each * u64::from(streams.count), tokens })
    }

    /// The contexts of one model.
    pub(super) fn open<'m>(
        &self,
        model: &'m Model,
    ) -> Result<Vec<PartialContext<'m>>, EngineError> {
        let Streams { count, threads } = self.streams;
        (0..count).map(|_| PartialContext::new(model, self.tokens, threads)).collect()
    }
}

/// Purpose and bytes: an upper estimate from the sizes of the tensors.
pub(super) fn needed(
    source: &GgufInput,
    draft: &GgufInput,
    tokens: usize,
    request: &GptqRequest<'_>,
    contexts: &Contexts,
) -> Vec<(String, u64)> {
    let own = |key: &str| source.header().get_own(key).and_then(Value::as_count).unwrap_or(0);
    let is_matched = request.is_matched();
    let single = size_of::<f32>() as u64;
    let hidden = (1 + u64::from(is_matched)) * own("embedding_length") * tokens as u64 * single;
    let bytes =
        |model: &GgufInput| model.tensors().iter().map(|tensor| tensor.entry.bytes).sum::<u64>();
    let weights = bytes(draft) + if is_matched { bytes(source) } else { 0 };
    let sums = layer_shapes(source).map(|[columns, rows, matrices]| {
        let one = Moments::bytes(columns, is_matched, is_matched.then_some(rows));
        let all = one.saturating_mul(matrices as u64).min(request.memory).max(one);
        // The weights, their target, and two steps between.
        let solving = 4 * (columns * rows) as u64 * single;
        all + FACTOR_BYTES * (columns * columns) as u64 + solving
    });
    let texts = count(contexts.streams.count, "text");
    let side_by_side = format!("{texts} of {} side by side", count(contexts.tokens, "token"));
    vec![
        ("the weights of the models".to_owned(), weights),
        (format!("the hidden states of {}", count(tokens, "token")), hidden),
        (side_by_side, contexts.bytes),
        ("sums over inputs and the largest matrix".to_owned(), sums.max().unwrap_or(0)),
    ]
}
