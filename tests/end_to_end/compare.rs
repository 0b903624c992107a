//! `quantbench compare` on stored runs, exported files and llama-bench's formats.

use crate::world::World;
use serde_json::Value;

fn measured(world: &World) {
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&["run", "--quiet"]).expect(0);
}

#[test]
fn two_runs_of_the_same_are_compared_with_what_differs_first() {
    let world = World::new();
    measured(&world);
    world.run(&["show", "--format", "json", "-o", "base.json"]).expect(0);
    world.run(&["run", "--quiet"]).expect(0);
    let table =
        world.run(&["compare", "base.json", "last", "--fail-on", "kld +10%"]).expect(0).stdout;
    let place = |text: &str| table.find(text).unwrap_or_else(|| panic!("{text}: {table}"));
    assert!(place("What differs") < place("The same on both sides"), "{table}");
    assert!(place("The same on both sides") < place("No difference shown"), "{table}");
    assert!(table.contains("tiny Q8_0") && table.contains("held  'kld +10%'"), "{table}");
    assert!(table.contains("All 6 answers are the same."), "{table}");
    let json = world.run(&["compare", "base.json", "last", "--format", "json"]).expect(0).stdout;
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["format"], "quantbench.compare");
    assert_eq!(document["pairs"].as_array().unwrap().len(), 2);
}

#[test]
fn a_gate_that_fails_ends_with_1_and_a_reason() {
    let world = World::new();
    measured(&world);
    let arguments = ["compare", "last:F16", "last:Q8_0", "--fail-on", "file +1%"];
    world.run(&arguments).expect(0);
    let arguments = ["compare", "last:Q8_0", "last:F16", "--fail-on", "file +1%"];
    let failed = world.run(&arguments).expect(1);
    assert!(failed.stdout.contains("FAILED  'file +1%': file of tiny Q8_0 → F16"), "{failed:?}");
    assert_eq!(failed.stderr, "", "it stands in the table");
    let markdown = [&arguments[..], &["--format", "markdown", "-o", "comment.md"]].concat();
    let failed = world.run(&markdown).expect(1);
    assert!(failed.stderr.starts_with("failed: 'file +1%'"), "{failed:?}");
    let comment = std::fs::read_to_string(world.path("comment.md")).unwrap();
    assert!(comment.starts_with("## quantbench: gates failed"), "{comment}");
}

#[test]
fn llama_benchs_formats_are_read_on_either_side() {
    let world = World::new();
    let bench = ["bench", "-p", "16", "-n", "4", "-r", "2", "--quiet", "tiny-F16.gguf"];
    for format in ["json", "jsonl", "csv", "md"] {
        let rows = world.run(&[&bench[..], &["-o", format]].concat()).expect(0).stdout;
        world.write(&format!("rows.{format}"), &rows);
    }
    for (base, new) in
        [("rows.json", "rows.jsonl"), ("rows.csv", "rows.json"), ("rows.jsonl", "last")]
    {
        let table = world.run(&["compare", base, new]).expect(0).stdout;
        assert!(table.contains("pp16") && table.contains("no difference shown"), "{table}");
        assert!(!table.contains("settings  "), "2 threads are what was left to llama.cpp: {table}");
    }
    let refused = world.run(&["compare", "rows.md", "rows.csv"]).expect(2);
    assert!(refused.stderr.contains("Markdown"), "{refused:?}");
    assert!(
        world
            .run(&["compare", "rows.csv", "rows.json", "-o", "rows.csv"])
            .expect(2)
            .stderr
            .contains("is an input")
    );
}

#[test]
fn what_cannot_be_compared_is_told() {
    let world = World::new();
    let refused = world.run(&["compare", "a", "b"]).expect(2);
    assert!(refused.stderr.contains("'a' is no file, and there is no stored run"), "{refused:?}");
    measured(&world);
    for (arguments, told) in [
        (["last", "gone.json"], "there is no file gone.json"),
        (["last", "last"], "the same run"),
        (["last:F16", "last:Q2_K"], "no variant 'Q2_K'; its variants are F16, Q8_0"),
        (["last:", "last"], "no RUN and no RUN:VARIANT"),
        (["last", ""], "no RUN and no RUN:VARIANT"),
        (["last", "tiny-F16.gguf"], "is no text"),
    ] {
        let refused = world.run(&[&["compare"], &arguments[..]].concat()).expect(2);
        assert!(refused.stderr.contains(told), "{arguments:?}: {refused:?}");
    }
    for (gate, told) in [
        ("tg4", "ends without '%'"),
        ("tg5 -5%", "did you mean 'tg4'?"),
        ("tg4 +5%", "write 'tg4 -5%'"),
        ("flips 1%", "measure a task"),
    ] {
        let refused = world.run(&["compare", "last:F16", "last:Q8_0", "--fail-on", gate]).expect(2);
        assert!(refused.stderr.contains(told), "{gate}: {refused:?}");
    }
}
