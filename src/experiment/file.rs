//! The experiment file: what the user wrote, every field optional and with its place in the text.
//!
//! Types and single values are checked here; what a value means, and whether it fits the others, is
//! decided in `expand.rs`. docs: `models.toml` at the top of the repository explains every key.

use super::calibration::CalibrationFile;
use super::diagnostic::Problem;
use super::reader::{Located, RawValue, TableReader};
use super::settings_file::SettingsFile;
use super::tasks::TaskFile;
use std::ops::Range;
use std::time::Duration;
use toml::de::DeTable;

/// Highest number of rounds or repetitions: more is a slip of the finger.
const MOST_ROUNDS: u32 = 1000;

/// What the user wrote.
#[derive(Debug, Clone, Default)]
pub struct ExperimentFile {
    /// `quantizations` of all models that have none of their own.
    pub quantizations: Option<Vec<Located<String>>>,
    /// `reference` of all models that have none of their own.
    pub reference: Option<Located<String>>,
    /// `experiment.name`.
    pub name: Option<Located<String>>,
    /// `experiment.rounds`.
    pub rounds: Option<Located<u32>>,
    /// `experiment.repetitions`.
    pub repetitions: Option<Located<u32>>,
    /// `experiment.cool_down`.
    pub cool_down: Option<Located<Duration>>,
    /// `experiment.phase_limit`.
    pub phase_limit: Option<Located<Duration>>,
    /// `[settings]`.
    pub settings: SettingsFile,
    /// `[workloads]`.
    pub workloads: WorkloadsFile,
    /// `[calibration]`.
    pub calibration: Option<CalibrationFile>,
    /// `[requirements]`.
    pub requirements: RequirementsFile,
    /// `[[models]]`; `None`: no model was written, not even a wrong one.
    pub models: Option<Vec<ModelFile>>,
}

/// `[workloads]`.
#[derive(Debug, Clone, Default)]
pub struct WorkloadsFile {
    /// `cold_load`.
    pub cold_load: Option<Located<bool>>,
    /// `speed`.
    pub speed: Option<Vec<Located<String>>>,
    /// `[workloads.latency]`.
    pub latency: Option<LatencyFile>,
    /// `[workloads.quality]`.
    pub quality: Option<QualityFile>,
    /// `[[workloads.tasks]]`.
    pub tasks: Vec<TaskFile>,
}

/// `[workloads.latency]`.
#[derive(Debug, Clone, Default)]
pub struct LatencyFile {
    /// `enabled`.
    pub enabled: Option<Located<bool>>,
    /// `prompts`.
    pub prompts: Option<Located<String>>,
    /// `format`.
    pub format: Option<Located<String>>,
    /// `chat_template_kwargs`: what the model's own template is given besides.
    pub chat_template_kwargs: Option<Located<serde_json::Map<String, serde_json::Value>>>,
    /// `max_tokens`.
    pub max_tokens: Option<Located<u32>>,
    /// `temperature`.
    pub temperature: Option<Located<f64>>,
    /// `top_k`.
    pub top_k: Option<Located<u32>>,
    /// `top_p`.
    pub top_p: Option<Located<f64>>,
    /// `seed`.
    pub seed: Option<Located<u32>>,
}

/// `[workloads.quality]`.
#[derive(Debug, Clone, Default)]
pub struct QualityFile {
    /// `enabled`.
    pub enabled: Option<Located<bool>>,
    /// `text`.
    pub text: Option<Located<String>>,
    /// `context`.
    pub context: Option<Located<u32>>,
    /// `chunks`.
    pub chunks: Option<Located<u32>>,
    /// `divergence`.
    pub divergence: Option<Located<bool>>,
    /// `precision`.
    pub precision: Option<Located<f64>>,
    /// `memory_budget`, bytes.
    pub memory_budget: Option<Located<u64>>,
}

/// `[requirements]`.
#[derive(Debug, Clone, Default)]
pub struct RequirementsFile {
    /// `max_memory`, bytes.
    pub max_memory: Option<Located<u64>>,
    /// `min_generation_tps`.
    pub min_generation_tps: Option<Located<f64>>,
    /// `max_ttft_ms`.
    pub max_ttft_ms: Option<Located<f64>>,
    /// `max_kld`.
    pub max_kld: Option<Located<f64>>,
    /// `max_perplexity_increase`.
    pub max_perplexity_increase: Option<Located<f64>>,
}

