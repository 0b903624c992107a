//! A person names a repository: it is looked at, measured and found again; and what a hub may answer instead.

use crate::world::{Ended, World, ended};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub on loopback, with the requests that it answered.
pub(crate) struct Hub {
    server: MockServer,
    fetched: Arc<Mutex<Vec<String>>>,
}

/// What lies in the repository `owner/tiny-GGUF`: paths and contents.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

impl Hub {
    pub(crate) fn with(files: Files, card: &Value) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = runtime.block_on(MockServer::start());
        let fetched: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, card) = (Arc::clone(&fetched), card.clone());
        let answer = move |request: &Request| answer(request, &files, &card, &seen);
        runtime.block_on(Mock::given(any()).respond_with(answer).mount(&server));
        Self { server, fetched }
    }

    pub(crate) fn run(&self, world: &World, arguments: &[&str]) -> Ended {
        let mut command = world.command(arguments);
        command.env_remove("QUANTBENCH_OFFLINE");
        command.env("HF_ENDPOINT", self.server.uri()).env("HF_HOME", world.path("huggingface"));
        ended(&mut command)
    }

    pub(crate) fn address(&self) -> String {
        self.server.uri()
    }

    /// The names of the files that were fetched, with the bytes of each.
    pub(crate) fn fetched(&self) -> Vec<String> {
        std::mem::take(&mut self.fetched.lock().unwrap())
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn answer(
    request: &Request,
    files: &Files,
    card: &Value,
    seen: &Mutex<Vec<String>>,
) -> ResponseTemplate {
    let path = request.url.path();
    let query = request.url.query().unwrap_or_default();
    if path == "/api/models" {
        let found = if query.contains("nothing") {
            json!([])
        } else if query.contains("base_model") {
            json!([{ "id": "owner/other-GGUF" }])
        } else {
            json!([{ "id": "owner/tiny-GGUF", "downloads": 1200, "likes": 3, "private": false }])
        };
        return ResponseTemplate::new(200).set_body_json(found);
    }
    if path.starts_with("/api/models/owner/tiny-GGUF/revision/") {
        let siblings: Vec<Value> = files
            .iter()
            .map(|(name, content)| {
                // What some say of their size is for the eyes of a plan.
                let size = match name.split('-').next() {
                    Some("huge") => 2 << 30,
                    Some("vast") => 1 << 60,
                    _ => content.len() as u64,
                };
                let lfs = json!({ "sha256": sha256(content), "size": size });
                json!({ "rfilename": name, "size": size, "lfs": lfs })
            })
            .collect();
        let info = json!({ "sha": COMMIT, "siblings": siblings, "cardData": card });
        return ResponseTemplate::new(200).set_body_json(info);
    }
    let Some((name, content)) = files.iter().find(|(name, _)| path.ends_with(name.as_str())) else {
        return ResponseTemplate::new(404).insert_header("x-error-code", "RepoNotFound");
    };
    let template = |status| {
        ResponseTemplate::new(status)
            .insert_header("x-repo-commit", COMMIT)
            .insert_header("x-linked-etag", format!("\"{}\"", sha256(content)).as_str())
            .insert_header("x-linked-size", content.len().to_string().as_str())
    };
    if request.method.as_str() == "HEAD" {
        return template(302).insert_header("location", "http://127.0.0.1:9/elsewhere");
    }
    let range = request.headers.get("range").and_then(|range| {
        let (from, to) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        let to = to.parse().unwrap_or(content.len() - 1).min(content.len() - 1);
        Some((from.parse::<usize>().ok()?, to))
    });
    let Some((from, to)) = range else {
        seen.lock().unwrap().push(name.clone());
        return template(200).set_body_bytes(content.clone());
    };
    template(206)
        .insert_header("content-range", format!("bytes {from}-{to}/{}", content.len()).as_str())
        .set_body_bytes(&content[from..=to])
}

/// The tiny model in three variants, as people publish them, with what lies beside.
pub(crate) fn published(world: &World) -> Files {
    world.ready_variants("Q8_0,Q4_0");
    let file = |name: &str, path: &str| (name.to_owned(), fs::read(world.path(path)).unwrap());
    vec![
        ("README.md".to_owned(), b"a model".to_vec()),
        file("BF16/tiny-F16.gguf", "variants/tiny-F16.gguf"),
        file("tiny-q8_0.gguf", "variants/tiny-Q8_0.gguf"),
        file("tiny-UD-Q4_K_XL.gguf", "variants/tiny-Q4_0.gguf"),
        ("mmproj-F16.gguf".to_owned(), b"GGUF no model".to_vec()),
    ]
}

#[test]
fn a_repository_is_found_looked_at_and_measured_from_its_name() {
    let world = World::new();
    let hub = Hub::with(published(&world), &json!({}));
    let found = hub.run(&world, &["search", "tiny", "model"]).expect(0).stdout;
    assert!(found.contains("owner/tiny-GGUF") && found.contains("1200"), "{found}");
    hub.run(&world, &["search", "nothing"]).expect_message(0, &["try fewer words"]);

    let shown = hub.run(&world, &["files", "owner/tiny-GGUF", "--context", "512"]).expect(0).stdout;
    for part in ["F16", "Q8_0", "UD-Q4_K_XL", "yes", "projectors (mmproj): mmproj-F16.gguf"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let json = hub.run(&world, &["files", "owner/tiny-GGUF", "--format", "json"]).expect(0).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let bits = json["variants"][0]["bits_per_weight"].as_f64().unwrap();
    assert!((15.0..40.0).contains(&bits), "{json}");
    hub.run(&world, &["prompt", "detect", "owner/tiny-GGUF:Q8_0"])
        .expect_message(2, &["owner/tiny-GGUF:Q8_0 has no chat template"]);
    assert_eq!(hub.fetched(), [] as [&str; 0], "no more than a header is fetched");

    // The ladder has no recipe of a publisher: that is measured if it is asked for.
    world.experiment("\"F16\"", "");
    let short = ["--rounds", "1", "--format", "json"];
    let run = |model: &str, more: &[&str]| {
        hub.run(&world, &[&["run", "models.toml", "--model", model], more, &short[..]].concat())
    };
    let dry = ["run", "models.toml", "--model", "owner/tiny-GGUF", "--dry-run"];
    let plan = hub.run(&world, &dry).expect(0).stdout;
    assert!(plan.contains("to be fetched"), "{plan}");
    let plan = hub.run(&world, &["owner/tiny-GGUF", "--dry-run"]).expect(0).stdout;
    assert!(plan.contains("Q8_0") && !plan.contains("UD-Q4_K_XL"), "{plan}");
    assert_eq!(hub.fetched(), [] as [&str; 0]);
    let labels = |ended: Ended| -> Vec<String> {
        let json: Value = serde_json::from_str(&ended.expect(0).stdout).unwrap();
        let rows = json["summary"]["rows"].as_array().unwrap();
        rows.iter().map(|row| row["label"].as_str().unwrap().to_owned()).collect()
    };
    let both = ["--quant", "F16,UD-Q4_K_XL"];
    assert_eq!(labels(run("owner/tiny-GGUF", &both)), ["F16", "UD-Q4_K_XL"]);
    assert_eq!(hub.fetched(), ["BF16/tiny-F16.gguf", "tiny-UD-Q4_K_XL.gguf"]);
    assert_eq!(labels(run("hf://owner/tiny-GGUF:q8_0", &[])), ["Q8_0"]);
    assert_eq!(hub.fetched(), ["tiny-q8_0.gguf"]);
    // What is not there is made of the floating point numbers that are; what was fetched is found.
    let made = ["--quant", "F16,Q5_0"];
    assert_eq!(labels(run("owner/tiny-GGUF", &made)), ["F16", "Q5_0"]);
    assert_eq!(hub.fetched(), [] as [&str; 0]);
}

#[test]
fn the_variant_that_is_named_is_listed_and_without_the_hub_what_was_fetched() {
    let world = World::new();
    let hub = Hub::with(published(&world), &json!({}));
    let tiny = "owner/tiny-GGUF";
    let listed = |model: &str| -> Vec<String> {
        let json = hub.run(&world, &["files", model, "--format", "json"]).expect(0).json();
        let variants = json["variants"].as_array().unwrap();
        variants.iter().map(|it| it["variant"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(tiny), ["F16", "Q8_0", "UD-Q4_K_XL"]);
    assert_eq!(listed("owner/tiny-GGUF:q8_0"), ["Q8_0"]);
    let other = hub.run(&world, &["files", "owner/tiny-GGUF:Q9"]);
    other.expect_message(2, &["has no Q9; it has F16, Q8_0, UD-Q4_K_XL"]);

    let without = |variables: [(&str, &str); 2], model: &str| {
        let mut command = world.command(&["files", model]);
        command.env("HF_HOME", world.path("huggingface")).envs(variables);
        ended(&mut command)
    };
    let offline = [("QUANTBENCH_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")];
    let unreachable = [("QUANTBENCH_OFFLINE", "0"), ("HF_ENDPOINT", "http://127.0.0.1:9")];
    without(offline, tiny).expect_message(2, &["nothing of owner/tiny-GGUF is in the hub cache"]);
    without(unreachable, tiny).expect_message(2, &["cannot reach the hub at http://127.0.0.1:9"]);
    world.experiment("\"F16\"", "");
    let run = ["run", "models.toml", "--model", tiny, "--quant", "Q8_0", "--rounds", "1"];
    hub.run(&world, &run).expect(0);
    for (variables, said) in [(offline, ""), (unreachable, "the hub cannot be reached; this was")] {
        let shown = without(variables, tiny).expect_message(0, &[said]).stdout;
        assert!(shown.contains("tiny-q8_0.gguf") && !shown.contains("tiny-F16"), "{shown}");
        without(variables, "owner/tiny-GGUF:F16").expect_message(2, &["has no F16; it has Q8_0"]);
    }
}

#[test]
fn variants_of_one_name_are_called_by_their_files() {
    let world = World::new();
    world.ready_variants("Q4_0");
    let content = fs::read(world.path("variants/tiny-Q4_0.gguf")).unwrap();
    let file = |name: &str| (name.to_owned(), content.clone());
    let mut files = vec![file("one-Q4_0.gguf"), file("two-Q4_0.gguf")];
    *files[1].1.last_mut().unwrap() ^= 1;
    let hub = Hub::with(files.clone(), &json!({}));
    let plan = ["run", "--model", "owner/tiny-GGUF", "--quant", "Q4_0", "--dry-run"];
    let shown = hub.run(&world, &plan).expect(0).stdout;
    assert!(shown.contains("one-Q4_0") && shown.contains("two-Q4_0"), "{shown}");
    // What differs by name alone is measured once.
    files[1].1 = content.clone();
    let hub = Hub::with(files, &json!({}));
    let said = "two-Q4_0.gguf: the same file as one-Q4_0.gguf, which is measured once";
    let shown = hub.run(&world, &plan).expect_message(0, &[said]).stdout;
    assert!(shown.contains("1 trial") && !shown.contains("two-Q4_0"), "{shown}");
    let folder = world.path("twice");
    fs::create_dir(&folder).unwrap();
    for name in ["one-Q4_0.gguf", "two-Q4_0.gguf"] {
        fs::write(folder.join(name), &content).unwrap();
    }
    let shown = world.run(&["run", "twice", "--dry-run"]).expect_message(0, &[said]).stdout;
    assert!(shown.contains("1 trial"), "{shown}");
}

#[test]
fn what_a_repository_does_not_hold_is_said_with_where_it_is() {
    let world = World::new();
    let refused = |files: &[&str], card: &Value, model: &str, parts: &[&str]| {
        let files = files.iter().map(|name| ((*name).to_owned(), b"bytes".to_vec())).collect();
        let hub = Hub::with(files, card);
        hub.run(&world, &["run", "--model", model]).expect_message(2, parts);
        assert_eq!(hub.fetched(), [] as [&str; 0]);
    };
    let no_model = Hub::with(vec![("m-Q4_0.gguf".to_owned(), b"bytes".to_vec())], &json!({}));
    no_model
        .run(&world, &["run", "--model", "owner/tiny-GGUF"])
        .expect_message(2, &["cannot measure Q4_0 of tiny", "is no GGUF"]);
    let base = json!({ "base_model": ["owner/base"] });
    let tiny = "owner/tiny-GGUF";
    let weights = &["config.json", "model.safetensors"];
    refused(weights, &json!({}), "owner/tiny-GGUF:Q4_0", &["safetensors and no GGUF"]);
    refused(&weights[1..], &json!({}), tiny, &["safetensors and no GGUF"]);
    refused(&["pytorch_model.bin"], &base, tiny, &["pickle"]);
    refused(&["README.md"], &json!({}), tiny, &["holds no model"]);
    refused(&["m-Q4_0.gguf"], &json!({}), "owner/tiny-GGUF:Q9", &["has no Q9; it has Q4_0"]);
    refused(&["m-Q4_0.gguf"], &json!({}), "other/place", &["no repository other/place"]);
}

#[test]
fn a_repository_of_safetensors_is_fetched_as_far_as_it_is_read_and_converted() {
    let world = World::new();
    let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let mut files = vec![
        file("config.json", "{\"torch_dtype\": \"float16\"}"),
        file("model.safetensors", crate::convert::WEIGHTS),
        file("modeling.py", "print('code')"),
        file("onnx/model.onnx", "others"),
        file("tokenizer.json", "{}"),
    ];
    let run = |hub: &Hub, arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env_remove("QUANTBENCH_OFFLINE").envs(crate::convert::python(&world));
        command.env("HF_ENDPOINT", hub.server.uri()).env("HF_HOME", world.path("huggingface"));
        ended(&mut command)
    };
    world.experiment("\"F16\"", "");
    let model = ["run", "models.toml", "--model", "owner/tiny-GGUF"];
    let hub = Hub::with(files.clone(), &json!({}));
    run(&hub, &[&model[..], &["--dry-run"]].concat())
        .expect_message(2, &["nothing is fetched and converted now"]);
    assert_eq!(hub.fetched(), [] as [&str; 0]);
    let short = ["--rounds", "1", "--quant", "F16,Q4_0", "--format", "json"];
    let ended = run(&hub, &[&model[..], &short].concat()).expect_message(0, &["note: owner/tiny-GGUF: its safetensors are converted; GGUFs of the same model are in owner/other-GGUF"]);
    assert_eq!(ended.run_record()["trials"].as_array().unwrap().len(), 2);
    assert_eq!(hub.fetched(), ["config.json", "tokenizer.json", "model.safetensors"]);
    // Without a list the usual variants are made of it, as of a file.
    let plan = run(&hub, &[&model[..], &["--dry-run"]].concat()).expect(0).stdout;
    assert!(plan.contains("Q8_0") && plan.contains("Q2_K"), "{plan}");
    assert_eq!(hub.fetched(), [] as [&str; 0]);

    let world = World::new();
    files[0].1 = b"{\"quantization_config\": {\"quant_method\": \"awq\"}}".to_vec();
    let hub = Hub::with(files, &json!({}));
    hub.run(&world, &["inspect", "owner/tiny-GGUF"]).expect_message(2, &["quantized by awq"]);
    assert_eq!(hub.fetched(), ["config.json"]);
}
