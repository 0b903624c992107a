//! Throughput: prompt processing and generation with llama-bench's meaning, and embedding.
//!
//! The protocol is that of llama.cpp's tools/llama-bench: random tokens, one warm-up (more on a GPU), an empty KV cache
//! before each repetition, a synchronisation after each generated token, no sampling and no tokenization. Unlike there,
//! the random tokens are the same for every variant, so that paired differences hold nothing but the variant.
//!
//! - Decoder: `pp512`, `tg128` and their depths are those of llama-bench.
//! - Encoder: one text (`pp128`) or several side by side (`embed128x8`), each encoded whole and pooled into one embedding.
//! - Encoder-decoder: `pp512` is the encoder alone over one text; `tg128` is the decoder alone, one token at a time,
//!   attending to a text of one token that was encoded before, or of as many as the test's depth; `pp512+tg128` is one after
//!   the other.

use super::applicability::{self, Applies};
use super::jobs::Target;
use super::measured::{LeftOut, ModelFacts, SpeedSample};
use super::{Measurement, Phase, Progress, Visit, Workload, WorkloadError};
use crate::engine::batch::Batch;
use crate::engine::clock::Clock;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose, ContextShape, Model};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
use crate::model::architecture::ArchitectureClass;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Seed of the random tokens; any number would do as long as it stays.
const TOKEN_SEED: u64 = 0x71_75_61_6e_74;

/// Evaluations of one graph after which a GPU has done all that it does once for it: ggml's CUDA back end computes
/// the first directly, records the second as a CUDA graph, and replays the graph from the third on
/// (`ggml_backend_cuda_graph_compute`).
const GPU_EVALUATIONS: usize = 3;

/// Tokens of a prompt that start threads and bring the weights into the page cache.
const SHORT_WARM_UP: u32 = 32;

/// What comes first costs once: page faults of buffers, up to a few milliseconds. A prompt that takes longer than this is
/// not read for that alone.
pub const LONGEST_WARM_UP: Duration = Duration::from_millis(500);

/// A throughput test, after one warm-up that is not counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeedJob {
    /// Which.
    pub test: SpeedTest,
    /// How many timed repetitions.
    pub repetitions: u32,
    /// None is begun later than this after the first; `None`: all are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
}

impl SpeedJob {
    pub(super) fn new(test: SpeedTest, target: &Target) -> Self {
        Self { test, repetitions: target.repetitions, within: target.repeat_within }
    }
}

impl Workload for SpeedJob {
    fn phase(&self) -> Phase {
        Phase::Speed(self.test)
    }

    fn applies(&self, facts: &ModelFacts) -> Applies {
        match applicability::beyond_positions(self.test.positions(), facts) {
            Some(reason) if applicability::speed(self.test, facts).is_some() => {
                Applies::left_out(self.test.to_string(), reason)
            }
            _ => Applies::unless(applicability::speed(self.test, facts)),
        }
    }

    fn run(&self, visit: &Visit<'_>) -> Result<Vec<BufferMemory>, WorkloadError> {
        let test = self.test;
        let Visit { model, settings, clock, .. } = *visit;
        if test.sequences > 1 && !test.embeds && !model.evaluates_side_by_side() {
            let reason = "its sequences would be evaluated one after the other".to_owned();
            visit.leave_out(LeftOut { what: test.to_string(), reason });
            return Ok(Vec::new());
        }
        let run = run(model, settings, self, clock, &mut visit.progress())
            .map_err(|error| WorkloadError::visit(&error))?;
        for sample in run.samples {
            visit.observer.measured(Measurement::Speed { test, sample });
        }
        Ok(run.memory)
    }
}

/// Timed repetitions of one test, and the memory its context took.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeedRun {
    /// One per repetition.
    pub samples: Vec<SpeedSample>,
    /// What the engine allocated.
    pub memory: Vec<BufferMemory>,
}

