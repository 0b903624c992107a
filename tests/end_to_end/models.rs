//! Models that other programs keep on this machine: listed, and measured by the names that the list gives.

use crate::world::{Ended, World, ended};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A world whose home has the tiny model in the stores of other programs.
struct Home {
    world: World,
}

impl Home {
    fn new() -> Self {
        let world = World::new();
        world.ready_variants("Q8_0,Q4_0");
        Self { world }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.world.command(arguments);
        for variable in ["XDG_CACHE_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS"] {
            command.env_remove(variable);
        }
        let huggingface = self.world.path("home/.cache/huggingface");
        command.env("HOME", self.world.path("home")).env("HF_HOME", huggingface);
        ended(command.env("LLAMA_CACHE", self.world.path("home/llama")))
    }

    /// Copies a variant of the tiny model to a place in the home.
    fn copy(&self, variant: &str, to: &str) -> PathBuf {
        let path = self.world.path("home").join(to);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(self.world.path(&format!("variants/tiny-{variant}.gguf")), &path).unwrap();
        path
    }

    fn hub(&self, file: &str, variant: &str) {
        let model = ".cache/huggingface/hub/models--owner--tiny-GGUF";
        let blob = self.copy(variant, &format!("{model}/blobs/{}", file.replace('/', "-")));
        let model = self.world.path("home").join(model);
        let pointer = model.join("snapshots").join(COMMIT).join(file);
        fs::create_dir_all(pointer.parent().unwrap()).unwrap();
        symlink(blob, pointer).unwrap();
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::write(model.join("refs/main"), COMMIT).unwrap();
    }

    /// Has Ollama keep a variant; returns the paths of manifest and blob.
    fn ollama(&self, name: &str, variant: &str) -> (PathBuf, PathBuf) {
        let bytes = fs::read(self.world.path(&format!("variants/tiny-{variant}.gguf"))).unwrap();
        let hex = Sha256::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        let blob = self.copy(variant, &format!(".ollama/models/blobs/sha256-{hex}"));
        let model = "application/vnd.ollama.image.model";
        let layer =
            json!({ "mediaType": model, "digest": format!("sha256:{hex}"), "size": bytes.len() });
        let path = format!("home/.ollama/models/manifests/registry.ollama.ai/library/{name}");
        let path = self.world.path(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, json!({ "schemaVersion": 2, "layers": [layer] }).to_string()).unwrap();
        (path, blob)
    }
}

