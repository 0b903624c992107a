//! Workers that fail in every way: the run goes on and says why.

use crate::world::{Ended, World, children, wait_until};
use serde_json::Value;
use std::fs;
use std::process::Stdio;

/// Three variants as files with telling names.
fn three_files() -> World {
    let world = World::new();
    world.ready_variants("Q8_0,Q4_0");
    world.experiment("", "");
    let text = fs::read_to_string(world.path("models.toml")).unwrap();
    let text = text.replace("tiny-F16.gguf", "variants").replace("quantizations = []\n", "");
    world.write("models.toml", &text.replace("60s", "15s"));
    world
}

const ARGUMENTS: [&str; 6] = ["run", "--quiet", "--rounds", "1", "--format", "json"];

/// The reason why a trial failed, with its phase.
fn failure(document: &Value, label: &str) -> String {
    let trials = document["trials"].as_array().unwrap();
    let is_it = |trial: &&Value| trial["label"].as_str().unwrap().contains(label);
    trials.iter().find(is_it).unwrap()["failure"]["reason"].as_str().unwrap().to_owned()
}

fn check_others(ended: &Ended, failed: &str) {
    let document = ended.run_record();
    for trial in document["trials"].as_array().unwrap() {
        let is_failed = trial["label"].as_str().unwrap().contains(failed);
        assert_eq!(trial["failure"].is_null(), !is_failed, "{trial}");
        assert_eq!(trial["visits"].as_array().unwrap().is_empty(), is_failed);
    }
}

#[test]
fn a_worker_that_ends_badly_fails_its_trial_and_no_other() {
    let world = three_files();
    for (fault, reason) in [
        ("kill", "the worker was killed"),
        ("abort", "aborted: fake.cpp:42: GGML_ASSERT(tensors > 0) failed"),
        ("babble", "wrote something that is not an event and was ended: 'this is no event'"),
        ("hang", "nothing happened for 15.0 s and the worker was ended (phase_limit)"),
    ] {
        let ended = world.run_faulty(fault, "tiny-Q4_0", &ARGUMENTS).expect(3);
        check_others(&ended, "Q4_0");
        let found = failure(&ended.run_record(), "Q4_0");
        assert!(found.contains(reason), "{fault}: {found}");
    }
}

#[test]
fn the_table_gives_the_reason_in_a_footnote() {
    let world = three_files();
    let ended = world.run_faulty("abort", "tiny-Q4_0", &ARGUMENTS[..4]).expect(3);
    assert!(ended.stdout.contains("GGML_ASSERT"), "{}", ended.stdout);
}

#[test]
fn a_worker_killed_in_the_middle_fails_its_trial_only() {
    let world = three_files();
    let mut arguments = ARGUMENTS.to_vec();
    // Long enough to be hit; the first worker measures the quality of the reference.
    arguments.extend(["--repetitions", "300"]);
    let mut command = world.process(&arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    wait_until("a worker", || !children(id).is_empty());
    let worker = children(id)[0];
    let killed =
        std::process::Command::new("kill").args(["-KILL", &worker.to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let document = Ended { code: Some(3), stdout, stderr: String::new() }.run_record();
    assert!(failure(&document, "F16").contains("killed"));
    let trials = document["trials"].as_array().unwrap();
    assert_eq!(trials.iter().filter(|trial| trial["failure"].is_null()).count(), 2);
}

#[test]
fn a_variant_damaged_in_its_weights_header_is_told_before_anything_runs() {
    let world = three_files();
    let path = world.path("variants/tiny-Q4_0.gguf");
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(&path, bytes).unwrap();
    world.run(&ARGUMENTS).expect_message(2, &["tiny-Q4_0.gguf"]);
}

#[test]
fn a_variant_damaged_in_the_cache_is_made_again() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&ARGUMENTS).expect(0);
    let is_variant = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "gguf");
    let variant = world.cached_files().into_iter().find(is_variant).unwrap();
    let bytes = fs::read(&variant).unwrap();
    fs::write(&variant, &bytes[..bytes.len() - 100]).unwrap();
    world.run(&ARGUMENTS).expect(0);
    assert_eq!(fs::read(&variant).unwrap(), bytes);
}

#[test]
fn a_worker_program_that_is_not_there_is_one_error_and_leaves_no_run() {
    let world = three_files();
    let mut command = world.command(&ARGUMENTS);
    let ended = crate::world::ended(command.env("QUANTBENCH_WORKER", "/nowhere/worker"));
    let ended = ended.expect_message(2, &["of tiny: cannot start the worker /nowhere/worker"]);
    assert_eq!(ended.stderr.matches("/nowhere/worker").count(), 1, "{}", ended.stderr);
    world.run(&["show", "last"]).expect(2);
}
