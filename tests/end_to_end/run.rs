//! `quantbench run`: from an experiment to one table.

use crate::world::World;
use serde_json::Value;

const THREE: &str = "\"F16\", \"Q8_0\", \"Q4_0\"";

/// The trials of a run's JSON.
fn trials(document: &Value) -> &Vec<Value> {
    document["trials"].as_array().unwrap()
}

#[test]
fn every_variant_is_made_measured_and_told_as_json() {
    let world = World::new();
    world.experiment(THREE, "");
    let ended = world.run(&["run", "--format", "json", "--quiet"]).expect(0);
    assert_eq!(ended.stderr, "");
    let document = ended.run_record();
    let trials = trials(&document);
    let labels: Vec<&str> = trials.iter().map(|trial| trial["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["F16", "Q8_0", "Q4_0"]);
    for trial in trials {
        let visits = trial["visits"].as_array().unwrap();
        assert_eq!(visits.len(), 2);
        let answered: usize =
            visits.iter().map(|visit| visit["responses"].as_array().unwrap().len()).sum();
        assert_eq!(answered, 3, "every prompt once");
        for visit in visits {
            let speed = visit["speed"].as_array().unwrap();
            for (test, (name, tokens)) in speed.iter().zip([("pp16", 16), ("tg4", 4)]) {
                assert_eq!(
                    (&test["test"], test["samples"].as_array().unwrap().len()),
                    (&name.into(), 1)
                );
                assert_eq!(test["samples"][0]["tokens"], tokens);
            }
            assert_eq!(speed.len(), 2);
            // The program alone takes more than its file of weights.
            assert!(visit["peak_rss_bytes"].as_u64() > trial["artifact"]["file_bytes"].as_u64());
            // K and V of one layer, 64 values of 2 bytes for each of the context's tokens.
            let buffers = visit["memory"].as_array().unwrap();
            let kv: u64 = buffers.iter().map(|it| it["kv_bytes"].as_u64().unwrap()).sum();
            let context = buffers[0]["context"].as_u64().unwrap();
            assert_eq!(kv, context.next_multiple_of(256) * 2 * 64 * 2, "{buffers:?}");
            for response in visit["responses"].as_array().unwrap() {
                let times = response["token_nanoseconds"].as_array().unwrap();
                assert!(times.iter().map(Value::as_u64).is_sorted() && times.len() <= 4);
            }
        }
        assert!(trial["failure"].is_null());
    }
    // What llama-perplexity says of the same weights and text (docs/MEASURING.md).
    for (trial, golden) in trials.iter().zip([325.9706, 326.4095, 325.8466]) {
        let found = trial["quality"]["perplexity"]["mean"].as_f64().unwrap();
        assert!((found / golden - 1.0).abs() < 5e-5, "{found} is not {golden}");
    }
    assert_eq!(trials[0]["is_reference"], true);
    assert!(trials[0]["quality"]["divergence"].is_null());
    let kld = |trial: &Value| trial["quality"]["divergence"]["kld"]["mean"].as_f64().unwrap();
    assert!(kld(&trials[1]) > 0.0 && kld(&trials[1]) < kld(&trials[2]), "Q4_0 is worse than Q8_0");
    assert!(document["finished"].is_string());
}

#[test]
fn progress_goes_to_standard_error_in_plain_lines_and_the_table_to_standard_output() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let ended = world.run(&["run"]).expect(0);
    for part in ["tiny Q8_0: made", "tiny F16: found", "Q8_0, round 2 of 2: pp16", "left)"] {
        assert!(ended.stderr.contains(part), "no '{part}' in:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains('\u{1b}') && !ended.stdout.contains('\u{1b}'));
    assert!(ended.stdout.contains("Q8_0") && ended.stdout.contains("tg4"), "{}", ended.stdout);
    let widest = ended.stdout.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns:\n{}", ended.stdout);
}

#[test]
fn a_second_run_finds_the_variants_of_the_first() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&["run", "--rounds", "1"]).expect(0);
    let again = world.run(&["run", "--rounds", "1"]).expect(0);
    assert!(again.stderr.contains("tiny Q8_0: found"), "{}", again.stderr);
}

#[test]
fn a_dry_run_shows_the_trials_and_makes_nothing() {
    let world = World::new();
    world.experiment(THREE, "");
    let ended = world.run(&["run", "--dry-run"]).expect(0);
    for part in ["F16 (reference)", "Q4_0", "to be made", "3 trials", "disk"] {
        assert!(ended.stdout.contains(part), "no '{part}' in:\n{}", ended.stdout);
    }
    let made: Vec<_> = world
        .cached_files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "gguf"))
        .collect();
    assert!(made.is_empty(), "{made:?}");
    assert!(!world.path("runs.sqlite").exists());
}

