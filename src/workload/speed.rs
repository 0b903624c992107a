//! Throughput: prompt processing and generation with llama-bench's meaning.
//!
//! Source of the protocol: llama.cpp, tools/llama-bench: random tokens, one warm-up, the KV cache
//! emptied before each repetition, a synchronisation after each generated token, no sampling and no
//! tokenization. The random tokens are the same for every variant here, so that paired differences
//! hold nothing but the variant.

use super::Progress;
use super::measured::SpeedSample;
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
use crate::llama::batch::Batch;
use crate::llama::context::{Context, ContextShape};
use crate::llama::error::LlamaError;
use crate::llama::memory::BufferMemory;
use crate::llama::model::Model;
use std::time::Instant;

/// Seed of the random tokens; any number would do as long as it stays.
const TOKEN_SEED: u64 = 0x71_75_61_6e_74;

/// Timed repetitions of one test, and the memory its context took.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeedRun {
    /// One per repetition.
    pub samples: Vec<SpeedSample>,
    /// What llama.cpp allocated.
    pub memory: Vec<BufferMemory>,
}

/// Runs one test: a warm-up, then `repetitions` that are timed.
///
/// # Errors
/// When a context cannot be made or evaluation fails.
pub fn run(
    model: &Model,
    settings: &Settings,
    test: SpeedTest,
    repetitions: u32,
    progress: Progress<'_>,
) -> Result<SpeedRun, LlamaError> {
    let shape = ContextShape {
        tokens: test.tokens() + test.depth,
        sequences: 1,
        batch: settings.batch,
        ubatch: settings.ubatch,
    };
    let mut bench = Bench {
        context: Context::new(model, settings, shape)?,
        batch: Batch::with_capacity(settings.batch as usize),
        random: fastrand::Rng::with_seed(TOKEN_SEED),
    };
    bench.process_prompt(test.prompt_tokens, 0)?;
    bench.generate(test.generated_tokens.min(1), test.prompt_tokens)?;
    let depth_state = bench.prepare_depth(test.depth)?;
    let memory = bench.context.memory();
    let mut samples = Vec::new();
    for repetition in 0..repetitions {
        bench.context.clear_memory();
        if let Some(state) = &depth_state {
            bench.context.restore_sequence(0, state)?;
        }
        let start = Instant::now();
        bench.process_prompt(test.prompt_tokens, test.depth)?;
        bench.generate(test.generated_tokens, test.depth + test.prompt_tokens)?;
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        let sample = SpeedSample { nanoseconds, tokens: test.tokens() };
        samples.push(sample);
        progress(
            f64::from(repetition + 1) / f64::from(repetitions),
            &format!("{:.1} t/s", sample.tokens_per_second()),
        );
    }
    Ok(SpeedRun { samples, memory })
}

struct Bench<'model> {
    context: Context<'model>,
    batch: Batch,
    random: fastrand::Rng,
}

impl Bench<'_> {
    fn random_token(&mut self) -> i32 {
        let size = i32::try_from(self.context.model().vocabulary_size()).unwrap_or(i32::MAX);
        self.random.i32(0..size.max(1))
    }

    /// The token that llama-bench begins with: BOS if the model wants it, else a random one.
    fn first_token(&mut self) -> i32 {
        self.context.model().beginning_token().unwrap_or_else(|| self.random_token())
    }

    /// Evaluates `tokens` random tokens from `position`, in batches; output only for the last.
    fn process_prompt(&mut self, tokens: u32, position: u32) -> Result<(), LlamaError> {
        let mut done = 0;
        while done < tokens {
            let count = (tokens - done).min(self.context.shape().batch);
            self.batch.clear();
            for index in 0..count {
                let token =
                    if done + index == 0 { self.first_token() } else { self.random_token() };
                self.batch.add(token, signed(position + done + index), 0, index + 1 == count)?;
            }
            self.context.decode(&mut self.batch)?;
            done += count;
        }
        self.context.synchronize();
        Ok(())
    }

    /// Evaluates `tokens` random tokens one at a time.
    fn generate(&mut self, tokens: u32, position: u32) -> Result<(), LlamaError> {
        let mut token = self.first_token();
        for index in 0..tokens {
            self.batch.clear();
            self.batch.add(token, signed(position + index), 0, true)?;
            self.context.decode(&mut self.batch)?;
            self.context.synchronize();
            token = self.random_token();
        }
        Ok(())
    }

    /// Fills the context up to `depth` once; repetitions restore that state instead of computing it.
    fn prepare_depth(&mut self, depth: u32) -> Result<Option<Vec<u8>>, LlamaError> {
        if depth == 0 {
            return Ok(None);
        }
        self.context.clear_memory();
        self.process_prompt(depth, 0)?;
        self.context.save_sequence(0).map(Some)
    }
}

fn signed(position: u32) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}
