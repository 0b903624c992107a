//! Tests of `quantbench inspect`: what is shown, and which figures are whose.

use super::{Arguments, Memory, Origin, memory, read, report, table};
use crate::experiment::settings::CacheType;
use crate::model::gguf::testing::Builder;
use crate::model::gguf::{GgmlType, Header};
use crate::workload::jobs::{MemoryQuestion, PredictJob};
use crate::workload::measured::{BufferMemory, PredictedMemory};
use clap::Parser;
use std::path::PathBuf;
use strum::VariantNames as _;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(more: &[&str]) -> Arguments {
    Command::try_parse_from([&["inspect", "m.gguf"], more].concat()).unwrap().arguments
}

fn file(builder: &Builder) -> (tempfile::TempDir, PathBuf, Header) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    builder.write(&path);
    let header = Header::read(&path).unwrap();
    (folder, path, header)
}

#[expect(clippy::unnecessary_wraps, clippy::needless_pass_by_value, reason = "stands for another")]
fn llama(job: PredictJob) -> Result<Vec<Result<PredictedMemory, String>>, String> {
    let buffer = |name: &str, context: u32| BufferMemory {
        buffer: name.to_owned(),
        on_device: false,
        weights_bytes: 1000,
        kv_bytes: u64::from(context),
        compute_bytes: 10,
        context,
    };
    let at = |question: &MemoryQuestion| {
        let context = question.tokens;
        let buffers = vec![buffer("CPU", context), buffer("CUDA0", context)];
        Ok(PredictedMemory { context, buffers, process_bytes: None, gpu_process_bytes: None })
    };
    Ok(job.questions.iter().map(at).collect())
}

fn with(header: &Header, path: &std::path::Path, more: &[&str]) -> (Memory, Memory) {
    let exact = memory(path, header, &arguments(more), &llama);
    let guessed = memory(path, header, &arguments(more), &|_| Err("no worker".to_owned()));
    (exact, guessed)
}

#[test]
fn memory_is_llama_cpps_where_it_answers_and_the_headers_where_not() {
    let (_folder, path, header) = file(&Builder::model(7));
    let (exact, guessed) = with(&header, &path, &[]);
    assert_eq!(exact.origin, Origin::LlamaCpp);
    let contexts: Vec<u32> = exact.rows.iter().map(|row| row.context).collect();
    assert_eq!(contexts, [512, 2048], "up to what the model was trained with");
    assert_eq!(exact.rows[1].total(), Some(2000 + 2 * 2048 + 20));
    assert_eq!(guessed.origin, Origin::Header { reason: "no worker".to_owned(), kv: None });
    assert_eq!(guessed.rows[0].kv, Some(128 * 512 * 2));
    assert_eq!(guessed.rows[0].total(), None, "compute buffers are not known");
    let (_, guessed) = with(&header, &path, &["--context", "256,1024", "--cache-type-k", "Q8_0"]);
    assert_eq!(guessed.rows.len(), 2);
    assert_eq!(guessed.rows[0].kv, Some(64 * 256 / 32 * 34 + 64 * 256 * 2));
}

#[test]
fn the_tables_fit_100_columns_and_obey_no_stranger() {
    let hostile = Builder::model(7)
        .string("evil", "\u{1b}[2J\nline")
        .string("long", &"word ".repeat(1000))
        .string(&"k".repeat(300), "x");
    let (_folder, path, header) = file(&hostile);
    let (exact, guessed) = with(&header, &path, &[]);
    for (shown, origin) in [
        (table::render(&path, &header, &exact, true), "as llama.cpp plans it"),
        (table::render(&path, &header, &guessed, false), "computed from the header: no worker"),
    ] {
        assert!(shown.contains(origin), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        let widest = shown.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{widest:?}\n{shown}");
        assert!(shown.lines().all(|line| line == line.trim_end()), "{shown}");
    }
}

#[test]
fn the_tables_name_types_bits_and_shape() {
    let (_folder, path, header) = file(&Builder::model(7));
    let (exact, _) = with(&header, &path, &[]);
    let shown = table::render(&path, &header, &exact, true);
    for line in [
        "model          Tiny, llama",
        "weights        Q8_0, 704 weights at 10.6 bits each",
        "shape          2 layers, 2048 tokens of context, 10 tokens of vocabulary",
        "general.architecture            llama",
        "tokenizer.ggml.tokens           [<s>, a, b, c, …] (10 str)",
        "token_embd.weight   Q8_0  64 × 10",
    ] {
        let found = shown.lines().any(|shown| {
            shown
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .starts_with(&line.split_whitespace().collect::<Vec<_>>().join(" "))
        });
        assert!(found, "{line}\nis not in\n{shown}");
    }
}

#[test]
fn the_json_form_has_everything() {
    let (_folder, path, header) = file(&Builder::model(7));
    let (_, guessed) = with(&header, &path, &[]);
    let text = report::json(&path, &header, &guessed).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&parsed["format"], &parsed["version"]), (&"quantbench.inspect".into(), &1.into()));
    assert_eq!(parsed["file_type"], "Q8_0");
    assert_eq!(parsed["formats"][0]["bits_per_weight"], 8.5);
    assert_eq!(parsed["memory"]["origin"], "header");
    assert_eq!(parsed["memory"]["contexts"][0]["compute_bytes"], serde_json::Value::Null);
    assert_eq!(parsed["metadata"]["llama.block_count"], 2);
    assert_eq!(parsed["metadata"]["tokenizer.ggml.tokens"]["count"], 10);
    assert_eq!(parsed["tensors"][0]["dimensions"], serde_json::json!([64, 10]));
}

#[test]
fn what_is_no_file_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let shown = |source: &str| read(source).unwrap_err().to_string();
    assert!(shown("no.gguf").contains("but there is no file or folder"));
    assert!(shown(&folder.path().display().to_string()).contains("is a folder"));
    std::fs::write(folder.path().join("model.safetensors"), b"x").unwrap();
    assert!(shown(&folder.path().display().to_string()).contains("not config.json"));
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, b"GGUF").unwrap();
    assert!(shown(&path.display().to_string()).contains("is cut off"));
}

#[test]
fn every_cache_type_is_a_ggml_type() {
    for cache_type in CacheType::VARIANTS {
        assert!(GgmlType::from_name(cache_type).is_some(), "{cache_type}");
    }
}
