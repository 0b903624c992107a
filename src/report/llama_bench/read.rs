//! Reading llama-bench's rows, ours or its own, back into a run.

use crate::causes::Problem;
use crate::experiment::requirements::Requirements;
use crate::experiment::settings::{CacheType, FlashAttention, Settings, SplitMode};
use crate::experiment::workloads::SpeedTest;
use crate::model::engine_name::{EngineIdentity, EngineName};
use crate::model::file_type::FileType;
use crate::model::naming::file_type_in;
use crate::model::quantization::{Label, Method, Quantization};
use crate::model::split;
use crate::results::annotations::Annotations;
use crate::results::record::{
    Environment, HostRecord, RunRecord, SpeedRecord, TrialRecord, VisitRecord,
};
use crate::workload::measured::{ModelFacts, SpeedSample};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A row: values by the names of llama-bench's columns. In CSV all values are texts.
pub(in crate::report) type Fields = Map<String, Value>;

/// Whether an object is a row of llama-bench.
pub(in crate::report) fn is_row(fields: &Fields) -> bool {
    ["n_prompt", "n_gen", "avg_ns"].iter().all(|name| fields.contains_key(*name))
}

/// The run that rows tell of: a trial for each file and settings. Repetitions of one program are one visit; a test
/// that comes again is another.
///
/// # Errors
/// A row lacks something or has what is no such value.
pub(in crate::report) fn run(name: &str, rows: &[Fields]) -> Result<RunRecord, Problem> {
    let mut trials: Vec<(String, TrialRecord)> = Vec::new();
    let mut hosts: Vec<HostRecord> = Vec::new();
    let mut started: Option<OffsetDateTime> = None;
    for (number, fields) in rows.iter().enumerate() {
        let row = Row { fields, place: format!("row {} of {name}", number + 1) };
        let at = row.started();
        started = Some(started.map_or(at, |earliest| earliest.min(at)));
        let mut host = HostRecord::new("", row.environment());
        match hosts.iter().find(|known| known.id == host.id) {
            Some(known) => host = known.clone(),
            None => hosts.push(host.clone()),
        }
        let path = row.text("model_filename");
        let settings = row.settings()?;
        let is_same = |(of, trial): &(String, TrialRecord)| {
            *of == path && trial.settings == settings && trial.host == host.id
        };
        let known = trials.iter().position(is_same);
        let place = known.unwrap_or(trials.len());
        if known.is_none() {
            let trial = TrialRecord { host: host.id.clone(), ..row.trial(&settings)? };
            trials.push((path, trial));
        }
        let trial = &mut trials[place].1;
        let record = row.speed()?;
        let is_full = |visit: &VisitRecord| visit.speed.iter().any(|it| it.test == record.test);
        if trial.visits.last().is_none_or(is_full) {
            let round = u32::try_from(trial.visits.len()).unwrap_or(u32::MAX);
            trial.visits.push(VisitRecord { round, ..VisitRecord::new(at) });
        }
        if let Some(visit) = trial.visits.last_mut() {
            visit.speed.push(record);
        }
    }
    let started = started.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Ok(RunRecord {
        id: name.to_owned(),
        name: "llama-bench".to_owned(),
        started,
        finished: Some(started),
        active_seconds: None,
        hosts,
        requirements: Requirements::default(),
        experiment: Value::Null,
        trials: trials.into_iter().map(|(_, trial)| trial).collect(),
        drift_controls: Vec::new(),
        annotations: Annotations::default(),
    })
}

/// `Llama-3-8B` of `Llama-3-8B-Q4_K_M`.
fn without_type(model: &str, label: &str) -> String {
    let at = model.len().saturating_sub(label.len());
    let is_label = model.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(label));
    let rest = if is_label { model[..at].trim_end_matches(['-', '.', ' ', '_']) } else { model };
    if rest.is_empty() { model.to_owned() } else { rest.to_owned() }
}

struct Row<'a> {
    fields: &'a Fields,
    place: String,
}

