//! How each format looks, and what it promises to other programs.

use super::{
    all_failed, all_runs, needs, show, table, three_settings, wide_names, widest,
    with_needs_and_failures,
};
use crate::experiment::settings::{CacheType, FlashAttention, Settings};
use crate::report::{Format, RenderOptions, render};
use crate::results::made_up::{LADDER, MadeUp};
use crate::results::record::{RunRecord, TrialRecord};
use crate::workload::Phase;
use clap::ValueEnum;
use serde_json::Value;
use std::collections::BTreeSet;
use strum::VariantNames as _;

/// Lines of a snapshot: no file has more than 500.
const LINES_OF_A_FILE: usize = 480;

/// Two variants, one round, two prompts: small enough to read as JSON.
fn small() -> RunRecord {
    let variants = LADDER[..2].to_vec();
    let mut run = MadeUp { variants, rounds: 1, prompts: 2, ..MadeUp::default() }.run();
    for trial in &mut run.trials {
        for response in &mut trial.visits[0].responses {
            response.token_nanoseconds.truncate(3);
        }
        let quality = trial.quality.as_mut().unwrap();
        quality.chunk_nll.truncate(3);
        if let Some(divergence) = &mut quality.divergence {
            divergence.chunk_kld.truncate(3);
        }
    }
    run.requirements = needs();
    run
}

#[test]
fn the_table_of_twelve_variants() {
    insta::assert_snapshot!(table(&MadeUp::default().run(), 100));
}

#[test]
fn the_table_with_needs_and_failures() {
    insta::assert_snapshot!(table(&with_needs_and_failures(), 100));
}

#[test]
fn the_table_in_a_narrow_terminal() {
    insta::assert_snapshot!(table(&MadeUp::default().run(), 60));
}

#[test]
fn the_table_of_three_settings() {
    insta::assert_snapshot!(table(&three_settings(), 100));
}

#[test]
fn the_table_with_wide_names() {
    insta::assert_snapshot!(table(&wide_names(), 100));
}

#[test]
fn the_table_of_a_gpu_run_with_everything_it_has() {
    insta::assert_snapshot!(table(&MadeUp { gpu: true, ..MadeUp::default() }.run(), 220));
}