/// One `[[models]]` table.
#[derive(Debug, Clone, Default)]
pub struct ModelFile {
    /// Where the table is, for what is missing in it.
    pub span: Range<usize>,
    /// `name`.
    pub name: Option<Located<String>>,
    /// `source`.
    pub source: Option<Located<String>>,
    /// `mmproj`: the projector of a model that sees.
    pub mmproj: Option<Located<String>>,
    /// `quantizations`.
    pub quantizations: Option<Vec<Located<String>>>,
    /// `reference`.
    pub reference: Option<Located<String>>,
    /// `settings`: keys that differ from the experiment's.
    pub settings: Option<SettingsFile>,
    /// `workloads`: keys that differ from the experiment's.
    pub workloads: Option<WorkloadsFile>,
    /// `allow_requantize`.
    pub allow_requantize: Option<Located<bool>>,
}

/// Says in which table a key belongs that was written in another.
pub(in crate::experiment) fn elsewhere(key: &str) -> Option<&'static str> {
    Some(match key {
        "name" | "rounds" | "repetitions" | "cool_down" | "phase_limit" => {
            "this key belongs in [experiment]"
        }
        "quantizations" | "variants" | "reference" => {
            "this key belongs at the top of the file, above the first [table], or in [[models]]"
        }
        "chat_template_kwargs" => {
            "this key belongs in [workloads.latency], or in [[workloads.tasks]]"
        }
        "models" => "models are written as [[models]], each with a source",
        "source" | "mmproj" | "allow_requantize" => "this key belongs in [[models]]",
        "cold_load" | "speed" | "latency" | "quality" | "tasks" => {
            "this key belongs in [workloads]"
        }
        "prompts" | "max_tokens" | "temperature" | "top_k" | "top_p" | "seed" => {
            "this key belongs in [workloads.latency]"
        }
        "text" | "context" | "chunks" => {
            "this key belongs in [workloads.quality], or in [calibration]"
        }
        "divergence" | "precision" | "memory_budget" => "this key belongs in [workloads.quality]",
        "damping" | "sweeps" | "matching" => "this key belongs in [calibration.gptq]",
        "gptq" => "this table belongs in [calibration]: [calibration.gptq]",
        "max_memory"
        | "min_generation_tps"
        | "max_ttft_ms"
        | "max_kld"
        | "max_perplexity_increase" => "this key belongs in [requirements]",
        key if SettingsFile::KEYS.contains(&key) => "this key belongs in [settings]",
        _ => return None,
    })
}

impl ExperimentFile {
    /// Reads the root table; what is wrong goes to `problems`.
    pub fn read(root: &DeTable<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut reader = TableReader::new(root, "");
        let mut file = Self {
            quantizations: read_quantizations(&mut reader, problems),
            reference: read_string(&mut reader, "reference", problems),
            ..Self::default()
        };
        if let Some((table, _)) = reader.table("experiment", problems) {
            file.read_experiment(table, problems);
        }
        if let Some((mut table, _)) = reader.table("settings", problems) {
            file.settings = SettingsFile::read(&mut table, problems);
            table.finish(elsewhere, problems);
        }
        if let Some((table, _)) = reader.table("workloads", problems) {
            file.workloads = WorkloadsFile::read(table, problems);
        }
        if let Some((table, _)) = reader.table("calibration", problems) {
            file.calibration = Some(CalibrationFile::read(table, elsewhere, problems));
        }
        if let Some((table, _)) = reader.table("requirements", problems) {
            file.requirements = RequirementsFile::read(table, problems);
        }
        let models = reader.value("models").map(|models| models.items());
        file.models = models.filter(|items| !items.is_empty()).map(|items| {
            let read = |item: RawValue<'_>| {
                let table = TableReader::new(item.expect_table(problems)?, "models");
                Some(ModelFile::read(table, item.span, problems))
            };
            items.into_iter().filter_map(read).collect()
        });
        reader.finish(elsewhere, problems);
        file
    }

    fn read_experiment(&mut self, mut table: TableReader<'_>, problems: &mut Vec<Problem>) {
        self.name = read_string(&mut table, "name", problems);
        self.rounds = read_count(&mut table, "rounds", 1..=MOST_ROUNDS, problems);
        self.repetitions = read_count(&mut table, "repetitions", 1..=MOST_ROUNDS, problems);
        self.cool_down = read_duration(&mut table, "cool_down", problems);
        self.phase_limit = read_duration(&mut table, "phase_limit", problems);
        table.finish(elsewhere, problems);
    }
}

