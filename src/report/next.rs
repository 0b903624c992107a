//! What to type to use the best trade-off.

use super::text::{quoted, sanitize};
use crate::experiment::settings::Settings;
use crate::model::source::Source;
use crate::results::record::{LOCAL, RunRecord, TrialRecord};
use crate::results::summary::Summary;
use serde::Deserialize as _;

/// One sentence and the commands that it announces.
pub(super) struct Next {
    pub(super) sentence: String,
    pub(super) commands: Vec<String>,
}

/// How the best trade-off of each model is put to use.
pub(super) fn next(run: &RunRecord, summary: &Summary) -> Vec<Next> {
    let chosen = summary.models.iter().filter_map(|model| model.choice.as_ref());
    chosen.filter_map(|choice| of_trial(run.trials.get(choice.row)?, run)).collect()
}

/// Where a model came from, as it is written; `None` in a run of another version.
fn source(run: &RunRecord, model: &str) -> Option<Source> {
    let models = run.experiment.get("models")?.as_array()?;
    let model = models.iter().find(|it| it.get("name").is_some_and(|name| name == model))?;
    Source::deserialize(model.get("source")?).ok()
}

fn of_trial(trial: &TrialRecord, run: &RunRecord) -> Option<Next> {
    let artifact = trial.artifact.as_ref()?;
    let path = sanitize(&artifact.path.to_string_lossy());
    let (model, label) = (sanitize(&trial.model), sanitize(&trial.label));
    let flags = server_flags(&trial.settings);
    let serve = |path: &str| format!("llama-server -m {}{flags}", quoted(path));
    // What a host makes comes back: the path is one of the machine that the run was started on.
    let place = match sanitize(&trial.host.name) {
        host if host == LOCAL => String::new(),
        host => {
            format!(" (measured on host '{host}'; this file is on the machine that began the run)")
        }
    };
    let name = format!("{model}-{label}.gguf").replace([':', '/', '\\', ' '], "-");
    if artifact.deleted {
        let sentence = format!("{label} of {model} was not kept; to get and serve it{place}:");
        let commands = match source(run, &trial.model)? {
            source if artifact.quantize_seconds.is_some() => {
                let (source, quantization) = (sanitize(&source.to_string()), trial.quantization);
                let source = quoted(&source);
                let make = format!(
                    "quantbench quantize {source} --to {quantization} -o {}",
                    quoted(&name)
                );
                vec![make, serve(&name)]
            }
            Source::Repository { repository, .. } => {
                let word = trial.quantization.label.name();
                vec![format!("llama-server -hf {}{flags}", quoted(&format!("{repository}:{word}")))]
            }
            _ => return None,
        };
        return Some(Next { sentence, commands });
    }
    // What quantbench made is in its cache, which may be cleaned.
    Some(if artifact.quantize_seconds.is_some() {
        let sentence =
            format!("To take {label} of {model} out of the cache, and to serve it{place}:");
        let commands = vec![format!("cp {} {}", quoted(&path), quoted(&name)), serve(&name)];
        Next { sentence, commands }
    } else {
        let sentence = format!("To serve {label} of {model}{place}:");
        Next { sentence, commands: vec![serve(&path)] }
    })
}

/// The settings that are no defaults as llama-server's flags, with a space in front of each.
fn server_flags(settings: &Settings) -> String {
    let flag = |(flag, value): (&str, String)| match flag {
        "nkvo" => " -nkvo".to_owned(),
        "mmap" => " --no-mmap".to_owned(),
        "swa-full" => " --swa-full".to_owned(),
        flag => format!(" -{flag} {value}"),
    };
    settings.changed().into_iter().map(flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::settings::{CacheType, FlashAttention};
    use crate::results::made_up::MadeUp;

    #[test]
    fn the_chosen_file_is_named_with_what_to_type() {
        let settings = Settings {
            threads: Some(4),
            flash_attention: FlashAttention::On,
            cache_type_k: CacheType::Q8_0,
            mmap: false,
            ..Settings::default()
        };
        let mut run = MadeUp { settings: vec![settings], ..MadeUp::default() }.run();
        let commands = |run: &RunRecord| {
            let next = next(run, &Summary::of(run));
            next.into_iter().flat_map(|it| it.commands).collect::<Vec<_>>()
        };
        assert_eq!(
            commands(&run),
            [
                "cp /cache/llama-3.2-1b-Q4_K_M.gguf llama-3.2-1b-Q4_K_M.gguf",
                "llama-server -m llama-3.2-1b-Q4_K_M.gguf -t 4 -fa on -ctk q8_0 --no-mmap",
            ]
        );
        for trial in &mut run.trials {
            let artifact = trial.artifact.as_mut().unwrap();
            artifact.quantize_seconds = None;
            artifact.path = "a folder/m.gguf".into();
        }
        let expected = ["llama-server -m 'a folder/m.gguf' -t 4 -fa on -ctk q8_0 --no-mmap"];
        assert_eq!(commands(&run), expected);
        run.trials.iter_mut().for_each(|trial| trial.host.name = "board".to_owned());
        let sentence = &next(&run, &Summary::of(&run))[0].sentence;
        let expected =
            "(measured on host 'board'; this file is on the machine that began the run):";
        assert!(sentence.ends_with(expected), "{sentence}");
    }
}
