//! How fast variants are here: measured, if the store has it, else predicted from the machine's profile.

use super::Planned;
use crate::cli::{native, profile};
use crate::decide::place::Place;
use crate::decide::speed::{Parts, Prediction, corrected, predict, scaled};
use crate::decide::work::Work;
use crate::engine::Device;
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
use crate::hardware::probe::Machine;
use crate::hardware::rates::ComputeRates;
use crate::model::engine_name::EngineName;
use crate::model::gguf::Header;
use crate::model::stored_types::StoredTypes;
use crate::orchestrator::plan::Variant;
use crate::results::grouped;
use crate::results::metric::Metric;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::store::Store;
use crate::results::summary::{Row, Summary};
use crate::results::words::InWords;
use crate::statistics::estimate::Estimate;
use crate::units::to_f64;
use serde::Serialize;
use std::collections::BTreeSet;

/// Stored runs that are looked through, the newest first.
const RUNS: usize = 40;

/// The back end of processors.
const PROCESSOR: &str = "CPU";

/// Tokens that are read and generated where a speed is told.
const PROMPT: u32 = 512;
const GENERATED: u32 = 128;

/// Where a speed is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// The profile and the header.
    Predicted,
    /// The same, times how far another variant of the model was from its prediction.
    Corrected,
    /// A stored run of the same tensors, with as many threads, on this machine.
    Measured,
}

/// A speed of one variant.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Speed {
    /// The test, such as `tg128 @ d3584`.
    pub(super) test: String,
    pub(super) origin: Origin,
    pub(super) tokens_per_second: Estimate,
    /// What a token takes, seconds, as predicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<Parts>,
}

/// Speeds of all variants here.
pub(super) struct Speeds {
    /// Threads that they are for.
    pub(super) threads: u32,
    /// Tests, in the order of columns.
    pub(super) tests: Vec<SpeedTest>,
    /// One for each variant: a speed for each test, or why there is none.
    pub(super) of: Vec<Vec<Result<Speed, String>>>,
    /// Divergence in words of each variant, as far as a stored run has it.
    pub(super) quality: Vec<Option<&'static str>>,
    /// When the profile was measured, as a date.
    pub(super) measured: Option<String>,
    /// What this machine's memory gives, bytes per second.
    bandwidth: Option<f64>,
}

/// Weights that no cache holds, bytes. Types and memory are measured one after the other: what a type seems to be read
/// faster than memory gives was measured when less else ran.
const BEYOND_CACHES: u64 = 64 << 20;

/// Measured variants that are further apart from their predictions than by this factor correct no other.
const AT_ODDS: f64 = 1.25;

/// A measured speed with a wider interval than this, relative to it, says less than a prediction.
const WIDEST: f64 = 0.25;

/// Whether a measured speed says more than a prediction would: what is known of its noise does not speak against it.
fn is_telling(measured: &Estimate) -> bool {
    measured.relative_half_width().is_none_or(|half| half <= WIDEST)
}

impl Speeds {
    /// Speeds of what was planned, where no GPU computes. They end where the context of the variants does.
    pub(super) fn of(
        planned: &[Planned],
        machine: &Machine,
        devices: &[Device],
        threads: Option<u32>,
    ) -> Self {
        let threads = threads.unwrap_or_else(native::default_threads);
        let profile = profile::kept(machine);
        let contexts = planned.iter().map(|it| it.demand.context);
        let depth = contexts.min().unwrap_or(0).saturating_sub(PROMPT);
        let tests = tests(depth);
        let rates = if devices.iter().any(|device| device.kind.ends_with("GPU")) {
            Err("a GPU computes; what is predicted is for processors".to_owned())
        } else {
            profile::rates(profile.as_ref(), threads)
        };
        let mut memory = profile.iter().flat_map(|it| &it.read_rates);
        let memory = memory.rfind(|it| it.threads <= threads);
        let bounded = rates
            .as_ref()
            .ok()
            .zip(memory)
            .map(|(rates, memory)| rates.within(memory.upper_quartile));
        let stored = Stored::read(machine, threads);
        let mut of: Vec<Vec<Result<Speed, String>>> = Vec::new();
        let mut quality = Vec::new();
        for it in planned {
            let header = it.header.as_ref().map_err(Clone::clone);
            let is_large = header.as_ref().is_ok_and(|it| it.bytes_per_token() > BEYOND_CACHES);
            let of_test = |&test: &SpeedTest| {
                let header = header.clone()?;
                let rates = rates.clone()?;
                let bounded = bounded.as_ref().filter(|_| is_large);
                speed(header, bounded.unwrap_or(rates), test)
            };
            let mut speeds: Vec<_> = tests.iter().map(of_test).collect();
            let found = stored.of(it);
            for (speed, test) in speeds.iter_mut().zip(&tests) {
                let value = found.iter().find_map(|row| row.figures.get(&Metric::Speed(*test)));
                if let Some(figure) = value.filter(|it| is_telling(&it.estimate)) {
                    let seconds = speed.as_ref().ok().and_then(|it| it.seconds);
                    let tokens_per_second = figure.estimate;
                    let (test, origin) = (test.to_string(), Origin::Measured);
                    *speed = Ok(Speed { test, origin, tokens_per_second, seconds });
                }
            }
            of.push(speeds);
            quality.push(stored.quality(it));
        }
        let models: Vec<&str> = planned.iter().map(|it| it.variant.model.as_str()).collect();
        correct(&models, &mut of);
        let measured = profile.as_ref().map(|it| it.measured.date().to_string());
        let bandwidth = memory.map(|it| it.bytes_per_second);
        Self { threads, tests, of, quality, measured, bandwidth }
    }

