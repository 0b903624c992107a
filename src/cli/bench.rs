//! `quantbench bench`: the speed of GGUF files as they are, with llama-bench's flags and meaning.

pub mod flags;
mod lists;

use self::flags::{numbers, values};
use self::lists::Numbers;
use super::output::{self, Destination};
use super::run::lock::RunLock;
use super::session::{RunContext, Session, resolve_options, strategy};
use crate::causes;
use crate::error::{Error, Outcome};
use crate::experiment::keys::SETTINGS;
use crate::experiment::resolved::{Experiment, ModelPlan};
use crate::experiment::settings::{CacheType, FlashAttention, Settings, SplitMode, TensorSplit};
use crate::experiment::workloads::{SpeedTest, Workloads};
use crate::model::source::{Source, SourceError};
use crate::report::{self, BenchFormat, RenderOptions};
use crate::results::record::BENCH;
use crate::results::store::Store;
use crate::units::parse_within;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use time::OffsetDateTime;

/// More trials than this are no plan of measurements but a slip of the hand.
const MOST_TRIALS: usize = 10_000;

/// Flags of `quantbench bench`. Lists and ranges: `1,2,4`, `1-8`, `128-1024+128`, `1-64*2`.
#[derive(Debug, Args)]
#[command(
    after_help = "Lists and ranges as in llama-bench: 1,2,4 or 1-8 or 128-1024+128 or 1-64*2. \
                        Also in its short spelling: -pg -ub -ngl -fa -ctk -ctv -sm -mg -nkvo, and llama-batched-bench's -npl."
)]
pub struct Arguments {
    /// GGUF files, folders of them, hf:// addresses, shape:NAME:QUANTIZATION, or 'demo'
    #[arg(required_unless_present = "models", value_name = "FILE")]
    files: Vec<String>,
    /// Another file, as llama-bench names it
    #[arg(short, long = "model", value_name = "FILE")]
    models: Vec<String>,
    /// Prompt lengths [512]; 0: none
    #[arg(short = 'p', long, value_name = "LIST")]
    n_prompt: Vec<Numbers<u32>>,
    /// Generation lengths [128]; 0: none
    #[arg(short = 'n', long, value_name = "LIST")]
    n_gen: Vec<Numbers<u32>>,
    /// A prompt and a generation after it: 512,128 (repeatable)
    #[arg(long = "pg", value_name = "PP,TG", value_parser = flags::prompt_and_generation)]
    prompt_and_generation: Vec<SpeedTest>,
    /// Tokens in the context before the clock starts [0]
    #[arg(short = 'd', long, value_name = "LIST")]
    n_depth: Vec<Numbers<u32>>,
    /// Sequences side by side, each with these lengths and depths; rates are of all together [1]
    #[arg(long, value_name = "LIST")]
    parallel: Vec<Numbers<u32>>,
    /// Tokens submitted at once [2048]
    #[arg(short = 'b', long, value_name = "LIST")]
    batch_size: Vec<Numbers<u32>>,
    /// Tokens computed at once [512]
    #[arg(long, value_name = "LIST")]
    ubatch_size: Vec<Numbers<u32>>,
    /// Threads [as llama-bench chooses]
    #[arg(short = 't', long, value_name = "LIST")]
    threads: Vec<Numbers<u32>>,
    /// Layers on the GPU [-1: all]
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    n_gpu_layers: Vec<Numbers<i32>>,
    /// Flash attention [auto]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        ignore_case = true,
        allow_hyphen_values = true
    )]
    flash_attn: Vec<FlashAttention>,
    /// Types of the K cache [f16]
    #[arg(long, value_name = "LIST", value_delimiter = ',', ignore_case = true)]
    cache_type_k: Vec<CacheType>,
    /// Types of the V cache [f16]
    #[arg(long, value_name = "LIST", value_delimiter = ',', ignore_case = true)]
    cache_type_v: Vec<CacheType>,
    /// Division over several GPUs [layer]
    #[arg(long, value_name = "LIST", value_delimiter = ',', ignore_case = true)]
    split_mode: Vec<SplitMode>,
    /// Shares of the GPUs, such as 3/1 [as llama.cpp divides]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    tensor_split: Vec<TensorSplit>,
    /// The GPU used alone or for small tensors [0]
    #[arg(long, value_name = "LIST")]
    main_gpu: Vec<Numbers<u32>>,
    /// Keep the KV cache off the GPU: 0, 1 [0]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = flags::kv_offload)]
    no_kv_offload: Vec<bool>,
    /// Timed repetitions of each test
    #[arg(short, long, value_name = "N", default_value_t = 5,
          value_parser = parse_within(1_u32..=1000))]
    repetitions: u32,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t)]
    output: BenchFormat,
    /// Width of the table, 40 or more
    #[arg(long, value_name = "N", default_value_t = RenderOptions::default().columns, value_parser = parse_within(40_usize..))]
    columns: usize,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Why there is nothing for `bench` to measure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// All lengths are zero.
    #[error("no test is left: every prompt and generation length is 0")]
    NoTest,
    /// A number is outside the limits of its key.
    #[error("{flag} {value} must be from {least} to {most}")]
    Range {
        /// The flag.
        flag: &'static str,
        /// What was written.
        value: u32,
        /// The least.
        least: i64,
        /// The most.
        most: i64,
    },
    /// The lists multiply to too many trials.
    #[error("the lists come to {count} trials, more than {MOST_TRIALS}; name fewer values")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A file argument is no source.
    #[error("FILE {0}")]
    Source(SourceError),
    /// A value could not be turned into one of settings.
    #[error("settings have no form in JSON")]
    Settings(#[from] serde_json::Error),
}