/// Runs one test: a warm-up, then the repetitions that are timed. The test must apply to the model
/// ([`super::applicability::speed`]).
///
/// # Errors
/// When a context cannot be made or evaluation fails.
pub fn run(
    model: &dyn Model,
    settings: &Settings,
    job: &SpeedJob,
    clock: &dyn Clock,
    progress: Progress<'_>,
) -> Result<SpeedRun, EngineError> {
    let SpeedJob { test, repetitions, within } = *job;
    let mut bench = Bench::new(model, settings, test)?;
    bench.prepare(model.engine().uses_gpu(settings), clock)?;
    let mut samples = Vec::new();
    let first = clock.now();
    for repetition in 0..repetitions {
        if repetition > 0 && within.is_some_and(|within| clock.since(first) > within) {
            break;
        }
        bench.rewind()?;
        let start = clock.now();
        bench.repeat(test.generated_tokens)?;
        let nanoseconds = u64::try_from(clock.since(start).as_nanos()).unwrap_or(u64::MAX).max(1);
        let sample = SpeedSample { nanoseconds, tokens: test.tokens() };
        samples.push(sample);
        progress(
            f64::from(repetition + 1) / f64::from(repetitions),
            &format!("{:.1} {}", sample.rate(test), test.unit().short()),
        );
    }
    Ok(SpeedRun { samples, memory: bench.context.memory() })
}

/// A test on a model.
struct Bench<'model> {
    model: &'model dyn Model,
    context: Box<dyn Context + 'model>,
    batch: Batch,
    random: fastrand::Rng,
    test: SpeedTest,
    /// A decoder's context filled up to the test's depth, once; repetitions restore it.
    depth_state: Option<Vec<u8>>,
}

impl<'model> Bench<'model> {
    fn new(
        model: &'model dyn Model,
        settings: &Settings,
        test: SpeedTest,
    ) -> Result<Self, EngineError> {
        let SpeedTest { sequences, .. } = test;
        // An encoder computes its batch at once, whatever the settings say of `ubatch`; llama.cpp takes no batch larger
        // than the context.
        let (shape, purpose) = match model.class() {
            ArchitectureClass::DecoderOnly => {
                // Every step of generation is one batch.
                let (batch, ubatch) = (settings.batch.max(sequences), settings.ubatch);
                let shape = ContextShape { tokens: test.cache_tokens(), sequences, batch, ubatch };
                let shared = test.shares_depth.then_some(ContextPurpose::Shared);
                (shape, shared.unwrap_or(ContextPurpose::Separate))
            }
            ArchitectureClass::EncoderOnly => {
                let tokens = test.tokens();
                let shape = ContextShape { tokens, sequences, batch: tokens, ubatch: tokens };
                (shape, ContextPurpose::Embeddings)
            }
            ArchitectureClass::EncoderDecoder => {
                let batch = test.prompt_tokens.max(test.depth).max(1);
                let tokens = batch.max(test.generated_tokens);
                let shape = ContextShape { tokens, sequences, batch, ubatch: batch };
                (shape, ContextPurpose::Separate)
            }
        };
        Ok(Self {
            model,
            context: model.context(settings, shape, purpose)?,
            batch: Batch::with_capacity(shape.batch as usize),
            random: fastrand::Rng::with_seed(TOKEN_SEED),
            test,
            depth_state: None,
        })
    }

    /// Does what comes before the clock starts. llama-bench's single warm-up leaves the recording of graphs to its
    /// first repetition of five; here a visit may have one repetition alone.
    fn prepare(&mut self, on_gpu: bool, clock: &dyn Clock) -> Result<(), EngineError> {
        let SpeedTest { prompt_tokens, generated_tokens, depth, .. } = self.test;
        if self.model.class() == ArchitectureClass::EncoderDecoder {
            self.encode(prompt_tokens.max(depth).max(1))?;
            self.generate(generated_tokens.min(1), 0)?;
        } else {
            let short = prompt_tokens.min(SHORT_WARM_UP);
            let start = clock.now();
            self.read(short, 0)?;
            let whole = clock.since(start) * prompt_tokens / short.max(1);
            if short < prompt_tokens && (on_gpu || whole < LONGEST_WARM_UP) {
                self.context.clear_memory();
                self.read(prompt_tokens, 0)?;
                self.generate(generated_tokens.min(1), prompt_tokens)?;
            } else {
                self.generate(generated_tokens.min(1), short)?;
            }
            if depth > 0 {
                self.context.clear_memory();
                self.read_texts(depth, 0, 1)?;
                self.depth_state = Some(self.context.save_sequence(0)?);
            }
        }
        // The same tokens for every variant, however it was warmed up.
        self.random = fastrand::Rng::with_seed(TOKEN_SEED);
        // Every kind of evaluation once, from the state in which repetitions begin.
        for _ in 0..if on_gpu { GPU_EVALUATIONS } else { 0 } {
            self.rewind()?;
            self.repeat(generated_tokens.min(1))?;
        }
        Ok(())
    }

