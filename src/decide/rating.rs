//! Rates of arithmetic: small networks of each type of weights, computed by workers as any model is, so that kernels,
//! repacked weights and threads are the engine's own.
//!
//! Each network has two wide layers, which a prompt takes long for, and an output of as many rows as it takes to leave the
//! caches, which only generation takes long for. Two more have next to no weights: what they take is everything else, and
//! attention once they have read a long text.

use super::speed::parts;
use super::work::Work;
use crate::causes::{self, Problem};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
use crate::hardware::rates::{ComputeRates, Rate, TypeRate};
use crate::host::Host;
use crate::model::artifact::ArtifactRef;
use crate::model::cache::{Cache, Scratch};
use crate::model::engine_name::EngineName;
use crate::model::file_type::FileType;
use crate::model::gguf::{GgmlType, Header};
use crate::model::quantization::Method;
use crate::model::shape::Dimensions;
use crate::orchestrator::event::Listener;
use crate::orchestrator::worker_run::{Ending, Limits, WorkerRun, run_worker};
use crate::quantize::jobs::QuantizeJob;
use crate::quantize::types::TensorTypes;
use crate::results::grouped;
use crate::units::to_f64;
use crate::worker::protocol::Job;
use crate::workload::jobs::VisitJob;
use crate::workload::speed::SpeedJob;
use crate::workload::{Measurement, WorkloadJob};
use std::fs;
use std::time::{Duration, Instant};

/// Types, those that most files consist of first: time may end before the list does.
pub const TYPES: [&str; 23] = [
    "F16", "Q8_0", "Q4_K", "Q6_K", "Q5_K", "Q3_K", "Q4_0", "Q5_0", "Q2_K", "IQ4_XS", "BF16",
    "Q5_1", "IQ4_NL", "Q4_1", "IQ3_S", "IQ3_XXS", "F32", "MXFP4", "IQ2_S", "IQ2_XS", "IQ2_XXS",
    "IQ1_M", "IQ1_S",
];

/// Tokens in the context of the networks that attention is measured with.
const DEPTH: u32 = 2048;
const FAR_DEPTH: u32 = 1024;

/// Positions of these networks.
const POSITIONS: u32 = 4096;

/// A network that is silent for longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of weights that a generated token is computed with, at least: twice the last level of many caches.
const LEAST_BYTES: u64 = 64 << 20;

/// More would take too long to write.
const MOST_BYTES: u64 = 160 << 20;

/// Rows of the output, at most.
const MOST_ROWS: u64 = 1 << 16;

/// Dimensions of the networks that types are measured with, but for the output.
const WIDE: [(&str, u64); 6] = [
    ("hidden_size", 1024),
    ("num_hidden_layers", 2),
    ("num_attention_heads", 16),
    ("num_key_value_heads", 4),
    ("intermediate_size", 2048),
    ("tie_word_embeddings", 1),
];

/// Dimensions of the one that has next to no weights.
const BARE: [(&str, u64); 8] = [
    ("hidden_size", 1024),
    // Enough for what is done once for a token, not in every layer, to be next to nothing.
    ("num_hidden_layers", 8),
    ("num_attention_heads", 4),
    ("num_key_value_heads", 2),
    ("head_dim", 64),
    ("intermediate_size", 64),
    ("tie_word_embeddings", 1),
    ("vocab_size", 512),
];

/// Dimensions of the one whose KV cache, 48 MiB, leaves the caches, a token's keys lying 2 KiB behind the last one's.
const FAR: [(&str, u64); 8] = [
    ("hidden_size", 64),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 8),
    ("head_dim", 128),
    ("intermediate_size", 64),
    ("tie_word_embeddings", 1),
    ("vocab_size", 512),
];

