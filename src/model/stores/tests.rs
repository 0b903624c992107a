//! Tests of the stores of other programs, made up: what is found, how it is called, and what is passed over.

use super::{OllamaName, Stores, ollama};
use crate::model::gguf::testing::Builder;
use crate::model::split::part_name;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    stores: Stores,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let stores = Stores {
            hub: path("hub"),
            ollama: vec![path("ollama"), path("system")],
            llama_cpp: Some(path("llama.cpp")),
            lm_studio: vec![path("lmstudio"), path("lm-studio")],
        };
        Self { folder, stores }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A file of the hub's cache: a link to a blob.
    fn hub(&self, commit: &str, file: &str, blob: &str) {
        let model = "hub/models--owner--name-GGUF";
        let blob = self.write(&format!("{model}/blobs/{blob}"), &Builder::model(7).bytes());
        let pointer = self.folder.path().join(format!("{model}/snapshots/{commit}/{file}"));
        fs::create_dir_all(pointer.parent().unwrap()).unwrap();
        symlink(blob, pointer).unwrap();
    }

    fn manifest(&self, path: &str, layers: &[(&str, char, u64)]) {
        let layers = layers.iter().map(|(kind, digit, size)| {
            let digest = format!("sha256:{}", digit.to_string().repeat(64));
            let kind = format!("application/vnd.ollama.image.{kind}");
            serde_json::json!({ "mediaType": kind, "digest": digest, "size": size })
        });
        let layers: Vec<_> = layers.collect();
        let text = serde_json::json!({ "schemaVersion": 2, "layers": layers }).to_string();
        self.write(&format!("ollama/manifests/{path}"), text.as_bytes());
    }

    fn blob(&self, digit: char, bytes: &[u8]) -> PathBuf {
        self.write(&format!("ollama/blobs/sha256-{}", digit.to_string().repeat(64)), bytes)
    }

    fn ollama(&self, name: &str) -> Result<PathBuf, String> {
        let found = ollama(name, &self.stores.ollama);
        found.map(|blob| blob.path).map_err(|error| error.to_string())
    }

    /// What the models are called.
    fn models(&self) -> Vec<String> {
        let root = format!("{}/", self.folder.path().display());
        let (kept, _) = self.stores.list();
        kept.iter().map(|it| it.model.replace(&root, "")).collect()
    }
}