    /// Brings the context into the state in which every repetition begins.
    fn rewind(&mut self) -> Result<(), EngineError> {
        self.context.clear_memory();
        let Some(state) = &self.depth_state else { return Ok(()) };
        for sequence in 0..signed(self.test.sequences) {
            if sequence > 0 && self.test.shares_depth {
                self.context.copy_sequence(0, sequence);
            } else {
                self.context.restore_sequence(sequence, state)?;
            }
        }
        Ok(())
    }

    /// A repetition that generates so many tokens; all is computed when this returns.
    fn repeat(&mut self, generated_tokens: u32) -> Result<(), EngineError> {
        let SpeedTest { prompt_tokens, depth, .. } = self.test;
        match self.model.class() {
            // Without a prompt the decoder attends to what was encoded before.
            ArchitectureClass::EncoderDecoder if prompt_tokens == 0 => {}
            _ => self.read(prompt_tokens, depth)?,
        }
        self.generate(generated_tokens, depth + prompt_tokens)
    }

    /// Evaluates a prompt of random tokens for every sequence, a decoder's from `position` on.
    fn read(&mut self, tokens: u32, position: u32) -> Result<(), EngineError> {
        if self.model.class() != ArchitectureClass::DecoderOnly {
            return self.encode(tokens);
        }
        self.read_texts(tokens, position, self.test.sequences)
    }

    /// Evaluates texts of random tokens, one after the other, a batch at a time.
    fn read_texts(&mut self, tokens: u32, position: u32, texts: u32) -> Result<(), EngineError> {
        let (mut done, all) = (0, tokens * texts);
        while done < all {
            let count = (all - done).min(self.context.shape().batch);
            self.batch.clear();
            for index in done..done + count {
                let (text, at) = (index / tokens, index % tokens);
                let token = self.token(at);
                let is_last = index + 1 == done + count || texts > 1 && at + 1 == tokens;
                self.batch.add(token, signed(position + at), signed(text), is_last)?;
            }
            self.context.decode(&mut self.batch)?;
            done += count;
        }
        self.context.synchronize();
        Ok(())
    }

    /// Encodes the test's texts of so many random tokens each.
    fn encode(&mut self, tokens: u32) -> Result<(), EngineError> {
        self.batch.clear();
        for text in 0..self.test.sequences {
            for position in 0..tokens {
                let token = self.token(position);
                self.batch.add(token, signed(position), signed(text), true)?;
            }
        }
        self.context.encode(&mut self.batch)?;
        self.context.synchronize();
        Ok(())
    }

    /// Evaluates random tokens one at a time: a decoder's from `position` on, those after an encoder from 0.
    fn generate(&mut self, tokens: u32, position: u32) -> Result<(), EngineError> {
        let reads_first = self.model.class() == ArchitectureClass::EncoderDecoder;
        let start = self.model.decoder_start_token().filter(|_| reads_first);
        let position = if reads_first { 0 } else { position };
        for index in 0..tokens {
            self.batch.clear();
            for sequence in 0..if reads_first { 1 } else { self.test.sequences } {
                let token = start.filter(|_| index == 0).unwrap_or_else(|| self.token(index));
                self.batch.add(token, signed(position + index), signed(sequence), true)?;
            }
            self.context.decode(&mut self.batch)?;
            self.context.synchronize();
        }
        Ok(())
    }

    /// A random token, the same one in every process; the first of a text is BOS if the model wants it, as in llama-bench.
    fn token(&mut self, index: u32) -> i32 {
        let size = i32::try_from(self.model.vocabulary_size()).unwrap_or(i32::MAX);
        let beginning = self.model.beginning_token().filter(|_| index == 0);
        beginning.unwrap_or_else(|| self.random.i32(0..size.max(1)))
    }
}

