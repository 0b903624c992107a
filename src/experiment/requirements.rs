//! Requirements: bounds on figures, which the user states and variants are judged by.

use super::diagnostic::Problem;
use super::metric::{Better, Metric, TaskColumn};
use super::reader::{Located, nearest};
use super::resolved::Experiment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Resident memory and memory of devices together, which is not a column of its own.
pub const MEMORY: &str = "memory_bytes";
/// The first generation test, whichever it is.
pub const GENERATION: &str = "generation_tokens_per_second";

/// Keys that do not name a figure as it is called elsewhere: what they bound, and their unit in its.
const SHORT: [(&str, &str, f64); 4] = [
    ("max_memory", MEMORY, 1.0),
    ("min_generation_tps", GENERATION, 1.0),
    ("max_ttft_ms", "ttft_p90_seconds", 1e-3),
    ("max_kld", "kld_nats", 1.0),
];

/// What the user needs; nothing, if it is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Requirements(pub Vec<Requirement>);

/// A figure and what it has to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Requirement {
    /// The figure: [`Metric::name`], [`MEMORY`] or [`GENERATION`].
    pub metric: String,
    /// Whether the limit is the highest or the lowest that will do.
    pub bound: Bound,
    /// In the unit of the figure.
    pub limit: f64,
}

/// Which side of a limit will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The limit or less.
    AtMost,
    /// The limit or more.
    AtLeast,
}

/// As runs are stored.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    List(Vec<Requirement>),
    /// Before any figure could be bounded; names and units of then.
    Fields(BTreeMap<String, Option<f64>>),
}

impl From<Stored> for Requirements {
    fn from(stored: Stored) -> Self {
        const FIELDS: [(&str, &str); 5] = [
            ("max_memory_bytes", "max_memory"),
            ("min_generation_tokens_per_second", "min_generation_tps"),
            ("max_ttft_ms", "max_ttft_ms"),
            ("max_kld", "max_kld"),
            ("max_perplexity_increase", "max_perplexity_increase"),
        ];
        match stored {
            Stored::List(list) => Self(list),
            Stored::Fields(fields) => {
                let limit = |(field, key): (&str, &str)| {
                    Requirement::of(key, fields.get(field).copied().flatten()?)
                };
                Self(FIELDS.into_iter().filter_map(limit).collect())
            }
        }
    }
}

impl Requirements {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
impl Requirements {
    /// As if these keys were written.
    pub(crate) fn of(keys: &[(&str, f64)]) -> Self {
        Self(keys.iter().filter_map(|(key, limit)| Requirement::of(key, *limit)).collect())
    }
}

impl Requirement {
    /// What a key of `[requirements]` asks for.
    pub fn of(key: &str, limit: f64) -> Option<Self> {
        let (bound, name) = parts(key)?;
        let short = SHORT.iter().find(|(short, ..)| *short == key);
        let (metric, factor) = short.map_or((name, 1.0), |&(_, metric, factor)| (metric, factor));
        Some(Self { metric: metric.to_owned(), bound, limit: limit * factor })
    }

    /// The key of `[requirements]` that asks for it, and its value.
    pub(super) fn key(&self) -> (String, f64) {
        let of_bound = match self.bound {
            Bound::AtMost => "max_",
            Bound::AtLeast => "min_",
        };
        let short = SHORT.iter().find_map(|&(key, metric, factor)| {
            let limit = self.limit / factor;
            let is_it = Self::of(key, limit).as_ref() == Some(self);
            (is_it && metric == self.metric).then(|| (key.to_owned(), limit))
        });
        short.unwrap_or_else(|| (format!("{of_bound}{}", self.metric), self.limit))
    }

    /// Whether it asks for better figures, and not for worse ones.
    fn fits(&self, better: Better) -> bool {
        (better == Better::Lower) == (self.bound == Bound::AtMost)
    }