#[test]
fn requirements_that_nothing_meets_exit_with_1() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let path = world.path("models.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let with = |requirement: &str| format!("{text}\n[requirements]\n{requirement}\n");
    world.write("models.toml", &with("min_generation_tps = 1e9"));
    world.run(&["run", "--quiet", "--rounds", "1"]).expect(1);
    world.write("models.toml", &with("min_generation_tps = 0.001"));
    world.run(&["run", "--quiet", "--rounds", "1"]).expect(0);
    // Any figure can be required, by its name.
    world.write("models.toml", &with("max_file_bytes = \"1KiB\""));
    world.run(&["run", "--quiet", "--rounds", "1"]).expect(1);
    world.write("models.toml", &with("max_file_byte = 1"));
    let parts = ["models.toml:", "did you mean 'max_file_bytes'?"];
    world.run(&["run", "--quiet"]).expect_message(2, &parts);
}

#[test]
fn the_result_goes_to_a_file_when_asked() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let arguments = ["run", "--quiet", "--rounds", "1", "--format", "json", "-o", "result.json"];
    let ended = world.run(&arguments).expect(0);
    assert_eq!(ended.stdout, "");
    let text = std::fs::read_to_string(world.path("result.json")).unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_ok());
    let expected = "cannot write the result to nowhere/result.json: there is no folder nowhere\n";
    world.run(&["run", "--quiet", "-o", "nowhere/result.json"]).expect_message(2, &[expected]);
}

#[test]
fn every_format_can_be_asked_for() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    for format in ["table", "markdown", "csv", "jsonl", "llama-bench"] {
        let arguments = ["run", "--quiet", "--rounds", "1", "--format", format];
        let ended = world.run(&arguments).expect(0);
        assert!(
            ended.stdout.contains("Q8_0") || ended.stdout.contains("q8_0"),
            "{format}: {ended:?}"
        );
        if ["jsonl", "llama-bench"].contains(&format) {
            for line in ended.stdout.lines() {
                assert!(serde_json::from_str::<Value>(line).is_ok(), "{format}: {line}");
            }
        }
    }
}

#[test]
fn settings_are_swept() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let text = std::fs::read_to_string(world.path("models.toml")).unwrap();
    world.write("models.toml", &format!("{text}\n[settings]\nthreads = [1, 2]\n"));
    let document =
        world.run(&["run", "--quiet", "--rounds", "1", "--format", "json"]).expect(0).run_record();
    let threads: Vec<u64> = trials(&document)
        .iter()
        .map(|trial| trial["settings"]["threads"].as_u64().unwrap())
        .collect();
    assert_eq!(threads, [1, 2]);
    // Not in a bit do figures depend on it.
    let quality = |trial: usize| &trials(&document)[trial]["quality"];
    assert_eq!(quality(0)["chunk_nll"], quality(1)["chunk_nll"]);
    assert!(quality(0)["chunk_nll"].as_array().unwrap().len() >= 30);
    assert_eq!(quality(1)["divergence"]["kld"]["mean"], 0.0, "equal weights diverge by nothing");
}