/// Where and how long rates are measured.
pub struct Rater<'a, H> {
    /// Where workers run.
    pub host: &'a mut H,
    /// Where networks are written to, and deleted.
    pub cache: &'a Cache,
    /// Threads.
    pub threads: u32,
    /// Bytes of the last level of caches, as far as known.
    pub cache_bytes: u64,
    /// Types that were measured before: their turn comes after the others'.
    pub known: &'a [&'a str],
    /// No further type is begun after this.
    pub budget: Duration,
}

/// Seconds that a token of a test took, in each repetition.
type Times = Vec<(SpeedTest, Vec<f64>)>;

/// One network.
struct Network {
    work: Work,
    times: Times,
}

impl<H: Host> Rater<'_, H> {
    /// Measures. `None`: the user stopped it.
    ///
    /// # Errors
    /// The first networks could not be made or computed.
    pub async fn measure(
        &mut self,
        listener: &mut dyn Listener,
    ) -> Result<Option<ComputeRates>, Problem> {
        let begun = Instant::now();
        let deep = [format!("tg16@d{DEPTH}"), format!("pp512@d{DEPTH}")];
        let far_test = format!("tg16@d{FAR_DEPTH}");
        let bare_tests = ["tg16", "pp512", &deep[0], &deep[1]];
        let bare = self.network("F16", &BARE, &bare_tests, listener).await?;
        let Some(bare) = bare else { return Ok(None) };
        let far = self.network("F16", &FAR, &[&far_test], listener).await?;
        let Some(far) = far else { return Ok(None) };
        let mut networks: Vec<(&str, Network)> = Vec::new();
        let mut longest = Duration::ZERO;
        // What the others are told apart by is always measured.
        let is_late = |name: &&str| *name != TYPES[0] && self.known.contains(name);
        let (late, early): (Vec<&str>, Vec<&str>) = TYPES.into_iter().partition(is_late);
        for name in early.into_iter().chain(late) {
            if !networks.is_empty() && begun.elapsed() + longest > self.budget {
                break;
            }
            let start = Instant::now();
            let mut dimensions = WIDE.to_vec();
            dimensions.push(("vocab_size", self.rows(name)));
            match self.network(name, &dimensions, &["pp512", "tg8"], listener).await {
                Ok(Some(network)) => networks.push((name, network)),
                Ok(None) => return Ok(None),
                // A type that this processor cannot compute is not predicted.
                Err(_) if !networks.is_empty() => {}
                Err(error) => return Err(error),
            }
            longest = longest.max(start.elapsed());
        }
        let mut rates = solve(self.threads, [&bare, &far], &networks);
        rates.seconds = begun.elapsed().as_secs_f64();
        Ok(Some(rates))
    }

    /// Rows of the output with which a network's weights leave the caches.
    fn rows(&self, name: &str) -> u64 {
        let bits = GgmlType::from_name(name).map_or(16.0, GgmlType::bits_per_weight);
        let value = |name: &str| WIDE.iter().find(|it| it.0 == name).map_or(0, |it| it.1);
        let (width, inner) = (value("hidden_size"), value("intermediate_size"));
        let layers = value("num_hidden_layers") * (5 * width * width / 2 + 3 * width * inner);
        let bytes = to_f64(self.cache_bytes.saturating_mul(4).clamp(LEAST_BYTES, MOST_BYTES));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of weights, and not negative"
        )]
        let weights = (bytes * 8.0 / bits) as u64;
        (weights.saturating_sub(layers) / width).clamp(512, MOST_ROWS)
    }

    /// Writes a network whose matrices have one type, and has a worker measure it. `None`: the user stopped it.
    async fn network(
        &mut self,
        name: &str,
        dimensions: &[(&str, u64)],
        tests: &[&str],
        listener: &mut dyn Listener,
    ) -> Result<Option<Network>, Problem> {
        let failed = |reason: String| Problem::new(format!("cannot measure {name}: {reason}"));
        let file = self.cache.scratch("network.gguf")?;
        let header = self.cache.scratch("network.header")?;
        let job = generation(name, dimensions, &header, &file).map_err(failed)?;
        let Some(_) = self.work(&job, listener).await.map_err(failed)? else { return Ok(None) };
        let job = VisitJob {
            engine: EngineName::LlamaCpp,
            model: ArtifactRef::here(file.path()),
            adapters: Vec::new(),
            settings: Settings { threads: Some(self.threads), ..Settings::default() },
            cold_load: false,
            workloads: tests
                .iter()
                .map(|test| repeated(test))
                .collect::<Result<_, _>>()
                .map_err(failed)?,
        };
        let done = self.work(&Job::Visit(job), listener).await.map_err(failed)?;
        let Some(run) = done else { return Ok(None) };
        if let Some(failure) = run.failed_workloads.first() {
            return Err(failed(failure.reason.clone()));
        }
        let times = run.measured.iter().filter_map(|it| match it {
            Measurement::Speed { test, sample } => {
                Some((*test, sample.tokens_per_second().recip()))
            }
            _ => None,
        });
        let header = Header::read(file.path())?;
        let work = Work::of(&header).map_err(failed)?;
        Ok(Some(Network { work, times: grouped(times) }))
    }

    async fn work(
        &mut self,
        job: &Job,
        listener: &mut dyn Listener,
    ) -> Result<Option<WorkerRun>, String> {
        let limits = Limits { silence: PATIENCE, until: None, machine_bytes: None };
        let run = run_worker(self.host, job, limits, listener).await;
        let mut run = run.map_err(|error| causes::in_words(&error))?;
        match std::mem::replace(&mut run.ending, Ending::Done) {
            Ending::Done => Ok(Some(run)),
            Ending::Interrupted | Ending::Cut(_) => Ok(None),
            Ending::Failed(failure) => Err(failure.reason),
        }
    }
}

