//! How every row is got again: the file, the commands, and the experiment as a file.

use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
use crate::report::next::{server_flags, source};
use crate::report::plot::label;
use crate::report::text::{quoted, sanitize};
use crate::results::each_once;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::units::format_bytes;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use toml::Table;

/// How to get one row again.
#[derive(Serialize)]
pub(super) struct Recipe {
    label: String,
    lines: Vec<String>,
}

pub(super) fn note(run: &RunRecord) -> String {
    let tasks = run.trials.iter().any(|trial| !trial.tasks.is_empty());
    let mut note = "The experiment below measures all of it again with 'quantbench run FILE', one variant with --only. The lines of \
                    a trial make its file and measure its speeds alone; llama-bench takes the same flags."
        .to_owned();
    if tasks {
        note.push_str(" Tasks are not in it: their questions stay with the files that the run read them from.");
    }
    note
}

pub(super) fn of(run: &RunRecord, summary: &Summary) -> Vec<Recipe> {
    let recipe = |(row, trial): (usize, &TrialRecord)| Recipe {
        label: label(summary, row),
        lines: commands(run, trial),
    };
    run.trials.iter().enumerate().map(recipe).collect()
}

/// What makes the file of a trial and measures its speeds, with what tells the file.
pub(in crate::report) fn commands(run: &RunRecord, trial: &TrialRecord) -> Vec<String> {
    let mut lines = Vec::new();
    let mut file = "FILE.gguf".to_owned();
    if let Some(artifact) = &trial.artifact {
        let path = sanitize(&artifact.path.to_string_lossy());
        lines.push(format!(
            "# {}, SHA-256 {}",
            format_bytes(artifact.file_bytes),
            sanitize(&artifact.checksum)
        ));
        file = quoted(&path);
        if let Some(source) = source(run, trial).filter(|_| artifact.quantize_seconds.is_some()) {
            let name = format!("{}-{}", sanitize(&trial.model), trial.label)
                .replace([':', '/', '\\', ' '], "-");
            file = quoted(&format!("{}.gguf", sanitize(&name)));
            let source = quoted(&sanitize(&source.to_string()));
            lines.push(format!(
                "quantbench quantize {source} --to {} -o {file}",
                trial.quantization
            ));
        }
    }
    lines.push(format!("# {} {}", trial.engine.name, sanitize(run.engine_version(trial))));
    let tests =
        each_once(trial.visits.iter().flat_map(|visit| &visit.speed).map(|record| record.test));
    let flags = server_flags(&trial.settings);
    // llama-bench measures a sequence alone; of several side by side the experiment knows.
    let plain = tests.iter().filter(|test| test.sequences == 1 && !test.embeds);
    let depths = each_once(plain.clone().map(|test| test.depth));
    for depth in depths {
        let own = || plain.clone().filter(|test| test.depth == depth);
        let list = |of: fn(&SpeedTest) -> u32, other: fn(&SpeedTest) -> u32| {
            let values = own().filter(|test| other(test) == 0).map(|test| of(test).to_string());
            let values: Vec<String> = values.collect();
            if values.is_empty() { "0".to_owned() } else { values.join(",") }
        };
        let (prompt, generation) =
            (|it: &SpeedTest| it.prompt_tokens, |it: &SpeedTest| it.generated_tokens);
        let mut line = format!(
            "quantbench bench -m {file} -p {} -n {}",
            list(prompt, generation),
            list(generation, prompt)
        );
        for test in own().filter(|test| test.prompt_tokens > 0 && test.generated_tokens > 0) {
            let _ = write!(line, " --pg {},{}", test.prompt_tokens, test.generated_tokens);
        }
        if depth > 0 {
            let _ = write!(line, " -d {depth}");
        }
        lines.push(format!("{line}{flags}"));
    }
    lines
}