impl WorkloadsFile {
    fn read(mut table: TableReader<'_>, problems: &mut Vec<Problem>) -> Self {
        let file = Self {
            cold_load: read_boolean(&mut table, "cold_load", problems),
            speed: read_strings(&mut table, "speed", problems),
            latency: table
                .table("latency", problems)
                .map(|(table, _)| LatencyFile::read(table, problems)),
            quality: table
                .table("quality", problems)
                .map(|(table, _)| QualityFile::read(table, problems)),
            tasks: table
                .value("tasks")
                .map(|tasks| tasks.items())
                .unwrap_or_default()
                .into_iter()
                .filter_map(|item| {
                    let task = TableReader::new(item.expect_table(problems)?, "workloads.tasks");
                    Some(TaskFile::read(task, item.span, problems))
                })
                .collect(),
        };
        table.finish(elsewhere, problems);
        file
    }

    /// These keys, and those of `base` where there is none.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        Self {
            cold_load: own_or(self.cold_load.as_ref(), base.cold_load.as_ref()),
            speed: own_or(self.speed.as_ref(), base.speed.as_ref()),
            latency: match (&self.latency, &base.latency) {
                (Some(own), Some(base)) => Some(own.over(base)),
                (own, base) => own_or(own.as_ref(), base.as_ref()),
            },
            quality: match (&self.quality, &base.quality) {
                (Some(own), Some(base)) => Some(own.over(base)),
                (own, base) => own_or(own.as_ref(), base.as_ref()),
            },
            // A model has the experiment's tasks or its own.
            tasks: if self.tasks.is_empty() { &base.tasks } else { &self.tasks }.clone(),
        }
    }
}

/// A key's own value, or else that of a table that stands behind it.
fn own_or<T: Clone>(own: Option<&T>, base: Option<&T>) -> Option<T> {
    own.or(base).cloned()
}

impl LatencyFile {
    fn over(&self, base: &Self) -> Self {
        Self {
            enabled: own_or(self.enabled.as_ref(), base.enabled.as_ref()),
            prompts: own_or(self.prompts.as_ref(), base.prompts.as_ref()),
            format: own_or(self.format.as_ref(), base.format.as_ref()),
            chat_template_kwargs: own_or(
                self.chat_template_kwargs.as_ref(),
                base.chat_template_kwargs.as_ref(),
            ),
            max_tokens: own_or(self.max_tokens.as_ref(), base.max_tokens.as_ref()),
            temperature: own_or(self.temperature.as_ref(), base.temperature.as_ref()),
            top_k: own_or(self.top_k.as_ref(), base.top_k.as_ref()),
            top_p: own_or(self.top_p.as_ref(), base.top_p.as_ref()),
            seed: own_or(self.seed.as_ref(), base.seed.as_ref()),
        }
    }

    fn read(mut table: TableReader<'_>, problems: &mut Vec<Problem>) -> Self {
        let file = Self {
            enabled: read_boolean(&mut table, "enabled", problems),
            prompts: read_string(&mut table, "prompts", problems),
            format: read_string(&mut table, "format", problems),
            chat_template_kwargs: table.json("chat_template_kwargs", problems),
            max_tokens: read_count(&mut table, "max_tokens", 1..=1_000_000, problems),
            temperature: read_number(&mut table, "temperature", 0.0, 100.0, problems),
            top_k: read_count(&mut table, "top_k", 0..=1_000_000, problems),
            top_p: read_number(&mut table, "top_p", 0.0, 1.0, problems),
            seed: read_count(&mut table, "seed", 0..=u32::MAX, problems),
        };
        table.finish(elsewhere, problems);
        file
    }
}

impl QualityFile {
    fn over(&self, base: &Self) -> Self {
        Self {
            enabled: own_or(self.enabled.as_ref(), base.enabled.as_ref()),
            text: own_or(self.text.as_ref(), base.text.as_ref()),
            context: own_or(self.context.as_ref(), base.context.as_ref()),
            chunks: own_or(self.chunks.as_ref(), base.chunks.as_ref()),
            divergence: own_or(self.divergence.as_ref(), base.divergence.as_ref()),
            precision: own_or(self.precision.as_ref(), base.precision.as_ref()),
            memory_budget: own_or(self.memory_budget.as_ref(), base.memory_budget.as_ref()),
        }
    }

    fn read(mut table: TableReader<'_>, problems: &mut Vec<Problem>) -> Self {
        let file = Self {
            enabled: read_boolean(&mut table, "enabled", problems),
            text: read_string(&mut table, "text", problems),
            context: read_count(&mut table, "context", 8..=1_048_576, problems),
            chunks: read_count(&mut table, "chunks", 1..=1_000_000, problems),
            divergence: read_boolean(&mut table, "divergence", problems),
            precision: read_number(&mut table, "precision", 0.001, 1.0, problems),
            memory_budget: read_bytes(&mut table, "memory_budget", problems),
        };
        table.finish(elsewhere, problems);
        file
    }
}

