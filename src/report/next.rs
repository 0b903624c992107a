//! What to type to use the best trade-off.

use super::text::{quoted, sanitize};
use crate::experiment::settings::Settings;
use crate::model::adapter::Adapter;
use crate::model::architecture::ArchitectureClass;
use crate::model::engine_name::EngineName;
use crate::model::source::Source;
use crate::model::split;
use crate::results::each_once;
use crate::results::metric::Metric;
use crate::results::record::{LOCAL, RunRecord, TrialRecord};
use crate::results::summary::{ModelSummary, Summary};
use crate::units::format_bytes;
use serde::Deserialize;

/// Times the time that was too short.
const MORE_TIME: f64 = 3.0;

/// One sentence and the commands that it announces.
pub(super) struct Next {
    pub(super) sentence: String,
    pub(super) commands: Vec<String>,
}

/// How the best trade-off of each model is put to use, or what would tell which it is.
pub(super) fn next(run: &RunRecord, summary: &Summary) -> Vec<Next> {
    let of_model = |model: &ModelSummary| match chosen(summary, model) {
        Some(row) => of_trial(run, run.trials.get(row)?),
        None => more_time(run, summary, model),
    };
    summary.models.iter().filter_map(of_model).collect()
}

/// The best trade-off; of a model with one variant, that; of an encoder the smallest that embeds as the best do.
fn chosen(summary: &Summary, model: &ModelSummary) -> Option<usize> {
    let rows = || model.groups.iter().flat_map(|group| &group.rows).copied();
    let only = rows().next().filter(|_| rows().count() == 1);
    let is_marked = |row: usize| summary.rows[row].best.contains(&Metric::EmbeddingCosine);
    // Where all are alike, none is marked.
    let is_any_marked = rows().any(is_marked);
    let is_level = |&row: &usize| {
        let has_figure = summary.rows[row].figures.contains_key(&Metric::EmbeddingCosine);
        if is_any_marked { is_marked(row) } else { has_figure }
    };
    let bytes = |&row: &usize| {
        let bytes = summary.rows[row].value(Metric::FileBytes).unwrap_or(f64::INFINITY);
        // Positive numbers are ordered as their bits are.
        bytes.to_bits()
    };
    let embeds = || rows().filter(is_level).min_by_key(bytes);
    model.choice.as_ref().map(|choice| choice.row).or(only).or_else(embeds)
}

