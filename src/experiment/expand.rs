//! From what the user wrote to what it means: texts are read, and values are checked against each other.

use super::diagnostic::Problem;
use super::file::{ExperimentFile, SettingsFile};
use super::inputs;
use super::keys::SETTINGS;
use super::reader::Located;
use super::requirements::{self, Requirements};
use super::resolved::Experiment;
use super::settings::Settings;
use super::workloads;
use crate::causes;
use crate::prompt::choice::FormatChoice;
use crate::prompt::template;
use serde_json::{Map, Value};
use std::path::Path;

/// More combinations than this are a slip, not a plan: with one minute each they take 17 hours.
const MOST_COMBINATIONS: usize = 1000;

/// Where an experiment comes from: it decides what its paths and missing names mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// Folder at which relative paths start.
    pub base: &'a Path,
    /// The name of an experiment that names itself not.
    pub fallback_name: &'a str,
    /// Whether this is the experiment compiled into the program.
    pub built_in: bool,
    /// Whether nobody asked for it by its name: it is the default.
    pub is_default: bool,
    /// Whether the command line allows variants of sources that are quantized already.
    pub allow_requantize: bool,
}

/// What an experiment is turned into its meaning with: where it comes from, and what was found to be wrong.
pub(crate) struct Expansion<'a> {
    pub origin: Origin<'a>,
    pub problems: Vec<Problem>,
}

/// Turns what was written into what it means.
pub(crate) fn expand(file: &ExperimentFile, expansion: &mut Expansion<'_>) -> Experiment {
    let run = &file.experiment;
    let workloads = workloads::expand(&file.workloads, expansion);
    let (models, left_out) = super::models::expand(file, expansion);
    let Expansion { origin, problems } = expansion;
    let settings = combinations(&file.settings, problems);
    if let Some(written) = &run.name
        && let Some(wrong) = wrong_name(written)
    {
        problems.push(written.problem(wrong));
    }
    let name = run.name.as_ref().map_or(origin.fallback_name, |name| name);
    let mut experiment = Experiment {
        name: name.to_owned(),
        models,
        left_out,
        written: None,
        settings,
        requirements: Requirements::default(),
        recommend: None,
        against: None,
        workloads,
        rounds: *run.rounds,
        repetitions: *run.repetitions,
        repeat_within: None,
        budget: run.budget.as_deref().copied(),
        cool_down: *run.cool_down,
        phase_limit: *run.phase_limit,
        keep: *run.keep,
    };
    experiment.requirements = requirements::expand(&file.requirements, &experiment, problems);
    experiment
}

/// Why `name` cannot stand in a table, if it cannot.
pub(crate) fn wrong_name(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        Some("is empty")
    } else if name.chars().any(char::is_control) {
        Some("has a control character in it")
    } else if name.chars().count() > 80 {
        Some("is longer than 80 characters")
    } else {
        None
    }
}

/// Every combination of the values of settings.
pub(crate) fn combinations(
    file: &Located<SettingsFile>,
    problems: &mut Vec<Problem>,
) -> Vec<Settings> {
    let values =
        |key: &str| file.get(key).map_or(&[] as &[Located<Value>], |values| values.as_slice());
    // What has no default and is not written is as the engine has it.
    let keys = SETTINGS.keys.iter().map(|key| key.name).filter(|key| !values(key).is_empty());
    let count = keys.clone().fold(1, |count: usize, key| count.saturating_mul(values(key).len()));
    if count > MOST_COMBINATIONS {
        let spans = file.values().filter(|list| list.is_written()).map(|list| list.span.clone());
        problems.push(Problem::new(
            spans.min_by_key(|span| span.start).unwrap_or(0..0),
            format!("'settings' has {count} combinations; at most {MOST_COMBINATIONS} are run"),
        ));
        return Vec::new();
    }
    problems.extend(conflict(values("batch"), values("ubatch"), batch_conflict));
    problems.extend(conflict(values("flash_attention"), values("cache_type_v"), cache_conflict));
    problems.extend(conflict(values("flash_attention"), values("split_mode"), split_conflict));
    let plain =
        |key: &str| values(key).iter().map(|it: &Located<Value>| it.value.clone()).collect();
    let axes: Vec<(&str, Vec<Value>)> = keys.map(|key| (key, plain(key))).collect();
    Settings::sweep(&axes).unwrap_or_else(|error| {
        problems.push(file.problem(format!("cannot be understood: {error}")));
        Vec::new()
    })
}