/// The job that writes a network.
fn generation(
    name: &str,
    dimensions: &[(&str, u64)],
    header: &Scratch,
    file: &Scratch,
) -> Result<Job, String> {
    let format = GgmlType::from_name(name).ok_or_else(|| "it is no type".to_owned())?;
    let dimensions = Dimensions::new("llama", dimensions, POSITIONS)?;
    let types = dimensions.matrices().into_iter().map(|matrix| (matrix, format)).collect();
    let template = dimensions.template()?;
    fs::write(header.path(), template.header()).map_err(|error| error.to_string())?;
    Ok(Job::Quantize(Box::new(QuantizeJob {
        input: ArtifactRef::here(header.path()),
        output: ArtifactRef::output(file.path()),
        file_type: FileType::F16,
        types: Some(TensorTypes(types)),
        method: Method::Rtn,
        threads: None,
        allow_requantize: false,
        calibration: None,
        generates: true,
    })))
}

/// A test, repeated as often as its noise needs: what generates a few tokens is over in a moment.
fn repeated(test: &str) -> Result<WorkloadJob, String> {
    let test: SpeedTest = test.parse()?;
    let repetitions = match (test.generated_tokens > 0, test.depth > 0) {
        (true, false) => 5,
        (true, true) | (false, false) => 3,
        (false, true) => 2,
    };
    Ok(WorkloadJob::Speed(SpeedJob { test, repetitions, within: None }))
}

