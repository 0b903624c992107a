//! llama-bench's formats: a row per trial and throughput test, so that scripts made for it go on working,
//! `compare-llama-bench.py` among them.
//!
//! Source: llama.cpp, tools/llama-bench/llama-bench.cpp (`test::get_fields`, `printer` and its kinds). Fields
//! that quantbench leaves at llama.cpp's defaults have llama-bench's default values. Trials of ONNX Runtime have no row.

pub(super) mod read;

use super::json::push_line;
use super::{RenderOptions, Renderer, terminal, unwritable};
use crate::causes::Problem;
use crate::experiment::settings::{FlashAttention, Settings};
use crate::experiment::workloads::SpeedTest;
use crate::model::engine_name::EngineName;
use crate::results::grouped;
use crate::results::record::{Environment, RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::statistics::sample::Sample;
use crate::units::to_f64;
use crate::workload::measured::{ModelFacts, SpeedSample};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::macros::format_description;

/// How `bench` shows its result: quantbench's table, or llama-bench's formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum BenchFormat {
    /// quantbench's table
    #[default]
    Table,
    /// llama-bench's Markdown table
    Md,
    /// llama-bench's CSV
    Csv,
    /// llama-bench's JSON
    Json,
    /// llama-bench's JSONL
    Jsonl,
}

impl Renderer for BenchFormat {
    fn render(
        &self,
        run: &RunRecord,
        summary: &Summary,
        options: &RenderOptions,
    ) -> Result<Vec<u8>, Problem> {
        let is_own = |trial: &&TrialRecord| trial.engine.name != EngineName::OnnxRuntime;
        let has_own = run.trials.is_empty() || run.trials.iter().any(|trial| is_own(&trial));
        if *self != Self::Table && !has_own {
            return Err(Problem::new(
                "llama-bench's formats have llama.cpp's settings, and nothing here was computed by llama.cpp; take another \
                 format, such as csv or jsonl",
            ));
        }
        let own = || run.trials.iter().filter(is_own);
        let rows = || own().flat_map(|trial| rows(run.environment_of(trial), trial));
        match self {
            Self::Table => Ok(terminal::render(run, summary, options).into_bytes()),
            Self::Md => Ok(markdown(&rows().collect::<Vec<_>>(), run).into_bytes()),
            Self::Csv => csv(&rows().collect::<Vec<_>>(), run).map_err(unwritable(run, "CSV")),
            Self::Json => serde_json::to_vec_pretty(&rows().collect::<Vec<_>>())
                .map(|json| [json.as_slice(), b"\n"].concat())
                .map_err(unwritable(run, "JSON")),
            Self::Jsonl => {
                let mut lines = Vec::new();
                for row in rows() {
                    push_line(&mut lines, &row).map_err(unwritable(run, "JSON"))?;
                }
                Ok(lines)
            }
        }
    }
}

/// One test of a trial, with its repetitions over all visits.
struct Row<'a> {
    environment: &'a Environment,
    trial: &'a TrialRecord,
    facts: Cow<'a, ModelFacts>,
    test: SpeedTest,
    started: OffsetDateTime,
    nanoseconds: Vec<u64>,
}

/// Every test of a trial, in the order in which the tests were measured first.
fn rows<'a>(environment: &'a Environment, trial: &'a TrialRecord) -> Vec<Row<'a>> {
    let records = trial.visits.iter().flat_map(|visit| {
        visit.speed.iter().map(|record| (record.test, (visit.started, &record.samples)))
    });
    let row = |(test, visits): (SpeedTest, Vec<(OffsetDateTime, &Vec<SpeedSample>)>)| {
        let times = visits.iter().flat_map(|(_, samples)| *samples).map(|it| it.nanoseconds);
        let nanoseconds = times.filter(|&nanoseconds| nanoseconds > 0).collect();
        Row { nanoseconds, ..Row::of(environment, trial, test, visits[0].0) }
    };
    let mut rows: Vec<Row<'_>> = grouped(records).into_iter().map(row).collect();
    rows.retain(|row| !row.nanoseconds.is_empty());
    rows
}

