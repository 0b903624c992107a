//! A world of its own for each test: a folder with cache, store and models, and the program in it.

use crate::tiny_model::{self, Weights};
use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No command of a test takes longer; one that does hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct World {
    folder: TempDir,
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    /// A folder with `tiny-F16.gguf`.
    pub(crate) fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        tiny_model::write(&world.path("tiny-F16.gguf"), Weights::F16);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes an experiment on the tiny model: `extra` lines at its top.
    pub(crate) fn experiment(&self, quantizations: &str, extra: &str) {
        let text = words(400);
        self.write("text.txt", &text);
        self.write(
            "models.toml",
            &format!(
                "{extra}\nquantizations = [{quantizations}]\n\
                 [experiment]\nname = \"tiny\"\nrounds = 2\nphase_limit = \"60s\"\n\
                 [workloads]\nspeed = [\"pp16\", \"tg4\"]\n\
                 [workloads.latency]\nprompts = \"prompts.jsonl\"\nmax_tokens = 4\n\
                 [workloads.quality]\ntext = \"text.txt\"\ncontext = 64\nprecision = 0\n\
                 [[models]]\nname = \"tiny\"\nsource = \"tiny-F16.gguf\"\n"
            ),
        );
        self.write(
            "prompts.jsonl",
            "{\"id\":\"a\",\"kind\":\"story\",\"text\":\"once upon a time\"}\n\
             {\"id\":\"b\",\"kind\":\"story\",\"text\":\"there was a model\"}\n\
             {\"id\":\"c\",\"kind\":\"story\",\"text\":\"that was tiny\"}\n",
        );
    }

    /// Makes the folder `variants` with the tiny model in F16 and these quantizations.
    pub(crate) fn ready_variants(&self, quantizations: &str) {
        fs::create_dir(self.path("variants")).unwrap();
        fs::copy(self.path("tiny-F16.gguf"), self.path("variants/tiny-F16.gguf")).unwrap();
        let arguments = ["quantize", "tiny-F16.gguf", "--to", quantizations, "-o", "variants"];
        self.run(&arguments).expect(0);
    }

    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("QUANTBENCH_CACHE", self.path("cache")),
            ("QUANTBENCH_STORE", self.path("runs.sqlite")),
            ("QUANTBENCH_OFFLINE", "1".into()),
            // Tests share the cores: threads that spin while they wait would slow all of them.
            ("OMP_WAIT_POLICY", "passive".into()),
        ]
    }

    /// The program with these arguments, in this world.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(self.folder.path()).envs(self.environment());
        command.env_remove("QUANTBENCH_WORKER").timeout(PATIENCE);
        command
    }

    /// The same as a process that a test can end.
    pub(crate) fn process(&self, arguments: &[&str]) -> process::Command {
        let mut command = process::Command::new(program());
        command.args(arguments).current_dir(self.folder.path()).envs(self.environment());
        command.env_remove("QUANTBENCH_WORKER");
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    /// Runs the program with a worker that misbehaves as `fault` says when its job contains `at`.
    pub(crate) fn run_faulty(&self, fault: &str, at: &str, arguments: &[&str]) -> Ended {
        ended(
            self.command(arguments)
                .env("QUANTBENCH_WORKER", worker("faulty.sh"))
                .env("REAL_WORKER", program())
                .env("FAULT", fault)
                .env("FAULT_AT", at),
        )
    }

    /// Every file below the cache.
    pub(crate) fn cached_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.path("cache"), &mut files);
        files
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    assert_cmd::cargo::cargo_bin!("quantbench").to_owned()
}

/// A program that stands in for a worker.
pub(crate) fn worker(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/workers").join(name)
}

pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ended {
    /// The result as JSON; the test fails with everything that was said if it is none.
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {self:?}"),
        }
    }

    /// The run in the result: everything that was measured.
    pub(crate) fn run_record(&self) -> Value {
        let mut document = self.json();
        match document.get_mut("run") {
            Some(run) => run.take(),
            None => document,
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn expect_message(self, code: i32, parts: &[&str]) -> Self {
        let ended = self.expect(code);
        for part in parts {
            assert!(ended.stderr.contains(part), "no '{part}' in: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended
    }
}

/// A text of so many words that a model of letters can read.
pub(crate) fn words(count: usize) -> String {
    let mut random = tiny_model::Random(7);
    let words = ["the", "small", "model", "reads", "a", "text", "of", "plain", "words"];
    (0..count).map(|_| words[random.below(words.len())]).collect::<Vec<_>>().join(" ")
}

/// Waits until something is so; fails after a while.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes whose parent is this one, by their ids. Linux only.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|id| stat(*id).is_some_and(|fields| fields.get(1) == Some(&parent.to_string())))
        .collect()
}

/// Whether a process is there and not just waiting to be noticed by its parent.
pub(crate) fn is_running(id: u32) -> bool {
    stat(id).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z"))
}

/// Processor time that a process has used.
pub(crate) fn processor_time(id: u32) -> Duration {
    // Fields 14 and 15 of the file, in ticks of 10 ms.
    let fields = stat(id).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// The fields of /proc/ID/stat after the name: state, parent, …
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}