/// The experiment of a run as a file that measures the same; empty where the record does not tell it.
pub(super) fn experiment(run: &RunRecord) -> String {
    let experiment = &run.experiment;
    let Some(models) = experiment.get("models").and_then(Value::as_array) else {
        return String::new();
    };
    let mut file = Table::new();
    let mut about = Table::new();
    for key in ["name", "rounds", "repetitions"] {
        take(&mut about, key, experiment.get(key));
    }
    file.insert("experiment".to_owned(), about.into());
    file.insert("workloads".to_owned(), workloads(run).into());
    file.extend(settings(run).map(|settings| ("settings".to_owned(), settings.into())));
    let models = models.iter().filter_map(|model| {
        let mut table = Table::new();
        let is_own =
            |trial: &&TrialRecord| model.get("name").is_some_and(|name| *name == trial.model);
        let own = run.trials.iter().find(is_own)?;
        take(&mut table, "name", model.get("name"));
        table.insert("source".to_owned(), source(run, own)?.to_string().into());
        take(&mut table, "quantizations", model.get("quantizations"));
        take(&mut table, "reference", model.get("reference"));
        Some(toml::Value::from(table))
    });
    file.insert("models".to_owned(), toml::Value::Array(models.collect()));
    toml::to_string(&file).unwrap_or_default()
}

/// Takes a value over, if there is one.
fn take(into: &mut Table, key: &str, value: Option<&Value>) {
    let value = value.filter(|value| !value.is_null());
    if let Some(value) = value.and_then(|value| toml::Value::try_from(value).ok()) {
        into.insert(key.to_owned(), value);
    }
}

fn workloads(run: &RunRecord) -> Table {
    let mut workloads = Table::new();
    let visits = run.trials.iter().flat_map(|trial| &trial.visits);
    let tests = each_once(visits.flat_map(|visit| &visit.speed).map(|record| record.test));
    let tests: Vec<String> =
        tests.iter().map(|test| test.to_string().replace(" @ ", "@")).collect();
    workloads.insert("speed".to_owned(), tests.into());
    take(&mut workloads, "cold_load", run.experiment.pointer("/workloads/cold_load"));
    let keys: [(&str, &[(&str, &str)]); 2] = [
        (
            "latency",
            &[
                ("prompts", "/source"),
                ("format", "/format"),
                ("max_tokens", "/max_tokens"),
                ("temperature", "/sampling/temperature"),
                ("top_k", "/sampling/top_k"),
                ("top_p", "/sampling/top_p"),
                ("seed", "/sampling/seed"),
            ],
        ),
        ("quality", &[("context", "/context"), ("chunks", "/chunks"), ("precision", "/precision")]),
    ];
    for (kind, keys) in keys {
        let mut table = Table::new();
        let own =
            run.experiment.pointer(&format!("/workloads/{kind}")).filter(|own| !own.is_null());
        match own {
            None => {
                table.insert("enabled".to_owned(), false.into());
            }
            Some(own) => {
                for (key, stored) in keys {
                    take(&mut table, key, own.pointer(stored));
                }
                let text = own.get("source").and_then(Value::as_str).filter(|_| kind == "quality");
                table.extend(text.map(|text| {
                    let texts: Vec<String> = text.split(", ").map(str::to_owned).collect();
                    ("text".to_owned(), texts.into())
                }));
            }
        }
        workloads.insert(kind.to_owned(), table.into());
    }
    workloads
}

/// What is no default, where all trials have the same.
fn settings(run: &RunRecord) -> Option<Table> {
    let settings = each_once(run.trials.iter().map(|trial| &trial.settings));
    let [only] = settings.as_slice() else { return None };
    let own = serde_json::to_value(only).ok()?;
    let default = serde_json::to_value(Settings::default()).ok()?;
    let mut table = Table::new();
    for (key, value) in own.as_object()? {
        if default.get(key) != Some(value) {
            take(&mut table, key, Some(value));
        }
    }
    Some(table)
}
