//! Golden values: figures of the demo's models beside those of llama.cpp's own tools, and sums over what the methods
//! make. docs/MEASURING.md names the commands that the tools' figures come from, and the spreads that were measured.
//!
//! Figures and files do not depend on the number of threads, not in a bit; that is tested. They do depend on the
//! instruction set, which adds in another order; activations rounded to eight bits carry that into the fourth digit.
//! So no checksum of bytes can be compared, and tolerances are twice the spread that was measured, or more.

use crate::tiny_model;
use crate::world::{World, words};
use quantbench::engine::llama::backend::Backend;
use quantbench::engine::llama::blocks;
use quantbench::engine::llama::gguf_file::GgufInput;
use quantbench::quantize::importance::ImportanceMatrix;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn demo(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(path).display().to_string()
}

#[track_caller]
fn near(what: &str, found: f64, golden: f64, tolerance: f64) {
    let change = (found / golden - 1.0).abs();
    assert!(change <= tolerance, "{what}: {found:.7} is not {golden} (off by {change:.2e})");
}

/// An experiment on one file that measures nothing but what `workloads` says.
fn experiment(world: &World, source: &str, quantizations: &str, rest: &str) -> Value {
    world.write(
        "golden.toml",
        &format!(
            "quantizations = [{quantizations}]\n[experiment]\nrounds = 1\n\
             {rest}\n[[models]]\nname = \"golden\"\nsource = \"{source}\"\n"
        ),
    );
    world.run(&["run", "golden.toml", "--format", "json", "--quiet"]).expect(0).run_record()
}

const NOTHING_ELSE: &str = "[workloads]\ncold_load = false\nspeed = []\nlatency.enabled = false\n";

fn perplexity(trial: &Value) -> f64 {
    trial["quality"]["perplexity"]["mean"].as_f64().unwrap()
}

fn kld(trial: &Value) -> f64 {
    trial["quality"]["divergence"]["kld"]["mean"].as_f64().unwrap()
}

#[test]
fn perplexity_and_divergence_are_those_of_llama_perplexity() {
    let world = World::new();
    let text = demo("texts/evaluation.txt");
    let quality =
        format!("{NOTHING_ELSE}quality = {{ text = \"{text}\", chunks = 16, precision = 0 }}\n");
    let model = demo("model/quantbench-demo-F16.gguf");
    let run = experiment(&world, &model, "\"F16\", \"Q8_0\", \"Q4_K_M\"", &quality);
    let trials = run["trials"].as_array().unwrap();
    let of = |label: &str| trials.iter().find(|trial| trial["label"] == label).unwrap();
    near("PPL of F16", perplexity(of("F16")), 10.2325, 5e-5);
    near("PPL of Q8_0", perplexity(of("Q8_0")), 10.2557, 1.5e-3);
    near("PPL of Q4_K_M", perplexity(of("Q4_K_M")), 10.7102, 7e-4);
    near("KLD of Q8_0", kld(of("Q8_0")), 0.001_220, 5e-2);
    near("KLD of Q4_K_M", kld(of("Q4_K_M")), 0.073_571, 6e-3);
}

#[test]
fn perplexity_beyond_a_sliding_window_is_that_of_llama_perplexity() {
    let world = World::new();
    tiny_model::write_with_window(&world.path("window.gguf"));
    let text = demo("texts/evaluation.txt");
    let quality = format!(
        "[settings]\nubatch = 64\n{NOTHING_ELSE}quality = {{ text = \"{text}\", context = 1024, chunks = 4 }}\n"
    );
    let run = experiment(&world, "window.gguf", "\"F32\"", &quality);
    // One token more in the window would make it 280.374, no window 289.775.
    near("PPL", perplexity(&run["trials"][0]), 280.2388, 1e-5);
}

#[test]
fn the_answers_of_the_demo_are_right_as_often_as_they_were() {
    let world = World::new();
    let questions = demo("tasks/questions.jsonl");
    let task = format!(
        "{NOTHING_ELSE}quality.enabled = false\n[[workloads.tasks]]\nname = \"questions\"\n\
         kind = \"question-answering\"\ndataset = \"{questions}\"\n\
         fields = {{ id = \"id\", choices = \"choices\", gold = \"answer\" }}\n\
         template = \"{{{{ context }}}}\\nQuestion: {{{{ question }}}}\"\n"
    );
    let model = demo("model/quantbench-demo-chat-F16.gguf");
    let run = experiment(&world, &model, "\"F16\"", &task);
    let task = &run["trials"][0]["tasks"][0];
    assert_eq!(task["questions"], 160);
    assert_eq!(task["scores"][0]["metric"], "acc");
    let right: f64 =
        task["scores"][0]["counts"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).sum();
    // One answer may be a tie on another processor.
    assert!((right - 123.0).abs() <= 1.0, "{right} of 160 are right");
}

