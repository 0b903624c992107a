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
    let several = ["compare", "last:F16", "last:Q8_0", "--fail-on", "file +1%", "kld +900%"];
    assert!(world.run(&several).expect(2).stderr.contains("a reference has no distance"));
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
        // What came of two short measurements is the machine's to say.
        assert!(table.contains("pp16") && table.contains("run against"), "{table}");
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

#[test]
fn an_earlier_run_is_measured_again_in_turns() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&["run", "--quiet"]).expect(0);
    let same = world.run(&["run", "--quiet", "--against", "last"]).expect(2);
    assert!(
        same.stderr.contains("nothing that both measure differs from run")
            && same.stderr.contains("--against-binary"),
        "{same:?}"
    );
    let settings = world.path("models.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    world.write("slower.toml", &format!("{text}[settings]\nubatch = 16\n"));
    let arguments = ["run", "slower.toml", "--quiet", "--against", "last", "--fail-on", "kld +10%"];
    let table = world.run(&arguments).expect(0).stdout;
    for told in [
        "measured again in",
        "Both were measured in turns in one run",
        "settings: defaults → ub=16",
        "tiny F16 (defaults → ub=16)",
        "held  'kld +10%'",
    ] {
        assert!(table.contains(told), "{told}: {table}");
    }
    // It can be shown again, and the run itself has both.
    assert_eq!(
        world.run(&["compare", "last"]).expect(0).stdout.lines().next(),
        table.lines().next()
    );
    let json = world.run(&["show", "last", "--format", "json"]).expect(0).stdout;
    let document: Value = serde_json::from_str(&json).unwrap();
    let trials = document["run"]["trials"].as_array().unwrap();
    let labels: Vec<&str> = trials.iter().map(|it| it["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["F16 (base)", "F16", "Q8_0 (base)", "Q8_0"]);
    let first = |trial: &Value, round: usize| {
        trial["visits"][round]["started"].as_str().unwrap().to_owned()
    };
    assert!(first(&trials[0], 0) < first(&trials[1], 0), "the base goes first in the first round");
    assert!(first(&trials[0], 1) > first(&trials[1], 1), "and second in the second");
}

#[test]
fn another_build_computes_the_earlier_variants() {
    let world = World::new();
    world.experiment("\"F16\", \"Q8_0\"", "");
    world.run(&["run", "--quiet"]).expect(0);
    // The same program under another name is another build as far as anyone can tell.
    let other = world.path("quantbench-before");
    std::fs::copy(crate::world::program(), &other).unwrap();
    let other = other.to_string_lossy().into_owned();
    let arguments =
        ["run", "--quiet", "--against", "last", "--against-binary", &other, "--format", "json"];
    let ran = world.run(&arguments).expect(0);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["form"]["kind"], "interleaved");
    let engine = &document["differences"][0];
    assert_eq!(engine["what"], "engine");
    assert!(engine["base"].as_str().unwrap().ends_with("quantbench-before"), "{engine}");
    for pair in document["pairs"].as_array().unwrap() {
        for answers in pair["answers"].as_array().unwrap() {
            assert_eq!(answers["changed"], 0, "{pair}");
        }
        let figures = pair["figures"].as_array().unwrap();
        let perplexity = figures.iter().find(|it| it["figure"] == "perplexity").unwrap();
        assert_eq!(perplexity["change"]["value"], 0.0);
    }
    let refused = |program: &str| {
        world.run(&["run", "--against", "last", "--against-binary", program]).expect(2).stderr
    };
    assert!(refused("/bin/echo").contains("is no quantbench that can be measured with"));
    assert!(refused("/nowhere").contains("is no quantbench that can be measured with"));
}

#[test]
fn what_cannot_be_measured_against_is_told() {
    let world = World::new();
    measured(&world);
    for (arguments, told) in [
        (vec!["--against", "gone"], "no stored run is named 'gone'"),
        (vec!["--against", "last", "--format", "csv"], "table, markdown or json"),
        (vec!["--fail-on", "tg4 -5%"], "--against RUN"),
        (vec!["--against", "last", "--keep", "none"], "leave --keep at 'all'"),
        (vec!["--against", "last,last"], "takes one run"),
        (vec!["--against-binary", "x"], "--against"),
        (vec!["--against", "last", "--budget", "1min"], "cannot be used with"),
    ] {
        let refused = world.run(&[&["run", "--quiet"], &arguments[..]].concat()).expect(2);
        assert!(refused.stderr.contains(told), "{arguments:?}: {refused:?}");
    }
    world.experiment("\"F16\", \"Q8_0\", \"Q4_0\"", "");
    let json = world.run(&["show", "--format", "json"]).expect(0).stdout;
    let mut document: Value = serde_json::from_str(&json).unwrap();
    for trial in document["run"]["trials"].as_array_mut().unwrap() {
        trial["artifact"]["path"] = "/gone.gguf".into();
        trial["artifact"]["checksum"] = "00".into();
    }
    world.write("moved.json", &document.to_string());
    let refused = world.run(&["run", "--quiet", "--against", "moved.json"]).expect(2);
    assert!(refused.stderr.contains("is not there any more: /gone.gguf"), "{refused:?}");
    let refused = world.run(&["compare", "last"]).expect(2);
    assert!(refused.stderr.contains("was not measured --against another run"), "{refused:?}");
}

#[test]
fn the_workflow_in_the_documents_has_flags_that_there_are() {
    let document = include_str!("../../docs/COMPARE.md");
    let (_, workflow) = document.split_once("```yaml").unwrap();
    let (workflow, _) = workflow.split_once("```").unwrap();
    assert!(!workflow.contains('\t'), "YAML has no tabs");
    let help = World::new().run(&["run", "--help"]).expect(0).stdout;
    let (_, commands) = workflow.split_once("quantbench run").unwrap();
    let (commands, _) = commands.split_once("- name: Comment").unwrap();
    let flags: Vec<&str> =
        commands.split_whitespace().filter(|word| word.starts_with("--")).collect();
    assert!(flags.len() > 8, "{flags:?}");
    for flag in flags {
        assert!(help.contains(flag), "{flag}");
    }
    for gate in commands.split("--fail-on \"").skip(1) {
        let (gate, _) = gate.split_once('"').unwrap();
        let world = World::new();
        let refused = world.run(&["compare", "a", "b", "--fail-on", gate]).expect(2);
        assert!(refused.stderr.contains("'a' is no file"), "a gate that is read: {refused:?}");
    }
}
