//! `quantbench recommend`: what to run for what is needed, proved.

use crate::world::{Ended, World};
use serde_json::Value;

const ASKED: [&str; 5] = ["--quant", "F16,Q8_0,Q4_0", "--format", "json", "--quiet"];

fn recommend(world: &World, flags: &[&str]) -> Ended {
    world.run(&[&["recommend", "tiny-F16.gguf"], flags, &ASKED].concat())
}

fn recommendation(ended: &Ended) -> Value {
    ended.json()["summary"]["recommendation"].clone()
}

fn statuses(found: &Value) -> Vec<&str> {
    let candidates = found["candidates"].as_array().unwrap();
    candidates.iter().map(|it| it["status"].as_str().unwrap()).collect()
}

#[test]
fn the_first_that_meets_everything_is_taken_and_nothing_else_is_made() {
    let world = World::new();
    let ended = recommend(&world, &["--max-kld", "5"]).expect(0);
    let found = recommendation(&ended);
    assert_eq!((&found["chosen"], &found["order"]), (&0.into(), &"closest".into()));
    let trials = ended.run_record()["trials"].as_array().unwrap().clone();
    assert!(trials[1]["artifact"].is_null() && trials[2]["artifact"].is_null());
    assert!(trials[1]["predicted"]["peak_bytes"].as_u64() > Some(0), "{}", trials[1]);
    let shown = world.run(&["show", "last"]).expect(0).stdout;
    assert!(shown.contains("Take F16: it meets KLD ≤ 5 nats"), "{shown}");
    assert!(shown.contains("Not looked at: Q8_0 and Q4_0 (nothing diverges less"), "{shown}");
    assert!(shown.contains("llama-server"), "{shown}");
}

#[test]
fn the_smallest_that_is_near_enough_is_taken() {
    let world = World::new();
    let ended = recommend(&world, &["--max-kld", "5", "--prefer", "smallest"]).expect(0);
    assert_eq!(recommendation(&ended)["chosen"], 2);
}

#[test]
fn what_cannot_be_met_is_told_with_what_comes_nearest_and_ends_with_1() {
    let world = World::new();
    let ended = recommend(&world, &["--max-memory", "1MiB"]).expect(1);
    let found = recommendation(&ended);
    assert_eq!(statuses(&found), ["ruled_out"; 3]);
    assert!(found["candidates"][1]["findings"][0]["is_predicted"].as_bool().unwrap());
    let shown = world.run(&["show", "last"]).expect(0).stdout;
    for part in ["No variant meets what is needed.", "None has memory ≤ 1.00 MiB.", "Nearest: "] {
        assert!(shown.contains(part), "{shown}");
    }
    let trials = ended.run_record()["trials"].clone();
    assert!(trials[1]["artifact"].is_null(), "nothing was made to learn that");
}

#[test]
fn needs_of_an_experiment_and_of_a_use_count_unless_a_flag_says_otherwise() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    let text = std::fs::read_to_string(world.path("models.toml")).unwrap();
    world.write("models.toml", &format!("{text}\n[requirements]\nmax_kld = 5.0\n"));
    let flags = ["recommend", "models.toml", "--for", "edge", "--min-tps", "1", "--format", "json"];
    let ended = world.run(&flags);
    let document = ended.json();
    let needs: Vec<(String, f64)> = document["run"]["requirements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["metric"].as_str().unwrap().to_owned(), it["limit"].as_f64().unwrap()))
        .collect();
    let limit = |name: &str| needs.iter().find(|(metric, _)| metric == name).map(|it| it.1);
    assert_eq!(limit("kld_nats"), Some(5.0));
    assert_eq!(limit("generation_tokens_per_second"), Some(1.0));
    assert_eq!(limit("perplexity_increase"), Some(0.01));
    assert_eq!(document["run"]["experiment"]["recommend"]["order"], "smallest");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = World::new();
    for (flags, expected) in [
        (vec!["--min-accuracy", "questions=0.7"], "there is no task 'questions'"),
        (vec!["--min-accuracy", "questions"], "questions=0.7"),
        (vec!["--max-ttft", "soon"], "500ms"),
        (vec!["--max-kld", "-1"], "above 0"),
        (vec!["--min-tps", "nan"], "above 0"),
        (vec!["--max-memory", "much"], "much"),
        (vec!["--for", "fun"], "chat"),
        (vec!["--max-kld", "1", "--keep", "none"], "budget"),
    ] {
        let ended = recommend(&world, &flags).expect(2);
        assert!(ended.stderr.contains(expected), "{flags:?}: {}", ended.stderr);
    }
}

#[test]
fn a_need_about_the_distance_from_a_reference_asks_for_one() {
    let world = World::new();
    let alone = ["recommend", "tiny-F16.gguf", "--quant", "Q4_0", "--max-kld", "0.001", "--quiet"];
    world.run(&alone).expect_message(2, &["the most precise one here is Q4_0", "--quant"]);
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_measured() {
    let world = World::new();
    world.write("notes.txt", "root:x:0:0:root:/root:/bin/bash\n");
    for command in ["recommend", "plan", "run"] {
        let said = world.run(&[command, "notes.txt"]).expect(2).stderr;
        assert!(said.contains("notes.txt is neither a model nor an experiment"), "{said}");
    }
    let said = world.run(&["recommend", "tiny-F16.gguf", "--max-memory", "6"]).expect(2).stderr;
    assert!(said.contains("'6' has no unit; write it like 6GiB"), "{said}");
    let devices = world.run(&["devices"]).expect(0).stdout;
    if devices.contains("no energy") && !devices.contains("NVIDIA") {
        let flags = ["recommend", "tiny-F16.gguf", "--max-energy", "1", "--budget", "5s"];
        let said = world.run(&flags).expect(2).stderr;
        assert!(said.contains("no counter of this machine can be read"), "{said}");
    }
}