/// A sum over values that tells which stand where: each is counted with a weight of its own between 1 and 2.
#[expect(clippy::cast_precision_loss, reason = "weights far below 2^52")]
fn weighted_sum(values: impl Iterator<Item = f64>) -> f64 {
    let weight = |at: usize| 1.0 + (at * 2_654_435_761 % 1009) as f64 / 1009.0;
    values.enumerate().map(|(at, value)| value * weight(at)).sum()
}

/// Makes a file with one thread and with two, which must be the same file.
fn made_with_any_number_of_threads(world: &World, arguments: &[&str], name: &str) {
    let files = ["1", "2"].map(|threads| {
        let more = ["-o", name, "--quiet", "--force", "-t", threads];
        world.run(&[arguments, &more].concat()).expect(0);
        fs::read(world.path(name)).unwrap()
    });
    assert!(files[0] == files[1], "{name} depends on the number of threads");
}

#[test]
fn an_importance_matrix_is_that_of_llama_imatrix() {
    let world = World::new();
    let (model, text) = (demo("model/quantbench-demo-F16.gguf"), demo("texts/calibration.txt"));
    let make = ["calibrate", &model, "--calibration", &text, "--context", "512", "--chunks", "4"];
    made_with_any_number_of_threads(&world, &make, "matrix.gguf");
    let matrix = ImportanceMatrix::read(Backend::initialise(), &world.path("matrix.gguf")).unwrap();
    let sum = |weight: &str| {
        weighted_sum(matrix.weights[weight].squares.iter().map(|&square| f64::from(square)))
    };
    for (weight, golden, tolerance) in [
        ("blk.0.attn_q.weight", 89_940.13, 1e-6),
        ("blk.3.ffn_down.weight", 142_213.7, 3e-5),
        ("blk.8.ffn_down.weight", 2_924_354.0, 1e-4),
    ] {
        near(weight, sum(weight), golden, tolerance);
    }
}

/// The weights of a tensor as numbers.
fn weights(path: &Path, name: &str) -> Vec<f64> {
    let file = GgufInput::open(Backend::initialise(), path).unwrap();
    let tensor = file.find(name).unwrap();
    let mut values = Vec::new();
    blocks::dequantize(tensor.entry.format, file.bytes(tensor), &mut values).unwrap();
    values.into_iter().map(f64::from).collect()
}

#[test]
fn gptq_chooses_the_weights_that_it_chose() {
    let world = World::new();
    world.write("text.txt", &words(600));
    let rounded = ["quantize", "tiny-F16.gguf", "--to", "Q4_0"];
    made_with_any_number_of_threads(&world, &rounded, "rtn.gguf");
    let more = ["--method", "gptq", "--calibration", "text.txt", "--context", "64"];
    made_with_any_number_of_threads(&world, &[&rounded[..], &more].concat(), "gptq.gguf");
    let [chosen, rounded, source] = ["gptq.gguf", "rtn.gguf", "tiny-F16.gguf"]
        .map(|name| weights(&world.path(name), "blk.0.ffn_down.weight"));
    let squares = |of: &[f64]| weighted_sum(of.iter().map(|value| value * value));
    let distance = |of: &[f64]| {
        weighted_sum(of.iter().zip(&source).map(|(value, source)| (value - source).powi(2)))
    };
    near("the source", squares(&source), 41.124_346_94, 1e-9);
    near("rounded to nearest", squares(&rounded), 40.634_877, 1e-6);
    near("its distance from the source", distance(&rounded), 0.168_692_4, 1e-6);
    // Another instruction set may choose another neighbour for a few of the 8192 weights.
    near("chosen by GPTQ", squares(&chosen), 41.070_45, 1e-3);
    near("its distance from the source", distance(&chosen), 0.472_338, 1e-2);
}
