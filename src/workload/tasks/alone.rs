//! One request at a time, as a user would ask, so that it can be told where the time goes.

use super::TaskError;
use crate::engine::ContextShape;
use crate::engine::Model;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::{Context, ContextPurpose};
use crate::experiment::settings::Settings;
use crate::workload::softmax::index_of_maximum;
use std::time::Duration;

/// A decoder that reads one request at a time.
pub(super) struct Alone<'model> {
    model: &'model dyn Model,
    pub(super) context: Box<dyn Context + 'model>,
    batch: Batch,
}

impl<'model> Alone<'model> {
    /// A context of that many tokens, evaluated in batches of the settings' size.
    pub(super) fn open(
        model: &'model dyn Model,
        settings: &Settings,
        tokens: u32,
    ) -> Result<Self, TaskError> {
        let batch = settings.batch.min(tokens);
        let ubatch = settings.ubatch.min(batch);
        Self::with_shape(model, settings, ContextShape { tokens, sequences: 1, batch, ubatch })
    }

    pub(super) fn with_shape(
        model: &'model dyn Model,
        settings: &Settings,
        shape: ContextShape,
    ) -> Result<Self, TaskError> {
        let context = model.context(settings, shape, ContextPurpose::Separate)?;
        Ok(Self { model, context, batch: Batch::with_capacity(shape.batch as usize) })
    }

    /// Reads tokens from `position` on; returns the position behind them. With `output` the last of them
    /// has logits.
    pub(super) fn read(
        &mut self,
        tokens: &[i32],
        position: i32,
        output: bool,
    ) -> Result<i32, EngineError> {
        let last = tokens.len().saturating_sub(1);
        let length = self.context.shape().batch.max(1) as usize;
        let mut position = position;
        for (nth, part) in tokens.chunks(length).enumerate() {
            self.batch.clear();
            for (offset, &token) in part.iter().enumerate() {
                let wanted = output && nth * length + offset == last;
                self.batch.add(token, position, 0, wanted)?;
                position += 1;
            }
            self.context.decode(&mut self.batch)?;
        }
        Ok(position)
    }

    /// The most probable token after what was read.
    pub(super) fn next(&mut self) -> Result<i32, EngineError> {
        self.context.synchronize();
        let token = index_of_maximum(self.context.all_logits(1)?);
        Ok(i32::try_from(token).unwrap_or(i32::MAX))
    }

    /// Writes an answer from its first token on, which is to stand at `position`: up to `max_tokens`, or to
    /// one of `stops`.
    pub(super) fn write(
        &mut self,
        first: i32,
        position: i32,
        max_tokens: u32,
        stops: &[&str],
    ) -> Result<String, EngineError> {
        let model = self.model;
        let (mut token, mut position) = (first, position);
        let mut bytes = Vec::new();
        for _ in 0..max_tokens {
            if model.ends_generation(token) {
                break;
            }
            bytes.extend(model.token_bytes(token));
            let text = String::from_utf8_lossy(&bytes);
            if let Some(end) = stops.iter().filter_map(|&stop| text.find(stop)).min() {
                return Ok(text[..end].to_owned());
            }
            position = self.read(&[token], position, true)?;
            token = self.next()?;
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The mean of a sum of times, seconds.
pub(super) fn mean_seconds(sum: Duration, count: u32) -> f64 {
    sum.as_secs_f64() / f64::from(count.max(1))
}

/// Tells how far a task is.
#[expect(clippy::cast_precision_loss, reason = "a fraction for the display")]
pub(super) fn tell(progress: crate::workload::Progress<'_>, done: usize, all: usize) {
    progress(done as f64 / all as f64, "");
}