/// What measures the rest of a model that had no time for a pair of variants.
fn more_time(run: &RunRecord, summary: &Summary, model: &ModelSummary) -> Option<Next> {
    let experiment = run.stored_experiment();
    let budget = experiment.budget.filter(|_| summary.recommendation.is_none())?;
    let rows = || model.groups.iter().flat_map(|group| &group.rows).copied();
    let sound = || rows().filter(|&row| summary.rows[row].failure.is_none());
    let class = model.facts.as_ref().map(|facts| facts.class);
    let generates = class.is_none_or(|class| class == ArchitectureClass::DecoderOnly);
    let is_short = sound().any(|row| run.trials[row].visits.is_empty());
    if sound().count() < 2 || !is_short || !generates {
        return None;
    }
    let source = quoted(&sanitize(&source(run, run.trials.get(sound().next()?)?)?.to_string()));
    let names = each_once(sound().map(|row| run.trials[row].quantization.to_string()));
    let spent = run.active_seconds.unwrap_or_default().max(budget.as_secs_f64());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few minutes")]
    let minutes = (spent * MORE_TIME / 60.0).ceil() as u64;
    let models = run.experiment.get("models")?.as_array()?;
    let own = models.iter().find(|it| it.get("name").is_some_and(|name| *name == model.name))?;
    let is_requantized = own.get("allow_requantize").and_then(serde_json::Value::as_bool);
    let flag = if is_requantized == Some(true) { " --allow-requantize" } else { "" };
    let names = quoted(&sanitize(&names.join(",")));
    let command = format!("quantbench {source} --quant {names}{flag} --budget {minutes}min");
    let sentence = format!("To compare them in more time ({}):", sanitize(&model.name));
    Some(Next { sentence, commands: vec![command] })
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
    let word = trial.quantization.label.name();
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
    let class = trial.facts.as_ref().map(|facts| facts.class);
    let is_encoder = class == Some(ArchitectureClass::EncoderOnly);
    let embeds = if is_encoder { " --embedding" } else { "" };
    let flags = server_flags(&trial.settings) + &with("--lora-scaled") + embeds;
    // Ollama's command line generates, takes no file in parts, and has its own way to add adapters.
    let is_split =
        artifact.path.file_name().is_some_and(|it| split::part(&it.to_string_lossy()).is_some());
    let is_for_ollama = !is_encoder && !is_split && trial.adapters.is_empty();
    let servers = if is_for_ollama { "llama.cpp, Ollama" } else { "llama.cpp" };
    let from_hub = |hub: &str| format!("ollama run {}", quoted(&format!("hf.co/{hub}:{word}")));
    if artifact.deleted && !is_made {
        let hub = hub_name(run, trial)?;
        let serve = format!("llama-server -hf {}{flags}", quoted(&format!("{hub}:{word}")));
        let model = sanitize(&trial.model);
        let sentence = format!(
            "{word} of {model} ({size}) was not kept; to fetch and serve it ({servers}), and to measure it again:"
        );
        let again = format!("quantbench {}", quoted(&format!("{hub}:{word}")));
        let ollama = is_for_ollama.then(|| from_hub(&hub));
        let commands = [Some(serve), ollama, Some(again)].into_iter().flatten().collect();
        return Some(Next { sentence, commands });
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
    let ollama = if let Some(name) = hub_name(run, trial).filter(|_| !is_made) {
        from_hub(&name)
    } else {
        let from = quoted(&format!("FROM {}", absolute_or_here(&file)));
        let name = quoted(&name.to_lowercase());
        format!("echo {from} > Modelfile && ollama create {name} && ollama run {name}")
    };
    commands.extend(Some(ollama).filter(|_| is_for_ollama));
    commands.push(format!("quantbench {}{}", quoted(&file), with("--lora")));
    let sentence = format!("{sentence} ({servers}), and to measure it again{place}:");
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

/// The settings that are no defaults as llama-server's flags: short ones that take a value and long ones, without dashes.
pub(crate) fn server_settings(
    settings: &Settings,
) -> impl Iterator<Item = (&'static str, &'static str, Option<String>)> {
    settings.changed().into_iter().filter_map(|(short, value)| {
        let long = match short {
            "t" => "threads",
            "tb" => "threads-batch",
            "ngl" => "n-gpu-layers",
            "fa" => "flash-attn",
            "b" => "batch-size",
            "ub" => "ubatch-size",
            "ctk" => "cache-type-k",
            "ctv" => "cache-type-v",
            "sm" => "split-mode",
            "ts" => "tensor-split",
            "mg" => "main-gpu",
            "nkvo" => return Some((short, "no-kv-offload", None)),
            "mmap" => return Some((short, "no-mmap", None)),
            "swa-full" => return Some((short, "swa-full", None)),
            "repack" => return Some((short, "no-repack", None)),
            "nopo" => return Some((short, "no-op-offload", None)),
            "cmoe" => return Some((short, "cpu-moe", None)),
            // ONNX Runtime's.
            _ => return None,
        };
        Some((short, long, Some(value)))
    })
}

/// The same as a command has them, with a space in front of each.
pub(crate) fn server_flags(settings: &Settings) -> String {
    let words = server_settings(settings).map(|(short, long, value)| match value {
        Some(value) => format!(" -{short} {value}"),
        None => format!(" --{long}"),
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::settings::{CacheType, FlashAttention};
    use crate::model::quantization::Method;
    use crate::results::figure::Figure;
    use crate::results::made_up::MadeUp;

    #[test]
    fn of_a_run_without_a_pair_more_time_is_advised() {
        let mut run = MadeUp::default().run();
        run.trials.truncate(3);
        run.trials.iter_mut().skip(1).for_each(|trial| trial.visits.clear());
        let told = |run: &RunRecord| next(run, &Summary::of(run)).pop().map(|it| it.commands);
        let models = serde_json::json!([{
            "name": "llama-3.2-1b", "allow_requantize": true, "source": Source::Demo,
        }]);
        run.experiment = serde_json::json!({ "models": models });
        assert_eq!(told(&run), None, "time was not short");
        run.experiment["budget"] = serde_json::json!({ "secs": 100, "nanos": 0 });
        run.active_seconds = Some(101.0);
        let names: Vec<String> = run.trials.iter().map(|it| it.quantization.to_string()).collect();
        let names = names.join(",");
        let expected = format!("quantbench demo --quant {names} --allow-requantize --budget 6min");
        assert_eq!(told(&run), Some(vec![expected]));
    }

    #[test]
    fn of_encoders_that_embed_exactly_alike_the_smallest_is_taken() {
        let mut run = MadeUp::default().run();
        run.trials.truncate(3);
        let mut summary = Summary::of(&run);
        let figure = Figure::exact(1.0);
        for row in &mut summary.rows {
            row.figures.insert(Metric::EmbeddingCosine, figure.clone());
            row.best.clear();
        }
        summary.models[0].choice = None;
        let chosen = chosen(&summary, &summary.models[0]).unwrap();
        let bytes = |row: usize| summary.rows[row].value(Metric::FileBytes).unwrap();
        assert!((0..3).all(|row| bytes(chosen) <= bytes(row)), "{chosen}");
    }

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
        let mut other = run.clone();
        for trial in &mut other.trials {
            trial.quantization.method = Method::Imatrix;
            trial.label = trial.quantization.to_string();
        }
        assert_eq!(commands(&other)[1], "ollama run hf.co/unsloth/Llama-GGUF:Q4_K_M");
        for trial in &mut other.trials {
            trial.artifact.as_mut().unwrap().path = "m-00001-of-00002.gguf".into();
        }
        assert!(!commands(&other).iter().any(|it| it.contains("ollama")), "not in parts");
        // What was not kept is fetched or made again.
        let chosen = Summary::of(&run).models[0].choice.as_ref().unwrap().row;
        run.trials[chosen].artifact.as_mut().unwrap().deleted = true;
        let fetch = "llama-server -hf unsloth/Llama-GGUF:Q4_K_M -t 4 -fa on -ctk q8_0 --no-mmap";
        assert_eq!(commands(&run)[0], fetch);
        assert_eq!(commands(&run)[2], "quantbench unsloth/Llama-GGUF:Q4_K_M");
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
