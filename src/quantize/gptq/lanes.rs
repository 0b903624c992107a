//! How many texts are evaluated side by side, with how many threads each.
//!
//! A lane is a context of each model. Uses `llama`; used by the entry point.

use super::{Match, Request};
use crate::engine::ContextShape;
use crate::engine::LoadExtent;
use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::context::Context;
use crate::engine::llama::model::Model;
use crate::engine::llama::partial::PartialContext;
use crate::engine::streams;
use crate::engine::{Context as _, ContextPurpose, Model as _};
use crate::experiment::settings::Settings;

/// How texts are evaluated.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Lanes side by side.
    pub(super) count: u32,
    /// What llama.cpp allocates for all of them, bytes.
    pub(super) bytes: u64,
    /// Threads of each.
    threads: u32,
    /// Tokens of a text.
    context: u32,
}

impl Lanes {
    /// Finds what fits, from metadata alone.
    ///
    /// # Errors
    /// When llama.cpp cannot read a model or plan its memory.
    pub(super) fn find(
        backend: Backend,
        request: &Request<'_>,
        texts: usize,
    ) -> Result<Self, EngineError> {
        let context = u32::try_from(request.context).unwrap_or(u32::MAX);
        let settings = Settings { threads: Some(1), gpu_layers: 0, ..Settings::default() };
        let shape = ContextShape { tokens: context, sequences: 1, batch: context, ubatch: context };
        let matched = request.parameters.matching != Match::Nothing;
        let (mut each, mut weights) = (0, 0);
        for path in [Some(request.output), matched.then_some(request.source)].into_iter().flatten()
        {
            let planned = Model::load(backend, path, &settings, LoadExtent::MemoryPlan)?;
            let buffers =
                Context::new(&planned, &settings, shape, ContextPurpose::Separate)?.memory();
            let buffers = buffers.iter().map(|buffer| buffer.kv_bytes + buffer.compute_bytes);
            // llama.cpp computes no output, but has room for one at every position.
            let outputs = u64::from(context) * planned.vocabulary_size() as u64 * 4;
            each += buffers.sum::<u64>() + outputs;
            weights += planned.tensor_bytes();
        }
        let threads = request.threads.max(1);
        let wanted = threads.min(u32::try_from(texts).unwrap_or(u32::MAX)).max(1);
        let count = streams::that_fit(wanted, each, weights);
        Ok(Self { count, bytes: each * u64::from(count), threads: threads / count, context })
    }

    /// The lanes of one model.
    ///
    /// # Errors
    /// When there is no memory for them, or the model cannot be evaluated.
    pub(super) fn open<'m>(
        &self,
        model: &'m Model,
    ) -> Result<Vec<PartialContext<'m>>, EngineError> {
        (0..self.count).map(|_| PartialContext::new(model, self.context, self.threads)).collect()
    }
}