fn labels(ended: Ended) -> Vec<String> {
    let rows = ended.expect(0).json()["summary"]["rows"].take();
    rows.as_array().unwrap().iter().map(|row| row["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_other_programs_keep_is_listed_and_measured_by_the_names_given() {
    let home = Home::new();
    assert!(home.run(&["models"]).expect(0).stdout.starts_with("no models of "));
    home.hub("F16/tiny-F16.gguf", "F16");
    home.hub("tiny-q8_0.gguf", "Q8_0");
    home.ollama("tiny/1m", "Q4_0");
    home.copy("Q8_0", "llama/owner_tiny_tiny-Q8_0.gguf");
    let path = home.copy("Q4_0", ".lmstudio/models/owner/ti ny/tiny-Q4_0.gguf");
    let broken = path.with_file_name("broken-Q4_0.gguf");
    fs::write(&broken, b"GGUF").unwrap();
    let shown = home.run(&["models"]).expect(0).stdout;
    for part in [
        "owner/tiny-GGUF:F16",
        "owner/tiny-GGUF:Q8_0",
        "ollama:tiny:1m",
        "/llama/owner_tiny_tiny-Q8_0.gguf",
        "/owner/ti ny/tiny-Q4_0.gguf'",
        "LM Studio",
        "left out: ",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let listed = home.run(&["models", "--format", "json"]).expect(0).json();
    assert_eq!((&listed["format"], &listed["version"]), (&json!("quantbench.models"), &json!(1)));
    assert_eq!(listed["left_out"].as_array().unwrap().len(), 1, "{listed}");
    let models = listed["models"].as_array().unwrap();
    let told: Vec<[&str; 2]> = models
        .iter()
        .map(|it| [it["quantization"].as_str().unwrap(), it["store"].as_str().unwrap()])
        .collect();
    let hub = "Hugging Face";
    let expected = [
        ["F16", hub],
        ["Q8_0", hub],
        ["Q4_0", "Ollama"],
        ["Q8_0", "llama.cpp"],
        ["Q4_0", "LM Studio"],
    ];
    assert_eq!(told, expected);
    let size = |it: &Value| fs::metadata(it["path"].as_str().unwrap()).unwrap().len();
    assert!(models.iter().all(|it| it["bytes"] == json!(size(it))), "{listed}");

    home.world.experiment("\"F16\"", "");
    let run = |model: &str, more: &[&str]| {
        let fixed = ["run", "models.toml", "--rounds", "1", "--format", "json", "--model", model];
        home.run(&[&fixed[..], more].concat())
    };
    for listed in models {
        let name = listed["model"].as_str().unwrap();
        assert_eq!(labels(run(name, &[])), [listed["quantization"].as_str().unwrap()], "{name}");
    }
    // Without the hub, a repository is what was fetched of it, and what that makes.
    assert_eq!(labels(run("owner/tiny-GGUF", &[])), ["F16", "Q8_0"]);
    assert_eq!(labels(run("owner/tiny-GGUF:F16", &["--quant", "F16,Q5_0"])), ["F16", "Q5_0"]);
    run("owner/tiny-GGUF:Q9", &[]).expect_message(2, &["has no Q9; it has F16, Q8_0"]);
    run("owner/other:Q8_0", &[]).expect_message(2, &["nothing of owner/other is in the hub cache"]);
}

#[test]
fn a_model_of_ollama_is_taken_wherever_a_model_is_or_refused_in_one_line() {
    let home = Home::new();
    let (manifest, blob) = home.ollama("tiny/latest", "F16");
    assert!(home.run(&["inspect", "ollama:tiny"]).expect(0).stdout.contains("F16"));
    home.run(&["quantize", "ollama:tiny", "--to", "Q8_0"]).expect(0);
    assert!(home.world.path("tiny-Q8_0.gguf").is_file());
    home.run(&["bench", "ollama:tiny", "-p", "8", "-n", "2", "-r", "1"]).expect(0);
    home.world.experiment("\"F16\", \"Q4_0\"", "");
    let text = fs::read_to_string(home.world.path("models.toml")).unwrap();
    home.world.write("models.toml", &text.replace("tiny-F16.gguf", "ollama:tiny"));
    let run = ["run", "models.toml", "--rounds", "1", "--format", "json"];
    assert_eq!(labels(home.run(&run)), ["F16", "Q4_0"]);

    let refused = |model: &str, parts: &[&str]| {
        let ended = home.run(&["run", "--model", model]).expect_message(2, parts);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    };
    refused("ollama:", &["names no model of Ollama's; write 'ollama:name'"]);
    refused("ollama:../x", &["names no model of Ollama's"]);
    refused("ollama:tny", &["no tny:latest in ", "did you mean 'ollama:tiny:latest'?"]);
    let whole = fs::read(&blob).unwrap();
    fs::write(&blob, &whole[..whole.len() / 2]).unwrap();
    refused("ollama:tiny", &["of ollama:tiny:latest, has ", "get it again with 'ollama pull"]);
    fs::write(&blob, vec![b'x'; whole.len()]).unwrap();
    refused("ollama:tiny", &["is no GGUF file"]);
    fs::remove_file(&blob).unwrap();
    refused("ollama:tiny", &["the file of ollama:tiny:latest is gone"]);
    fs::write(&manifest, "<html>").unwrap();
    refused("ollama:tiny", &["is no manifest of a model"]);
    assert!(home.run(&["models"]).expect(0).stdout.contains("\nleft out: "));
}