    /// Tokens per second that a variant generates at a place, as far as that is told: here, or on a target as its memory
    /// gives them.
    pub(super) fn generation(
        &self,
        at: usize,
        planned: &Planned,
        place: &Place,
    ) -> Option<Estimate> {
        let generation = self.tests.iter().position(|test| test.is_generation_only())?;
        let here = self.of.get(at)?.get(generation)?.as_ref().ok()?;
        if place.is_here() {
            return Some(here.tokens_per_second);
        }
        let bytes = to_f64(planned.header.as_ref().ok()?.bytes_per_token());
        let (own, target) = (self.bandwidth?, place.bandwidth?);
        Some(scaled(here.tokens_per_second, own, target, target / bytes.max(1.0)))
    }

    /// The reasons why nothing is told of any variant; `None`: something is.
    pub(super) fn missing(&self) -> Option<String> {
        let reasons = self.of.iter().flatten().map(|it| it.as_ref().err().map(String::as_str));
        let reasons: BTreeSet<&str> = reasons.collect::<Option<_>>()?;
        (!reasons.is_empty()).then(|| reasons.into_iter().collect::<Vec<_>>().join("; "))
    }
}

/// At the beginning of a context and at its end.
fn tests(depth: u32) -> Vec<SpeedTest> {
    let at = |depth: u32| {
        let prompt = SpeedTest { prompt_tokens: PROMPT, depth, ..SpeedTest::default() };
        let generation = SpeedTest { generated_tokens: GENERATED, depth, ..SpeedTest::default() };
        [prompt, generation]
    };
    let depths = [0, depth];
    let count = if depth >= PROMPT { 2 } else { 1 };
    depths.into_iter().take(count).flat_map(at).collect()
}

fn speed(header: &Header, rates: &ComputeRates, test: SpeedTest) -> Result<Speed, String> {
    let Prediction { tokens_per_second, parts } = predict(&Work::of(header)?, rates, test)?;
    let (test, origin) = (test.to_string(), Origin::Predicted);
    Ok(Speed { test, origin, tokens_per_second, seconds: Some(parts) })
}

/// Variants of a model that have to be measured before the others are corrected: what is wrong with one may be its type's.
const MEASURED: usize = 2;

/// Where several variants of a model were measured, the others are as far from their predictions as those. `models` has
/// the model of each variant.
fn correct(models: &[&str], of: &mut [Vec<Result<Speed, String>>]) {
    let tests = of.first().map_or(0, Vec::len);
    for test in 0..tests {
        let measured = models.iter().zip(&*of).filter_map(|(&model, speeds)| {
            let speed = speeds.get(test)?.as_ref().ok()?;
            let predicted = speed.seconds.filter(|_| speed.origin == Origin::Measured)?;
            Some((model, (speed.tokens_per_second.value * predicted.sum()).ln()))
        });
        let ratios = grouped(measured);
        for (model, speeds) in models.iter().zip(&mut *of) {
            let enough = |it: &&(&str, Vec<f64>)| it.0 == *model && it.1.len() >= MEASURED;
            let Some((_, ratios)) = ratios.iter().find(enough) else { continue };
            let ends =
                ratios.iter().copied().fold((f64::INFINITY, f64::NEG_INFINITY), |ends, it| {
                    (ends.0.min(it), ends.1.max(it))
                });
            if ends.1 - ends.0 > AT_ODDS.ln() {
                continue;
            }
            let ratio = (ratios.iter().sum::<f64>() / to_f64(ratios.len() as u64)).exp();
            if let Some(Ok(speed)) = speeds.get_mut(test)
                && speed.origin == Origin::Predicted
            {
                speed.origin = Origin::Corrected;
                speed.tokens_per_second = corrected(speed.tokens_per_second, ratio);
            }
        }
    }
}

/// What the store holds of this machine.
struct Stored {
    runs: Vec<(RunRecord, Summary)>,
    cpu: String,
    threads: u32,
}

impl Stored {
    fn read(machine: &Machine, threads: u32) -> Self {
        let processor = &machine.processor;
        let cpu = processor.name.known().unwrap_or(&processor.architecture).clone();
        // A store that cannot be read holds nothing for a plan; whoever asks for its runs is told why.
        let store = Store::open_existing().ok().flatten();
        let headers = store.as_ref().and_then(|store| store.list().ok()).unwrap_or_default();
        let finished = headers.into_iter().filter(|it| it.finished.is_some()).take(RUNS);
        let runs = finished.filter_map(|it| store.as_ref()?.load(&it.id).ok());
        let runs = runs.map(|run| {
            let summary = Summary::of(&run);
            (run, summary)
        });
        Self { runs: runs.collect(), cpu, threads }
    }

