//! Throughput of a decoder-only model: what llama-bench measures.

use super::{Bench, RandomTokens, signed};
use crate::engine::ContextShape;
use crate::engine::Model;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;

pub(super) struct Decoder<'model> {
    context: Box<dyn Context + 'model>,
    batch: Batch,
    random: RandomTokens<'model>,
    test: SpeedTest,
    /// The context filled up to the test's depth, once; repetitions restore it.
    depth_state: Option<Vec<u8>>,
}

impl<'model> Decoder<'model> {
    pub(super) fn new(
        model: &'model dyn Model,
        settings: &Settings,
        test: SpeedTest,
    ) -> Result<Self, EngineError> {
        let shape = ContextShape {
            tokens: test.tokens() + test.depth,
            sequences: 1,
            batch: settings.batch,
            ubatch: settings.ubatch,
        };
        Ok(Self {
            context: model.context(settings, shape, ContextPurpose::Separate)?,
            batch: Batch::with_capacity(settings.batch as usize),
            random: RandomTokens::of(model),
            test,
            depth_state: None,
        })
    }

    /// Evaluates `tokens` random tokens from `position`, in batches; output only for the last.
    fn process_prompt(&mut self, tokens: u32, position: u32) -> Result<(), EngineError> {
        let mut done = 0;
        while done < tokens {
            let count = (tokens - done).min(self.context.shape().batch);
            self.batch.clear();
            for index in 0..count {
                let token =
                    if done + index == 0 { self.random.first() } else { self.random.next() };
                self.batch.add(token, signed(position + done + index), 0, index + 1 == count)?;
            }
            self.context.decode(&mut self.batch)?;
            done += count;
        }
        self.context.synchronize();
        Ok(())
    }

    /// Evaluates `tokens` random tokens one at a time.
    fn generate(&mut self, tokens: u32, position: u32) -> Result<(), EngineError> {
        let mut token = self.random.first();
        for index in 0..tokens {
            self.batch.clear();
            self.batch.add(token, signed(position + index), 0, true)?;
            self.context.decode(&mut self.batch)?;
            self.context.synchronize();
            token = self.random.next();
        }
        Ok(())
    }
}

impl Bench for Decoder<'_> {
    fn warm_up(&mut self) -> Result<(), EngineError> {
        let SpeedTest { prompt_tokens, generated_tokens, depth, .. } = self.test;
        self.process_prompt(prompt_tokens, 0)?;
        self.generate(generated_tokens.min(1), prompt_tokens)?;
        if depth > 0 {
            self.context.clear_memory();
            self.process_prompt(depth, 0)?;
            self.depth_state = Some(self.context.save_sequence(0)?);
        }
        Ok(())
    }

    fn rewind(&mut self) -> Result<(), EngineError> {
        self.context.clear_memory();
        match &self.depth_state {
            Some(state) => self.context.restore_sequence(0, state),
            None => Ok(()),
        }
    }

    fn rehearse(&mut self) -> Result<(), EngineError> {
        let SpeedTest { prompt_tokens, generated_tokens, depth, .. } = self.test;
        self.process_prompt(prompt_tokens, depth)?;
        self.generate(generated_tokens.min(1), depth + prompt_tokens)
    }

    fn measure(&mut self) -> Result<(), EngineError> {
        let SpeedTest { prompt_tokens, generated_tokens, depth, .. } = self.test;
        self.process_prompt(prompt_tokens, depth)?;
        self.generate(generated_tokens, depth + prompt_tokens)
    }

    fn memory(&self) -> Vec<BufferMemory> {
        self.context.memory()
    }
}
