//! Throughput: prompt processing and generation with llama-bench's meaning, and embedding.
//!
//! Source of the protocol: llama.cpp, tools/llama-bench: random tokens, one warm-up (more on a GPU, see
//! [`prepare`]), the KV cache emptied before each repetition, a synchronisation after each generated token, no sampling and no
//! tokenization. The random tokens are the same for every variant here, so that paired differences
//! hold nothing but the variant. What a test means for each class of architecture is in `decoder`,
//! `encoder` and `encoder_decoder`; the clock is here.

mod decoder;
mod encoder;
mod encoder_decoder;

use super::applicability::{self, Applies};
use super::jobs::Target;
use super::measured::{ModelFacts, SpeedSample};
use super::{Measurement, Phase, Visit, Workload, WorkloadError};
use crate::engine::Model;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::experiment::workloads::SpeedTest;
use crate::model::architecture::ArchitectureClass;
use serde::{Deserialize, Serialize};

/// Seed of the random tokens; any number would do as long as it stays.
const TOKEN_SEED: u64 = 0x71_75_61_6e_74;

/// A throughput test, after one warm-up that is not counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeedJob {
    /// Which.
    pub test: SpeedTest,
    /// How many timed repetitions.
    pub repetitions: u32,
}

impl SpeedJob {
    pub(super) fn new(test: SpeedTest, target: &Target) -> Self {
        Self { test, repetitions: target.repetitions }
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
        time(self, visit).map_err(|error| WorkloadError::visit(&error))
    }
}

/// A test on a model of one class.
trait Bench {
    /// Does what is not counted: a warm-up, and what comes before the clock starts.
    fn warm_up(&mut self) -> Result<(), EngineError>;

    /// Brings the context into the state in which every repetition begins.
    fn rewind(&mut self) -> Result<(), EngineError>;

    /// Evaluates what a repetition evaluates first, from the same state: every kind of evaluation once.
    fn rehearse(&mut self) -> Result<(), EngineError>;

    /// Does what is timed; it is computed when this returns.
    fn measure(&mut self) -> Result<(), EngineError>;

    /// What llama.cpp allocated.
    fn memory(&self) -> Vec<BufferMemory>;
}

/// Runs one test, which must apply to the model: a warm-up, then the repetitions that are timed.
fn time(job: &SpeedJob, visit: &Visit<'_>) -> Result<Vec<BufferMemory>, EngineError> {
    let SpeedJob { test, repetitions } = *job;
    let Visit { model, settings, clock, observer, .. } = *visit;
    let mut bench: Box<dyn Bench + '_> = match model.class() {
        ArchitectureClass::DecoderOnly => Box::new(decoder::Decoder::new(model, settings, test)?),
        ArchitectureClass::EncoderOnly => Box::new(encoder::Encoder::new(model, settings, test)?),
        ArchitectureClass::EncoderDecoder => {
            Box::new(encoder_decoder::EncoderDecoder::new(model, settings, test)?)
        }
    };
    prepare(bench.as_mut(), model.engine().uses_gpu(settings))?;
    let memory = bench.memory();
    let mut samples = Vec::new();
    for repetition in 0..repetitions {
        bench.rewind()?;
        let start = clock.now();
        bench.measure()?;
        let nanoseconds = u64::try_from(clock.since(start).as_nanos()).unwrap_or(u64::MAX).max(1);
        let sample = SpeedSample { nanoseconds, tokens: test.tokens() };
        samples.push(sample);
        observer.progress(
            f64::from(repetition + 1) / f64::from(repetitions),
            &format!("{:.1} {}", sample.rate(test), test.unit().short()),
        );
    }
    // Not before all are timed: whoever hears of one is awake on a core that the next is measured on.
    for sample in samples {
        observer.measured(Measurement::Speed { test, sample });
    }
    Ok(memory)
}

/// Evaluations of one graph after which a GPU has done all that it does once for it: ggml's CUDA back end computes
/// the first directly, records the second as a CUDA graph, and replays the graph from the third on
/// (`ggml_backend_cuda_graph_compute`).
const GPU_EVALUATIONS: usize = 3;

/// Does what comes before the clock starts. llama-bench's single warm-up leaves the recording to its first
/// repetition of five; here a visit may have one repetition alone.
fn prepare(bench: &mut dyn Bench, on_gpu: bool) -> Result<(), EngineError> {
    bench.warm_up()?;
    for _ in 0..if on_gpu { GPU_EVALUATIONS } else { 0 } {
        bench.rewind()?;
        bench.rehearse()?;
    }
    Ok(())
}

/// Random tokens of a model's vocabulary, the same ones in every process.
struct RandomTokens<'model> {
    model: &'model dyn Model,
    random: fastrand::Rng,
}

impl<'model> RandomTokens<'model> {
    fn of(model: &'model dyn Model) -> Self {
        Self { model, random: fastrand::Rng::with_seed(TOKEN_SEED) }
    }

    fn next(&mut self) -> i32 {
        let size = i32::try_from(self.model.vocabulary_size()).unwrap_or(i32::MAX);
        self.random.i32(0..size.max(1))
    }

    /// The token that llama-bench begins with: BOS if the model wants it, else a random one.
    fn first(&mut self) -> i32 {
        self.model.beginning_token().unwrap_or_else(|| self.next())
    }
}

fn signed(position: u32) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes what it is made to do.
    #[derive(Default)]
    struct Noted(Vec<&'static str>);

    impl Bench for Noted {
        fn warm_up(&mut self) -> Result<(), EngineError> {
            self.0.push("warm up");
            Ok(())
        }

        fn rewind(&mut self) -> Result<(), EngineError> {
            self.0.push("rewind");
            Ok(())
        }

        fn rehearse(&mut self) -> Result<(), EngineError> {
            self.0.push("rehearse");
            Ok(())
        }

        fn measure(&mut self) -> Result<(), EngineError> {
            self.0.push("measure");
            Ok(())
        }

        fn memory(&self) -> Vec<BufferMemory> {
            Vec::new()
        }
    }

    #[test]
    fn a_gpu_has_recorded_and_replayed_what_is_timed_from_the_state_in_which_it_is_timed() {
        let mut bench = Noted::default();
        prepare(&mut bench, true).unwrap();
        let expected =
            ["warm up", "rewind", "rehearse", "rewind", "rehearse", "rewind", "rehearse"];
        assert_eq!(bench.0, expected);
        let mut bench = Noted::default();
        prepare(&mut bench, false).unwrap();
        assert_eq!(
            bench.0,
            ["warm up"],
            "a processor keeps nothing from one evaluation to the next"
        );
    }
}
