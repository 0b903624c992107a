//! Throughput of an encoder: one text (`pp128`) or several side by side (`embed128x8`), each encoded
//! whole and pooled into one embedding.

use super::{Bench, RandomTokens, signed};
use crate::engine::ContextShape;
use crate::engine::Model;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;

pub(super) struct Encoder<'model> {
    context: Box<dyn Context + 'model>,
    batch: Batch,
    random: RandomTokens<'model>,
    tokens: u32,
    texts: u32,
}

impl<'model> Encoder<'model> {
    pub(super) fn new(
        model: &'model dyn Model,
        settings: &Settings,
        test: SpeedTest,
    ) -> Result<Self, EngineError> {
        let texts = test.embedded_texts.max(1);
        // Every token attends to every other of its text, so a batch is computed at once, whatever
        // the settings say of `ubatch`.
        let all = test.tokens();
        let shape = ContextShape { tokens: all, sequences: texts, batch: all, ubatch: all };
        Ok(Self {
            context: model.context(settings, shape, ContextPurpose::Embeddings)?,
            batch: Batch::with_capacity(all as usize),
            random: RandomTokens::of(model),
            tokens: test.prompt_tokens,
            texts,
        })
    }
}

impl Bench for Encoder<'_> {
    fn warm_up(&mut self) -> Result<(), EngineError> {
        self.measure()
    }

    fn rewind(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn rehearse(&mut self) -> Result<(), EngineError> {
        self.measure()
    }

    fn measure(&mut self) -> Result<(), EngineError> {
        self.batch.clear();
        for text in 0..self.texts {
            for position in 0..self.tokens {
                let token = if position == 0 { self.random.first() } else { self.random.next() };
                self.batch.add(token, signed(position), signed(text), true)?;
            }
        }
        self.context.encode(&mut self.batch)?;
        self.context.synchronize();
        Ok(())
    }

    fn memory(&self) -> Vec<BufferMemory> {
        self.context.memory()
    }
}
