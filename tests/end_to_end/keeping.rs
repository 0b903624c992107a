//! Disk for two variants is enough: what a run fetches and makes, in its order, and what is left of it.

use crate::hub::{Hub, published};
use crate::world::World;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

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
