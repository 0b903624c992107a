//! Shapes: speed and memory of a network that nobody trained, from dimensions, a header, or a name.

use crate::host::far;
use crate::hub::{Hub, published};
use crate::world::{World, ended};
use serde_json::{Value, json};
use std::fs;

const TINY: &str = "architecture = \"llama\"\nhidden_size = 64\nnum_hidden_layers = 2\n\
    num_attention_heads = 4\nnum_key_value_heads = 2\nintermediate_size = 128\nvocab_size = 512\n\
    max_position_embeddings = 256\n";

/// A world with dimensions and an experiment that asks for everything.
fn world() -> World {
    let world = World::new();
    world.experiment("\"F16\", \"Q4_0\"", "");
    world.write("mine.toml", TINY);
    let text = fs::read_to_string(world.path("models.toml")).unwrap();
    world.write("models.toml", &text.replace("tiny-F16.gguf", "shape:mine.toml"));
    world
}

fn size(world: &World, name: &str) -> u64 {
    fs::metadata(world.path(name)).unwrap().len()
}

#[test]
fn dimensions_give_speed_and_memory_and_no_quality() {
    let world = world();
    let planned = world.run(&["run", "--dry-run"]).expect(0).stdout;
    assert!(planned.contains("to be made") && !planned.contains("at most"), "{planned}");
    assert!(planned.contains("pp16, tg4, latency") && !planned.contains("KLD"), "{planned}");
    let run = world.run(&["run", "--format", "json", "--quiet"]).expect(0).run_record();
    let trials = run["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 2);
    for trial in trials {
        assert_eq!(trial["failure"], Value::Null);
        assert_eq!(trial["quality"], Value::Null);
        let visit = &trial["visits"][0];
        assert!(visit["speed"].as_array().is_some_and(|tests| tests.len() == 2), "{visit}");
    }
    let shown = world.run(&["show"]).expect(0).stdout;
    let note = "Quality is not measured of tiny: the weights of a shape are generated";
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&shown).contains(note), "{shown}");
    // The size that was planned is that of the file.
    let bytes = trials[1]["artifact"]["file_bytes"].as_u64().unwrap();
    let made = "quantize shape:mine.toml --to Q4_0 -o made.gguf".split(' ').collect::<Vec<_>>();
    world.run(&made).expect(0);
    assert_eq!(size(&world, "made.gguf"), bytes);
}

#[test]
fn what_needs_trained_weights_is_refused_with_the_reason() {
    let world = world();
    world.run(&["run", "--quant", "imatrix:Q4_0"]).expect_message(2, &["generated", "'Q4_0'"]);
    let asked = ["quantize", "shape:mine.toml", "--to", "gptq:Q4_0"];
    world.run(&asked).expect_message(2, &["--to gptq:Q4_0", "generated"]);
    let asked = ["mix", "shape:mine.toml", "--target-bpw", "4.5", "-o", "mixed.gguf"];
    world.run(&asked).expect_message(2, &["MODEL is 'shape:", "name the model itself"]);
    let asked = ["calibrate", "shape:mine.toml", "-o", "matrix.gguf"];
    world.run(&asked).expect_message(2, &["MODEL is 'shape:"]);
    world.write(
        "quality.toml",
        "[workloads]\ncold_load = false\nspeed = []\nlatency.enabled = false\n\
         quality.text = \"text.txt\"\n[[models]]\nsource = \"shape:mine.toml\"\n",
    );
    let told = ["nothing is left to measure of 'mine'", "answers mean nothing"];
    world.run(&["run", "quality.toml"]).expect_message(2, &told);
}

#[test]
fn names_and_files_that_are_none_are_told_with_what_is_near() {
    let world = world();
    let near = "did you mean 'shape:qwen3-0.6b'?";
    for command in
        [&["run", "shape:qwen3-0.7b"][..], &["shape:qwen3-0.7b"], &["inspect", "shape:qwen3-0.7b"]]
    {
        world.run(command).expect_message(2, &["'shape:qwen3-0.7b', which is no shape", near]);
    }
    world.write("wrong.toml", &TINY.replace("hidden_size", "hiden_size"));
    let told = ["wrong.toml gives no shape", "did you mean 'hidden_size'?"];
    world.run(&["bench", "shape:wrong.toml"]).expect_message(2, &told);
    world.write("broken.gguf", "GGUF and nothing else");
    world.run(&["bench", "shape:broken.gguf"]).expect_message(2, &["broken.gguf is"]);
}

#[test]
fn the_header_of_a_file_is_enough() {
    let world = World::new();
    world.run(&["quantize", "tiny-F16.gguf", "--to", "Q4_0", "-o", "real.gguf"]).expect(0);
    let whole = fs::read(world.path("real.gguf")).unwrap();
    let header = world.run(&["inspect", "--format", "json", "real.gguf"]).expect(0).json();
    let data = header["tensors"].as_array().unwrap();
    let bytes: u64 = data.iter().map(|it| it["bytes"].as_u64().unwrap()).sum();
    let cut = whole.len() - usize::try_from(bytes).unwrap();
    fs::write(world.path("cut.gguf"), &whole[..cut]).unwrap();
    world.run(&["inspect", "cut.gguf"]).expect_message(2, &["is cut off"]);
    world.run(&["quantize", "shape:cut.gguf", "--to", "Q4_0", "-o", "made.gguf"]).expect(0);
    let made = world.run(&["inspect", "--format", "json", "made.gguf"]).expect(0).json();
    let tensors = |inspected: &Value| {
        let all = inspected["tensors"].as_array().unwrap().iter();
        let mut all: Vec<String> =
            all.map(|it| format!("{} {} {}", it["name"], it["dimensions"], it["bytes"])).collect();
        all.sort();
        all
    };
    assert_eq!(tensors(&made), tensors(&header));
    // A label behind it says what it is measured as.
    let measured = world.run(&["bench", "shape:cut.gguf:Q8_0", "-p", "8", "-n", "4", "-o", "json"]);
    assert!(measured.expect(0).stdout.contains("Q8_0"));
}

#[test]
fn of_a_file_on_the_hub_no_more_than_the_header_is_fetched() {
    let world = World::new();
    let hub = Hub::with(published(&world), &json!({}));
    let arguments = ["quantize", "shape:owner/tiny-GGUF:Q8_0", "--to", "Q8_0", "-o", "made.gguf"];
    hub.run(&world, &arguments).expect(0);
    assert_eq!(hub.fetched(), [] as [String; 0]);
    let bytes = |name: &str| i64::try_from(size(&world, name)).unwrap();
    assert!((bytes("made.gguf") - bytes("variants/tiny-Q8_0.gguf")).abs() < 256);
}

#[test]
fn an_agent_is_sent_the_header_and_makes_the_file() {
    let world = world();
    let far = far(&world);
    let asked = ["run", "--format", "json", "--quiet", "--quant", "Q8_0"];
    let run = ended(world.command(&asked).env("QUANTBENCH_AGENT", &far.command)).expect(0);
    let trial = run.run_record()["trials"][0].clone();
    assert_eq!((&trial["failure"], &trial["host"]["name"]), (&Value::Null, &json!("agent")));
    let kept = far.artifacts();
    assert!(kept.iter().any(|name| name.ends_with(".header")), "{kept:?}");
    assert_eq!(far.count("{\"put\":"), 1, "the header alone");
}
