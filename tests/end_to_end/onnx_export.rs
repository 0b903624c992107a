//! `quantbench onnx export`: the demo model as ONNX files.

use crate::world::{Ended, World};
use quantbench::onnx::read;
use quantbench::onnx::storage::{Storage, Stored};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-F16.gguf");
const EMBED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-embed-F16.gguf");
const CHAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/quantbench-demo-chat-F16.gguf");

fn export(world: &World, model: &str, targets: &str, more: &[&str]) -> Ended {
    let arguments = ["onnx", "export", model, "-o", "made/graphs", "--to", targets, "--quiet"];
    world.run(&[&arguments, more].concat())
}

/// Names of the files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            names.extend(files(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            names.push(name);
        }
    }
    names.sort();
    names
}

#[test]
fn a_model_becomes_a_folder_of_graphs() {
    let world = World::new();
    let ended = export(&world, CHAT, "fp32,int4,int4,int8-dynamic", &[]).expect(0);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[1].starts_with("made/graphs/onnx/model_q4.onnx  INT4 block 32 symmetric"),
        "{lines:?}"
    );
    let folder = world.path("made/graphs");
    let expected = [
        "config.json",
        "generation_config.json",
        "onnx/model.onnx",
        "onnx/model_q4.onnx",
        "onnx/model_quantized.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(files(&folder), expected);
    let main = |name: &str| Storage::of(&read(&folder.join("onnx").join(name)).unwrap()).main();
    assert_eq!(main("model.onnx"), Some(Stored::F32));
    assert_eq!(main("model_quantized.onnx"), Some(Stored::DynamicInt { bits: 8 }));
    // Another graph goes beside those that are there; one that is there stays.
    export(&world, CHAT, "int8", &[]).expect(0);
    assert_eq!(files(&folder).len(), 8);
    export(&world, CHAT, "int4", &[]).expect_message(2, &["model_q4.onnx is there already"]);
    export(&world, CHAT, "int4", &["--force"]).expect(0);
    // Files beside them are of another model.
    export(&world, DEMO, "fp16", &[]).expect_message(2, &["config.json is there already"]);
    assert_eq!(files(&folder).len(), 8);
}