#[test]
fn the_table_of_failures_says_why() {
    insta::assert_snapshot!(table(&all_failed(), 100), @r"
    laptop · 2026-11-23-k3f9 · 2026-11-23 10:43 UTC · 21 min 00 s
    AMD Ryzen 7 7840U · 8 cores · 32.0 GiB memory · Linux 6.1 · llama.cpp 0.6.0
    llama-3.2-1b · settings: defaults

                 file  quantize
    variant       MiB         s
    ────────────────────────────
    F16 ref [1]  2365         -
    Q8_0 [2]     1259        13
    Q6_K [3]      975        10

    [1] F16 failed in load: llama.cpp: unknown model architecture
    [2] Q8_0 failed in load: llama.cpp: unknown model architecture
    [3] Q6_K failed in load: llama.cpp: unknown model architecture

    No trial succeeded, so there is nothing to compare.
    ");
}

#[test]
fn markdown() {
    insta::assert_snapshot!(show(Format::Markdown, &with_needs_and_failures(), 100));
}

#[test]
fn every_format_shows_a_small_run() {
    for format in Format::value_variants() {
        let name = format.to_possible_value().unwrap().get_name().replace('-', "_");
        let text = show(*format, &small(), 100);
        // A long one stands in several files.
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for (part, lines) in lines.chunks(LINES_OF_A_FILE).enumerate() {
            let part = if part == 0 { String::new() } else { format!("_{}", part + 1) };
            insta::assert_snapshot!(format!("format_{name}{part}"), lines.concat());
        }
    }
}

#[test]
fn every_format_shows_every_run_in_lines() {
    for (what, run) in all_runs() {
        for format in Format::value_variants() {
            let text = show(*format, &run, 100);
            let is_whole = text.is_empty() || (text.ends_with('\n') && !text.ends_with("\n\n"));
            assert!(is_whole, "{what} in {format:?}");
            assert!(!text.contains('\u{1b}'), "{what} in {format:?}");
        }
    }
}

#[test]
fn llama_bench() {
    let mut run = small();
    run.trials.truncate(1);
    run.trials[0].settings = Settings {
        flash_attention: FlashAttention::On,
        cache_type_k: CacheType::Q8_0,
        kv_offload: false,
        mmap: false,
        ..Settings::default()
    };
    insta::assert_snapshot!(show(Format::LlamaBench, &run, 100));
}

#[test]
fn every_table_fits_its_terminal_and_holds_no_escape() {
    for (what, run) in all_runs() {
        for columns in [60, 72, 80, 100, 120, 160, 240] {
            let text = table(&run, columns);
            assert!(widest(&text) <= columns, "{what} at {columns}:\n{text}");
            let control = |character: char| character.is_control() && character != '\n';
            assert!(!text.contains(control), "{what}");
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{what}");
        }
    }
}

#[test]
fn the_width_that_is_said_to_show_all_shows_all() {
    for (what, run) in all_runs() {
        let narrow = table(&run, 60);
        let Some(rest) =
            narrow.replace("\n    ", " ").split("(--columns ").nth(1).map(str::to_owned)
        else {
            continue;
        };
        let all: usize = rest.split(' ').next().unwrap().parse().unwrap();
        // Names may be wider in a wider terminal, which the note at that width then says.
        let at_all = table(&run, all);
        if what != "wide names" {
            assert!(!at_all.contains("Left out"), "{what} at {all}:\n{at_all}");
            assert!(table(&run, all - 1).contains("Left out"), "{what} at {}", all - 1);
        }
    }
}

#[test]
fn color_changes_nothing_but_color() {
    for (what, run) in all_runs() {
        let options = RenderOptions { columns: 100, color: true };
        let colored = String::from_utf8(render(Format::Table, &run, &options).unwrap()).unwrap();
        let mut plain = String::new();
        let mut rest = colored.as_str();
        while let Some(at) = rest.find('\u{1b}') {
            plain.push_str(&rest[..at]);
            let end = rest[at..].find('m').unwrap();
            rest = &rest[at + end + 1..];
        }
        plain.push_str(rest);
        let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n") + "\n", table(&run, 100), "{what}");
    }
    let options = RenderOptions { columns: 100, color: true };
    let colored = render(Format::Table, &MadeUp::default().run(), &options).unwrap();
    assert!(colored.contains(&0x1b));
}

/// Forbids fields that the schema does not name, so that the test finds what is not documented.
pub(super) fn strict(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        if object.contains_key("properties") {
            object.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        object.values_mut().for_each(strict);
    } else if let Some(items) = schema.as_array_mut() {
        items.iter_mut().for_each(strict);
    }
}

#[test]
fn json_is_what_its_schema_says_and_nothing_else() {
    let mut schema: Value =
        serde_json::from_str(include_str!("../../../docs/schema/run.json")).unwrap();
    let phases = &schema["$defs"]["phase"]["properties"]["phase"]["enum"];
    let phases: BTreeSet<&str> =
        phases.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(phases, Phase::VARIANTS.iter().copied().collect());
    strict(&mut schema);
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("run.json", schema).unwrap();
    let mut schemas = boon::Schemas::new();
    let compiled = compiler.compile("run.json", &mut schemas).unwrap();
    for (what, run) in all_runs() {
        let document: Value = serde_json::from_str(&show(Format::Json, &run, 100)).unwrap();
        if let Err(error) = schemas.validate(&document, compiled) {
            panic!("{what}: {error:#}");
        }
        let read: RunRecord = serde_json::from_value(document["run"].clone()).unwrap();
        assert_eq!(read, run, "{what}");
    }
    let mut broken: Value = serde_json::from_str(&show(Format::Json, &small(), 100)).unwrap();
    broken["summary"]["rows"][0]["figures"]["file_bytes"]["value"] = Value::from("many");
    assert!(schemas.validate(&broken, compiled).is_err(), "the schema must be able to fail");
}

/// The schema of a line has the definitions of the schema of a run.
#[test]
fn a_line_of_jsonl_is_described_as_the_run_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema/trial.json");
    let read = |path: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let (mut line, run) = (read(path), read(&path.replace("trial.json", "run.json")));
    if std::env::var_os("UPDATE").is_some() {
        line["$defs"] = run["$defs"].clone();
        std::fs::write(path, serde_json::to_string_pretty(&line).unwrap() + "\n").unwrap();
    }
    let same = line["$defs"] == run["$defs"];
    assert!(same, "docs/schema/trial.json is stale; UPDATE=1 cargo test --lib jsonl writes it");
    strict(&mut line);
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("trial.json", line).unwrap();
    let mut schemas = boon::Schemas::new();
    let compiled = compiler.compile("trial.json", &mut schemas).unwrap();
    for (what, run) in all_runs() {
        for line in show(Format::Jsonl, &run, 100).lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if let Err(error) = schemas.validate(&line, compiled) {
                panic!("{what}: {error:#}");
            }
        }
    }
}