#[test]
fn names_of_ollama_are_read_and_written_as_it_does() {
    for (written, full) in [
        ("llama3.2", "llama3.2:latest"),
        ("gemma3:4b", "gemma3:4b"),
        ("owner/name", "owner/name:latest"),
        ("hf.co/owner/name-GGUF:Q4_K_M", "hf.co/owner/name-GGUF:Q4_K_M"),
        ("host:5000/owner/name", "host:5000/owner/name:latest"),
        ("registry.ollama.ai/library/m:1b", "m:1b"),
    ] {
        assert_eq!(OllamaName::parse(written).map(|it| it.to_string()).as_deref(), Some(full));
    }
    for wrong in ["", ":1b", "m:", "../m", "m:..", "a/../m", "a/b/c/d", "/m", "a b", "m:x:y", ".m"]
    {
        assert_eq!(OllamaName::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_model_of_ollama_is_its_manifest_s_file_or_one_clear_error() {
    let place = Place::new();
    assert!(place.ollama("m").unwrap_err().contains("no other model in "));
    let path = place.blob('a', b"GGUF");
    place.manifest(
        "registry.ollama.ai/library/llama3.2/1b",
        &[("license", 'c', 1), ("model", 'a', 4), ("projector", 'b', 9)],
    );
    assert_eq!(place.ollama("llama3.2:1b").unwrap(), path);
    let error = place.ollama("lama3.2:1b").unwrap_err();
    let expected = ", but llama3.2:1b; did you mean 'ollama:llama3.2:1b'?";
    assert!(
        error.starts_with("Ollama has no lama3.2:1b in ") && error.ends_with(expected),
        "{error}"
    );
    assert!(!place.ollama("quite-other").unwrap_err().contains("did you mean"));

    let refused = |layers: &[(&str, char, u64)], expected: &str| {
        place.manifest("registry.ollama.ai/owner/m/latest", layers);
        let error = place.ollama("owner/m").unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    refused(&[("model", 'd', 4)], "the file of ollama:owner/m:latest is gone, ");
    refused(
        &[("model", 'a', 5)],
        "has 4 and not 5 bytes; get it again with 'ollama pull owner/m:latest'",
    );
    refused(&[("model", '/', 4)], "is no manifest of a model");
    refused(&[("model", 'a', 4), ("adapter", 'b', 1)], "with an adapter (LoRA)");
    refused(&[("template", 'a', 4)], "has no GGUF on this machine");
    for nonsense in ["", "{", "[]", "{\"layers\":[{\"size\":-1}]}", &" ".repeat(2 << 20)] {
        place.write("ollama/manifests/registry.ollama.ai/owner/m/latest", nonsense.as_bytes());
        assert!(place.ollama("owner/m").unwrap_err().contains("is no manifest of a model"));
    }
    fs::create_dir_all(place.folder.path().join("ollama/manifests/a/b/c/d")).unwrap();
    assert!(place.ollama("a/b/c:d").unwrap_err().starts_with("cannot read "));
}

#[test]
fn every_model_is_listed_once_with_what_a_command_takes() {
    let place = Place::new();
    let (main, other) = ("c".repeat(40), "d".repeat(40));
    place.write("hub/models--owner--name-GGUF/refs/main", main.as_bytes());
    place.hub(&other, "m-Q8_0.gguf", "one");
    place.hub(&other, "m-Q6_K.gguf", "old");
    place.hub(&main, "m-Q8_0.gguf", "one");
    place.hub(&main, "BF16/m-BF16-00001-of-00002.gguf", "two");
    place.hub(&main, "BF16/m-BF16-00002-of-00002.gguf", "three");
    place.hub(&main, "mmproj-F16.gguf", "four");
    place.hub(&main, "a-Q4_0.gguf", "five");
    place.hub(&main, "b-Q4_0.gguf", "six");
    place.blob('a', b"GGUF");
    place.manifest("registry.ollama.ai/library/llama3.2/1b", &[("model", 'a', 4)]);
    place.manifest("hf.co/owner/n/Q4_0", &[("model", 'a', 4)]);
    place.manifest("registry.ollama.ai/library/gone/1b", &[("model", 'e', 4)]);
    place.write("ollama/manifests/.DS_Store", b"x");
    place.write("llama.cpp/owner_name_m-Q4_K_M.gguf", b"GGUF");
    place.write("llama.cpp/owner_name_m-Q4_K_M.gguf.json", b"{}");
    place.write("llama.cpp/owner_name_m-Q5_0.gguf.downloadInProgress", b"GG");
    for number in [1, 2] {
        let name = part_name("m-Q8_0", number, 2);
        place.write(&format!("lmstudio/owner/name/{name}"), b"GGUF");
    }
    let snapshot = format!("hub/models--owner--name-GGUF/snapshots/{main}");
    assert_eq!(
        place.models(),
        [
            "owner/name-GGUF:BF16".to_owned(),
            "owner/name-GGUF:Q8_0".to_owned(),
            // Which of the two is meant no name says.
            format!("{snapshot}/a-Q4_0.gguf"),
            format!("{snapshot}/b-Q4_0.gguf"),
            format!("owner/name-GGUF@{other}:Q6_K"),
            "ollama:hf.co/owner/n:Q4_0".to_owned(),
            "ollama:llama3.2:1b".to_owned(),
            "llama.cpp/owner_name_m-Q4_K_M.gguf".to_owned(),
            "lmstudio/owner/name/m-Q8_0-00001-of-00002.gguf".to_owned(),
        ]
    );
    let (_, problems) = place.stores.list();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with("the file of ollama:gone:1b is gone"));
}

#[test]
fn links_out_of_a_store_cycles_and_thousands_of_files_do_no_harm() {
    let place = Place::new();
    let outside = place.write("outside/m-Q8_0.gguf", b"GGUF");
    let inside = place.write("lmstudio/owner/name/n-Q8_0.gguf", b"GGUF");
    let folder = inside.parent().unwrap();
    let link = |target: &Path, name: &str| symlink(target, folder.join(name)).unwrap();
    link(&outside, "outside-Q8_0.gguf");
    link(outside.parent().unwrap(), "folder");
    link(&place.folder.path().join("lmstudio"), "cycle");
    link(Path::new("self-Q8_0.gguf"), "self-Q8_0.gguf");
    link(&inside, "again-Q8_0.gguf");
    link(Path::new("/nowhere.gguf"), "dangling-Q8_0.gguf");
    let elsewhere = place.write("elsewhere/snapshots/c/m-Q8_0.gguf", b"GGUF");
    symlink(elsewhere.parent().unwrap(), place.folder.path().join("llama.cpp")).unwrap();
    fs::create_dir_all(place.folder.path().join("hub")).unwrap();
    let other = place.write("other/snapshots/c/m-Q8_0.gguf", b"GGUF");
    let other = other.ancestors().nth(3).unwrap();
    symlink(other, place.folder.path().join("hub/models--a--b")).unwrap();
    // The folder that is named may be a link itself; the same file is listed once, by its first name.
    let expected = ["llama.cpp/m-Q8_0.gguf", "lmstudio/owner/name/again-Q8_0.gguf"];
    assert_eq!(place.models(), expected);
    for number in 0..3000 {
        place.write(&format!("lm-studio/o/n/m{number}-Q4_0.gguf"), b"");
    }
    assert_eq!(place.models().len(), 3002);
}