#[test]
fn an_encoder_says_how_it_pools() {
    let world = World::new();
    export(&world, EMBED, "int4", &[]).expect(0);
    let folder = world.path("made/graphs");
    let expected = [
        "1_Pooling/config.json",
        "config.json",
        "modules.json",
        "onnx/model_q4.onnx",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(files(&folder), expected);
    // Q8_0 rounded a second time: nothing is left of the folder for pooling either.
    world.run(&["quantize", EMBED, "--to", "Q8_0", "-o", "q8.gguf", "--quiet"]).expect(0);
    fs::remove_dir_all(world.path("made")).unwrap();
    export(&world, "q8.gguf", "int4", &[]).expect_message(2, &["would round a second time"]);
    assert!(!world.path("made").exists());
}

#[test]
fn what_cannot_be_exported_leaves_nothing() {
    let world = World::new();
    let whole = fs::read(CHAT).unwrap();
    fs::write(world.path("cut.gguf"), &whole[..whole.len() - 1000]).unwrap();
    world.write("text.gguf", "no model");
    let translate = format!("{FOLDER}/model/quantbench-demo-translate-F16.gguf");
    let experts = format!("{FOLDER}/model/quantbench-demo-experts-F16.gguf");
    for (model, expected) in [
        ("cut.gguf", "is cut off"),
        ("text.gguf", "no GGUF"),
        ("nowhere.gguf", "nowhere.gguf"),
        (translate.as_str(), "architecture 't5'"),
        (experts.as_str(), "'expert_count', which is not exported"),
        ("shape:llama-3.2-1b", "whose weights are generated"),
    ] {
        export(&world, model, "fp32", &[]).expect_message(2, &[expected]);
        assert!(!world.path("made").exists(), "{model}");
    }
    export(&world, CHAT, "int5", &[]).expect_message(2, &["int5", "int4-kquant"]);
    let quantize = ["quantize", CHAT, "--to", "Q4_0", "-o", "q4.gguf", "--quiet"];
    world.run(&quantize).expect(0);
    let again = "would round a second time";
    export(&world, "q4.gguf", "int8-dynamic", &[])
        .expect_message(2, &[again, "--allow-requantize"]);
    assert!(!world.path("made").exists());
    let taken = export(&world, "q4.gguf", "int4", &[]).expect(0);
    assert!(taken.stderr.contains("they are not rounded again"), "{}", taken.stderr);
    // A file where the folder would be.
    fs::remove_dir_all(world.path("made")).unwrap();
    world.write("made", "a file");
    export(&world, CHAT, "fp32", &[]).expect_message(2, &["made/graphs"]);
}

/// A Python with onnx, onnxruntime and tokenizers.
fn python() -> String {
    let python = std::env::var("QUANTBENCH_TEST_PYTHON").unwrap_or_default();
    assert_ne!(
        python, "",
        "set QUANTBENCH_TEST_PYTHON to a Python with onnx, onnxruntime and tokenizers"
    );
    python
}

/// What a script beside this file says in JSON.
fn said(python: &str, script: &str, arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `QUANTBENCH_TEST_PYTHON=python3 cargo test … --test end_to_end onnx_runtime_computes -- --ignored`
#[test]
#[ignore = "needs a Python with onnx, onnxruntime and tokenizers; QUANTBENCH_TEST_PYTHON names it"]
fn onnx_runtime_computes_what_llama_cpp_computes() {
    let python = python();
    let world = World::new();
    let text = format!("{FOLDER}/texts/evaluation.txt");
    world.write(
        "models.toml",
        &format!(
            "quantizations = [\"F16\"]\n[experiment]\nrounds = 1\n[workloads]\nspeed = [\"pp16\"]\n\
             [workloads.latency]\nenabled = false\n[workloads.quality]\ntext = \"{text}\"\ncontext = 512\n\
             chunks = 16\nprecision = 0\n[[models]]\nname = \"demo\"\nsource = \"{DEMO}\"\n"
        ),
    );
    let measured = world.run(&["run", "models.toml", "--format", "json"]).expect(0).json();
    let expected = &measured["summary"]["rows"][0]["figures"]["perplexity"]["value"];
    let expected = expected.as_f64().unwrap();
    export(&world, DEMO, "fp32,fp16,int8,int8-dynamic,int4,int4-kquant", &[]).expect(0);
    let folder = world.path("made/graphs");
    let found = said(&python, "onnx_export.py", &[folder.to_str().unwrap(), &text, "16"]);
    // By how much the perplexity may be above llama.cpp's, and at least is.
    for (file, least, most) in [
        ("model.onnx", -1e-4, 1e-4),
        ("model_fp16.onnx", -1e-3, 1e-3),
        ("model_int8.onnx", -0.005, 0.01),
        ("model_q4.onnx", 0.02, 0.2),
        ("model_q4_kquant.onnx", 0.02, 0.15),
        ("model_quantized.onnx", 0.05, 0.5),
    ] {
        let perplexity = found[file].as_f64().unwrap();
        let above = perplexity / expected - 1.0;
        assert!((least..most).contains(&above), "{file}: {perplexity}, llama.cpp {expected}");
    }
    let step_by_step = found["step_by_step"].as_f64().unwrap();
    assert!(step_by_step < 1e-3, "with its cache a graph computes something else: {step_by_step}");
}

/// The same of encoders: the demo's, and a GGUF in F32 that `QUANTBENCH_TEST_ENCODER` names, such as all-MiniLM-L6-v2.
#[test]
#[ignore = "needs a Python with onnx, onnxruntime and tokenizers; QUANTBENCH_TEST_PYTHON names it"]
fn onnx_runtime_computes_the_vectors_that_llama_cpp_computes() {
    let python = python();
    let text = format!("{FOLDER}/texts/calibration.txt");
    let named = std::env::var("QUANTBENCH_TEST_ENCODER").ok();
    let models = named.map(|model| (model, "F32"));
    for (model, own) in std::iter::once((EMBED.to_owned(), "F16")).chain(models) {
        let world = World::new();
        export(&world, &model, "fp32,fp16,int8,int8-dynamic,int4,int4-kquant", &[]).expect(0);
        let folder = world.path("made/graphs");
        let found = said(&python, "onnx_encoder.py", &[folder.to_str().unwrap(), &text]);
        let library = found["library"].as_str().unwrap();
        world.write(
            "models.toml",
            &format!(
                "[experiment]\nrounds = 1\nrepetitions = 1\n\
                 [workloads]\nspeed = [\"pp16\"]\n[workloads.latency]\nenabled = false\n\
                 [workloads.quality]\ntext = \"{text}\"\nchunks = 40\n\
                 [[models]]\nname = \"m\"\nsource = \"{model}\"\nreference = \"onnx-fp32\"\n\
                 quantizations = [\"{own}\"]\nonnx = [\"made/graphs\"]\n"
            ),
        );
        let run = ["run", "models.toml", "--format", "json", "-q", "--onnxruntime", library];
        let run = world.run(&run).expect(0).json();
        let rows = run["summary"]["rows"].as_array().unwrap();
        let cosine = |label: &str| {
            let row = rows.iter().find(|row| row["label"] == label).unwrap();
            row["figures"]["embedding_cosine"]["value"].as_f64().unwrap()
        };
        assert!(cosine(own) > 0.9999, "{model} {own}: {}", cosine(own));
        for (label, file, least) in [
            ("onnx-fp16", "model_fp16.onnx", 0.9999),
            ("onnx-int8", "model_int8.onnx", 0.999),
            ("onnx-int8-dynamic", "model_quantized.onnx", 0.98),
            ("onnx-int4", "model_q4.onnx", 0.95),
            ("onnx-int4-asym", "model_q4_kquant.onnx", 0.95),
        ] {
            assert!(cosine(label) > least, "{model} {label}: {}", cosine(label));
            let [to_first, filled_up] =
                ["to_fp32", "filled_up"].map(|it| found[file][it].as_f64().unwrap());
            assert!(to_first > least - 0.02, "{model} {file}: {to_first}");
            // Filling a text up changes the range that whole tensors are rounded by.
            let least = if label == "onnx-int8-dynamic" { 0.95 } else { 0.9999 };
            assert!(filled_up > least, "{model} {file}: {filled_up}");
        }
    }
}
