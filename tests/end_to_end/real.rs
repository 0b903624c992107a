//! What a real model shows and the demo does not: rows that K-quants do not fit, a vocabulary of 49,152 tokens, a chat template,
//! text of many domains. The weights are fetched by `make test-real`.

use crate::world::World;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// llama-perplexity of llama.cpp 0.5.0 over the same 4 chunks of 512 tokens, 2026-11-30.
const GOLDEN_F16: f64 = 53.2638;
const GOLDEN_Q8_0: f64 = 53.8390;

const IGNORED: &str = "the weights are fetched by 'make test-real'";

/// SmolLM2-135M-Instruct in F16. The weights were rounded to `Q4_1` before: good for everything but comparing
/// methods at 4 bits.
fn model() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real");
        let fetched = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
        assert!(fetched.is_file(), "{IGNORED}: {} is not there", fetched.display());
        let made = folder.join("SmolLM2-135M-Instruct-F16.gguf");
        if !made.is_file() {
            let (from, to) = (fetched.display().to_string(), made.display().to_string());
            let make = ["quantize", &from, "--to", "F16", "--allow-requantize", "-o", &to];
            World::new().run(&make).expect(0);
        }
        made
    })
}

fn source() -> String {
    model().display().to_string()
}

/// A run of these variants with one round.
fn run(world: &World, quantizations: &str, workloads: &str) -> Value {
    let source = source();
    world.write(
        "real.toml",
        &format!(
            "quantizations = [{quantizations}]\n[experiment]\nrounds = 1\n{workloads}\n\
             [[models]]\nname = \"smollm2\"\nsource = \"{source}\"\n"
        ),
    );
    world.run(&["run", "real.toml", "--format", "json", "--quiet"]).expect(0).json()
}

fn row<'a>(document: &'a Value, label: &str) -> &'a Value {
    let rows = document["summary"]["rows"].as_array().unwrap();
    rows.iter().find(|row| row["label"] == label).unwrap()
}

fn figure(document: &Value, label: &str, name: &str) -> f64 {
    row(document, label)["figures"][name]["value"].as_f64().unwrap()
}

#[test]
#[ignore = "needs weights that 'make test-real' fetches"]
fn a_real_model_is_measured_on_texts_of_many_domains() {
    let world = World::new();
    let workloads = "[workloads]\nspeed = [\"pp64\", \"tg16\"]\nlatency.enabled = false\ncold_load = false\n\
                     quality = { text = \"standard\", context = 64, chunks = 40 }\n";
    let document = run(&world, "\"F16\", \"Q8_0\", \"Q2_K\"", workloads);
    let klds: Vec<f64> =
        ["Q8_0", "Q2_K"].iter().map(|label| figure(&document, label, "kld_nats")).collect();
    assert!(klds.is_sorted() && klds[0] > 0.0 && klds[1] < 1.0, "{klds:?}");
    // A model that reads 15 languages and domains is less sure than on English prose, and no random one.
    let perplexity = figure(&document, "F16", "perplexity");
    assert!((5.0..300.0).contains(&perplexity), "{perplexity}");
    let domains = row(&document, "Q2_K")["domains"].as_array().unwrap();
    assert!(domains.len() > 8, "{domains:?}");
    assert!(domains.iter().all(|domain| domain["kld"]["value"].as_f64().unwrap() > 0.0));
    let table = world.run(&["show", "last"]).expect(0).stdout;
    for part in ["the standard texts", "Q2_K: ", "(rows of 576 are no multiple of 256)"] {
        assert!(table.contains(part), "no '{part}' in {table}");
    }
    let by_domain = world.run(&["show", "last", "--domains"]).expect(0).stdout;
    assert!(by_domain.contains("code") && by_domain.contains("Q2_K"), "{by_domain}");
}

#[test]
#[ignore = "needs weights that 'make test-real' fetches"]
fn perplexity_of_a_real_model_is_that_of_llama_perplexity() {
    let world = World::new();
    let text =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dataset/standard/evaluation/prose.txt");
    fs::copy(text, world.path("prose.txt")).unwrap();
    let workloads = "[workloads]\nspeed = []\nlatency.enabled = false\ncold_load = false\n\
                     quality = { text = \"prose.txt\", chunks = 4 }\n";
    let document = run(&world, "\"F16\", \"Q8_0\"", workloads);
    for (label, golden, tolerance) in [("F16", GOLDEN_F16, 5e-4), ("Q8_0", GOLDEN_Q8_0, 3e-3)] {
        let found = figure(&document, label, "perplexity");
        assert!((found / golden - 1.0).abs() < tolerance, "{label}: {found} is not {golden}");
    }
}

#[test]
#[ignore = "needs weights that 'make test-real' fetches"]
fn what_stands_in_for_a_type_is_told_by_every_command() {
    let world = World::new();
    let source = source();
    let ended = world.run(&["quantize", &source, "--to", "Q2_K,Q4_K_M", "-o", "made"]).expect(0);
    assert!(ended.stderr.contains("Q2_K here: "), "{}", ended.stderr);
    let made = fs::read_dir(world.path("made")).unwrap().map(|file| file.unwrap().path());
    let q2_k = made.into_iter().find(|path| path.to_string_lossy().contains("Q2_K")).unwrap();
    let inspected = world.run(&["inspect", &q2_k.display().to_string()]).expect(0).stdout;
    assert!(inspected.contains("in place of Q2_K"), "{inspected}");
    assert!(inspected.contains("rows of 576"), "{inspected}");
}

#[test]
#[ignore = "needs weights that 'make test-real' fetches"]
fn the_model_s_own_chat_template_is_what_it_sees() {
    let world = World::new();
    let source = source();
    let seen = world.run(&["prompt", "render", &source, "Who are you?"]).expect(0).stdout;
    for part in ["<|im_start|>user", "Who are you?<|im_end|>", "<|im_start|>assistant"] {
        assert!(seen.contains(part), "no '{part}' in {seen}");
    }
    let detected = world.run(&["prompt", "detect", &source]).expect(0).stdout;
    assert!(detected.contains("chatml"), "{detected}");
}

#[test]
#[ignore = "needs weights that 'make test-real' fetches"]
fn methods_look_at_the_standard_texts_through_a_real_model() {
    let world = World::new();
    let source = source();
    let chunks = ["--chunks", "2", "--context", "128"];
    let matrix = [&["calibrate", source.as_str(), "-o", "matrix.gguf"], &chunks[..]].concat();
    world.run(&matrix).expect(0);
    let make = ["quantize", source.as_str(), "--to", "imatrix:Q4_K_M", "-o", "made.gguf"];
    world.run(&[&make[..], &["--imatrix", "matrix.gguf"]].concat()).expect(0);
    let inspected = world.run(&["inspect", "made.gguf", "--format", "json"]).expect(0).json();
    assert!(inspected.to_string().contains("quantize.imatrix.file"), "{inspected}");
}
