//! Methods: variants whose weights are chosen by looking at a text, made and compared.

use crate::world::{World, words};
use quantbench::model::gguf::{Header, Value};

fn key(world: &World, file: &str, key: &str) -> Option<String> {
    let header = Header::read(&world.path(file)).unwrap();
    header.get(key).and_then(Value::as_text).map(str::to_owned)
}

#[test]
fn one_file_is_made_with_gptq_and_says_so() {
    let world = World::new();
    world.write("text.txt", &words(600));
    let arguments = [
        "quantize",
        "tiny-F16.gguf",
        "--to",
        "Q4_0",
        "--method",
        "gptq",
        "--calibration",
        "text.txt",
        "--context",
        "64",
        "--damping",
        "0.02",
    ];
    let ended = world.run(&arguments).expect(0);
    assert!(ended.stdout.contains("tiny-gptq-Q4_0.gguf  gptq:Q4_0"), "{}", ended.stdout);
    for part in ["of memory: ", "chose the weights of 7 tensors", "token_embd.weight"] {
        assert!(ended.stderr.contains(part), "no '{part}' in {}", ended.stderr);
    }
    let file = "tiny-gptq-Q4_0.gguf";
    assert_eq!(key(&world, file, "quantbench.method").as_deref(), Some("gptq"));
    assert_eq!(key(&world, file, "quantbench.calibration.text").as_deref(), Some("text.txt"));
    let parameters = key(&world, file, "quantbench.gptq.parameters").unwrap();
    assert!(parameters.starts_with("damping 0.02"), "{parameters}");
    assert!(world.cached_files().iter().all(|file| !file.to_string_lossy().contains("scratch/")));
}

#[test]
fn one_file_is_made_with_awq_and_says_so() {
    let world = World::new();
    world.write("text.txt", &words(600));
    let make = ["quantize", "tiny-F16.gguf", "--to", "Q4_0", "--calibration", "text.txt"];
    let arguments = [&make[..], &["--method", "awq", "--context", "64"]].concat();
    let ended = world.run(&arguments).expect(0);
    assert!(ended.stdout.contains("tiny-awq-Q4_0.gguf  awq:Q4_0"), "{}", ended.stdout);
    for part in ["of memory: ", "chose the weights of 7 tensors", "more than one place"] {
        assert!(ended.stderr.contains(part), "no '{part}' in {}", ended.stderr);
    }
    let file = "tiny-awq-Q4_0.gguf";
    assert_eq!(key(&world, file, "quantbench.method").as_deref(), Some("awq"));
    assert_eq!(key(&world, file, "quantbench.calibration.text").as_deref(), Some("text.txt"));
    assert!(key(&world, file, "quantbench.calibration.text_sha256").is_some());
    let parameters = key(&world, file, "quantbench.awq.parameters").unwrap();
    assert!(parameters.contains("exponents 20"), "{parameters}");
    assert!(world.cached_files().iter().all(|file| !file.to_string_lossy().contains("scratch/")));
    // The scaled file is an ordinary one of the same size.
    world.run(&[&make[..], &["--method", "imatrix", "--context", "64"]].concat()).expect(0);
    let header = |file: &str| Header::read(&world.path(file)).unwrap();
    let sizes = [file, "tiny-imatrix-Q4_0.gguf"].map(|file| {
        let tensors = header(file).tensors;
        tensors.into_iter().map(|it| (it.name, it.format, it.bytes)).collect::<Vec<_>>()
    });
    assert_eq!(sizes[0], sizes[1]);
}

#[test]
fn methods_are_compared_in_one_run_and_the_matrix_is_made_once() {
    let world = World::new();
    world.experiment("\"F16\", \"Q4_0\", \"imatrix:Q4_0\", \"gptq:Q4_0\", \"awq:Q4_0\"", "");
    let text = std::fs::read_to_string(world.path("models.toml")).unwrap();
    let text = text.replace("quantizations", "variants");
    let without = text.clone();
    world.write("calibration.txt", &words(900));
    let calibration = "[calibration]\ntext = \"calibration.txt\"\ncontext = 64\n";
    world.write("models.toml", &format!("{text}\n{calibration}"));
    let record = world.run(&["run", "--rounds", "1", "--format", "json"]).expect(0);
    assert!(
        record.stderr.contains("gptq:Q4_0 (variant 4 of 5): chose the weights of 7 tensors"),
        "{}",
        record.stderr
    );
    let record = record.run_record();
    let trials = record["trials"].as_array().unwrap();
    let names: Vec<&str> =
        trials.iter().map(|trial| trial["quantization"].as_str().unwrap()).collect();
    assert_eq!(names, ["F16", "Q4_0", "imatrix:Q4_0", "gptq:Q4_0", "awq:Q4_0"]);
    let kept = trials[3]["artifact"]["kept"].as_array().unwrap();
    assert!(kept.iter().any(|it| it["tensor"] == "token_embd.weight"), "{kept:?}");
    let checksums: std::collections::BTreeSet<&str> =
        trials.iter().map(|trial| trial["artifact"]["checksum"].as_str().unwrap()).collect();
    assert_eq!(checksums.len(), 5);
    assert!(trials[1..].iter().all(|trial| trial["artifact"]["quantize_seconds"].is_f64()));
    let matrices = world
        .cached_files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|it| it == "gguf"))
        .filter(|file| file.to_string_lossy().contains("importance"))
        .count();
    assert_eq!(matrices, 1);
    // Served from the cache the second time, with the time it took to make.
    let again = world.run(&["run", "--quiet", "--rounds", "1", "--format", "json"]).expect(0);
    let again = again.run_record();
    assert_eq!(again["trials"][3]["artifact"], record["trials"][3]["artifact"]);
    let listed = world.run(&["cache", "list"]).expect(0).stdout;
    assert!(listed.contains("1 importance matrix"), "{listed}");
    world.run(&["cache", "clean"]).expect(0);
    assert!(!world.run(&["cache", "list"]).expect(0).stdout.contains("importance"));
    world.write("models.toml", &without);
    let run = ["run", "--quiet", "--rounds", "1", "--calibration", "calibration.txt"];
    world.run(&[&run[..], &["--only", "imatrix:Q4_0"]].concat()).expect(0);
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let world = World::new();
    world.write("text.txt", &words(100));
    let refused = |arguments: &[&str], parts: &[&str]| {
        let arguments = [&["quantize", "tiny-F16.gguf"], arguments].concat();
        world.run(&arguments).expect_message(2, parts);
    };
    refused(&["--to", "Q4_0", "--calibration", "text.txt"], &["--calibration has no effect"]);
    refused(&["--to", "gptq:Q4_0", "--method", "imatrix"], &["leave one out"]);
    let sweeps = ["--to", "awq:Q4_0", "--calibration", "text.txt", "--sweeps", "2"];
    refused(&sweeps, &["--sweeps has no effect", "gptq"]);
    refused(&["--to", "Q4_0", "--method", "best"], &["methods are rtn, imatrix, gptq and awq"]);
    refused(&["--to", "imatrix:Q4_0", "--imatrix", "no.gguf"], &["no.gguf"]);
    refused(&["--to", "imatrix:Q4_0", "--imatrix", "tiny-F16.gguf"], &["no importance matrix"]);
    refused(&["--to", "gptq:F16", "--calibration", "text.txt"], &["not rounded"]);
    refused(&["--to", "gptq:Q4_0", "--calibration", "text.txt", "--damping", "2"], &["0 to 1"]);
}
