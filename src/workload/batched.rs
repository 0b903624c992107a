//! A context with its batch: reads texts and writes answers, one at a time.

use super::softmax::index_of_maximum;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::{Context, ContextPurpose, ContextShape, Model};
use crate::experiment::settings::Settings;

/// A context with a batch of its size.
#[derive(Debug)]
pub struct BatchedContext<'model> {
    /// What is evaluated.
    pub model: &'model dyn Model,
    /// The context.
    pub context: Box<dyn Context + 'model>,
    /// Room for as many tokens as the context takes at once.
    pub batch: Batch,
}

impl<'model> BatchedContext<'model> {
    /// Makes the context.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn open(
        model: &'model dyn Model,
        settings: &Settings,
        shape: ContextShape,
        purpose: ContextPurpose,
    ) -> Result<Self, EngineError> {
        let context = model.context(settings, shape, purpose)?;
        Ok(Self { model, context, batch: Batch::with_capacity(shape.batch as usize) })
    }

    /// For an encoder-decoder that reads a source of up to `source` tokens at a time and writes up to `answer`.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn for_source(
        model: &'model dyn Model,
        settings: &Settings,
        source: u32,
        answer: u32,
    ) -> Result<Self, EngineError> {
        // A source is encoded at once and an answer may be evaluated at once; llama.cpp takes no batch larger than the
        // context.
        let tokens = source.max(answer.saturating_add(1)).max(1);
        let shape = ContextShape { tokens, sequences: 1, batch: tokens, ubatch: tokens };
        Self::open(model, settings, shape, ContextPurpose::Separate)
    }

    /// Decodes tokens of sequence 0 from `position` on; returns the position behind them. With `output` the last of them
    /// has logits.
    ///
    /// # Errors
    /// Evaluation fails.
    pub fn read(
        &mut self,
        tokens: &[i32],
        position: i32,
        output: bool,
    ) -> Result<i32, EngineError> {
        self.read_into(0, tokens, position, output)
    }

    /// The same of another sequence.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_into(
        &mut self,
        sequence: i32,
        tokens: &[i32],
        mut position: i32,
        output: bool,
    ) -> Result<i32, EngineError> {
        let mut left = tokens.len();
        for part in tokens.chunks(self.context.shape().batch.max(1) as usize) {
            self.batch.clear();
            for &token in part {
                left -= 1;
                self.batch.add(token, position, sequence, output && left == 0)?;
                position += 1;
            }
            self.context.decode(&mut self.batch)?;
        }
        Ok(position)
    }

    /// The most probable token after what was read.
    ///
    /// # Errors
    /// Nothing was read with output.
    pub fn most_probable(&mut self) -> Result<i32, EngineError> {
        let best = index_of_maximum(self.context.all_logits(1)?);
        Ok(i32::try_from(best).unwrap_or(i32::MAX))
    }

    /// Encodes a source, in place of all that was read before.
    ///
    /// # Errors
    /// The source is longer than the context takes at once, or evaluation fails.
    pub fn encode(&mut self, source: &[i32]) -> Result<(), EngineError> {
        self.context.clear_memory();
        self.batch.clear();
        for (position, &token) in (0..).zip(source) {
            self.batch.add(token, position, 0, true)?;
        }
        self.context.encode(&mut self.batch)
    }

    /// Encodes a source and begins an answer to it; returns the position of its next token.
    ///
    /// # Errors
    /// As [`Self::encode`], or the model names no token that its decoder begins with.
    pub fn begin_answer(&mut self, source: &[i32]) -> Result<i32, EngineError> {
        let start = self.start_token()?;
        self.encode(source)?;
        self.read(&[start], 0, true)
    }

    /// An encoder-decoder's answer: the most probable token at each step until one ends the answer (which is its last then)
    /// or there are `most` of them.
    ///
    /// # Errors
    /// As [`Self::begin_answer`].
    pub fn answer(&mut self, source: &[i32], most: u32) -> Result<Vec<i32>, EngineError> {
        let mut position = self.begin_answer(source)?;
        let mut answer = Vec::new();
        while answer.len() < most as usize {
            let token = self.most_probable()?;
            answer.push(token);
            if self.model.ends_generation(token) || answer.len() == most as usize {
                break;
            }
            position = self.read(&[token], position, true)?;
        }
        Ok(answer)
    }

    /// The logits from which an encoder-decoder would choose each token of `answer`, given those before it,
    /// `[answer, vocabulary]`.
    ///
    /// # Errors
    /// As [`Self::begin_answer`].
    pub fn logits_of(&mut self, source: &[i32], answer: &[i32]) -> Result<Vec<f32>, EngineError> {
        let start = self.start_token()?;
        self.encode(source)?;
        if answer.is_empty() {
            return Ok(Vec::new());
        }
        self.batch.clear();
        let before = std::iter::once(start).chain(answer.iter().copied());
        for (position, token) in (0..).zip(before.take(answer.len())) {
            self.batch.add(token, position, 0, true)?;
        }
        self.context.decode(&mut self.batch)?;
        Ok(self.context.all_logits(answer.len())?.to_vec())
    }

    fn start_token(&self) -> Result<i32, EngineError> {
        self.model.decoder_start_token().ok_or(EngineError::NoStartToken)
    }
}
