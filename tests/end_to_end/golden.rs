//! Golden values: figures of the demo's models beside those of llama.cpp's own tools. docs/MEASURING.md names the
//! command that they come from.
//!
//! Figures do not depend on the number of threads. Between instruction sets sums are added in another order, and
//! activations rounded to eight bits carry that further, which the tolerances leave room for.

use crate::world::World;
use serde_json::Value;
use std::path::Path;

fn demo(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(path).display().to_string()
}

#[track_caller]
fn near(what: &str, found: f64, golden: f64, tolerance: f64) {
    let change = (found / golden - 1.0).abs();
    assert!(change <= tolerance, "{what}: {found} is not {golden} (off by {change:.2e})");
}

/// An experiment on one file that measures nothing but what `workloads` says.
fn experiment(world: &World, source: &str, quantizations: &str, workloads: &str) -> Value {
    world.write(
        "golden.toml",
        &format!(
            "quantizations = [{quantizations}]\n[experiment]\nrounds = 1\n[settings]\nthreads = 2\n\
             {workloads}\n[[models]]\nname = \"golden\"\nsource = \"{source}\"\n"
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
    let quality = format!("{NOTHING_ELSE}quality = {{ text = \"{text}\" }}\n");
    let model = demo("model/quantbench-demo-F16.gguf");
    let run = experiment(&world, &model, "\"F16\", \"Q8_0\", \"Q4_K_M\"", &quality);
    let of = |trial: usize| &run["trials"][trial];
    near("PPL of F16", perplexity(of(0)), 9.7885, 5e-4);
    near("PPL of Q8_0", perplexity(of(1)), 9.8023, 5e-4);
    near("PPL of Q4_K_M", perplexity(of(2)), 10.2504, 5e-4);
    near("KLD of Q8_0", kld(of(1)), 0.001_248, 2e-2);
    near("KLD of Q4_K_M", kld(of(2)), 0.073_707, 5e-3);
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
