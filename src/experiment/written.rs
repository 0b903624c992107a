//! An experiment as a file again: what was resolved, written so that it means the same wherever the file lies.
//!
//! Tasks are the one thing whose meaning does not tell what was written; [`Written`] keeps that.

use super::calibration::CalibrationPlan;
use super::expand::wrong_name;
use super::file::ExperimentFile;
use super::inputs;
use super::keys::SETTINGS;
use super::reader::Located;
use super::requirements::{Requirement, Requirements};
use super::resolved::{Experiment, ModelPlan};
use super::settings::Settings;
use super::tasks::TaskFile;
use super::workloads::{LatencyPlan, QualityPlan, Workloads};
use crate::model::quantization::Quantization;
use crate::model::source::Source;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Table;

/// What a file says that is not within its meaning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// The folder in which quantbench was started, where relative paths of models start.
    pub started_in: PathBuf,
    /// The folder of the file, seen from there: where the names of texts and data sets start.
    pub folder: PathBuf,
    /// Whether the command line named the text of the calibration, whose path then starts as those of models.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_calibration: bool,
    /// Tasks as they were written, without defaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Map<String, Value>>,
    /// Those of models that have their own, by the names of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub own_tasks: BTreeMap<String, Vec<Map<String, Value>>>,
}

impl Written {
    /// What a file says; `models` are those that it came to, in its order.
    pub(super) fn of(file: &ExperimentFile, folder: &Path, models: &[ModelPlan]) -> Self {
        let own = super::models::built_in(file).zip(models).filter_map(|(written, model)| {
            let tasks = plain(written.workloads.as_ref()?.tasks());
            (!tasks.is_empty()).then(|| (model.name.clone(), tasks))
        });
        Self {
            other_calibration: false,
            started_in: std::env::current_dir().unwrap_or_default(),
            folder: folder.to_owned(),
            tasks: plain(file.workloads.tasks()),
            own_tasks: own.collect(),
        }
    }

    /// A path of a model or another file, from wherever it is seen.
    fn file(&self, path: &Path) -> String {
        self.started_in.join(path).display().to_string()
    }

    /// The name of a text or a data set, from wherever it is seen.
    fn input(&self, name: &str) -> String {
        self.input_in(&self.folder, name)
    }

    fn input_in(&self, folder: &Path, name: &str) -> String {
        let is_word =
            [inputs::DEMO, inputs::STANDARD, inputs::ANSWERS, inputs::AUTO].contains(&name);
        if is_word || name.starts_with("demo:") || name.contains("://") {
            return name.to_owned();
        }
        self.file(&folder.join(name))
    }
}

/// Tasks without places and defaults.
fn plain(tasks: &[Located<TaskFile>]) -> Vec<Map<String, Value>> {
    let tasks = tasks.iter().filter_map(|task| serde_json::to_value(&task.value).ok());
    let tasks = tasks.filter_map(|task| match without_places(task) {
        Some(Value::Object(mut task)) => {
            task.remove("wrong");
            Some(task)
        }
        _ => None,
    });
    tasks.collect()
}

/// A value out of what [`Located`] is as JSON; `None`: it was not written.
fn without_places(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(items) => Some(items.into_iter().filter_map(without_places).collect()),
        Value::Object(mut entries) => {
            if let Some(end) = entries.get("span").and_then(|span| span.get("end")) {
                let is_written = end.as_u64() > Some(0);
                return entries.remove("value").filter(|_| is_written).and_then(without_places);
            }
            let entries =
                entries.into_iter().filter_map(|(key, it)| Some((key, without_places(it)?)));
            Some(Value::Object(entries.collect()))
        }
        scalar => Some(scalar),
    }
}

impl Experiment {
    /// The experiment as a file. What only the command line says is not in it: `recommend`, what it is measured against.
    pub fn to_file(&self) -> Table {
        let unknown = Written::default();
        let writer =
            Writer { experiment: self, written: self.written.as_ref().unwrap_or(&unknown) };
        let mut file = Table::new();
        file.insert("experiment".to_owned(), writer.run().into());
        file.extend(axes(&self.settings).map(|it| ("settings".to_owned(), it.into())));
        let workloads = writer.workloads(&self.workloads, None, &writer.written.tasks);
        file.insert("workloads".to_owned(), workloads.into());
        let plans = self.models.iter().filter_map(|model| model.calibration.as_ref());
        let calibration = writer.calibration(&plans.collect::<Vec<_>>());
        file.extend(calibration.map(|it| ("calibration".to_owned(), it.into())));
        let requirements = requirements(&self.requirements);
        if !requirements.is_empty() {
            file.insert("requirements".to_owned(), requirements.into());
        }
        let models = self.models.iter().map(|model| writer.model(model).into());
        file.insert("models".to_owned(), toml::Value::Array(models.collect()));
        file
    }

