//! What is no model, given as one: it is told by what it is, and nothing is left of the attempt.

use crate::hub::{Files, Hub};
use crate::tiny_model::{self, Weights};
use crate::world::{World, ended};
use serde_json::json;
use std::fs;

/// A GGUF of texts alone.
fn gguf(keys: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        bytes.extend(text(key));
        bytes.extend(8_u32.to_le_bytes());
        bytes.extend(text(value));
    }
    bytes
}

/// Contents of files that are no models, and what is said of each.
fn kinds() -> Vec<(Vec<u8>, &'static str)> {
    let of_type = |kind| gguf(&[("general.type", kind), ("general.architecture", "llama")]);
    let whole = tiny_model::bytes(Weights::F16);
    vec![
        (gguf(&[("general.architecture", "llama")]), "it holds a vocabulary without weights"),
        (of_type("mmproj"), "it holds an image or audio encoder (mmproj)"),
        (gguf(&[("general.architecture", "clip")]), "it holds an image or audio encoder (mmproj)"),
        (of_type("imatrix"), "it holds an importance matrix, which --imatrix takes"),
        (of_type("adapter"), "it holds an adapter (LoRA)"),
        (gguf(&[("general.architecture", "controlvector")]), "it holds a control vector"),
        (whole[..whole.len() / 2].to_vec(), "is cut off"),
        (b"PK\x03\x04pickled".to_vec(), "it looks like a PyTorch checkpoint"),
    ]
}

#[test]
fn a_file_is_told_by_what_it_is_in_every_command() {
    let world = World::new();
    for (content, expected) in kinds() {
        fs::write(world.path("x.gguf"), content).unwrap();
        let commands: [&[&str]; 4] = [
            &["run", "x.gguf"],
            &["bench", "x.gguf"],
            &["quantize", "x.gguf", "--to", "Q8_0", "-o", "y.gguf"],
            &["calibrate", "x.gguf", "-o", "y.gguf"],
        ];
        for command in commands {
            let ended = world.run(command).expect_message(2, &[expected]);
            assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        }
        assert!(!world.path("y.gguf").exists());
    }
    let made: Vec<_> = world.cached_files();
    assert!(made.iter().all(|path| path.extension().is_none_or(|it| it != "gguf")), "{made:?}");
}

#[test]
fn a_file_on_the_hub_is_told_before_it_is_fetched() {
    let world = World::new();
    for (content, expected) in kinds() {
        let hub = Hub::with(vec![("x.gguf".to_owned(), content)], &json!({}));
        let model = ["run", "--model", "hf://owner/tiny-GGUF/x.gguf"];
        let ended = hub.run(&world, &model).expect_message(2, &[expected]);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert_eq!(hub.fetched(), [] as [&str; 0], "{expected}");
    }
    assert!(!world.path("huggingface/hub").exists());
}

#[test]
fn a_file_on_the_hub_is_fetched_when_its_turn_comes() {
    let world = World::new();
    world.experiment("\"F16\"", "");
    let file = ("tiny-F16.gguf".to_owned(), fs::read(world.path("tiny-F16.gguf")).unwrap());
    let hub = Hub::with(vec![file], &json!({}));
    let model = ["run", "models.toml", "--model", "hf://owner/tiny-GGUF/tiny-F16.gguf"];
    let plan = hub.run(&world, &[&model[..], &["--dry-run"]].concat()).expect(0).stdout;
    assert!(plan.contains("to be fetched"), "{plan}");
    assert_eq!(hub.fetched(), [] as [&str; 0]);
    let short = ["--quant", "F16,Q8_0", "--rounds", "1", "--format", "json"];
    let run = || hub.run(&world, &[&model[..], &short].concat()).expect(0).run_record();
    let keys = |run: &serde_json::Value| {
        let trials = run["trials"].as_array().unwrap();
        trials.iter().map(|trial| trial["key"].clone()).collect::<Vec<_>>()
    };
    let first = keys(&run());
    assert_eq!(hub.fetched(), ["tiny-F16.gguf"]);
    assert_eq!(keys(&run()), first, "the same trials, whether the file is there or not");
    assert_eq!(hub.fetched(), [] as [&str; 0]);
    // Without the hub it is what was fetched.
    let mut offline = world.command(&[&model[..], &short].concat());
    ended(offline.env("HF_HOME", world.path("huggingface"))).expect(0);
}

#[test]
fn a_repository_without_a_model_says_what_it_holds() {
    let world = World::new();
    for (names, expected) in [
        (&[][..], "owner/tiny-GGUF holds no files"),
        (
            &["adapter_config.json", "adapter_model.safetensors"],
            "holds an adapter (LoRA) and no model",
        ),
        (
            &["README.md", "mmproj-F16.gguf"],
            "holds no model, only what belongs to one (mmproj-F16.gguf)",
        ),
        (&["pytorch_model.bin"], "pickled weights only"),
    ] {
        let files: Files = names.iter().map(|name| ((*name).to_owned(), b"x".to_vec())).collect();
        let hub = Hub::with(files, &json!({}));
        let ended = hub.run(&world, &["run", "--model", "owner/tiny-GGUF"]);
        let ended = ended.expect_message(2, &[expected]);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert_eq!(hub.fetched(), [] as [&str; 0]);
    }
}

#[test]
fn parts_of_a_split_model_lead_to_its_first() {
    let world = World::new();
    fs::write(world.path("m-00002-of-00002.gguf"), gguf(&[])).unwrap();
    world
        .run(&["run", "m-00002-of-00002.gguf"])
        .expect_message(2, &["m-00001-of-00002.gguf is not there", "split into 2 files"]);
}

#[test]
fn a_model_of_ollama_whose_file_is_gone_says_how_to_get_it_again() {
    let world = World::new();
    let folder = world.path("ollama/manifests/registry.ollama.ai/library/tiny");
    fs::create_dir_all(&folder).unwrap();
    let digest = format!("sha256:{}", "a".repeat(64));
    let layer =
        json!({ "mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": 9 });
    fs::write(folder.join("latest"), json!({ "layers": [layer] }).to_string()).unwrap();
    let mut command = world.command(&["run", "--model", "ollama:tiny"]);
    ended(command.env("OLLAMA_MODELS", world.path("ollama")))
        .expect_message(2, &["is gone", "ollama pull"]);
}