    /// Whether both set the same limit.
    fn is_on_same(&self, other: &Self) -> bool {
        (&self.metric, self.bound) == (&other.metric, other.bound)
    }
}

/// `max_kld_nats` as the bound and the figure that it is on.
fn parts(key: &str) -> Option<(Bound, &str)> {
    let at_most = key.strip_prefix("max_").map(|name| (Bound::AtMost, name));
    at_most.or_else(|| key.strip_prefix("min_").map(|name| (Bound::AtLeast, name)))
}

/// A requirement on something that is not measured would never be met and never be missed.
pub(super) fn expand(
    written: &BTreeMap<String, Located<f64>>,
    experiment: &Experiment,
    problems: &mut Vec<Problem>,
) -> Requirements {
    let figures = figures(experiment);
    let names: Vec<String> = [MEMORY, GENERATION]
        .map(str::to_owned)
        .into_iter()
        .chain(figures.iter().map(|metric| metric.name()))
        .collect();
    let is_fraction =
        |name: &str| figures.iter().any(|metric| metric.name() == name && metric.is_fraction());
    // Those that everyone asks for come first.
    let rank =
        |key: &str| SHORT.iter().position(|(short, ..)| *short == key).unwrap_or(SHORT.len());
    let mut written: Vec<_> = written.iter().collect();
    written.sort_by_key(|(key, _)| rank(key));
    let mut requirements: Vec<Requirement> = Vec::new();
    for (key, limit) in written {
        let Some(requirement) = Requirement::of(key, limit.value) else { continue };
        if requirement.limit > 1.0 && is_fraction(&requirement.metric) {
            let help =
                format!("97 % is written 0.97; this may be meant: {}", requirement.limit / 100.0);
            problems.push(limit.problem("is a fraction, 1 at most").help(help));
        } else if let Some((what, help)) = not_measured(&requirement.metric, experiment) {
            problems
                .push(limit.problem(format!("asks for {what} that is not measured")).help(help));
        } else if !names.contains(&requirement.metric) {
            let keys = names.iter().map(|name| format!("{}{name}", &key[.."min_".len()]));
            let keys: Vec<String> = keys.chain(SHORT.map(|(key, ..)| key.to_owned())).collect();
            let help = match nearest(key, keys.iter().map(String::as_str)) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("figures of this experiment are {}", names.join(", ")),
            };
            let message = format!("is on '{}', which is no figure", requirement.metric);
            problems.push(limit.problem(message).help(help));
        } else if better(&requirement.metric, &figures).is_some_and(|it| !requirement.fits(it)) {
            let (better, other) = match requirement.bound {
                Bound::AtMost => ("more", "min"),
                Bound::AtLeast => ("less", "max"),
            };
            let message = format!("refuses variants for being good: {better} is better");
            let help = format!("write '{other}_{}'", &key[other.len() + 1..]);
            problems.push(limit.problem(message).help(help));
        } else if requirements.iter().any(|other| other.is_on_same(&requirement)) {
            let message = format!("is the second bound on {}", requirement.metric);
            problems.push(limit.problem(message).help("keep one of them"));
        }
        requirements.push(requirement);
    }
    Requirements(requirements)
}

/// The figures that an experiment may have.
fn figures(experiment: &Experiment) -> Vec<Metric> {
    let (mut tests, mut columns) = (Vec::new(), Vec::new());
    for workloads in experiment.all_workloads() {
        tests.extend(&workloads.speed);
        for task in &workloads.tasks {
            let column = |&metric| TaskColumn { task: task.name, metric, is_main: false };
            columns.extend(task.metrics.iter().map(column));
        }
    }
    Metric::all(&tests, &columns)
}

/// Which of two figures of this name is the better one, if either.
fn better(name: &str, figures: &[Metric]) -> Option<Better> {
    match name {
        MEMORY => Some(Better::Lower),
        GENERATION => Some(Better::Higher),
        name => figures.iter().find(|metric| metric.name() == name)?.descriptor().better,
    }
}

/// What is asked for and is not measured, and what would measure it.
pub(super) fn not_measured(
    metric: &str,
    experiment: &Experiment,
) -> Option<(&'static str, String)> {
    let any =
        |is: &dyn Fn(&super::workloads::Workloads) -> bool| experiment.all_workloads().any(is);
    let speed = |test: &str| {
        Some(("a speed", format!("add a generation test such as \"{test}\" to workloads.speed")))
    };
    if let Some(test) = Metric::speed_test(metric) {
        let is_measured = any(&|it| it.speed.contains(&test));
        let help = format!("add \"{test}\" to workloads.speed");
        return (!is_measured).then_some(("a speed", help));
    }
    let starts = |names: &[&str]| names.iter().any(|name| metric.starts_with(name));
    if metric == GENERATION && !any(&|it| it.speed.iter().any(|test| test.is_plain_generation())) {
        speed("tg128")
    } else if metric == "cold_load_seconds" && !any(&|it| it.cold_load) {
        Some(("a load", "write cold_load = true in [workloads]".to_owned()))
    } else if starts(&["ttft_", "itl_"]) && !any(&|it| it.latency.is_some()) {
        Some(("a latency", "enable [workloads.latency]".to_owned()))
    } else if starts(&["perplexity"]) && !any(&|it| it.quality.is_some()) {
        Some(("a quality", "enable [workloads.quality]".to_owned()))
    } else if starts(&["kld_", "top_token_"]) && !any(&super::workloads::Workloads::compare) {
        let help = "enable [workloads.quality] with divergence = true";
        Some(("a divergence", help.to_owned()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_of_runs_stored_before_any_figure_could_be_bounded_are_read() {
        let old = r#"{"max_memory_bytes":1000,"min_generation_tokens_per_second":null,"max_ttft_ms":500.0,
            "max_kld":null,"max_perplexity_increase":0.02}"#;
        let read: Requirements = serde_json::from_str(old).unwrap();
        let keys =
            [("max_memory", 1000.0), ("max_ttft_ms", 500.0), ("max_perplexity_increase", 0.02)];
        assert_eq!(read, Requirements::of(&keys));
        assert_eq!(read.0[1].metric, "ttft_p90_seconds");
        assert!((read.0[1].limit - 0.5).abs() < 1e-12);
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Requirements>(&json).unwrap(), read);
        let none: Requirements = serde_json::from_str("{\"max_kld\":null}").unwrap();
        assert!(none.is_empty());
    }
}
