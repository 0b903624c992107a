//! What fits is told before anything is fetched, made or run, and a script can trust the exit code.

use crate::hub::{Hub, published};
use crate::world::{Ended, World};
use serde_json::{Value, json};

/// Plans a model in a world; the result as JSON.
fn planned(ended: &Ended) -> Vec<Value> {
    let plan = ended.json();
    assert_eq!(plan["format"], "quantbench.plan", "{plan}");
    plan["variants"].as_array().unwrap().clone()
}

/// Weights in bytes of each variant, by its name.
fn weights(ended: &Ended) -> Vec<(String, u64)> {
    let of = |it: &Value| {
        let name = it["variant"].as_str().unwrap().to_owned();
        (name, it["memory"][0]["weights_bytes"].as_u64().unwrap())
    };
    planned(ended).iter().map(of).collect()
}

#[test]
fn what_is_planned_of_a_source_is_what_its_variants_take() {
    let world = World::new();
    let plan = |model: &str| {
        world.run(&["plan", model, "--quant", "F16,Q8_0,Q4_0", "--format", "json", "-q"]).expect(0)
    };
    let to_make = plan("tiny-F16.gguf");
    let files: Vec<Value> = planned(&to_make).iter().map(|it| it["file"].clone()).collect();
    assert_eq!(files, ["ready", "to_make", "to_make"]);
    let left = world.cached_files();
    let made = left.iter().any(|path| path.extension().is_some_and(|it| it == "gguf"));
    assert!(!made, "nothing is made and no outline is left: {left:?}");
    let checksums = std::fs::read_to_string(world.path("cache/checksums.json"));
    assert!(!checksums.is_ok_and(|it| it.contains("tiny-F16")), "the file was read to its end");
    world.ready_variants("Q8_0,Q4_0");
    let ready = plan("variants");
    assert!(planned(&ready).iter().all(|it| it["file"] == "ready"));
    assert_eq!(weights(&to_make), weights(&ready));
    let [f16, _, q4] = weights(&ready).try_into().unwrap();
    assert!(q4.1 < f16.1, "{f16:?} {q4:?}");
    for it in planned(&ready) {
        assert_eq!(it["result"]["verdict"], "fits", "{it}");
        let parts = ["weights_bytes", "kv_bytes", "compute_bytes", "process_bytes"];
        let sum: u64 = parts.iter().map(|part| it["memory"][0][part].as_u64().unwrap()).sum();
        assert_eq!(it["memory"][0]["needed"][0]["peak_bytes"], sum);
    }
}

#[test]
fn a_budget_decides_and_a_change_that_is_offered_is_enough() {
    let world = World::new();
    let plan = |context: &str, cache_types: &str, budget: &str| {
        let flags = ["plan", "demo", "--quant", "Q8_0", "--format", "json", "-q"];
        let more = ["--context", context, "--cache-types", cache_types, "--budget", budget];
        world.run(&[&flags[..], &more[..]].concat())
    };
    let result = |ended: &Ended| planned(ended)[0]["result"].clone();
    assert_eq!(result(&plan("65536", "f16", "host=2GiB").expect(0))["verdict"], "fits");
    let none = result(&plan("65536", "f16", "host=10MiB").expect(1));
    assert_eq!((&none["verdict"], &none["of"]), (&json!("does_not_fit"), &json!("host")));
    let with = result(&plan("65536", "f16,q4_0", "host=240MiB").expect(1));
    assert_eq!(with["with"][0], json!({ "cache_type": "q4_0" }), "{with}");
    let context = with["with"][1]["context"].as_u64().unwrap();
    assert!((512..65_536).contains(&context), "{with}");
    plan("65536", "q4_0", "host=240MiB").expect(0);
    // The process takes a MiB more or less from one time to the next; a step of 16 KiB a token is far more.
    plan(&(context - 512).to_string(), "f16", "host=240MiB").expect(0);
    plan(&(context + 2048).to_string(), "f16", "host=240MiB").expect(1);
    let several =
        world.run(&["plan", "demo", "--quant", "Q8_0", "--parallel", "4", "--format", "json"]);
    let alone = world.run(&["plan", "demo", "--quant", "Q8_0", "--format", "json"]);
    let kv = |ended: &Ended| planned(ended)[0]["memory"][0]["kv_bytes"].as_u64().unwrap();
    assert_eq!(kv(&several), 4 * kv(&alone), "the context is each sequence's");
}

#[test]
fn of_a_repository_no_more_than_headers_is_read() {
    let world = World::new();
    let hub = Hub::with(published(&world), &json!({}));
    let flags = ["--quant", "F16,Q8_0,Q5_0", "--format", "json", "-q"];
    let plan = |model: &'static str| [&["plan", model][..], &flags[..]].concat();
    let remote = hub.run(&world, &plan("owner/tiny-GGUF")).expect(0);
    let files: Vec<Value> = planned(&remote).iter().map(|it| it["file"].clone()).collect();
    assert_eq!(files, ["to_fetch", "to_fetch", "to_make"]);
    assert_eq!(weights(&remote), weights(&world.run(&plan("tiny-F16.gguf")).expect(0)));
    assert!(hub.fetched().is_empty(), "no file is fetched whole");
    assert!(!world.path("huggingface/hub").exists(), "and none is kept");
}