impl RequirementsFile {
    fn read(mut table: TableReader<'_>, problems: &mut Vec<Problem>) -> Self {
        let file = Self {
            max_memory: read_bytes(&mut table, "max_memory", problems),
            min_generation_tps: read_number(
                &mut table,
                "min_generation_tps",
                0.0,
                f64::MAX,
                problems,
            ),
            max_ttft_ms: read_number(&mut table, "max_ttft_ms", 0.0, f64::MAX, problems),
            max_kld: read_number(&mut table, "max_kld", 0.0, f64::MAX, problems),
            max_perplexity_increase: read_number(
                &mut table,
                "max_perplexity_increase",
                0.0,
                f64::MAX,
                problems,
            ),
        };
        table.finish(elsewhere, problems);
        file
    }
}

impl ModelFile {
    fn read(mut table: TableReader<'_>, span: Range<usize>, problems: &mut Vec<Problem>) -> Self {
        let file = Self {
            span,
            name: read_string(&mut table, "name", problems),
            source: read_string(&mut table, "source", problems),
            mmproj: read_string(&mut table, "mmproj", problems),
            quantizations: read_quantizations(&mut table, problems),
            reference: read_string(&mut table, "reference", problems),
            settings: table.table("settings", problems).map(|(mut table, _)| {
                let settings = SettingsFile::read(&mut table, problems);
                table.finish(elsewhere, problems);
                settings
            }),
            workloads: table
                .table("workloads", problems)
                .map(|(table, _)| WorkloadsFile::read(table, problems)),
            allow_requantize: read_boolean(&mut table, "allow_requantize", problems),
        };
        table.finish(elsewhere, problems);
        file
    }
}

/// `quantizations`, or `variants`, which is another name of it.
fn read_quantizations(
    table: &mut TableReader<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Located<String>>> {
    let variants = read_strings(table, "variants", problems);
    let quantizations = read_strings(table, "quantizations", problems);
    if let (Some(variants), Some(_)) = (&variants, &quantizations) {
        let place = variants.first().map_or(usize::MAX..usize::MAX, |first| first.span.clone());
        problems.push(
            Problem::new(place, "'variants' and 'quantizations' are two names of one list")
                .help("keep one of them"),
        );
    }
    quantizations.or(variants)
}

pub(in crate::experiment) fn read_string(
    table: &mut TableReader<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Located<String>> {
    table.value(key)?.string(problems)
}

/// A list of strings; a single string is a list of one.
pub(in crate::experiment) fn read_strings(
    table: &mut TableReader<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Located<String>>> {
    let items = table.value(key)?.items();
    Some(items.iter().filter_map(|item| item.string(problems)).collect())
}

fn read_boolean(
    table: &mut TableReader<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Located<bool>> {
    table.value(key)?.boolean(problems)
}

pub(in crate::experiment) fn read_count(
    table: &mut TableReader<'_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u32>,
    problems: &mut Vec<Problem>,
) -> Option<Located<u32>> {
    table.value(key)?.count(range, problems)
}

pub(super) fn read_number(
    table: &mut TableReader<'_>,
    key: &'static str,
    least: f64,
    most: f64,
    problems: &mut Vec<Problem>,
) -> Option<Located<f64>> {
    table.value(key)?.number(&(least..=most), problems)
}

/// A length of time such as `30s` or `1h 30min`.
fn read_duration(
    table: &mut TableReader<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Located<Duration>> {
    let text = table.value(key)?.string(problems)?;
    if let Ok(duration) = humantime::parse_duration(&text.value) {
        return Some(text.with(duration));
    }
    problems.push(
        text.problem(format!("is '{}', which is not a length of time", text.value))
            .help("write it like 500ms, 30s, 10min or 1h"),
    );
    None
}

/// A size such as `2GiB`, or a whole number of bytes.
fn read_bytes(
    table: &mut TableReader<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Located<u64>> {
    let raw = table.value(key)?;
    if matches!(raw.value, toml::de::DeValue::Integer(_)) {
        let bytes = raw.integer(&(1..=i64::MAX), problems)?;
        return u64::try_from(bytes.value).ok().map(|value| bytes.with(value));
    }
    let text = raw.string(problems)?;
    match crate::units::parse_bytes(&text.value) {
        Ok(0) => {
            problems.push(text.problem("is 0; it must be more"));
            None
        }
        Ok(bytes) => Some(text.with(bytes)),
        Err(_) => {
            problems.push(
                text.problem(format!("is '{}', which is not a size", text.value))
                    .help("write it like 3.5GiB, 512MiB or 4GB"),
            );
            None
        }
    }
}
