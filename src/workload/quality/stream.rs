//! One stream: a context that evaluates chunks, and the threads that score them.

use super::chunks::Chunk;
use super::scoring::score_chunk;
use super::{Evaluation, QualityError};
use crate::engine::batch::Batch;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose, ContextShape, Model};
use crate::experiment::settings::Settings;
use crate::workload::divergence::TokenScore;
use std::ops::Range;

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
    /// A stream that evaluates up to `side_by_side` chunks of up to `longest` tokens in one batch, with `threads`
    /// threads.
    pub(super) fn open(
        model: &'model dyn Model,
        settings: &Settings,
        longest: u32,
        side_by_side: u32,
        threads: u32,
    ) -> Result<Self, QualityError> {
        let (tokens, sequences) = (longest * side_by_side, side_by_side);
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
        let chunks = &evaluation.chunks[chunks.start as usize..chunks.end as usize];
        self.evaluate(chunks)?;
        let (vocabulary, mut rest) = (evaluation.vocabulary, self.logits.as_mut_slice());
        let mut scored = Vec::new();
        for chunk in chunks {
            let following = chunk.following();
            let (logits, after) = rest.split_at_mut(following.len() * vocabulary);
            rest = after;
            let (first, sink) = (chunk.first_row, &evaluation.sink);
            let scores =
                self.threads.install(|| score_chunk(first, logits, following, vocabulary, sink))?;
            if scores.iter().any(|score| score.nll.is_nan()) {
                let number = evaluation.number_of(chunk);
                return Err(QualityError::NotANumber { part: "chunk", number });
            }
            scored.push(scores);
        }
        Ok(scored)
    }

    /// Evaluates chunks; leaves the logits of what is scored, one chunk after the other.
    fn evaluate(&mut self, chunks: &[Chunk]) -> Result<(), QualityError> {
        self.context.clear_memory();
        self.logits.clear();
        let longest = chunks.iter().map(|chunk| chunk.tokens.len()).max().unwrap_or(0);
        // A chunk longer than a batch is evaluated alone, in parts.
        let part_length = longest.clamp(1, self.context.shape().batch.max(1) as usize);
        for part_start in (0..longest).step_by(part_length) {
            self.batch.clear();
            let mut outputs = 0;
            for (sequence, chunk) in (0..).zip(chunks) {
                let length = chunk.tokens.len();
                for position in part_start..(part_start + part_length).min(length) {
                    // What follows the last token is not scored.
                    let output = position + 1 >= chunk.scored_from && position + 1 < length;
                    outputs += usize::from(output);
                    let token = chunk.tokens[position];
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
