//! Disk for two variants is enough: what a run fetches and makes, in its order, and what is left of it.

use crate::hub::{Hub, published};
use crate::world::World;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// GGUFs and unfinished files below a folder.
fn models_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(models_below(&path));
        } else if path.parent().is_some_and(|it| it.ends_with("blobs"))
            || path.extension().is_some_and(|it| it == "gguf" || it == "partial")
        {
            found.push(path);
        }
    }
    found
}

const SHORT: [&str; 6] = ["run", "models.toml", "--rounds", "2", "--format", "json"];

#[test]
fn nothing_stays_of_a_run_that_keeps_nothing_but_what_was_there_before() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\", \"Q4_0\"", "");
    world.run(&[&SHORT[..], &["--quant", "F16,Q8_0"]].concat()).expect(0);
    let before = models_below(&world.path("cache"));
    assert_eq!(before.len(), 1);
    let run = world.run(&[&SHORT[..], &["--keep", "none"]].concat()).expect(0).run_record();
    assert_eq!(models_below(&world.path("cache")), before);
    let deleted: Vec<bool> = run["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|trial| trial["artifact"]["deleted"].as_bool().unwrap_or(false))
        .collect();
    assert_eq!(deleted, [false, false, true]);
    let budget = ["--keep", "none", "--budget", "1min"];
    let refused = ["leave out --budget or --keep none"];
    world.run(&[&SHORT[..], &budget].concat()).expect_message(2, &refused);
    let plan = ["tiny-F16.gguf", "--quant", "F16", "--keep", "none", "--dry-run"];
    world.run(&plan).expect(0);
    let shown = world.run(&["show"]).expect(0).stdout;
    assert!(shown.contains("one after the other") && shown.contains("--keep none"), "{shown}");
}

#[test]
fn a_file_of_the_hub_goes_after_its_last_visit_and_the_source_when_nothing_is_made_of_it() {
    let world = World::new();
    let hub = Hub::with(published(&world), &json!({}));
    world.experiment("\"F16\"", "");
    let run = |more: &[&str]| {
        let model = ["--model", "owner/tiny-GGUF"];
        let ended = hub.run(&world, &[&SHORT[..], &model, more].concat()).expect(0);
        let json: Value = serde_json::from_str(&ended.stdout).unwrap();
        json["summary"]["rows"].as_array().unwrap().len()
    };
    // Q5_0 and Q6_K are made of F16, which is not measured.
    assert_eq!(run(&["--quant", "Q8_0,Q5_0,Q6_K", "--keep", "none"]), 3);
    assert_eq!(hub.fetched(), ["tiny-q8_0.gguf", "BF16/tiny-F16.gguf"]);
    let folders = ["huggingface", "cache"].map(|name| models_below(&world.path(name)));
    assert_eq!(folders, [Vec::<PathBuf>::new(), Vec::new()]);
    // What another run fetched is not this one's.
    assert_eq!(run(&["--quant", "Q8_0"]), 1);
    let before = models_below(&world.path("huggingface"));
    assert_eq!(run(&["--quant", "Q8_0,F16", "--keep", "none"]), 2);
    assert_eq!(models_below(&world.path("huggingface")), before);
}

#[test]
fn needs_are_told_before_anything_is_fetched() {
    let world = World::new();
    let hub = Hub::with(published(&world), &json!({}));
    world.experiment("\"F16\"", "");
    let model = ["run", "models.toml", "--model", "owner/tiny-GGUF", "--quant", "F16,Q5_0"];
    let is_told = |said: &str| said.contains("needs: ") && !said.contains("nothing to download");
    let dry = hub.run(&world, &[&model[..], &["--dry-run"]].concat()).expect(0).stdout;
    assert!(is_told(&dry), "{dry}");
    let none = hub.run(&world, &[&model[..], &["--dry-run", "--keep", "none"]].concat());
    let none = none.expect(0).stdout;
    assert!(none.contains("and 0 B at the end"), "{none}");
    assert_eq!(hub.fetched(), [] as [&str; 0]);
    // Standard error is no terminal: nobody is asked.
    let short = ["--rounds", "1", "--format", "json"];
    let first = hub.run(&world, &[&model[..], &short].concat()).expect(0);
    assert!(is_told(&first.stderr), "{}", first.stderr);
    // All is there now.
    let again = hub.run(&world, &[&model[..], &short].concat()).expect(0);
    assert!(!again.stderr.contains("needs:"), "{}", again.stderr);
    let dry = hub.run(&world, &[&model[..], &["--dry-run"]].concat()).expect(0).stdout;
    assert!(dry.contains("needs: nothing to download; no disk"), "{dry}");
}

#[test]
fn a_terminal_is_asked_before_a_large_download() {
    let world = World::new();
    // The hub says that it is large; nothing of it is fetched.
    let huge = vec![("huge-Q4_0.gguf".to_owned(), b"GGUF".to_vec())];
    let hub = Hub::with(huge, &json!({}));
    let answered = |answer: &str, more: &str, home: &str| {
        let program = crate::world::program();
        let run = format!("{} run --model owner/tiny-GGUF --quant Q4_0 {more}", program.display());
        let mut script = Command::new("script");
        script.args(["-qec", &run, "/dev/null"]).envs(world.environment());
        script.current_dir(world.path("")).env("QUANTBENCH_OFFLINE", "0");
        script.env("HF_ENDPOINT", hub.address()).env("HF_HOME", world.path(home));
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut script = script.spawn().unwrap();
        std::io::Write::write_all(script.stdin.as_mut().unwrap(), answer.as_bytes()).unwrap();
        let output = script.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = answered("n\n", "", "one");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("2.00 GiB will be downloaded; go on? [Y/n]"), "{said}");
    assert_eq!(hub.fetched(), [] as [&str; 0]);
    let (code, said) = answered("y\n", "", "one");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("error: cannot measure Q4_0 of"), "{said}");
    let (_, said) = answered("", "--yes", "two");
    assert!(!said.contains("go on?") && said.contains("needs: 2.00 GiB to download"), "{said}");
}

#[test]
fn a_disk_that_is_too_small_is_told_before_anything_is_fetched() {
    let world = World::new();
    let vast = vec![("vast-Q4_0.gguf".to_owned(), b"GGUF".to_vec())];
    let hub = Hub::with(vast, &json!({}));
    let model = ["run", "--model", "owner/tiny-GGUF", "--quant", "Q4_0"];
    let ended = hub.run(&world, &model).expect_message(2, &["the run needs up to", "free some"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(hub.fetched(), [] as [&str; 0]);
}
