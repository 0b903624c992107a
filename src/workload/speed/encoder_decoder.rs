//! Throughput of an encoder-decoder: `pp512` is the encoder alone over one text, `tg128` the decoder
//! alone, one token at a time, attending to a text of one token that was encoded before, or of so
//! many as the test's depth says; `pp512+tg128` is one after the other.

use super::{Bench, RandomTokens, signed};
use crate::engine::ContextShape;
use crate::engine::Model;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;

pub(super) struct EncoderDecoder<'model> {
    context: Box<dyn Context + 'model>,
    batch: Batch,
    random: RandomTokens<'model>,
    start_token: i32,
    test: SpeedTest,
}

impl<'model> EncoderDecoder<'model> {
    pub(super) fn new(
        model: &'model dyn Model,
        settings: &Settings,
        test: SpeedTest,
    ) -> Result<Self, EngineError> {
        // The encoder computes its text at once, whatever the settings say of `ubatch`; llama.cpp
        // takes no batch larger than the context.
        let batch = test.prompt_tokens.max(test.depth).max(1);
        let tokens = batch.max(test.generated_tokens);
        let shape = ContextShape { tokens, sequences: 1, batch, ubatch: batch };
        let mut random = RandomTokens::of(model);
        Ok(Self {
            context: model.context(settings, shape, ContextPurpose::Separate)?,
            batch: Batch::with_capacity(batch as usize),
            start_token: model.decoder_start_token().unwrap_or_else(|| random.next()),
            random,
            test,
        })
    }

    fn encode(&mut self, tokens: u32) -> Result<(), EngineError> {
        self.batch.clear();
        for position in 0..tokens {
            let token = if position == 0 { self.random.first() } else { self.random.next() };
            self.batch.add(token, signed(position), 0, true)?;
        }
        self.context.encode(&mut self.batch)?;
        self.context.synchronize();
        Ok(())
    }

    fn generate(&mut self, tokens: u32) -> Result<(), EngineError> {
        let mut token = self.start_token;
        for position in 0..tokens {
            self.batch.clear();
            self.batch.add(token, signed(position), 0, true)?;
            self.context.decode(&mut self.batch)?;
            self.context.synchronize();
            token = self.random.next();
        }
        Ok(())
    }
}

impl Bench for EncoderDecoder<'_> {
    fn warm_up(&mut self) -> Result<(), EngineError> {
        self.encode(self.test.prompt_tokens.max(self.test.depth).max(1))?;
        self.generate(self.test.generated_tokens.min(1))
    }

    fn rewind(&mut self) -> Result<(), EngineError> {
        self.context.clear_memory();
        Ok(())
    }

    fn rehearse(&mut self) -> Result<(), EngineError> {
        self.encode(self.test.prompt_tokens.max(self.test.depth).max(1))?;
        self.generate(self.test.generated_tokens.min(1))
    }

    fn measure(&mut self) -> Result<(), EngineError> {
        // Without a prompt the decoder attends to what the warm-up encoded.
        if self.test.prompt_tokens > 0 {
            self.encode(self.test.prompt_tokens)?;
        }
        self.generate(self.test.generated_tokens)
    }

    fn memory(&self) -> Vec<BufferMemory> {
        self.context.memory()
    }
}