    /// Trials with the same tensors in the same types, computed here as a plan supposes, the newest first. Of ONNX those of
    /// a graph of as many bytes, stored alike.
    fn of(&self, planned: &Planned) -> Vec<&Row> {
        let types =
            planned.header.as_ref().map(|it| (it.parameters(), StoredTypes::of(it).checksum));
        let engine = &planned.variant.engine;
        let is_same = |run: &RunRecord, trial: &TrialRecord| {
            let Some(facts) = &trial.facts else { return false };
            let of_tensors = match &types {
                Ok((parameters, types)) => {
                    facts.parameters == *parameters
                        && facts.types.as_ref().is_some_and(|it| it.checksum == *types)
                }
                Err(_) => is_graph(&planned.variant, trial),
            };
            let settings = Settings { threads: None, ..trial.settings.clone() };
            of_tensors
                && trial.engine == *engine
                && settings == Settings::default()
                && trial.adapters.is_empty()
                && run.environment_of(trial).cpu == self.cpu
                && facts.threads == self.threads
                && facts.backends.iter().all(|it| it == PROCESSOR)
        };
        let rows = self.runs.iter().flat_map(|(run, summary)| {
            let pairs = run.trials.iter().zip(&summary.rows);
            pairs.filter(|(trial, _)| is_same(run, trial)).map(|it| it.1)
        });
        rows.collect()
    }

    /// How far a variant's answers were found to be from its reference's.
    fn quality(&self, planned: &Planned) -> Option<&'static str> {
        let variant = &planned.variant;
        let parameters = planned.header.as_ref().ok().map(Header::parameters);
        let is_same = |trial: &&TrialRecord| {
            trial.model == variant.model
                && trial.quantization == variant.quantization
                && parameters.map_or_else(
                    || is_graph(variant, trial),
                    |own| trial.facts.as_ref().is_some_and(|it| it.parameters == own),
                )
        };
        self.runs.iter().find_map(|(run, summary)| {
            let at = run.trials.iter().position(|trial| is_same(&trial))?;
            let row = summary.rows.get(at)?;
            if row.is_reference && run.trials[at].quality.is_some() {
                return Some("reference");
            }
            Some(InWords::of(row.figures.get(&Metric::Kld)?.estimate)?.words)
        })
    }
}

/// Whether a trial computed a graph of ONNX that is stored as this one is, in as many bytes.
fn is_graph(variant: &Variant, trial: &TrialRecord) -> bool {
    let bytes = trial.artifact.as_ref().map(|it| it.file_bytes);
    variant.engine.name == EngineName::OnnxRuntime
        && trial.quantization.label == variant.quantization.label
        && bytes == Some(variant.expected_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(origin: Origin, rate: f64, predicted: f64) -> Speed {
        let seconds = Parts { weights: predicted.recip(), attention: 0.0, others: 0.0 };
        let tokens_per_second = Estimate::single(rate);
        Speed { test: "tg128".to_owned(), origin, tokens_per_second, seconds: Some(seconds) }
    }

    #[test]
    fn what_was_measured_of_two_variants_corrects_the_others_of_their_model() {
        let mut of = vec![
            vec![Ok(speed(Origin::Measured, 80.0, 100.0))],
            vec![Ok(speed(Origin::Predicted, 50.0, 50.0))],
            vec![Err("no rate".to_owned())],
            vec![Ok(speed(Origin::Predicted, 50.0, 50.0))],
            vec![Ok(speed(Origin::Measured, 60.0, 50.0))],
            vec![Ok(speed(Origin::Measured, 160.0, 200.0))],
        ];
        correct(&["one", "one", "one", "other", "other", "one"], &mut of);
        let told = |at: usize| of[at][0].as_ref().map(|it| (it.origin, it.tokens_per_second.value));
        assert_eq!(told(0), Ok((Origin::Measured, 80.0)));
        let (origin, rate) = told(1).unwrap();
        assert!(origin == Origin::Corrected && (rate - 40.0).abs() < 1e-9, "{rate}");
        assert!(told(2).is_err());
        assert_eq!(told(3), Ok((Origin::Predicted, 50.0)));
        // What measured variants contradict each other in corrects nothing.
        let mut of = vec![
            vec![Ok(speed(Origin::Measured, 80.0, 100.0))],
            vec![Ok(speed(Origin::Predicted, 50.0, 50.0))],
            vec![Ok(speed(Origin::Measured, 80.0, 20.0))],
        ];
        correct(&["one"; 3], &mut of);
        assert_eq!(of[1][0].as_ref().map(|it| it.origin), Ok(Origin::Predicted));
    }

    #[test]
    fn the_end_of_a_context_is_told_where_it_is_not_its_beginning() {
        let names = |depth| tests(depth).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(0), ["pp512", "tg128"]);
        assert_eq!(names(3584), ["pp512", "tg128", "pp512 @ d3584", "tg128 @ d3584"]);
    }
}