impl From<SourceError> for BenchError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// Measures the speed of files.
///
/// # Errors
/// A flag or a file is not right, or the result cannot be written. Trials that fail are no error but
/// an outcome.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let experiment = experiment(arguments)?;
    let quiet = arguments.quiet;
    let session = Session::open(quiet)?;
    let plan = session.plan(&experiment, &resolve_options(quiet))?;
    let started = OffsetDateTime::now_utc();
    // A one-off is kept if that can be done, and measured all the same if it cannot.
    let kept = Store::open().and_then(|store| Ok((store.fresh_id(started)?, store)));
    let (id, store) = match kept {
        Ok((id, store)) => (id, Some(store)),
        Err(error) => {
            output::tell(&format!("not kept: {}", causes::in_words(&error)));
            (BENCH.to_owned(), None)
        }
    };
    let is_kept = store.is_some();
    // Only for `list`, which tells by it whether the run goes on.
    let _lock = RunLock::take(session.cache.root(), &id).ok();
    let run = Session::new_run(&experiment, &plan, id, started);
    let (experiment, plan) = (&experiment, &plan);
    let strategy = strategy(experiment);
    let context = RunContext {
        experiment,
        plan,
        run,
        resumed: false,
        began: started,
        store,
        strategy,
        foreseen: Vec::new(),
        other_build: None,
    };
    let run = session.measure(context)?;
    if run.finished.is_none() {
        if is_kept {
            let id = &run.id;
            output::tell(&format!("interrupted; to see what was measured: quantbench show {id}"));
        }
        return Ok(Outcome::Interrupted);
    }
    // The display has told of failures already, unless there was none.
    for trial in run.trials.iter().filter(|_| arguments.quiet) {
        if let Some(failure) = &trial.failure {
            output::tell(&format!(
                "{} ({}) failed in {}: {}",
                trial.label, trial.settings, failure.phase, failure.reason
            ));
        }
    }
    let color = output::may_color(&Destination::StandardOutput);
    let options = RenderOptions { columns: arguments.columns, color };
    output::print(&report::render(arguments.output, &run, &options)?)?;
    let failed = run.trials.iter().any(|trial| trial.failure.is_some());
    Ok(if failed { Outcome::TrialsFailed } else { Outcome::Done })
}

/// What the flags mean, as an experiment of one round.
fn experiment(arguments: &Arguments) -> Result<Experiment, BenchError> {
    let files = arguments.files.iter().chain(&arguments.models);
    let models = files
        .map(|file| {
            let source = Source::parse(file, Path::new(""))?;
            Ok(ModelPlan::new(source.default_name(), source))
        })
        .collect::<Result<Vec<_>, BenchError>>()?;
    let speed = speed_tests(arguments);
    if speed.is_empty() {
        return Err(BenchError::NoTest);
    }
    let settings = settings(arguments)?;
    Ok(Experiment {
        name: BENCH.to_owned(),
        models,
        settings,
        workloads: Workloads { speed, ..Workloads::default() },
        repetitions: arguments.repetitions,
        ..Experiment::default()
    })
}

