//! The calibration text in chunks of tokens, and the streams that evaluate chunks in parallel on the CPU.
//!
//! A stream is one llama.cpp context. It has one thread as long as memory allows a stream for each thread.

use super::importance::ImportanceError;
use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::context::Context;
use crate::engine::llama::model::Model;
use crate::engine::{Context as _, ContextPurpose, ContextShape, LoadExtent, Model as _, streams};
use crate::experiment::calibration::CalibrationPlan;
use crate::experiment::settings::Settings;
use std::path::Path;

/// The tokens of whole chunks. The first token of each becomes BOS if the model wants one, as in llama-imatrix.
pub(super) fn chunk_tokens(
    plan: &CalibrationPlan,
    backend: Backend,
    model: &Path,
) -> Result<Vec<i32>, ImportanceError> {
    let vocabulary = Model::load(backend, model, &Settings::default(), LoadExtent::Vocabulary)?;
    let mut tokens = vocabulary.tokenize(&plan.text, true, false)?;
    let length = chunk_length(plan);
    let available = tokens.len() / length;
    if available == 0 {
        return Err(ImportanceError::Refused(format!(
            "the calibration text has {} tokens for this model; with a context of {} it needs at least that many",
            tokens.len(),
            plan.context
        )));
    }
    let chunks = plan.chunks.map_or(available, |limit| (limit as usize).clamp(1, available));
    tokens.truncate(chunks * length);
    if let Some(beginning) = vocabulary.beginning_token() {
        tokens.iter_mut().step_by(length).for_each(|token| *token = beginning);
    }
    Ok(tokens)
}

pub(super) fn chunk_length(plan: &CalibrationPlan) -> usize {
    plan.context.max(1) as usize
}

/// A context that evaluates one chunk of `tokens` tokens, `ubatch` at a time.
pub(super) fn chunk_shape(tokens: u32, ubatch: u32) -> ContextShape {
    ContextShape { tokens, sequences: 1, batch: tokens, ubatch }
}

/// Bytes that llama.cpp allocates for a context, weights not included.
pub(super) fn context_bytes(
    model: &Model,
    settings: &Settings,
    shape: ContextShape,
) -> Result<u64, EngineError> {
    Ok(Context::new(model, settings, shape, ContextPurpose::Separate)?.own_bytes())
}

/// Number of streams and threads of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Streams {
    pub(super) count: u32,
    pub(super) threads: u32,
}

impl Streams {
    /// One stream per thread and chunk at most, as many as fit in memory.
    pub(super) fn fit(threads: u32, chunks: usize, stream_bytes: u64, weight_bytes: u64) -> Self {
        let threads = threads.max(1);
        let wanted = threads.min(u32::try_from(chunks).unwrap_or(u32::MAX));
        let count = streams::that_fit(wanted, stream_bytes, weight_bytes);
        Self { count, threads: threads / count }
    }
}
