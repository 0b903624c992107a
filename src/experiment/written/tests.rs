//! A file that is made of an experiment means the same.

use super::*;
use crate::experiment::{Overrides, parse};

/// An experiment with what can be said in a file.
const EVERYTHING: &str = r#"
    quantizations = ["F16", "imatrix:Q4_K_M", "Q8_0"]
    reference = "F16"
    [experiment]
    name = "all of it"
    rounds = 3
    repetitions = 2
    budget = "10min"
    cool_down = "1500ms"
    phase_limit = "3min"
    [settings]
    threads = ["auto", 4]
    flash_attention = ["on", "off"]
    tensor_split = "3/1"
    repack = false
    ubatch = 128
    [workloads]
    cold_load = false
    speed = ["pp64", "tg16@d32", "batched:pp32,tg8x2"]
    tokenization = "eval.txt"
    latency = { prompts = "prompts.txt", max_tokens = 8, temperature = 0.7, top_k = 40, top_p = 0.95, seed = 7,
                chat_template_kwargs = { enable_thinking = false } }
    quality = { text = ["eval.txt", "cal.txt"], context = 64, chunks = 4, precision = 0, memory_budget = "1GiB" }
    [[workloads.tasks]]
    name = "sums"
    kind = "question-answering"
    dataset = "q.jsonl"
    fields = { gold = "a" }
    template = "{{ q }}"
    max_tokens = 5
    stop = ["\n"]
    metrics = ["em", "f1"]
    formats = ["auto", "chatml"]
    limit = 1
    [[workloads.tasks]]
    name = "found"
    kind = "retrieval"
    dataset = "r.jsonl"
    template = "{{ q }}"
    corpus = { passages = "p.jsonl", relevant = "where", chunk = 32 }
    [calibration]
    text = "cal.txt"
    context = 128
    chunks = 9
    gptq = { sweeps = 2 }
    [requirements]
    max_memory = "8GiB"
    max_ttft_ms = 333.0
    min_pp64_tokens_per_second = 5.5
    max_kld = 0.05
    [[models]]
    source = "m.gguf"
    name = "plain"
    lora = "style.gguf:0.5"
    [[models]]
    source = "hf://owner/name/other.gguf"
    quantizations = ["gptq:Q4_0", "F16"]
    settings = { threads = 2 }
    workloads = { speed = "pp32", tasks = [
        { name = "own", kind = "text-generation", dataset = "q.jsonl", fields = { gold = "a" }, template = "{{ q }}" },
    ] }
    [[models]]
    source = "hf://owner/name/third.gguf"
    workloads = { quality = { enabled = false } }
    "#;

/// The same, in a folder with all that it names.
fn everything(folder: &Path) -> &'static str {
    for (name, content) in [
        ("m.gguf", "x".to_owned()),
        ("style.gguf", "x".to_owned()),
        ("eval.txt", "Some words to be read. ".repeat(500)),
        ("cal.txt", "Other words to look at. ".repeat(500)),
        ("prompts.txt", "First\nSecond\n".to_owned()),
        (
            "q.jsonl",
            "{\"q\": \"1 + 1?\", \"a\": \"2\"}\n{\"q\": \"2 + 2?\", \"a\": \"4\"}\n".to_owned(),
        ),
        (
            "p.jsonl",
            "{\"id\": \"x\", \"text\": \"One.\"}\n{\"id\": \"y\", \"text\": \"Two.\"}\n".to_owned(),
        ),
        ("r.jsonl", "{\"q\": \"Which is one?\", \"where\": \"x\"}\n".to_owned()),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
    }
    EVERYTHING
}

fn read(text: &str, path: &Path) -> Experiment {
    parse(text.as_bytes(), path, &Overrides::default())
        .unwrap_or_else(|error| panic!("{error}\nin\n{text}"))
}

/// Without what says where things lie.
fn placeless(experiment: &Experiment, folder: &Path) -> String {
    let mut meaning = experiment.clone();
    meaning.written = None;
    let questions = meaning.all_workloads().flat_map(|it| &it.tasks);
    let questions: Vec<_> = questions.map(|task| task.questions.clone()).collect();
    let meaning = serde_json::to_string_pretty(&meaning).unwrap();
    format!("{meaning}\n{questions:?}").replace(&format!("{}/", folder.display()), "")
}

#[test]
fn a_file_that_is_made_means_what_the_first_one_meant_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let text = everything(folder.path());
    let first = read(text, &folder.path().join("first.toml"));
    assert_eq!(first.not_in_file(), Vec::<&str>::new());
    // As a run holds it.
    let stored = serde_json::to_value(&first).unwrap();
    let stored: Experiment = serde_json::from_value(stored).unwrap();
    let made = toml::to_string(&stored.to_file()).unwrap();
    let second = read(&made, Path::new("elsewhere/second.toml"));
    assert_eq!(placeless(&first, folder.path()), placeless(&second, folder.path()), "{made}");
    assert_eq!(second.to_file(), stored.to_file(), "and makes the same again");
}

#[test]
fn what_the_command_line_changed_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = everything(folder.path());
    let overrides = Overrides {
        only: vec!["plain".to_owned(), "Q8_0".to_owned()],
        rounds: Some(9),
        calibration: Some(folder.path().join("eval.txt").display().to_string()),
        ..Overrides::default()
    };
    let first = parse(text.as_bytes(), &folder.path().join("x.toml"), &overrides).unwrap();
    let second = read(&toml::to_string(&first.to_file()).unwrap(), Path::new("y.toml"));
    assert_eq!((second.rounds, second.models.len()), (9, 1));
    assert_eq!(placeless(&first, folder.path()), placeless(&second, folder.path()));
}

#[test]
fn settings_that_are_no_combinations_are_told() {
    let of = |threads, batch| Settings { threads, batch, ..Settings::default() };
    let settings = vec![of(Some(1), 512), of(Some(2), 1024)];
    let experiment = Experiment { settings, ..Experiment::default() };
    assert_eq!(experiment.not_in_file().len(), 1);
    assert_eq!(axes(&[Settings::default()]), Some(Table::new()));
    let swept = [of(None, 512), of(None, 1024), of(Some(2), 512), of(Some(2), 1024)];
    let expected = "threads = [\"auto\", 2]\nbatch = [512, 1024]".parse().unwrap();
    assert_eq!(axes(&swept), Some(expected));
}

#[cfg(feature = "demo")]
#[test]
fn the_experiments_of_the_demo_are_made_again() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("models.toml")];
    let demo = std::fs::read_dir(root.join("demo")).unwrap().map(|entry| entry.unwrap().path());
    files.extend(demo.filter(|path| path.extension().is_some_and(|it| it == "toml")));
    assert!(files.len() > 1);
    for path in files {
        let first = read(&std::fs::read_to_string(&path).unwrap(), &path);
        let made = toml::to_string(&first.to_file()).unwrap();
        let second = read(&made, Path::new("elsewhere.toml"));
        let folder = root.join("demo");
        assert_eq!(placeless(&first, &folder), placeless(&second, &folder), "{}", path.display());
    }
}
