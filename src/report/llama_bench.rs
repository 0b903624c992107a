//! llama-bench's JSONL: one line per trial and throughput test, so that scripts made for it go on
//! working, `compare-llama-bench.py` among them.
//!
//! Source: llama.cpp, tools/llama-bench/llama-bench.cpp (`test::get_fields`, jsonl printer). Fields
//! that quantbench leaves at llama.cpp's defaults have llama-bench's default values.

use super::format::{RenderOptions, Report, ReportError};
use super::json::{json_error, push_line};
use crate::experiment::settings::{FlashAttention, Settings, SplitMode};
use crate::experiment::workloads::SpeedTest;
use crate::results::record::{Environment, RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::statistics::sample::Sample;
use crate::workload::measured::ModelFacts;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

pub(super) struct LlamaBench;

impl Report for LlamaBench {
    fn render(
        &self,
        run: &RunRecord,
        _: &Summary,
        _: &RenderOptions,
    ) -> Result<Vec<u8>, ReportError> {
        let mut lines = Vec::new();
        for trial in &run.trials {
            for samples in samples(trial) {
                let line = line(run.environment_of(trial), trial, samples);
                push_line(&mut lines, &line).map_err(|error| json_error(run, error))?;
            }
        }
        Ok(lines)
    }
}

/// The repetitions of one test over all visits.
struct Samples {
    test: SpeedTest,
    started: OffsetDateTime,
    nanoseconds: Vec<u64>,
}

/// Every test's repetitions, in the order in which the tests were measured first.
fn samples(trial: &TrialRecord) -> Vec<Samples> {
    let mut all: Vec<Samples> = Vec::new();
    for visit in &trial.visits {
        for record in &visit.speed {
            let times = record.samples.iter().map(|sample| sample.nanoseconds);
            let times = times.filter(|&nanoseconds| nanoseconds > 0);
            match all.iter_mut().find(|samples| samples.test == record.test) {
                Some(samples) => samples.nanoseconds.extend(times),
                None => all.push(Samples {
                    test: record.test,
                    started: visit.started,
                    nanoseconds: times.collect(),
                }),
            }
        }
    }
    all.retain(|samples| !samples.nanoseconds.is_empty());
    all
}

/// One line, in llama-bench's order of fields.
#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are llama-bench's")]
struct Line<'a> {
    build_commit: String,
    build_number: u64,
    cpu_info: &'a str,
    gpu_info: String,
    backends: String,
    model_filename: String,
    model_type: &'a str,
    model_size: u64,
    model_n_params: u64,
    n_batch: u32,
    n_ubatch: u32,
    n_threads: u32,
    cpu_mask: &'static str,
    cpu_strict: bool,
    poll: u32,
    type_k: &'static str,
    type_v: &'static str,
    n_gpu_layers: i32,
    n_cpu_moe: u32,
    split_mode: &'static str,
    main_gpu: u32,
    no_kv_offload: bool,
    flash_attn: i32,
    devices: &'static str,
    tensor_split: &'static str,
    tensor_buft_overrides: &'static str,
    load_mode: &'static str,
    /// What `load_mode` was called before; versions of `compare-llama-bench.py` ask for either.
    use_mmap: bool,
    lazy_mode: &'static str,
    embeddings: bool,
    no_op_offload: u32,
    no_host: bool,
    repack: bool,
    fit_target: u32,
    fit_min_ctx: u32,
    n_prompt: u32,
    n_gen: u32,
    n_depth: u32,
    test_time: String,
    avg_ns: u64,
    stddev_ns: u64,
    avg_ts: f64,
    stddev_ts: f64,
    samples_ns: Vec<u64>,
    samples_ts: Vec<f64>,
}

