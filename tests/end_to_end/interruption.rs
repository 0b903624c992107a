//! Interruptions: what was measured is kept, nothing is left behind, and --resume goes on.

use crate::world::{World, children, is_running, program, wait_until, worker};
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Output, Stdio};

/// A flag that has to be repeated with `--resume`.
const REPETITIONS: &str = "2";

/// Starts a run whose second round does not end by itself.
fn start(world: &World) -> Child {
    let mut command = world.process(&["run", "--repetitions", REPETITIONS]);
    command
        .env("QUANTBENCH_WORKER", worker("faulty.sh"))
        .env("REAL_WORKER", program())
        .env("FAULT", "endless")
        // The prompt that the second round asks.
        .env("FAULT_AT", "there was a model");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(name: &str, id: u32) {
    let sent = Command::new("kill").args([name, &id.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Lets the run measure until its first round is stored, and returns the worker that is at work then.
fn let_it_measure(world: &World, id: u32) -> u32 {
    let stored = || {
        let shown = world.run(&["show", "last", "--format", "json"]);
        if shown.code != Some(0) {
            return false;
        }
        let document = shown.run_record();
        document["trials"].as_array().is_some_and(|trials| {
            trials.iter().all(|trial| trial["visits"].as_array().unwrap().len() == 1)
        })
    };
    wait_until("a stored round", stored);
    let mut workers = Vec::new();
    wait_until("a worker", || {
        workers = children(id);
        !workers.is_empty()
    });
    workers[0]
}

fn finish(child: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Resumes and checks that the run is whole and has what was measured before.
fn resume(world: &World, before: &Value) {
    let arguments =
        ["run", "--repetitions", REPETITIONS, "--quiet", "--format", "json", "--resume"];
    let document = world.run(&arguments).expect(0).run_record();
    assert_eq!(document["id"], before["id"]);
    let trials = document["trials"].as_array().unwrap();
    for (trial, before) in trials.iter().zip(before["trials"].as_array().unwrap()) {
        let visits = trial["visits"].as_array().unwrap();
        let kept = before["visits"].as_array().unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(visits.len(), 2);
        assert_eq!(visits[..kept.len()], kept[..], "stored visits are not measured again");
    }
    world
        .run(&arguments)
        .expect_message(2, &["there is no interrupted run of 'tiny' to go on with"]);
}

fn stored(world: &World) -> Value {
    world.run(&["show", "last", "--format", "json"]).run_record()
}

#[test]
fn ctrl_c_and_sigterm_keep_what_was_measured_and_say_how_to_go_on() {
    for name in ["-INT", "-TERM"] {
        let world = World::new();
        world.experiment("\"F16\", \"Q8_0\", \"Q4_0\"", "");
        let child = start(&world);
        let worker = let_it_measure(&world, child.id());
        signal(name, child.id());
        let (code, said) = finish(child);
        assert_eq!(code, Some(130), "{said}");
        assert!(said.contains("run --repetitions 2 --resume"), "{said}");
        wait_until("the end of the worker", || !is_running(worker));
        resume(&world, &stored(&world));
    }
}

/// That names the earlier run as the last one, which by then is the interrupted run itself.
#[test]
fn a_run_against_an_earlier_one_goes_on_with_the_command_that_is_told() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&["run", "--quiet"]).expect(0);
    let earlier = stored(&world)["id"].clone();
    let other = fs::read_to_string(world.path("models.toml")).unwrap();
    world.write("slower.toml", &format!("{other}\n[settings]\nubatch = 16\n"));
    let arguments = ["run", "slower.toml", "--against", "last", "--format", "json"];
    let mut command = world.process(&arguments);
    command
        .env("QUANTBENCH_WORKER", worker("faulty.sh"))
        .env("REAL_WORKER", program())
        .env("FAULT", "endless")
        .env("FAULT_AT", "there was a model");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let_it_measure(&world, child.id());
    signal("-INT", child.id());
    let (code, said) = finish(child);
    assert_eq!(code, Some(130), "{said}");
    let before = stored(&world);
    assert_ne!(before["id"], earlier);
    let resumed = world.run(&[&arguments[..], &["--quiet", "--resume"]].concat()).expect(0).json();
    assert_eq!(resumed["form"]["kind"], "interleaved");
    let after = stored(&world);
    assert_eq!((&after["id"], &after["experiment"]["against"]["run"]), (&before["id"], &earlier));
    for (trial, before) in
        after["trials"].as_array().unwrap().iter().zip(before["trials"].as_array().unwrap())
    {
        assert_eq!(trial["label"], before["label"]);
        assert_eq!(trial["visits"].as_array().unwrap().len(), 2);
        assert_eq!(trial["visits"][0], before["visits"][0], "it is not measured again");
    }
}

#[test]
fn kill_9_leaves_no_worker_behind_and_loses_only_the_visit_under_way() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\", \"Q4_0\"", "");
    let mut child = start(&world);
    let worker = let_it_measure(&world, child.id());
    assert!(listed(&world).ends_with("  under way"), "{}", listed(&world));
    signal("-KILL", child.id());
    child.wait().unwrap();
    wait_until("the end of the worker", || !is_running(worker));
    assert!(listed(&world).ends_with("  interrupted"), "{}", listed(&world));
    resume(&world, &stored(&world));
}

/// What `list` says of the only run.
fn listed(world: &World) -> String {
    let list = world.run(&["list"]).expect(0).stdout;
    list.lines().nth(2).unwrap_or_default().to_owned()
}

#[test]
fn an_interrupted_bench_says_how_it_ended() {
    let world = World::new();
    let mut command = world.process(&["bench", "tiny-F16.gguf", "-p", "16", "-n", "0"]);
    command
        .env("QUANTBENCH_WORKER", worker("faulty.sh"))
        .env("REAL_WORKER", program())
        .env("FAULT", "endless")
        .env("FAULT_AT", "repetitions");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a bench under way", || listed(&world).ends_with("  under way"));
    wait_until("its worker", || !children(child.id()).is_empty());
    signal("-INT", child.id());
    let (code, said) = finish(child);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("interrupted; to see what was measured: quantbench show"), "{said}");
    assert!(listed(&world).ends_with("  interrupted"), "{}", listed(&world));
    let shown = world.run(&["show"]).expect(0).stdout;
    assert!(!shown.contains("--resume"), "{shown}");
}