/// Rates from times: what one network tells of the others is taken off, until nothing changes.
fn solve(threads: u32, [bare, far]: [&Network; 2], networks: &[(&str, Network)]) -> ComputeRates {
    let mut rates = ComputeRates { threads, ..ComputeRates::default() };
    let layers = bare.work.layers;
    for _ in 0..50 {
        for (name, network) in networks {
            let mut rate = TypeRate { generation: Rate::default(), prompt: Rate::default() };
            for (test, times) in &network.times {
                // What the other parts take does not depend on the type.
                let others = others(&network.work, &rates, *test);
                let amounts = if test.generated_tokens > 0 {
                    &network.work.bytes
                } else {
                    &network.work.operations
                };
                let amount: f64 = amounts.values().sum();
                let own = times.iter().map(|time| amount / (time - others).max(time / 2.0));
                let Some(spread) = Rate::of(own.collect()) else { continue };
                if test.generated_tokens > 0 {
                    rate.generation = spread;
                } else {
                    rate.prompt = spread;
                }
            }
            rates.types.insert((*name).to_owned(), rate);
        }
        for (test, times) in &bare.times {
            let left = left(bare, &rates, *test, times);
            let attended = bare.work.attended(f64::from(test.depth));
            let (rate, amount) = match (test.generated_tokens > 0, test.depth > 0) {
                (true, false) => (&mut rates.layer_seconds, layers),
                (false, false) => (&mut rates.element_seconds, bare.work.elements),
                (true, true) => (&mut rates.generation_attention, attended),
                (false, true) => (&mut rates.prompt_attention, attended),
            };
            *rate = (*rate + left / amount).max(0.0);
        }
        for (test, times) in &far.times {
            let scattered = far.work.scattered(f64::from(test.depth));
            let left = left(far, &rates, *test, times);
            rates.generation_keys = (rates.generation_keys + left / scattered).max(0.0);
        }
    }
    rates
}

/// What a token takes longer than the rates say, when it was fastest.
fn left(network: &Network, rates: &ComputeRates, test: SpeedTest, times: &[f64]) -> f64 {
    let known = parts(&network.work, rates, test).map_or(0.0, |(parts, _)| parts.sum());
    times.iter().copied().reduce(f64::min).map_or(0.0, |time| time - known)
}

/// What a token of a test takes besides weights.
fn others(work: &Work, rates: &ComputeRates, test: SpeedTest) -> f64 {
    parts(&work.without_weights(), rates, test).map_or(0.0, |(parts, _)| parts.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network whose times are those that rates give it.
    fn network(dimensions: &[(&str, u64)], tests: &[&str], rates: &ComputeRates) -> Network {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let template = Dimensions::new("llama", dimensions, POSITIONS).unwrap().template().unwrap();
        let whole = template.in_cache(&cache).unwrap().whole;
        let work = Work::of(&Header::read(&whole).unwrap()).unwrap();
        let time = |test: &&str| {
            let test: SpeedTest = test.parse().unwrap();
            let seconds = parts(&work, rates, test).unwrap().0.sum();
            (test, vec![seconds, seconds * 1.01, seconds * 1.02])
        };
        let times = tests.iter().map(time).collect();
        Network { work, times }
    }

    #[test]
    fn the_rates_that_times_come_from_are_found_again() {
        let spread = |value: f64| Rate { value, low: value, high: value };
        let truth = ComputeRates {
            threads: 3,
            types: [(
                "F16".to_owned(),
                TypeRate { generation: spread(28e9), prompt: spread(79e9) },
            )]
            .into(),
            layer_seconds: 17e-6,
            element_seconds: 0.7e-9,
            generation_attention: 0.35e-9,
            generation_keys: 0.8e-9,
            prompt_attention: 0.1e-9,
            seconds: 0.0,
        };
        let bare = network(&BARE, &["tg16", "pp512", "tg16@d2048", "pp512@d2048"], &truth);
        let far = network(&FAR, &["tg16@d1024"], &truth);
        let wide = [&WIDE[..], &[("vocab_size", 4096)]].concat();
        let wide = network(&wide, &["pp512", "tg8"], &truth);
        let found = solve(3, [&bare, &far], &[("F16", wide)]);
        let near =
            |found: f64, truth: f64| assert!((found / truth - 1.0).abs() < 0.02, "{found} {truth}");
        near(found.types["F16"].generation.value, 28e9);
        near(found.types["F16"].prompt.value, 79e9);
        near(found.layer_seconds, truth.layer_seconds);
        near(found.element_seconds, truth.element_seconds);
        near(found.generation_attention, truth.generation_attention);
        near(found.generation_keys, truth.generation_keys);
        near(found.prompt_attention, truth.prompt_attention);
    }
}