/// What is said of a conflict, and its remedy.
type Conflict = (String, &'static str);

/// The first of the combinations of two settings' values that do not go together.
fn conflict(
    first: &[Located<Value>],
    second: &[Located<Value>],
    wrong: fn(&Located<Value>, &Located<Value>) -> Option<Conflict>,
) -> Option<Problem> {
    let mut pairs = first.iter().flat_map(|one| second.iter().map(move |other| (one, other)));
    pairs.find_map(|(one, other)| {
        let (message, help) = wrong(one, other)?;
        let place = if other.is_written() { other } else { one };
        Some(Problem::new(place.span.clone(), message).help(help))
    })
}

/// llama.cpp computes at most `batch` tokens at once, whatever `ubatch` says.
fn batch_conflict(batch: &Located<Value>, ubatch: &Located<Value>) -> Option<Conflict> {
    let shown = |value: &Located<Value>| {
        format!("{}{}", value.value, if value.is_written() { "" } else { " (the default)" })
    };
    (ubatch.as_u64() > batch.as_u64()).then(|| {
        let (batch, ubatch) = (shown(batch), shown(ubatch));
        (
            format!("'settings.ubatch' is {ubatch}, more than 'settings.batch', which is {batch}"),
            "ubatch tokens of a batch are computed at once, so ubatch is at most batch",
        )
    })
}

/// llama.cpp refuses a quantized V cache without flash attention.
fn cache_conflict(
    flash_attention: &Located<Value>,
    cache_type: &Located<Value>,
) -> Option<Conflict> {
    let name = cache_type.as_str()?;
    let quantized = !matches!(name, "f32" | "f16" | "bf16");
    (quantized && flash_attention.as_str() == Some("off")).then(|| {
        (
            format!("'settings.cache_type_v' is {name}, but 'settings.flash_attention' is off"),
            "llama.cpp quantizes the V cache only with flash_attention = \"on\" or \"auto\"",
        )
    })
}

/// llama.cpp divides tensors only with flash attention.
fn split_conflict(
    flash_attention: &Located<Value>,
    split_mode: &Located<Value>,
) -> Option<Conflict> {
    let is_off = flash_attention.as_str() == Some("off");
    (is_off && split_mode.as_str() == Some("tensor")).then(|| {
        (
            "'settings.split_mode' is tensor, but 'settings.flash_attention' is off".to_owned(),
            "llama.cpp divides tensors only with flash_attention = \"on\" or \"auto\"",
        )
    })
}

/// Whether a workload that was not asked for can be left out: the built-in experiment of a build
/// without the demo still measures everything else.
pub(super) fn lacks_demo(expansion: &Expansion<'_>, source: &str) -> bool {
    expansion.origin.built_in && source == inputs::DEMO && !crate::model::demo::BUILT_IN
}

/// What is given to the model's own template, which has to be among `formats`.
pub(in crate::experiment) fn chat_template_kwargs(
    written: Option<&Located<Map<String, Value>>>,
    formats: &[FormatChoice],
    problems: &mut Vec<Problem>,
) -> Map<String, Value> {
    let Some(written) = written else { return Map::new() };
    if !formats.contains(&FormatChoice::Auto) {
        let problem = written.problem("is for the model's own template, which is not asked for");
        problems.push(problem.help("write format = \"auto\", or leave the format out"));
    }
    for key in template::OWN_VALUES {
        if written.value.contains_key(key) {
            problems.push(written.problem(format!("has '{key}', which every template is given")));
        }
    }
    written.value.clone()
}

/// What was read; nothing, if that could not be done.
pub(super) fn readable<T: Default>(
    read: Result<T, inputs::InputError>,
    source: &Located<String>,
    problems: &mut Vec<Problem>,
) -> T {
    read.unwrap_or_else(|error| {
        let problem = source.problem(causes::in_words(&error));
        problems.push(if source.is_written() {
            problem
        } else {
            // The default could not be had: the user has to say what to do instead.
            problem
                .help("write a file of your own there, or switch the workload off: enabled = false")
        });
        T::default()
    })
}
