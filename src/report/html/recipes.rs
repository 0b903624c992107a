//! How every row is got again: the file, the commands, and the experiment as a file.

use crate::experiment::resolved::Experiment;
use crate::experiment::workloads::SpeedTest;
use crate::report::next::{server_flags, source};
use crate::report::plot::label;
use crate::report::text::{quoted, sanitize, turns_direction};
use crate::results::each_once;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::Summary;
use crate::units::format_bytes;
use serde::{Deserialize as _, Serialize};
use std::fmt::Write as _;

/// How to get one row again.
#[derive(Serialize)]
pub(super) struct Recipe {
    label: String,
    lines: Vec<String>,
}

pub(super) fn note(run: &RunRecord) -> String {
    let experiment = Experiment::deserialize(&run.experiment).ok();
    let mut note = "The experiment below measures all of it again with 'quantbench run FILE', one variant with --only. The lines of \
                    a trial make its file and measure its speeds alone; llama-bench takes the same flags."
        .to_owned();
    for lacks in experiment.iter().flat_map(Experiment::not_in_file) {
        let _ = write!(note, " Not in it are {lacks}.");
    }
    if experiment.is_some_and(|it| it.recommend.is_some()) {
        note.push_str(" What was asked of 'quantbench recommend' is said on its command line; 'run' measures all of it.");
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
    let experiment = Experiment::deserialize(&run.experiment).ok();
    experiment.and_then(|experiment| written(&experiment.to_file())).unwrap_or_default()
}

fn written(file: &impl Serialize) -> Option<String> {
    let text = toml::to_string(file).ok()?;
    if !text.chars().any(turns_direction) {
        return Some(text);
    }
    let mut value = toml::Value::try_from(file).ok()?;
    escape(&mut value);
    let text = toml::to_string(&value).ok()?;
    let mut parts = text.split("\\u0001");
    let mut whole = parts.next()?.to_owned();
    for (at, part) in parts.enumerate() {
        whole.push_str(if at % 2 == 0 { "\\u" } else { "" });
        whole.push_str(part);
    }
    Some(whole)
}

/// Characters that turn the direction of writing come between two of U+0001, as digits: those make the writer of TOML take a
/// string that knows escapes.
fn escape(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => {
            let escaped = text.chars().map(|it| match it {
                it if turns_direction(it) => format!("\u{1}{:04X}\u{1}", u32::from(it)),
                it => it.to_string(),
            });
            *text = escaped.collect();
        }
        toml::Value::Array(values) => values.iter_mut().for_each(escape),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| escape(value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_turns_the_direction_of_writing_is_escaped() {
        let name = "x' \u{202e}txt.\"y\u{2066}";
        let text = written(&serde_json::json!({ "experiment": { "name": name } })).unwrap();
        assert!(!text.chars().any(turns_direction) && text.contains("\\u202E"), "{text}");
        let read: toml::Value = toml::from_str(&text).unwrap();
        assert_eq!(read["experiment"]["name"].as_str(), Some(name));
    }
}