/// The tests in llama-bench's order: for each depth the prompts, the generations, then both.
fn speed_tests(arguments: &Arguments) -> Vec<SpeedTest> {
    let prompts = numbers(&arguments.n_prompt, 512);
    let generations = numbers(&arguments.n_gen, 128);
    let test = |prompt_tokens, generated_tokens| SpeedTest {
        prompt_tokens,
        generated_tokens,
        ..SpeedTest::default()
    };
    let of_one_depth: Vec<SpeedTest> = prompts
        .into_iter()
        .map(|prompt| test(prompt, 0))
        .chain(generations.into_iter().map(|generated| test(0, generated)))
        .chain(arguments.prompt_and_generation.iter().copied())
        .filter(|test| test.prompt_tokens > 0 || test.generated_tokens > 0)
        .collect();
    let depths = numbers(&arguments.n_depth, 0);
    let mut tests: Vec<SpeedTest> = Vec::new();
    let sequences = numbers(&arguments.parallel, 1);
    for (depth, sequences) in depths.iter().flat_map(|&it| sequences.iter().map(move |&n| (it, n)))
    {
        for test in &of_one_depth {
            let test = SpeedTest { depth, sequences, ..*test };
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
    }
    tests
}

/// Every combination of the settings' lists.
fn settings(arguments: &Arguments) -> Result<Vec<Settings>, BenchError> {
    let default = Settings::default();
    let threads: Vec<Option<u32>> =
        arguments.threads.iter().flat_map(|list| list.0.iter().copied().map(Some)).collect();
    let batch = numbers(&arguments.batch_size, default.batch);
    let ubatch = numbers(&arguments.ubatch_size, default.ubatch);
    let some_threads: Vec<u32> = threads.iter().copied().flatten().collect();
    for (flag, key, list) in [
        ("--batch-size", "batch", &batch),
        ("--ubatch-size", "ubatch", &ubatch),
        ("--threads", "threads", &some_threads),
    ] {
        let Some((least, most)) = SETTINGS.bounds(key) else { continue };
        let is_outside = |&&value: &&u32| !(least..=most).contains(&i64::from(value));
        if let Some(&value) = list.iter().find(is_outside) {
            return Err(BenchError::Range { flag, value, least, most });
        }
    }
    let axes = [
        ("threads", json(&values(&threads, None))?),
        ("gpu_layers", json(&numbers(&arguments.n_gpu_layers, default.gpu_layers))?),
        ("flash_attention", json(&values(&arguments.flash_attn, default.flash_attention))?),
        ("batch", json(&batch)?),
        ("ubatch", json(&ubatch)?),
        ("cache_type_k", json(&values(&arguments.cache_type_k, default.cache_type_k))?),
        ("cache_type_v", json(&values(&arguments.cache_type_v, default.cache_type_v))?),
        ("split_mode", json(&values(&arguments.split_mode, default.split_mode))?),
        ("tensor_split", json(&values(&arguments.tensor_split, default.tensor_split))?),
        ("main_gpu", json(&numbers(&arguments.main_gpu, default.main_gpu))?),
        ("kv_offload", json(&values(&arguments.no_kv_offload, default.kv_offload))?),
    ];
    let count = axes.iter().fold(1, |count: usize, (_, axis)| count.saturating_mul(axis.len()));
    if count > MOST_TRIALS {
        return Err(BenchError::TooMany { count });
    }
    Ok(Settings::sweep(&axes)?)
}

fn json<T: Serialize>(values: &[T]) -> Result<Vec<Value>, serde_json::Error> {
    values.iter().map(serde_json::to_value).collect()
}

impl From<BenchError> for Error {
    fn from(error: BenchError) -> Self {
        Self::command(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::ffi::OsString;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn read(line: &str) -> Result<Experiment, String> {
        let words = ["quantbench", "bench"].into_iter().chain(line.split(' '));
        let mut words = flags::spell_out(words.map(OsString::from).collect());
        words.remove(1);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        experiment(&line.arguments).map_err(|error| error.to_string())
    }

    fn tests_of(line: &str) -> String {
        let speed = read(line).unwrap().workloads.speed;
        speed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    }

    fn settings_of(line: &str) -> String {
        let settings = read(line).unwrap().settings;
        settings.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn the_defaults_are_llama_benchs() {
        assert_eq!(tests_of("demo"), "pp512 | tg128");
        assert_eq!(settings_of("demo"), "defaults");
        assert_eq!(read("demo").unwrap().repetitions, 5);
    }

    #[test]
    fn tests_come_in_llama_benchs_order() {
        assert_eq!(
            tests_of("demo -p 64,128 -n 0 -pg 32,8 -d 0,16"),
            "pp64 | pp128 | pp32+tg8 | pp64 @ d16 | pp128 @ d16 | pp32+tg8 @ d16"
        );
    }

    #[test]
    fn lists_multiply() {
        assert_eq!(
            settings_of("demo -t 1-4*2 -fa 0,1 -ngl -1"),
            "t=1 fa=off | t=1 fa=on | t=2 fa=off | t=2 fa=on | t=4 fa=off | t=4 fa=on"
        );
        assert_eq!(settings_of("demo -ctk q8_0 -ub 64"), "ub=64 ctk=q8_0");
        assert_eq!(settings_of("demo -b 64 -b 128"), "b=64 | b=128");
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_flag() {
        assert!(read("demo -p 0 -n 0").unwrap_err().contains("no test is left"));
        for threads in ["0", "513"] {
            let error = read(&format!("demo -t {threads}")).unwrap_err();
            assert!(
                error.contains(&format!("--threads {threads} must be from 1 to 512")),
                "{error}"
            );
        }
        assert!(read("demo -p 5-1").unwrap_err().contains("ends before it begins"));
        assert!(read("demo -ctk q9").unwrap_err().contains("iq4_nl"));
        assert!(read("demo -t 1-500 -b 1-900").unwrap_err().contains("more than 10000"));
    }

    #[test]
    fn files_may_be_named_as_llama_bench_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a-Q4_0.gguf");
        std::fs::write(&file, "").unwrap();
        let models = read(&format!("demo -m {}", file.display())).unwrap().models;
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["demo", "a-Q4_0"]);
    }
}