    /// What the file that it makes lacks, in words.
    pub fn not_in_file(&self) -> Vec<&'static str> {
        let has_tasks = self.all_workloads().any(|workloads| !workloads.tasks.is_empty());
        let own = self.models.iter().filter_map(|model| model.settings.as_deref());
        let mut settings = own.chain([self.settings.as_slice()]);
        let lacks = [
            (
                self.written.is_none() && has_tasks,
                "tasks: the run is of a version that did not keep what was written of them",
            ),
            (settings.any(|it| axes(it).is_none()), "settings: they are no combinations of values"),
        ];
        lacks.into_iter().filter(|(lacks, _)| *lacks).map(|(_, what)| what).collect()
    }
}

struct Writer<'a> {
    experiment: &'a Experiment,
    written: &'a Written,
}

/// Adds a value; what TOML cannot hold is left out.
fn put(table: &mut Table, key: &str, value: impl Serialize) {
    if let Ok(value) = toml::Value::try_from(value) {
        table.insert(key.to_owned(), value);
    }
}

impl Writer<'_> {
    fn run(&self) -> Table {
        let it = self.experiment;
        let mut table = Table::new();
        if wrong_name(&it.name).is_none() {
            put(&mut table, "name", &it.name);
        }
        put(&mut table, "rounds", it.rounds);
        put(&mut table, "repetitions", it.repetitions);
        let time = |length| humantime::format_duration(length).to_string();
        if let Some(budget) = it.budget {
            put(&mut table, "budget", time(budget));
        }
        put(&mut table, "cool_down", time(it.cool_down));
        put(&mut table, "phase_limit", time(it.phase_limit));
        put(&mut table, "keep", it.keep);
        table
    }

    /// Workloads; where they are a model's own, `base` is what they are laid over.
    fn workloads(
        &self,
        it: &Workloads,
        base: Option<&Workloads>,
        tasks: &[Map<String, Value>],
    ) -> Table {
        let mut table = Table::new();
        put(&mut table, "cold_load", it.cold_load);
        let speed = it.speed.iter().map(|test| test.to_string().replace(" @ ", "@"));
        put(&mut table, "speed", speed.collect::<Vec<_>>());
        if let Some(tokenization) = &it.tokenization {
            put(&mut table, "tokenization", self.written.input(&tokenization.source));
        }
        let off = || Table::from_iter([("enabled".to_owned(), false.into())]);
        let base = base.and_then(|base| base.latency.as_ref());
        let latency = it.latency.as_ref().map_or_else(off, |it| self.latency(it, base));
        table.insert("latency".to_owned(), latency.into());
        let quality = it.quality.as_ref().map_or_else(off, |it| self.quality(it));
        table.insert("quality".to_owned(), quality.into());
        let tasks = if it.tasks.is_empty() { &[] } else { tasks };
        let tasks: Vec<Table> = tasks.iter().map(|task| self.task(task)).collect();
        // None of a model's own are in place of the experiment's.
        if !tasks.is_empty() || base.is_some() {
            put(&mut table, "tasks", tasks);
        }
        table
    }

    fn latency(&self, it: &LatencyPlan, base: Option<&LatencyPlan>) -> Table {
        let mut table = Table::new();
        put(&mut table, "enabled", true);
        put(&mut table, "prompts", self.written.input(&it.source));
        put(&mut table, "format", it.format.to_string());
        let inherited = base.map(|base| &base.chat_template_kwargs);
        if inherited
            .map_or(!it.chat_template_kwargs.is_empty(), |it_| *it_ != it.chat_template_kwargs)
        {
            put(&mut table, "chat_template_kwargs", &it.chat_template_kwargs);
        }
        put(&mut table, "max_tokens", it.max_tokens);
        put(&mut table, "temperature", short(it.sampling.temperature));
        put(&mut table, "top_k", it.sampling.top_k);
        put(&mut table, "top_p", short(it.sampling.top_p));
        put(&mut table, "seed", it.sampling.seed);
        table
    }

    fn quality(&self, it: &QualityPlan) -> Table {
        let mut table = Table::new();
        put(&mut table, "enabled", true);
        let texts = it.source.split(", ").map(|text| self.written.input(text));
        put(&mut table, "text", texts.collect::<Vec<_>>());
        put(&mut table, "context", it.context);
        if let Some(chunks) = it.chunks {
            put(&mut table, "chunks", chunks);
        }
        put(&mut table, "divergence", it.divergence);
        if it.divergence {
            put(&mut table, "precision", it.precision.unwrap_or(0.0));
        }
        put(&mut table, "memory_budget", it.reference_budget_bytes);
        table
    }

    fn task(&self, written: &Map<String, Value>) -> Table {
        let mut task = written.clone();
        let absolute = |table: &mut Map<String, Value>, key: &str| {
            let Some(name) = table.get(key).and_then(Value::as_str) else { return };
            let name = self.written.input(name);
            table.insert(key.to_owned(), name.into());
        };
        absolute(&mut task, "dataset");
        if let Some(corpus) = task.get_mut("corpus").and_then(Value::as_object_mut) {
            absolute(corpus, "passages");
            absolute(corpus, "encoder");
        }
        let entries = task.into_iter();
        let entries = entries.filter_map(|(key, it)| Some((key, toml::Value::try_from(it).ok()?)));
        entries.collect()
    }

    /// `[calibration]`, if variants of a model are calibrated.
    fn calibration(&self, plans: &[&CalibrationPlan]) -> Option<Table> {
        let first = plans.first()?;
        let mut table = Table::new();
        // Where models have different texts, none was named.
        if plans.iter().all(|plan| plan.source == first.source) {
            let none = Path::new("");
            let folder = if self.written.other_calibration { none } else { &self.written.folder };
            put(&mut table, "text", self.written.input_in(folder, &first.source));
        }
        put(&mut table, "context", first.context);
        if let Some(chunks) = first.chunks {
            put(&mut table, "chunks", chunks);
        }
        put(&mut table, "gptq", first.parameters.gptq);
        Some(table)
    }

    fn model(&self, it: &ModelPlan) -> Table {
        let mut table = Table::new();
        put(&mut table, "source", self.source(&it.source));
        if it.name != it.source.default_name() {
            put(&mut table, "name", &it.name);
        }
        put(&mut table, "quantizations", names(&it.quantizations));
        if let Some(reference) = it.reference {
            put(&mut table, "reference", reference.to_string());
        }
        if let Some(projector) = &it.projector {
            put(&mut table, "mmproj", self.source(projector));
        }
        let adapters =
            it.adapters.iter().map(|it| format!("{}:{}", self.written.file(&it.path), it.scale));
        let adapters: Vec<String> = adapters.collect();
        if !adapters.is_empty() {
            put(&mut table, "lora", adapters);
        }
        put(&mut table, "allow_requantize", it.allow_requantize);
        let settings = it.settings.as_ref().and_then(|own| axes(own));
        table.extend(settings.map(|it| ("settings".to_owned(), it.into())));
        let own = it.workloads.as_ref().map(|own| {
            let tasks = self.written.own_tasks.get(&it.name).unwrap_or(&self.written.tasks);
            self.workloads(own, Some(&self.experiment.workloads), tasks)
        });
        table.extend(own.map(|it| ("workloads".to_owned(), it.into())));
        table
    }

    fn source(&self, source: &Source) -> String {
        match source {
            Source::File(path) | Source::Directory(path) => self.written.file(path),
            other => other.to_string(),
        }
    }
}