/// Fields that llama-bench's CSV does not have.
const NOT_IN_CSV: [&str; 3] = ["use_mmap", "samples_ns", "samples_ts"];

impl<'a> Row<'a> {
    /// Without any repetition.
    fn of(
        environment: &'a Environment,
        trial: &'a TrialRecord,
        test: SpeedTest,
        started: OffsetDateTime,
    ) -> Self {
        let facts = trial.facts.as_ref().map_or_else(Cow::default, Cow::Borrowed);
        Row { environment, trial, facts, test, started, nanoseconds: Vec::new() }
    }

    fn times(&self) -> Vec<f64> {
        self.nanoseconds.iter().map(|&nanoseconds| to_f64(nanoseconds)).collect()
    }

    /// Tokens per second, by repetition.
    fn rates(&self) -> Vec<f64> {
        let tokens = f64::from(self.test.tokens());
        self.times().iter().map(|time| tokens * 1e9 / time).collect()
    }

    /// All fields, in llama-bench's order.
    fn fields(&self) -> Vec<(&'static str, Value)> {
        let Row { environment, trial, facts, test, started, nanoseconds } = self;
        let settings: &Settings = &trial.settings;
        let threads = Some(facts.threads).filter(|&threads| threads > 0).or(settings.threads);
        let flash_attention = match settings.flash_attention {
            FlashAttention::Auto => -1,
            FlashAttention::Off => 0,
            FlashAttention::On => 1,
        };
        let path = trial.artifact.as_ref().map(|artifact| artifact.path.display().to_string());
        let (avg_ns, stddev_ns) = mean_and_deviation(&self.times());
        let (avg_ts, stddev_ts) = mean_and_deviation(&self.rates());
        vec![
            ("build_commit", json!(commit(environment))),
            ("build_number", json!(0)),
            ("cpu_info", json!(environment.cpu)),
            ("gpu_info", json!(environment.gpus.join(", "))),
            ("backends", json!(backends(facts))),
            ("model_filename", json!(path.unwrap_or_default())),
            ("model_type", json!(facts.description)),
            ("model_size", json!(facts.tensor_bytes)),
            ("model_n_params", json!(facts.parameters)),
            ("n_batch", json!(settings.batch)),
            ("n_ubatch", json!(settings.ubatch)),
            ("n_threads", json!(threads.unwrap_or(0))),
            ("cpu_mask", json!("0x0")),
            ("cpu_strict", json!(false)),
            ("poll", json!(50)),
            ("type_k", json!(<&str>::from(settings.cache_type_k))),
            ("type_v", json!(<&str>::from(settings.cache_type_v))),
            ("n_gpu_layers", json!(settings.gpu_layers)),
            ("n_cpu_moe", json!(0)),
            ("split_mode", json!(settings.split_mode)),
            ("main_gpu", json!(settings.main_gpu)),
            ("no_kv_offload", json!(!settings.kv_offload)),
            ("flash_attn", json!(flash_attention)),
            ("devices", json!("auto")),
            ("tensor_split", json!(shares(settings))),
            ("tensor_buft_overrides", json!("none")),
            ("load_mode", json!(if settings.mmap { "mmap" } else { "none" })),
            // What `load_mode` was called before; versions of `compare-llama-bench.py` ask for either.
            ("use_mmap", json!(settings.mmap)),
            ("lazy_mode", json!("auto")),
            ("embeddings", json!(test.embeds)),
            ("no_op_offload", json!(0)),
            ("no_host", json!(false)),
            ("repack", json!(true)),
            ("fit_target", json!(0)),
            ("fit_min_ctx", json!(4096)),
            // Of all sequences together: llama-bench knows one.
            ("n_prompt", json!(test.prompt_tokens * test.sequences)),
            ("n_gen", json!(test.generated_tokens * test.sequences)),
            ("n_depth", json!(test.depth)),
            ("test_time", json!(test_time(*started))),
            ("avg_ns", json!(whole(avg_ns))),
            ("stddev_ns", json!(whole(stddev_ns))),
            ("avg_ts", json!(avg_ts)),
            ("stddev_ts", json!(stddev_ts)),
            ("samples_ns", json!(nanoseconds)),
            ("samples_ts", json!(self.rates())),
        ]
    }
}

