//! One stream: a context that evaluates chunks, and the threads that score them.

use super::scoring::score_chunk;
use super::{Evaluation, QualityError};
use crate::engine::batch::Batch;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose, ContextShape, Model};
use crate::experiment::settings::Settings;
use crate::workload::divergence::TokenScore;
use crate::workload::reference::ReferenceShape;
use std::ops::Range;

impl Evaluation {
    fn token(&self, chunk: u32, position: usize) -> i32 {
        match self.beginning {
            Some(beginning) if position == 0 => beginning,
            _ => self.tokens[chunk as usize * self.shape.context as usize + position],
        }
    }

    /// The tokens that are scored: those after the middle of the chunk.
    fn following(&self, chunk: u32) -> &[i32] {
        let length = self.shape.context as usize;
        let from = chunk as usize * length + length / 2 + 1;
        &self.tokens[from..from + self.shape.rows as usize]
    }
}

/// A context with its share of the threads.
pub(super) struct Stream<'model> {
    pub(super) context: Box<dyn Context + 'model>,
    batch: Batch,
    /// Chunks that are evaluated in one batch.
    pub(super) side_by_side: u32,
    threads: rayon::ThreadPool,
    logits: Vec<f32>,
}

impl<'model> Stream<'model> {
    /// A stream that evaluates up to `side_by_side` chunks of `shape` in one batch, with `threads`
    /// threads.
    pub(super) fn open(
        model: &'model dyn Model,
        settings: &Settings,
        shape: ReferenceShape,
        side_by_side: u32,
        threads: u32,
    ) -> Result<Self, QualityError> {
        let (tokens, sequences) = (shape.context * side_by_side, side_by_side);
        let batch = settings.batch.min(tokens);
        let ubatch = settings.ubatch.min(batch);
        let shape = ContextShape { tokens, sequences, batch, ubatch };
        let settings = Settings { threads: Some(threads), ..settings.clone() };
        // They score while the engine's threads of this stream are idle.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads as usize);
        Ok(Self {
            context: model.context(&settings, shape, ContextPurpose::Separate)?,
            batch: Batch::with_capacity(batch as usize),
            side_by_side,
            threads: pool.build()?,
            logits: Vec::new(),
        })
    }

    /// What the engine allocated.
    pub(super) fn memory(&self) -> Vec<BufferMemory> {
        self.context.memory()
    }

    /// Evaluates chunks in one batch and scores each.
    pub(super) fn scores(
        &mut self,
        evaluation: &Evaluation,
        chunks: Range<u32>,
    ) -> Result<Vec<Vec<TokenScore>>, QualityError> {
        self.evaluate(evaluation, &chunks)?;
        let ReferenceShape { vocabulary, rows, .. } = evaluation.shape;
        let logits = self.logits.chunks_exact_mut(vocabulary as usize * rows as usize);
        let score = |(chunk, logits): (u32, &mut [f32])| {
            let following = evaluation.following(chunk);
            let vocabulary = vocabulary as usize;
            let scores = self
                .threads
                .install(|| score_chunk(chunk, logits, following, vocabulary, &evaluation.sink))?;
            if scores.iter().any(|score| score.nll.is_nan()) {
                return Err(QualityError::NotANumber { part: "chunk", number: chunk as usize + 1 });
            }
            Ok(scores)
        };
        chunks.zip(logits).map(score).collect()
    }

    /// Evaluates chunks; leaves their logits, `[chunks · rows, vocabulary]`.
    fn evaluate(
        &mut self,
        evaluation: &Evaluation,
        chunks: &Range<u32>,
    ) -> Result<(), QualityError> {
        let length = evaluation.shape.context as usize;
        let scored_from = length / 2;
        self.context.clear_memory();
        self.logits.clear();
        // A chunk longer than a batch is evaluated alone, in parts.
        let part_length = length.min(self.context.shape().batch as usize);
        for part_start in (0..length).step_by(part_length) {
            let part_end = (part_start + part_length).min(length);
            self.batch.clear();
            let mut outputs = 0;
            for (sequence, chunk) in (0..).zip(chunks.clone()) {
                for position in part_start..part_end {
                    let token = evaluation.token(chunk, position);
                    // The last position predicts a token of the next chunk, which is not scored.
                    let output = position >= scored_from && position + 1 < length;
                    outputs += usize::from(output);
                    let position = i32::try_from(position).unwrap_or(i32::MAX);
                    self.batch.add(token, position, sequence, output)?;
                }
            }
            self.context.decode(&mut self.batch)?;
            self.context.synchronize();
            if outputs > 0 {
                self.logits.extend_from_slice(self.context.all_logits(outputs)?);
            }
        }
        Ok(())
    }
}