fn names(quantizations: &[Quantization]) -> Vec<String> {
    quantizations.iter().map(ToString::to_string).collect()
}

/// A number as it was written, not with the digits that it has as one of twice the length.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// The values of each key whose combinations settings are; `None`: they are no combinations.
fn axes(settings: &[Settings]) -> Option<Table> {
    let plain: Vec<Value> =
        settings.iter().filter_map(|it| serde_json::to_value(it).ok()).collect();
    let mut swept = Vec::new();
    let mut table = Table::new();
    let defaults = serde_json::to_value(Settings::default()).ok()?;
    for key in SETTINGS.keys {
        let stored = defaults.get(key.name).cloned();
        let default = stored.unwrap_or_else(|| default(key.default));
        let mut values: Vec<Value> = Vec::new();
        for settings in &plain {
            // What has its default is not stored of all keys.
            let value = settings.get(key.name).unwrap_or(&default);
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        if values != [default] {
            // Null are threads that the program chooses.
            let spelled = |it: &Value| if it.is_null() { AUTO.into() } else { it.clone() };
            match values.as_slice() {
                [only] => put(&mut table, key.name, spelled(only)),
                several => {
                    put(&mut table, key.name, several.iter().map(spelled).collect::<Vec<_>>());
                }
            }
        }
        swept.push((key.name, values));
    }
    (Settings::sweep(&swept).ok()? == settings).then_some(table)
}

/// The default of a setting that is not stored where it has it.
fn default(written: &str) -> Value {
    let parsed = format!("it = {written}").parse::<Table>().ok();
    let value = parsed.and_then(|table| serde_json::to_value(table.get("it")?).ok());
    match value {
        Some(Value::String(text)) if text == AUTO => Value::Null,
        Some(value) => value,
        None => "".into(),
    }
}

/// Number of threads that the program chooses.
const AUTO: &str = "auto";

/// Keys that mean the same.
fn requirements(requirements: &Requirements) -> Table {
    let mut table = Table::new();
    for (key, limit) in requirements.0.iter().map(Requirement::key) {
        // Sizes are whole numbers.
        let is_size = key.ends_with("_bytes") || key == "max_memory";
        #[expect(clippy::cast_possible_truncation, reason = "it was read from a whole number")]
        let bytes = limit.round() as i64;
        if is_size { put(&mut table, &key, bytes) } else { put(&mut table, &key, limit) }
    }
    table
}

#[cfg(test)]
mod tests;