#[test]
fn a_target_has_a_verdict_and_an_upper_bound_of_speed() {
    let world = World::new();
    let ask = ["plan", "demo", "--quant", "Q8_0", "--target", "pi5-8gb,30MiB@17GB/s", "--format"];
    let rows = planned(&world.run(&[&ask[..], &["json"]].concat()).expect(0));
    let verdicts: Vec<&Value> = rows.iter().map(|it| &it["result"]["verdict"]).collect();
    assert_eq!(verdicts, ["fits", "does_not_fit"]);
    let bytes = rows[1]["bytes_per_token"].as_f64().unwrap();
    assert!((rows[1]["most_tokens_per_second"].as_f64().unwrap() - 17e9 / bytes).abs() < 1e-6);
    let table = world.run(&[&ask[..], &["table"]].concat()).expect(0).stdout;
    assert!(table.contains("t/s at most") && table.contains("Raspberry Pi 5, 8 GB"), "{table}");
    assert!(!table.contains("trained for"), "{table}");
    let long =
        world.run(&["plan", "demo", "--quant", "Q8_0", "--context", "2048"]).expect(0).stdout;
    assert!(long.contains("note: demo was trained for 1024 tokens"), "{long}");
    assert!(!table.contains("F16"), "the reference was not asked for: {table}");
    let here = world.run(&["plan", "demo", "--quant", "Q8_0"]).expect(0).stdout;
    assert!(!here.contains("t/s"), "nothing is told of this machine's speed: {here}");
}

#[test]
fn speeds_are_predicted_until_they_are_measured() {
    let world = World::new();
    let plan = |flags: &[&str]| {
        let ask = ["plan", "demo", "--quant", "F16,Q8_0", "--context", "1024", "--threads", "1"];
        world.run(&[&ask[..], flags].concat()).expect(0)
    };
    let origins = |ended: &Ended, at: usize| -> Vec<String> {
        let tests = planned(ended)[at]["speed"]["tests"].as_array().unwrap().clone();
        tests.iter().map(|it| it["origin"].as_str().unwrap_or("none").to_owned()).collect()
    };
    let unmeasured = plan(&["--format", "json"]);
    assert_eq!(origins(&unmeasured, 0), ["none"; 4]);
    assert!(plan(&[]).stdout.contains("quantbench devices --measure"));
    // More types than the first are measured only as far as there is time.
    let measured = plan(&["--measure", "--format", "json"]);
    assert_eq!(origins(&measured, 0), ["predicted"; 4]);
    let speed = planned(&measured)[0]["speed"]["tests"][1].clone();
    assert_eq!(speed["test"], "tg128");
    let [low, value, high] =
        ["low", "value", "high"].map(|key| speed["tokens_per_second"][key].as_f64().unwrap());
    assert!(0.0 < low && low < value && value < high, "{speed}");
    world.run(&["bench", "demo", "-p", "512", "-n", "128", "-t", "1", "-r", "1", "-q"]).expect(0);
    let again = plan(&["--format", "json"]);
    assert_eq!(origins(&again, 0), ["measured", "measured", "predicted", "predicted"]);
    let places = plan(&["--target", "here,30MiB@17GB/s"]).stdout;
    assert!(places.contains("measured pp512, tg128; else predicted"), "{places}");
    assert!(places.contains("good") && places.contains("no: it does not fit"), "{places}");
}

#[test]
fn what_is_wrong_is_refused_with_what_is_right() {
    let world = World::new();
    let refused = |flags: &[&str], parts: &[&str]| {
        world.run(&[&["plan", "tiny-F16.gguf"], flags].concat()).expect_message(2, parts);
    };
    refused(&["--budget", "host=six"], &["'six' is not a size", "3.5GiB"]);
    refused(&["--budget", "6GiB"], &["'6GiB' names no size", "host=6GiB"]);
    refused(&["--budget", "gpu7=1GiB"], &["this machine has no gpu7; it has host"]);
    refused(&["--target", "pi5-8g"], &["did you mean pi5-8gb?"]);
    refused(&["--target", "board"], &["'board' is no target; there are", "4GiB@17GB/s"]);
    refused(&["--target", "pi5-8gb", "--budget", "host=1GiB"], &["cannot be used with"]);
    refused(&["--threads", "0"], &["whole number from 1"]);
    refused(&["--context", "0"], &["whole number from 1"]);
    refused(&["--cache-types", "q3"], &["q8_0"]);
    world.run(&["plan", "nothing.gguf"]).expect_message(2, &["nothing.gguf"]);
}