/// Shares of the GPUs with two digits, as llama-bench writes them.
fn shares(settings: &Settings) -> String {
    let shares = settings.tensor_split.shares();
    let shares = if shares.is_empty() { &[0] } else { shares };
    shares.iter().map(|share| format!("{share}.00")).collect::<Vec<_>>().join("/")
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields())
    }
}

/// A value as llama-bench prints it: truth values as 0 and 1.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Bool(truth) => u8::from(truth).to_string(),
        value => value.to_string(),
    }
}

/// Every value in quotes.
fn csv(rows: &[Row<'_>], run: &RunRecord) -> Result<Vec<u8>, ::csv::Error> {
    let in_csv = |(name, _): &(&'static str, Value)| !NOT_IN_CSV.contains(name);
    // Where nothing was measured there are names all the same.
    let test = SpeedTest::default();
    let blank = run
        .trials
        .first()
        .map(|it| Row::of(run.environment_of(it), it, test, run.started).fields());
    let names = blank.into_iter().flatten().filter(in_csv).map(|(name, _)| name);
    let mut bytes = names.collect::<Vec<_>>().join(",").into_bytes();
    bytes.push(b'\n');
    let style = ::csv::QuoteStyle::Always;
    let mut writer = ::csv::WriterBuilder::new().quote_style(style).from_writer(bytes);
    for row in rows {
        let fields = row.fields().into_iter().filter(in_csv);
        writer.write_record(fields.map(|(_, value)| text(value)))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// llama-bench's table; a setting that is not its default in some trial has a column.
fn markdown(rows: &[Row<'_>], run: &RunRecord) -> String {
    let changed: Vec<_> = run.trials.iter().flat_map(|trial| trial.settings.changed()).collect();
    let is_changed = |flag: &str| changed.iter().any(|(other, _)| *other == flag);
    let on_cpu = rows.iter().all(|row| {
        let backends = backends(&row.facts);
        ["CPU", "BLAS", "ZenDNN"].iter().any(|name| backends.contains(name))
    });
    // Heading, the field that stands below it, width of the cells (negative: text on the left).
    let mut columns = vec![
        ("model", "model_type", -30, true),
        ("size", "", 10, true),
        ("params", "", 10, true),
        ("backend", "backends", -10, true),
        ("ngl", "n_gpu_layers", 3, !on_cpu),
        ("threads", "n_threads", 7, on_cpu || is_changed("t")),
        ("n_batch", "n_batch", 7, is_changed("b")),
        ("n_ubatch", "n_ubatch", 8, is_changed("ub")),
        ("type_k", "type_k", 6, is_changed("ctk")),
        ("type_v", "type_v", 6, is_changed("ctv")),
        ("main_gpu", "main_gpu", 10, is_changed("mg")),
        ("sm", "split_mode", 6, is_changed("sm")),
        ("ts", "tensor_split", 12, is_changed("ts")),
        ("nkvo", "no_kv_offload", 13, is_changed("nkvo")),
        ("fa", "flash_attn", 3, is_changed("fa")),
        ("test", "", 15, true),
        ("t/s", "", 20, true),
    ];
    columns.retain(|(.., is_shown)| *is_shown);
    let line = |text: &dyn Fn(&str, &str, i32) -> String| {
        let cells = columns.iter().map(|&(heading, field, width, _)| {
            let (text, places) = (text(heading, field, width), width.unsigned_abs() as usize);
            if width > 0 { format!(" {text:>places$} |") } else { format!(" {text:places$} |") }
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let mut table = line(&|heading, _, _| heading.to_owned());
    table += &line(&|_, _, width| {
        let dashes = "-".repeat(width.unsigned_abs() as usize - 1);
        format!("{dashes}{}", if width > 0 { ':' } else { '-' })
    });
    for row in rows {
        let fields: BTreeMap<&str, Value> = row.fields().into_iter().collect();
        table += &line(&|heading, field, _| match heading {
            "size" => size(row.facts.tensor_bytes),
            "params" => parameters(row.facts.parameters),
            "test" => row.test.to_string(),
            "t/s" => {
                let (mean, deviation) = mean_and_deviation(&row.rates());
                format!("{mean:.2} ± {deviation:.2}")
            }
            _ => fields.get(field).cloned().map(text).unwrap_or_default(),
        });
    }
    let build = rows.first().map(|row| format!("\nbuild: {} (0)\n", commit(row.environment)));
    table + &build.unwrap_or_default()
}

fn size(bytes: u64) -> String {
    match to_f64(bytes) / 1_048_576.0 {
        mebibytes if mebibytes < 1024.0 => format!("{mebibytes:.2} MiB"),
        mebibytes => format!("{:.2} GiB", mebibytes / 1024.0),
    }
}

fn parameters(count: u64) -> String {
    match to_f64(count) {
        count if count < 1e9 => format!("{:.2} M", count / 1e6),
        count => format!("{:.2} B", count / 1e9),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::render;
    use crate::results::made_up::{LADDER, MadeUp};

    fn run() -> RunRecord {
        let variants = LADDER[..2].to_vec();
        let settings =
            vec![Settings { flash_attention: FlashAttention::On, ..Settings::default() }];
        let mut run = MadeUp { variants, settings, rounds: 1, ..MadeUp::default() }.run();
        run.trials[1].facts.as_mut().unwrap().description = "a \"b\" c".to_owned();
        for (seconds, record) in
            (1..).zip(run.trials.iter_mut().flat_map(|it| &mut it.visits[0].speed))
        {
            record.samples.truncate(1);
            record.samples[0].nanoseconds = seconds * 1_000_000_000;
        }
        run
    }

    fn shown(format: BenchFormat) -> String {
        let bytes = render(format, &run(), &RenderOptions::default()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_markdown_table_is_llama_benchs() {
        insta::assert_snapshot!(shown(BenchFormat::Md), @r#"
        | model                          |       size |     params | backend    | threads |  fa |            test |                  t/s |
        | ------------------------------ | ---------: | ---------: | ---------- | ------: | --: | --------------: | -------------------: |
        | llama 1B F16                   |   2.30 GiB |     1.24 B | CPU        |       8 |   1 |           pp512 |        512.00 ± 0.00 |
        | llama 1B F16                   |   2.30 GiB |     1.24 B | CPU        |       8 |   1 |           tg128 |         64.00 ± 0.00 |
        | a "b" c                        |   1.22 GiB |     1.24 B | CPU        |       8 |   1 |           pp512 |        170.67 ± 0.00 |
        | a "b" c                        |   1.22 GiB |     1.24 B | CPU        |       8 |   1 |           tg128 |         32.00 ± 0.00 |

        build: a335386 (0)
        "#);
    }

    #[test]
    fn csv_has_all_columns_with_every_value_in_quotes() {
        let csv = shown(BenchFormat::Csv);
        assert!(csv.starts_with("build_commit,build_number,cpu_info,"), "{csv}");
        let mut lines = csv.lines().skip(1);
        assert!(lines.all(|line| line.starts_with('"') && line.ends_with('"')), "{csv}");
        assert!(csv.contains("\"a \"\"b\"\" c\"") && !csv.contains("true"), "{csv}");
        let mut reader = ::csv::Reader::from_reader(csv.as_bytes());
        assert!(reader.records().all(|record| record.unwrap().len() == 42), "{csv}");
    }

    #[test]
    fn json_is_an_array_of_the_rows_of_jsonl() {
        let rows: Vec<Value> = serde_json::from_str(&shown(BenchFormat::Json)).unwrap();
        let lines = shown(BenchFormat::Jsonl);
        let lines: Vec<Value> = lines.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert_eq!(rows, lines);
        assert_eq!(rows.len(), 4);
    }
}