#[test]
fn a_folder_of_ready_variants_is_taken_as_it_is() {
    let world = World::new();
    world.ready_variants("Q8_0,Q4_0");
    world.experiment("", "");
    let text = std::fs::read_to_string(world.path("models.toml")).unwrap();
    let text = text.replace("tiny-F16.gguf", "variants").replace("quantizations = []\n", "");
    world.write("models.toml", &text);
    let document =
        world.run(&["run", "--quiet", "--rounds", "1", "--format", "json"]).expect(0).run_record();
    assert_eq!(trials(&document).len(), 3);
    assert!(trials(&document).iter().all(|trial| trial["artifact"]["quantize_seconds"].is_null()));
}

#[test]
fn what_variants_hold_besides_their_names_is_told_before_and_after() {
    // Rows of 64 and 128 weights hold no super-block of 256.
    let world = World::new();
    world.experiment("\"F16\", \"Q4_0\", \"Q2_K\"", "");
    let instead = "8 tensors are Q4_0";
    let same = "one file under 2 names";
    let planned = world.run(&["run", "--dry-run"]).expect(0).stdout;
    let made = world.run(&["run", "--quiet", "--rounds", "1"]).expect(0).stdout;
    let made = made.replace("\n    ", " ");
    for text in [&planned, &made] {
        for part in ["Q2_K: ", instead, "no multiple of 256", "none is Q2_K", same] {
            assert!(text.contains(part), "no '{part}' in:\n{text}");
        }
    }
    assert_eq!(planned.matches("time: known after an earlier run").count(), 1, "{planned}");
    // What was announced is what was made, to the digits shown.
    let again = world.run(&["run", "--dry-run"]).expect(0).stdout;
    let size = |text: &str, label: &str| {
        let line = text.lines().find(|line| line.contains(label)).unwrap().to_owned();
        line.split_whitespace().rev().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    for label in ["Q4_0", "Q2_K"] {
        assert_eq!(size(&planned, label), size(&again, label));
    }
    let document = world.run(&["show", "last", "--format", "json"]).expect(0).json();
    assert_eq!(document["summary"]["same_types"], serde_json::json!([["Q4_0", "Q2_K"]]));
    let types = &document["run"]["trials"][2]["facts"]["types"];
    assert_eq!((&types["block"], &types["as_named"]), (&256.into(), &0.into()));

    let ended = world.run(&["quantize", "tiny-F16.gguf", "--to", "Q4_0,Q2_K"]).expect(0);
    for part in ["note: Q2_K here: ", instead, "Q2_K is Q4_0 under another name"] {
        assert!(ended.stderr.contains(part), "no '{part}' in:\n{}", ended.stderr);
    }
    let inspected = world.run(&["inspect", "tiny-Q2_K.gguf"]).expect(0).stdout;
    assert!(inspected.contains("in place of Q2_K: ") && inspected.contains(instead), "{inspected}");
}

#[test]
fn a_model_can_be_measured_without_an_experiment() {
    let world = World::new();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-chat-F16.gguf");
    std::fs::copy(demo, world.path("chat-F16.gguf")).unwrap();
    let planned = world.run(&["run", "chat-F16.gguf", "--quant", "Q8_0", "--dry-run"]).expect(0);
    for part in ["chat-F16", "Q8_0", "to be made", "latency ("] {
        assert!(planned.stdout.contains(part), "no '{part}' in:\n{}", planned.stdout);
    }
    world.run(&["quantize", "tiny-F16.gguf", "--to", "Q8_0"]).expect(0);
    let again = ["run", "tiny-Q8_0.gguf", "--quant", "Q4_0", "--dry-run"];
    world.run(&again).expect_message(2, &["--allow-requantize"]);
    world.run(&[&again[..], &["--allow-requantize"]].concat()).expect(0);
}

#[test]
fn the_result_says_what_was_scored_and_what_to_type() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let shown = world.run(&["run", "--quiet", "--rounds", "1"]).expect(0).stdout;
    assert!(shown.contains("tokens of text.txt"), "{shown}");
    assert!(shown.contains("\n$ llama-server -m "), "{shown}");
}
