//! One stream: a context that evaluates chunks, and the threads that score them.

use super::QualityError;
use super::scoring::{Sink, score_chunk};
use crate::engine::ContextShape;
use crate::engine::Model;
use crate::engine::batch::Batch;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose};
use crate::experiment::settings::Settings;
use crate::workload::divergence::TokenScore;
use crate::workload::reference::Shape;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;

/// A chunk, from 0, and the scores of its tokens.
pub(super) type Scored = (u32, Result<Vec<TokenScore>, QualityError>);

/// The chunks that all streams share, and which of them are taken.
pub(super) struct Assignment {
    tokens: Vec<i32>,
    beginning: Option<i32>,
    shape: Shape,
    sink: Sink,
    next: AtomicU32,
}

impl Assignment {
    /// All chunks of `tokens`; each one's first token is replaced by `beginning`, if there is one.
    pub(super) fn new(tokens: Vec<i32>, beginning: Option<i32>, shape: Shape, sink: Sink) -> Self {
        Self { tokens, beginning, shape, sink, next: AtomicU32::new(0) }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn compares(&self) -> bool {
        matches!(self.sink, Sink::Read(_))
    }

    pub(super) fn into_sink(self) -> Sink {
        self.sink
    }

    /// Streams begin with the first chunk again.
    pub(super) fn restart(&self) {
        self.next.store(0, Ordering::Relaxed);
    }

    /// No stream begins another chunk.
    pub(super) fn stop(&self) {
        self.next.store(self.shape.chunks, Ordering::Relaxed);
    }

    /// Takes up to `count` chunks that follow one another: the first and how many, 0 at the end.
    fn take(&self, count: u32) -> (u32, u32) {
        let chunks = self.shape.chunks;
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            Some(next.saturating_add(count).min(chunks))
        });
        let first = taken.unwrap_or(chunks).min(chunks);
        (first, count.min(chunks - first))
    }

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
    context: Box<dyn Context + 'model>,
    batch: Batch,
    side_by_side: u32,
    threads: rayon::ThreadPool,
    logits: Vec<f32>,
}

impl<'model> Stream<'model> {
    /// A stream that evaluates up to `side_by_side` chunks of `shape` in one batch, with `threads`
    /// threads.
    pub(super) fn open(
        model: &'model dyn Model,
        settings: &Settings,
        shape: Shape,
        side_by_side: u32,
        threads: u32,
    ) -> Result<Self, QualityError> {
        let tokens = shape.context * side_by_side;
        let batch = settings.batch.min(tokens);
        let context_shape = ContextShape {
            tokens,
            sequences: side_by_side,
            batch,
            ubatch: settings.ubatch.min(batch),
        };
        let settings = Settings { threads: Some(threads), ..settings.clone() };
        Ok(Self {
            context: model.context(&settings, context_shape, ContextPurpose::Separate)?,
            batch: Batch::with_capacity(batch as usize),
            side_by_side,
            // They score while llama.cpp's threads of this stream are idle.
            threads: rayon::ThreadPoolBuilder::new()
                .num_threads(threads as usize)
                .build()
                .map_err(|error| QualityError::Threads { reason: error.to_string() })?,
            logits: Vec::new(),
        })
    }

    /// What llama.cpp allocated.
    pub(super) fn memory(&self) -> Vec<BufferMemory> {
        self.context.memory()
    }

    /// Evaluates and scores chunks until none is left, one fails or nobody listens.
    pub(super) fn work(&mut self, assignment: &Assignment, scored: &Sender<Scored>) {
        loop {
            let (first, count) = assignment.take(self.side_by_side);
            if count == 0 {
                return;
            }
            if let Err(error) = self.evaluate(assignment, first, count) {
                // Nobody listens any more if evaluation was stopped: nothing is lost.
                let _ = scored.send((first, Err(error)));
                return;
            }
            for offset in 0..count {
                let found = self.score(assignment, first, offset);
                if scored.send((first + offset, found)).is_err() {
                    return;
                }
            }
        }
    }

    /// Evaluates `count` chunks from `first`; leaves their logits, `[count · rows, vocabulary]`.
    fn evaluate(
        &mut self,
        assignment: &Assignment,
        first: u32,
        count: u32,
    ) -> Result<(), QualityError> {
        let length = assignment.shape.context as usize;
        let scored_from = length / 2;
        self.context.clear_memory();
        self.logits.clear();
        // A chunk longer than a batch is evaluated alone, in parts.
        let part_length = length.min(self.context.shape().batch as usize);
        for part_start in (0..length).step_by(part_length) {
            let part_end = (part_start + part_length).min(length);
            self.batch.clear();
            let mut outputs = 0;
            for sequence in 0..count {
                for position in part_start..part_end {
                    let token = assignment.token(first + sequence, position);
                    // The last position predicts a token of the next chunk, which is not scored.
                    let output = position >= scored_from && position + 1 < length;
                    outputs += usize::from(output);
                    let sequence = i32::try_from(sequence).unwrap_or(i32::MAX);
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

    /// Scores the chunk at `offset` among those evaluated last.
    fn score(
        &mut self,
        assignment: &Assignment,
        first: u32,
        offset: u32,
    ) -> Result<Vec<TokenScore>, QualityError> {
        let vocabulary = assignment.shape.vocabulary as usize;
        let chunk = first + offset;
        let length = vocabulary * assignment.shape.rows as usize;
        let logits = &mut self.logits[offset as usize * length..][..length];
        let following = assignment.following(chunk);
        let scores = self
            .threads
            .install(|| score_chunk(chunk, logits, following, vocabulary, &assignment.sink))?;
        if scores.iter().any(|score| score.nll.is_nan()) {
            return Err(QualityError::NotANumber { chunk: chunk + 1 });
        }
        Ok(scores)
    }
}
