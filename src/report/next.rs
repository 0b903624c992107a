//! What to type to use the best trade-off.

use super::text::{quoted, sanitize};
use crate::experiment::settings::Settings;
use crate::model::adapter::Adapter;
use crate::model::engine_name::EngineName;
use crate::model::source::Source;
use crate::results::record::{LOCAL, RunRecord, TrialRecord};
use crate::results::summary::{ModelSummary, Summary};
use crate::units::format_bytes;
use serde::Deserialize;

/// One sentence and the commands that it announces.
pub(super) struct Next {
    pub(super) sentence: String,
    pub(super) commands: Vec<String>,
}

/// How the best trade-off of each model is put to use.
pub(super) fn next(run: &RunRecord, summary: &Summary) -> Vec<Next> {
    let chosen = summary.models.iter().filter_map(chosen);
    chosen.filter_map(|row| of_trial(run, run.trials.get(row)?)).collect()
}

/// The best trade-off; of a model with one variant, that.
fn chosen(model: &ModelSummary) -> Option<usize> {
    let mut rows = model.groups.iter().flat_map(|group| &group.rows);
    let only = rows.next().filter(|_| rows.next().is_none()).copied();
    model.choice.as_ref().map(|choice| choice.row).or(only)
}

fn of_trial(run: &RunRecord, trial: &TrialRecord) -> Option<Next> {
    // Nobody wants a file of generated weights.
    if matches!(source(run, trial), Some(Source::Shape(_))) {
        return None;
    }
    // What was refused is not to be served so.
    if trial.failure.is_some() {
        return None;
    }
    if trial.engine.name == EngineName::OnnxRuntime {
        return of_onnx(trial);
    }
    let artifact = trial.artifact.as_ref()?;
    let path = sanitize(&artifact.path.to_string_lossy());
    let (model, label) = (sanitize(&trial.model), sanitize(&trial.label));
    // What a host makes comes back: the path is one of the machine that the run was started on.
    let place = match sanitize(&trial.host.name) {
        host if host == LOCAL => String::new(),
        host => {
            format!(" (measured on host '{host}'; this file is on the machine that began the run)")
        }
    };
    let size = format_bytes(artifact.file_bytes);
    // What quantbench made is in its cache, which may be cleaned.
    let is_made = artifact.quantize_seconds.is_some();
    let name = format!("{model}-{label}").replace([':', '/', '\\', ' '], "-");
    let with = |flag: &str| -> String {
        let scaled = trial.adapters.iter().map(scaled);
        scaled.flat_map(|adapter| [" ", flag, " ", &adapter].map(str::to_owned)).collect()
    };
    let flags = server_flags(&trial.settings) + &with("--lora-scaled");
    if artifact.deleted && !is_made {
        let hub = hub_name(run, trial)?;
        let (word, label) =
            (trial.quantization.label.name(), quoted(&format!("hf.co/{hub}:{label}")));
        let serve = format!("llama-server -hf {}{flags}", quoted(&format!("{hub}:{word}")));
        let model = sanitize(&trial.model);
        let sentence = format!(
            "{word} of {model} ({size}) was not kept; to fetch and serve it (llama.cpp, Ollama):"
        );
        return Some(Next { sentence, commands: vec![serve, format!("ollama run {label}")] });
    }
    let (sentence, file, mut commands) = if is_made && artifact.deleted {
        let file = format!("{name}.gguf");
        let source = quoted(&sanitize(&source(run, trial)?.to_string()));
        let (quantization, output) = (trial.quantization, quoted(&file));
        let sentence =
            format!("{label} of {model} ({size}) was not kept; to make it again, to serve it");
        let make = format!("quantbench quantize {source} --to {quantization} -o {output}");
        (sentence, file.clone(), vec![make])
    } else if is_made {
        let file = format!("{name}.gguf");
        let sentence = format!("To take {label} of {model} ({size}) out of the cache, to serve it");
        (sentence, file.clone(), vec![format!("cp {} {}", quoted(&path), quoted(&file))])
    } else {
        (format!("To serve {label} of {model} ({size})"), path, Vec::new())
    };
    commands.push(format!("llama-server -m {}{flags}", quoted(&file)));
    // Ollama's own way to add adapters is another.
    let ollama = if let Some(name) = hub_name(run, trial).filter(|_| !is_made) {
        format!("ollama run {}", quoted(&format!("hf.co/{name}:{label}")))
    } else {
        let from = quoted(&format!("FROM {}", absolute_or_here(&file)));
        let name = quoted(&name.to_lowercase());
        format!("echo {from} > Modelfile && ollama create {name} && ollama run {name}")
    };
    commands.extend(Some(ollama).filter(|_| trial.adapters.is_empty()));
    commands.push(format!("quantbench {}{}", quoted(&file), with("--lora")));
    let sentence = format!("{sentence} (llama.cpp, Ollama), and to measure it again{place}:");
    Some(Next { sentence, commands })
}