fn signed(position: u32) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::toy::{Parameters, Toy};
    use crate::engine::{Engine as _, LoadExtent};

    /// Milliseconds of a toy that preparing a test takes; a token takes 1 in a prompt and 10 alone.
    fn preparing(class: ArchitectureClass, test: &str, on_gpu: bool) -> u128 {
        let folder = tempfile::tempdir().unwrap();
        let (path, toy) = (folder.path().join("toy.json"), Toy::default());
        let parameters = Parameters { class, load: Duration::ZERO, ..Parameters::default() };
        std::fs::write(&path, serde_json::to_string(&parameters).unwrap()).unwrap();
        let settings = Settings::default();
        let model = toy.load(&path, &settings, LoadExtent::Everything).unwrap();
        let mut bench = Bench::new(model.as_ref(), &settings, test.parse().unwrap()).unwrap();
        bench.prepare(on_gpu, &toy.clock).unwrap();
        toy.clock.now().as_millis()
    }

    #[test]
    fn repetitions_end_with_their_time() {
        let samples = |repetitions, within: Option<u64>| {
            let folder = tempfile::tempdir().unwrap();
            let (path, toy) = (folder.path().join("toy.json"), Toy::default());
            let parameters = Parameters { load: Duration::ZERO, ..Parameters::default() };
            std::fs::write(&path, serde_json::to_string(&parameters).unwrap()).unwrap();
            let settings = Settings::default();
            let model = toy.load(&path, &settings, LoadExtent::Everything).unwrap();
            let within = within.map(Duration::from_millis);
            let job = SpeedJob { test: "tg4".parse().unwrap(), repetitions, within };
            let run = run(model.as_ref(), &settings, &job, &toy.clock, &mut |_, _| {});
            run.unwrap().samples.len()
        };
        // Four tokens take 40 ms.
        assert_eq!(samples(5, None), 5);
        assert_eq!(samples(5, Some(100)), 3);
        assert_eq!(samples(5, Some(0)), 1);
    }

    #[test]
    fn a_prompt_that_takes_long_is_not_read_for_a_warm_up() {
        let decoder = |test, on_gpu| preparing(ArchitectureClass::DecoderOnly, test, on_gpu);
        assert_eq!(decoder("pp32", false), 32);
        assert_eq!(decoder("pp256", false), 32 + 256);
        assert_eq!(decoder("pp512", false), 32, "512 ms");
        assert_eq!(decoder("pp512", true), 32 + 512 + 3 * 512);
        assert_eq!(decoder("pp512+tg4", false), 32 + 10);
    }

    #[test]
    fn sequences_side_by_side_are_all_at_the_same_depth() {
        let folder = tempfile::tempdir().unwrap();
        let (path, toy) = (folder.path().join("toy.json"), Toy::default());
        std::fs::write(&path, serde_json::to_string(&Parameters::default()).unwrap()).unwrap();
        let settings = Settings { batch: 8, ..Settings::default() };
        let model = toy.load(&path, &settings, LoadExtent::Everything).unwrap();
        for (test, tokens) in [
            ("pp6x3", 3 * 6),
            ("tg2x3@d5", 3 * (2 + 5)),
            ("tg2x3@d5 shared", 3 * 2 + 5),
            ("pp4+tg2x10", 10 * 6),
        ] {
            let test: SpeedTest = test.parse().unwrap();
            let mut bench = Bench::new(model.as_ref(), &settings, test).unwrap();
            bench.prepare(false, &toy.clock).unwrap();
            bench.rewind().unwrap();
            bench.repeat(test.generated_tokens).unwrap();
            assert_eq!(bench.context.shape().tokens, tokens, "{test}");
            assert!(bench.context.shape().batch >= test.sequences, "{test}");
        }
    }

    #[test]
    fn a_gpu_has_recorded_and_replayed_what_is_timed_from_the_state_in_which_it_is_timed() {
        // Once through all, the depth of 16 tokens, and on a GPU three rehearsals at that depth.
        let decoder = |on_gpu| preparing(ArchitectureClass::DecoderOnly, "pp32+tg4@d16", on_gpu);
        assert_eq!(decoder(false), 32 + 10 + 16);
        assert_eq!(decoder(true), 32 + 10 + 16 + 3 * (32 + 10));
        let encoder = |on_gpu| preparing(ArchitectureClass::EncoderOnly, "pp32", on_gpu);
        assert_eq!((encoder(false), encoder(true)), (32, 4 * 32));
        // What is generated after a depth attends to what was encoded once.
        let both = |on_gpu| preparing(ArchitectureClass::EncoderDecoder, "tg4@d16", on_gpu);
        assert_eq!((both(false), both(true)), (16 + 10, 16 + 4 * 10));
    }
}