#[test]
fn jsonl_has_a_line_per_trial_that_reads_back() {
    for (what, run) in all_runs() {
        let text = show(Format::Jsonl, &run, 100);
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), run.trials.len(), "{what}");
        for (line, trial) in lines.iter().zip(&run.trials) {
            let read: TrialRecord = serde_json::from_value(line["trial"].clone()).unwrap();
            assert_eq!(&read, trial, "{what}");
            assert_eq!(line["summary"]["label"], trial.label.as_str());
        }
    }
}

#[test]
fn csv_has_the_same_columns_whatever_was_measured() {
    let titles = |run: &RunRecord| show(Format::Csv, run, 100).lines().next().unwrap().to_owned();
    let full = titles(&MadeUp { gpu: true, ..MadeUp::default() }.run());
    assert_eq!(full, titles(&MadeUp { quality: false, prompts: 0, ..MadeUp::default() }.run()));
    for (what, run) in all_runs() {
        let text = show(Format::Csv, &run, 100);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows = reader.records().collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(rows.len(), run.trials.len(), "{what}");
    }
}

#[test]
fn markdown_tables_are_tables_whatever_the_names() {
    for (what, run) in all_runs() {
        let text = show(Format::Markdown, &run, 100);
        let unescaped = |line: &str| line.replace("\\|", "").matches('|').count();
        let mut widths = Vec::new();
        for line in text.lines().filter(|line| line.starts_with('|')) {
            widths.push(unescaped(line));
        }
        widths.dedup();
        assert!(widths.len() <= 1, "{what}: {widths:?}\n{text}");
    }
}

#[test]
fn llama_bench_lines_have_its_fields_in_its_order() {
    // llama.cpp, tools/llama-bench/llama-bench.cpp: test::get_fields and the JSONL printer; use_mmap
    // is what older versions had in place of load_mode.
    const FIELDS: &str = "build_commit build_number cpu_info gpu_info backends model_filename \
        model_type model_size model_n_params n_batch n_ubatch n_threads cpu_mask cpu_strict poll \
        type_k type_v n_gpu_layers n_cpu_moe split_mode main_gpu no_kv_offload flash_attn devices \
        tensor_split tensor_buft_overrides load_mode use_mmap lazy_mode embeddings no_op_offload \
        no_host repack fit_target fit_min_ctx n_prompt n_gen n_depth test_time avg_ns stddev_ns \
        avg_ts stddev_ts samples_ns samples_ts";
    for (what, run) in all_runs() {
        for line in show(Format::LlamaBench, &run, 100).lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let fields = value.as_object().unwrap();
            for field in FIELDS.split_whitespace() {
                assert!(!fields[field].is_null(), "{what}: {field}");
            }
            let at = |field: &str| line.find(&format!("\"{field}\":")).unwrap();
            let places: Vec<usize> = FIELDS.split_whitespace().map(at).collect();
            assert!(places.is_sorted(), "{what}");
            assert_eq!(fields.len(), places.len(), "{what}");
        }
    }
}