/// Whoever serves ONNX has its own way; the file is named, and how it is measured again.
fn of_onnx(trial: &TrialRecord) -> Option<Next> {
    let artifact = trial.artifact.as_ref()?;
    let path = sanitize(&artifact.path.to_string_lossy());
    let (model, label) = (sanitize(&trial.model), sanitize(&trial.label));
    let size = format_bytes(artifact.file_bytes);
    let sentence = format!(
        "{label} of {model} ({size}) is {path}, for ONNX Runtime {}; to measure it again:",
        trial.engine.version
    );
    Some(Next { sentence, commands: vec![format!("quantbench run {}", quoted(&path))] })
}

/// An adapter with how strongly it is applied, as llama-server and quantbench read it.
fn scaled(adapter: &Adapter) -> String {
    let path = sanitize(&adapter.file.path.to_string_lossy());
    quoted(&format!("{path}:{}", adapter.scale))
}

/// Ollama reads a name without a folder as that of a model.
fn absolute_or_here(file: &str) -> String {
    if file.contains('/') { file.to_owned() } else { format!("./{file}") }
}

/// `owner/name`, of a model that is a repository on the hub.
fn hub_name(run: &RunRecord, trial: &TrialRecord) -> Option<String> {
    match source(run, trial)? {
        Source::Repository { repository, revision: None, .. } => Some(repository),
        _ => None,
    }
}

/// Where a trial's model came from; `None` in a run of another version.
pub(super) fn source(run: &RunRecord, trial: &TrialRecord) -> Option<Source> {
    let models = run.experiment.get("models")?.as_array()?;
    let own = models.iter().find(|it| it.get("name").is_some_and(|name| *name == trial.model))?;
    Source::deserialize(own.get("source")?).ok()
}

/// The settings that are no defaults as llama-server's flags, with a space in front of each.
pub(crate) fn server_flags(settings: &Settings) -> String {
    let flag = |(flag, value): (&str, String)| match flag {
        "nkvo" => " -nkvo".to_owned(),
        "mmap" => " --no-mmap".to_owned(),
        "swa-full" => " --swa-full".to_owned(),
        "repack" => " --no-repack".to_owned(),
        "nopo" => " --no-op-offload".to_owned(),
        "cmoe" => " --cpu-moe".to_owned(),
        // ONNX Runtime's.
        "spin" | "opt" => String::new(),
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
                "echo 'FROM ./llama-3.2-1b-Q4_K_M.gguf' > Modelfile && ollama create \
                 llama-3.2-1b-q4_k_m && ollama run llama-3.2-1b-q4_k_m",
                "quantbench llama-3.2-1b-Q4_K_M.gguf",
            ]
        );
        for trial in &mut run.trials {
            let artifact = trial.artifact.as_mut().unwrap();
            artifact.quantize_seconds = None;
            artifact.path = "a folder/m.gguf".into();
        }
        let expected = "llama-server -m 'a folder/m.gguf' -t 4 -fa on -ctk q8_0 --no-mmap";
        assert_eq!(commands(&run)[0], expected);
        assert!(commands(&run)[1].starts_with("echo 'FROM a folder/m.gguf' > Modelfile"));
        // Ollama fetches from the hub by itself.
        run.experiment = serde_json::json!({ "models": [{
            "name": "llama-3.2-1b",
            "source": Source::parse("unsloth/Llama-GGUF", std::path::Path::new("")).unwrap(),
        }] });
        assert_eq!(commands(&run)[1], "ollama run hf.co/unsloth/Llama-GGUF:Q4_K_M");
        // What was not kept is fetched or made again.
        let chosen = Summary::of(&run).models[0].choice.as_ref().unwrap().row;
        run.trials[chosen].artifact.as_mut().unwrap().deleted = true;
        let fetch = "llama-server -hf unsloth/Llama-GGUF:Q4_K_M -t 4 -fa on -ctk q8_0 --no-mmap";
        assert_eq!(commands(&run)[0], fetch);
        run.trials[chosen].artifact.as_mut().unwrap().quantize_seconds = Some(1.0);
        assert_eq!(
            commands(&run)[0],
            "quantbench quantize hf://unsloth/Llama-GGUF --to Q4_K_M -o llama-3.2-1b-Q4_K_M.gguf"
        );
        assert!(commands(&run)[1].starts_with("llama-server -m llama-3.2-1b-Q4_K_M.gguf"));
        let artifact = run.trials[chosen].artifact.as_mut().unwrap();
        (artifact.quantize_seconds, artifact.deleted) = (None, false);
        run.trials.iter_mut().for_each(|trial| trial.host.name = "board".to_owned());
        let sentence = &next(&run, &Summary::of(&run))[0].sentence;
        let expected =
            "(measured on host 'board'; this file is on the machine that began the run):";
        assert!(sentence.ends_with(expected), "{sentence}");
    }
}
