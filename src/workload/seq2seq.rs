//! Sequence to sequence: an encoder-decoder reads a source whole and writes its answer.

use super::softmax::index_of_maximum;
use crate::engine::ContextShape;
use crate::engine::Model;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose};
use crate::experiment::settings::Settings;

/// An encoder-decoder with a context for sources and answers up to given lengths.
#[derive(Debug)]
pub struct SequenceToSequence<'model> {
    model: &'model dyn Model,
    context: Box<dyn Context + 'model>,
    batch: Batch,
    start_token: i32,
}

impl<'model> SequenceToSequence<'model> {
    /// For sources of up to `longest_source` tokens and answers of up to `longest_answer`.
    ///
    /// # Errors
    /// When the context cannot be made, or the file names no token that its decoder begins with.
    pub fn new(
        model: &'model dyn Model,
        settings: &Settings,
        longest_source: u32,
        longest_answer: u32,
    ) -> Result<Self, EngineError> {
        let start_token = model.decoder_start_token().ok_or(EngineError::NoStartToken)?;
        // A source is encoded at once and an answer may be evaluated at once; llama.cpp takes no
        // batch larger than the context.
        let tokens = longest_source.max(longest_answer.saturating_add(1)).max(1);
        let shape = ContextShape { tokens, sequences: 1, batch: tokens, ubatch: tokens };
        Ok(Self {
            model,
            context: model.context(settings, shape, ContextPurpose::Separate)?,
            batch: Batch::with_capacity(tokens as usize),
            start_token,
        })
    }

    /// What llama.cpp allocated.
    #[must_use]
    pub fn memory(&self) -> Vec<BufferMemory> {
        self.context.memory()
    }

    /// The context, whose last output is the one that the next token is chosen from.
    pub fn context(&mut self) -> &mut (dyn Context + 'model) {
        self.context.as_mut()
    }

    /// Encodes a source and begins an answer to it.
    ///
    /// # Errors
    /// When the source is longer than was said, or evaluation fails.
    pub fn begin(&mut self, source: &[i32]) -> Result<(), EngineError> {
        self.encode(source)?;
        self.follow(self.start_token, 0)
    }

    /// Adds the answer's token number `position` (the start token is number 0).
    ///
    /// # Errors
    /// When evaluation fails, or the answer is longer than was said.
    pub fn follow(&mut self, token: i32, position: i32) -> Result<(), EngineError> {
        self.batch.clear();
        self.batch.add(token, position, 0, true)?;
        self.context.decode(&mut self.batch)
    }

    /// The most probable token at each step until one ends the answer (which is its last then) or
    /// there are `most` of them.
    ///
    /// # Errors
    /// When the source or the answer is longer than was said, or evaluation fails.
    pub fn answer(&mut self, source: &[i32], most: u32) -> Result<Vec<i32>, EngineError> {
        let mut answer = Vec::new();
        if most == 0 {
            return Ok(answer);
        }
        self.begin(source)?;
        loop {
            let best = index_of_maximum(self.context.all_logits(1)?);
            let token = i32::try_from(best).unwrap_or(i32::MAX);
            answer.push(token);
            if self.model.ends_generation(token) || answer.len() >= most as usize {
                return Ok(answer);
            }
            self.follow(token, i32::try_from(answer.len()).unwrap_or(i32::MAX))?;
        }
    }

    /// The logits from which each token of `answer` would be chosen, given those before it,
    /// `[answer, vocabulary]`.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn logits_of(&mut self, source: &[i32], answer: &[i32]) -> Result<Vec<f32>, EngineError> {
        self.encode(source)?;
        self.batch.clear();
        let before = std::iter::once(self.start_token).chain(answer.iter().copied());
        for (position, token) in (0..).zip(before.take(answer.len())) {
            self.batch.add(token, position, 0, true)?;
        }
        if answer.is_empty() {
            return Ok(Vec::new());
        }
        self.context.decode(&mut self.batch)?;
        self.context.synchronize();
        Ok(self.context.all_logits(answer.len())?.to_vec())
    }

    fn encode(&mut self, source: &[i32]) -> Result<(), EngineError> {
        self.context.clear_memory();
        self.batch.clear();
        for (position, &token) in (0..).zip(source) {
            self.batch.add(token, position, 0, true)?;
        }
        self.context.encode(&mut self.batch)
    }
}
