//! Settings are searched, proved against the defaults, and written so that others can take them.

use crate::schemas;
use crate::world::{World, children, program, wait_until, worker};
use serde_json::Value;
use std::process::{Command, Stdio};

const QUICK: [&str; 6] = ["--budget", "8s", "--format", "json", "-q", "-y"];

fn tune(world: &World, flags: &[&str]) -> Value {
    let tuned = world.run(&[&["tune", "tiny-F16.gguf"], flags, &QUICK].concat()).expect(0).json();
    assert_eq!(tuned["format"], "quantbench.tune", "{tuned}");
    schemas::check(world, &tuned);
    tuned
}

#[test]
fn what_is_found_can_be_run_and_is_told_with_its_proof() {
    let world = World::new();
    let tuned = tune(&world, &["--for", "balanced", "--toml", "tuned.toml"]);
    let tried = tuned["tried"].as_array().unwrap();
    assert!(tried.len() > 1, "{tuned}");
    assert_eq!(tried[0]["in_words"], "defaults");
    assert!(tried.iter().all(|it| it["tokens_per_second"].as_f64().unwrap() > 0.0), "{tuned}");
    for finalist in tuned["finalists"].as_array().unwrap() {
        // Three rounds are made in any case.
        assert!(finalist["gain"]["n"].as_u64().unwrap() >= 3, "{finalist}");
        let is_faster = finalist["verdict"] == "faster";
        assert_eq!(is_faster, tuned["changes_defaults"].as_bool().unwrap(), "{tuned}");
    }
    let server = tuned["llama_server"].as_str().unwrap();
    assert!(server.starts_with("llama-server -m ") && server.contains("tiny-F16"), "{server}");
    // The experiment measures the model under these settings.
    let run = world.run(&["run", "tuned.toml", "--rounds", "1", "--format", "json", "-q"]);
    let run = run.expect(0).run_record();
    assert_eq!(run["trials"][0]["settings"], tuned["settings"]);
    let list = world.run(&["list", "--format", "json"]).expect(0).stdout;
    assert!(list.contains("tune tiny-F16 for balanced"), "{list}");
}

#[test]
fn the_verdict_comes_first() {
    let world = World::new();
    let flags = ["tune", "tiny-F16.gguf", "--for", "prompt", "--budget", "5s"];
    let told = world.run(&flags).expect(0);
    let first = told.stdout.lines().next().unwrap();
    assert!(first.starts_with("tiny-F16: "), "{first}");
    assert!(first.contains("prompt") || first.contains("keep the defaults"), "{first}");
    assert!(told.stdout.contains("The search, prompt: one request at a time"), "{}", told.stdout);
}

#[test]
fn requests_side_by_side_are_answered_together() {
    let world = World::new();
    let tuned = tune(&world, &["--for", "throughput", "--parallel", "3"]);
    let tests = tuned["tests"].as_array().unwrap();
    assert!(tests[0].as_str().unwrap().ends_with("x3"), "{tests:?}");
    assert_eq!(tuned["requests"], Value::Array(Vec::new()));
    // Where nobody says how many, it is measured.
    let chosen = tune(&world, &["--for", "throughput"]);
    let parallel = &chosen["use"]["parallel"];
    let requests = chosen["requests"].as_array().unwrap();
    assert!(requests.len() > 1, "{chosen}");
    assert!(requests.iter().any(|it| it["parallel"] == *parallel), "{chosen}");
    for finalist in tuned["finalists"].as_array().unwrap() {
        assert!(finalist["gain"]["n"].as_u64().unwrap() >= 3, "{tuned}");
    }
}

#[test]
fn a_lossy_cache_is_taken_within_its_limit_alone() {
    let world = World::new();
    let tuned = tune(&world, &["--for", "generation", "--allow-loss", "1e-9"]);
    let is_lossy = |settings: &Value| settings["cache_type_k"] != "f16";
    assert!(tuned["tried"].as_array().unwrap().iter().any(|it| is_lossy(&it["settings"])));
    assert!(!is_lossy(&tuned["settings"]), "{tuned}");
    let without = tune(&world, &["--for", "generation"]);
    assert!(!without["tried"].as_array().unwrap().iter().any(|it| is_lossy(&it["settings"])));
}

#[test]
fn what_cannot_be_tuned_is_refused_with_the_flag() {
    let world = World::new();
    let refused = |arguments: &[&str], what: &str| {
        world.run(&[&["tune"], arguments].concat()).expect_message(2, &[what]);
    };
    refused(&["tiny-F16.gguf", "--context", "100000000"], "--context");
    refused(&["tiny-F16.gguf", "--context", "1000000"], "was trained for");
    refused(&["tiny-F16.gguf", "--parallel", "0"], "--parallel");
    refused(&["tiny-F16.gguf", "--budget", "soon"], "10min");
    refused(&["tiny-F16.gguf", "--allow-loss", "0"], "0.01 nats");
    refused(&["tiny-F16.gguf", "--for", "fun"], "possible values");
    refused(&["tiny-F16.gguf", "--resume"], "no interrupted run");
    refused(&["nowhere.gguf"], "nowhere.gguf");
    refused(&["shape:smollm2-135m:Q8_0", "--allow-loss", "0.1"], "generated");
    refused(&["tiny-F16.gguf", "--toml", "tiny-F16.gguf"], "no result replaces");
}

#[test]
fn an_interrupted_search_goes_on_and_a_finished_one_is_told_again() {
    let world = World::new();
    let flags = ["tune", "tiny-F16.gguf", "--for", "generation", "--budget", "8s"];
    let mut command = world.process(&flags);
    command
        .env("QUANTBENCH_WORKER", worker("faulty.sh"))
        .env("REAL_WORKER", program())
        .env("FAULT", "endless")
        .env("FAULT_AT", "repetitions");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let is_begun = || world.run(&["list"]).stdout.contains("under way");
    wait_until("a search under way", is_begun);
    wait_until("its worker", || !children(child.id()).is_empty());
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("--resume"), "{said}");
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(told.starts_with("tiny-F16: "), "an answer in any case: {told}");
    let resume = ["--resume", "--format", "json", "-q"];
    let resumed = world.run(&[&flags[..], &resume].concat()).expect(0).json();
    assert_eq!(resumed["interrupted"], false);
    let again = world.run(&[&flags[..], &resume].concat()).expect(0).json();
    assert_eq!(resumed, again);
}