fn line<'a>(environment: &'a Environment, trial: &'a TrialRecord, samples: Samples) -> Line<'a> {
    static NOT_LOADED: std::sync::LazyLock<ModelFacts> =
        std::sync::LazyLock::new(ModelFacts::default);
    let Samples { test, started, nanoseconds: samples_ns } = samples;
    let settings: &Settings = &trial.settings;
    let facts = trial.facts.as_ref().unwrap_or(&NOT_LOADED);
    let path = trial.artifact.as_ref().map(|artifact| artifact.path.display().to_string());
    let tokens = f64::from(test.tokens());
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds below 2^53 for 100 days")]
    let times: Vec<f64> = samples_ns.iter().map(|&nanoseconds| nanoseconds as f64).collect();
    let samples_ts: Vec<f64> = times.iter().map(|time| tokens * 1e9 / time).collect();
    let (avg_ns, stddev_ns) = mean_and_deviation(&times);
    let (avg_ts, stddev_ts) = mean_and_deviation(&samples_ts);
    Line {
        build_commit: commit(environment),
        build_number: 0,
        cpu_info: &environment.cpu,
        gpu_info: environment.gpus.join(", "),
        backends: backends(facts),
        model_filename: path.unwrap_or_default(),
        model_type: &facts.description,
        model_size: facts.tensor_bytes,
        model_n_params: facts.parameters,
        n_batch: settings.batch,
        n_ubatch: settings.ubatch,
        n_threads: if facts.threads > 0 { facts.threads } else { settings.threads.unwrap_or(0) },
        cpu_mask: "0x0",
        cpu_strict: false,
        poll: 50,
        type_k: settings.cache_type_k.name(),
        type_v: settings.cache_type_v.name(),
        n_gpu_layers: settings.gpu_layers,
        n_cpu_moe: 0,
        split_mode: match settings.split_mode {
            SplitMode::None => "none",
            SplitMode::Layer => "layer",
            SplitMode::Row => "row",
        },
        main_gpu: settings.main_gpu,
        no_kv_offload: !settings.kv_offload,
        flash_attn: match settings.flash_attention {
            FlashAttention::Auto => -1,
            FlashAttention::Off => 0,
            FlashAttention::On => 1,
        },
        devices: "auto",
        tensor_split: "0.00",
        tensor_buft_overrides: "none",
        load_mode: if settings.mmap { "mmap" } else { "none" },
        use_mmap: settings.mmap,
        lazy_mode: "auto",
        embeddings: test.embeds(),
        no_op_offload: 0,
        no_host: false,
        repack: true,
        fit_target: 0,
        fit_min_ctx: 4096,
        n_prompt: test.tokens() - test.generated_tokens,
        n_gen: test.generated_tokens,
        n_depth: test.depth,
        test_time: test_time(started),
        avg_ns: whole(avg_ns),
        stddev_ns: whole(stddev_ns),
        avg_ts,
        stddev_ts,
        samples_ns,
        samples_ts,
    }
}

/// llama-bench names the back ends besides the CPU's, or that alone.
fn backends(facts: &ModelFacts) -> String {
    let others: Vec<&str> =
        facts.backends.iter().map(String::as_str).filter(|name| *name != "CPU").collect();
    if others.is_empty() { "CPU".to_owned() } else { others.join(",") }
}

/// What tells two builds apart: the commit that the versions name (llama.cpp's if there is one, else
/// quantbench's), else the version itself.
fn commit(environment: &Environment) -> String {
    let is_commit = |word: &&str| {
        (7..=40).contains(&word.len())
            && word.chars().all(|character| character.is_ascii_hexdigit())
            && word.chars().any(|character| character.is_ascii_alphabetic())
    };
    let words = |version: &str| -> Option<String> {
        version
            .split(|character: char| !character.is_ascii_alphanumeric())
            .find(is_commit)
            .map(str::to_owned)
    };
    environment
        .engines
        .iter()
        .find_map(|engine| words(&engine.version))
        .or_else(|| words(&environment.quantbench))
        .unwrap_or_else(|| environment.quantbench.clone())
}

/// Mean and standard deviation (divisor n − 1), 0 for a single one, as llama-bench has them.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let sample = Sample::new(values.iter().copied());
    sample.map_or((0.0, 0.0), |sample| (sample.mean(), sample.standard_deviation().unwrap_or(0.0)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "means of times in nanoseconds"
)]
fn whole(nanoseconds: f64) -> u64 {
    nanoseconds as u64
}

fn test_time(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_default()
}