#[test]
fn kill_9_while_a_variant_is_made_leaves_no_half_file() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let mut command = world.process(&["run", "--quiet", "--rounds", "1"]);
    command
        .env("QUANTBENCH_WORKER", worker("faulty.sh"))
        .env("REAL_WORKER", program())
        .env("FAULT", "half")
        .env("FAULT_AT", "quantize");
    let mut child = command.spawn().unwrap();
    let half = |world: &World| {
        let is_half = |path: &_| fs::read(path).is_ok_and(|bytes| bytes == b"GGUF and no more");
        world.cached_files().into_iter().find(is_half)
    };
    wait_until("half a file", || half(&world).is_some());
    let worker = children(child.id())[0];
    signal("-KILL", child.id());
    child.wait().unwrap();
    wait_until("the end of the worker", || !is_running(worker));
    world.run(&["run", "--quiet", "--rounds", "1"]).expect(0);
    assert_eq!(half(&world), None);
}

#[test]
fn a_changed_experiment_is_not_resumed() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let child = start(&world);
    let_it_measure(&world, child.id());
    signal("-INT", child.id());
    assert_eq!(finish(child).0, Some(130));
    world
        .run(&["run", "--repetitions", "5", "--resume"])
        .expect_message(2, &["measured something else", "'repetitions'"]);
    let path = world.path("tiny-F16.gguf");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    world
        .run(&["run", "--repetitions", REPETITIONS, "--resume"])
        .expect_message(2, &["the file behind tiny F16 has changed"]);
}