impl Row<'_> {
    fn wrong(&self, field: &str, value: &str) -> Problem {
        let value: String = value.chars().take(40).collect();
        Problem::new(format!("{}: '{value}' is no {field} of llama-bench", self.place))
    }

    /// What stands in a column; empty where there is none.
    fn text(&self, field: &str) -> String {
        match self.fields.get(field) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(truth)) => u8::from(*truth).to_string(),
            Some(value) => value.to_string(),
        }
    }

    /// The number in a column; `None` where the program that wrote the row had no such column.
    fn number<T: std::str::FromStr>(&self, field: &str) -> Result<Option<T>, Problem> {
        let text = self.text(field);
        if text.is_empty() {
            return Ok(None);
        }
        text.trim().parse().map(Some).map_err(|_| self.wrong(field, &text))
    }

    fn needed<T: std::str::FromStr>(&self, field: &str) -> Result<T, Problem> {
        let missing = || Problem::new(format!("{} has no {field}", self.place));
        self.number(field)?.ok_or_else(missing)
    }

    /// Truth values, also as numbers.
    fn truth(&self, field: &str, default: bool) -> Result<bool, Problem> {
        match self.text(field).as_str() {
            "" => Ok(default),
            "0" | "false" => Ok(false),
            "1" | "true" => Ok(true),
            other => Err(self.wrong(field, other)),
        }
    }

    fn named<T: DeserializeOwned + Default>(&self, field: &str) -> Result<T, Problem> {
        let text = self.text(field);
        if text.is_empty() {
            return Ok(T::default());
        }
        let value = Value::String(text.to_lowercase());
        serde_json::from_value(value).map_err(|_| self.wrong(field, &text))
    }

    fn started(&self) -> OffsetDateTime {
        OffsetDateTime::parse(&self.text("test_time"), &Rfc3339)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    fn engine(&self) -> EngineIdentity {
        let (commit, number) = (self.text("build_commit"), self.text("build_number"));
        let version = match number.as_str() {
            "" | "0" => commit,
            number => format!("build {number} ({commit})"),
        };
        EngineIdentity { name: EngineName::LlamaCpp, version }
    }

    fn environment(&self) -> Environment {
        let gpus = Some(self.text("gpu_info")).filter(|gpus| !gpus.is_empty());
        Environment {
            engines: vec![self.engine()],
            cpu: self.text("cpu_info"),
            gpus: gpus.into_iter().collect(),
            ..Environment::default()
        }
    }

    fn settings(&self) -> Result<Settings, Problem> {
        let defaults = Settings::default();
        let flash_attention = match self.text("flash_attn").as_str() {
            "" | "-1" | "auto" => FlashAttention::Auto,
            "1" | "on" | "true" => FlashAttention::On,
            "0" | "off" | "false" => FlashAttention::Off,
            other => return Err(self.wrong("flash_attn", other)),
        };
        // `use_mmap` is what older versions had in place of `load_mode`.
        let mmap = match self.text("load_mode").as_str() {
            "" => self.truth("use_mmap", true)?,
            mode => mode != "none",
        };
        Ok(Settings {
            threads: self.number("n_threads")?.filter(|&threads| threads > 0),
            gpu_layers: self.number("n_gpu_layers")?.unwrap_or(defaults.gpu_layers),
            flash_attention,
            batch: self.number("n_batch")?.unwrap_or(defaults.batch),
            ubatch: self.number("n_ubatch")?.unwrap_or(defaults.ubatch),
            cache_type_k: self.named::<CacheType>("type_k")?,
            cache_type_v: self.named::<CacheType>("type_v")?,
            split_mode: self.named::<SplitMode>("split_mode")?,
            main_gpu: self.number("main_gpu")?.unwrap_or(defaults.main_gpu),
            kv_offload: !self.truth("no_kv_offload", false)?,
            mmap,
            repack: self.truth("repack", true)?,
            op_offload: !self.truth("no_op_offload", false)?,
            ..defaults
        })
    }

    fn trial(&self, settings: &Settings) -> Result<TrialRecord, Problem> {
        let path = self.text("model_filename");
        let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
        let kind = self.text("model_type");
        let model = if name.is_empty() { kind.clone() } else { split::stem(name).to_owned() };
        let file_type = file_type_in(name).or_else(|| {
            kind.split_whitespace().rev().find_map(|word| word.parse::<FileType>().ok())
        });
        let quantization = Quantization {
            label: Label::FileType(file_type.unwrap_or(FileType::F16)),
            method: Method::Rtn,
        };
        let label = file_type.map_or_else(|| model.clone(), |_| quantization.to_string());
        let model = without_type(&model, &label);
        let facts = ModelFacts {
            description: kind,
            parameters: self.number("model_n_params")?.unwrap_or(0),
            tensor_bytes: self.number("model_size")?.unwrap_or(0),
            threads: settings.threads.unwrap_or(0),
            mmap: settings.mmap,
            backends: self.text("backends").split(',').map(|it| it.trim().to_owned()).collect(),
            ..ModelFacts::default()
        };
        Ok(TrialRecord {
            label,
            engine: self.engine(),
            facts: Some(facts),
            ..TrialRecord::new(model, quantization, settings.clone())
        })
    }

    fn speed(&self) -> Result<SpeedRecord, Problem> {
        let test = SpeedTest {
            prompt_tokens: self.needed("n_prompt")?,
            generated_tokens: self.needed("n_gen")?,
            depth: self.number("n_depth")?.unwrap_or(0),
            ..SpeedTest::default()
        };
        let times = match self.fields.get("samples_ns") {
            Some(Value::Array(times)) => {
                let times: Option<Vec<u64>> = times.iter().map(Value::as_u64).collect();
                times.ok_or_else(|| self.wrong("samples_ns", "…"))?
            }
            // CSV has the mean alone.
            _ => vec![self.needed("avg_ns")?],
        };
        let tokens = test.prompt_tokens.checked_add(test.generated_tokens).filter(|&it| it > 0);
        let tokens = tokens.ok_or_else(|| self.wrong("n_prompt", &self.text("n_prompt")))?;
        let times: Vec<u64> = times.into_iter().filter(|&nanoseconds| nanoseconds > 0).collect();
        if times.is_empty() {
            return Err(Problem::new(format!("{} took no time", self.place)));
        }
        let sample = |nanoseconds| SpeedSample { nanoseconds, tokens };
        Ok(SpeedRecord { test, samples: times.into_iter().map(sample).collect() })
    }
}
