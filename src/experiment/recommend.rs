//! What `quantbench recommend` is asked: requirements of the command line or of a use, what is better among variants that
//! meet them, and for how much context memory is planned.

use super::metric::Metric;
use super::requirements::{Bound, Requirement, not_measured};
use super::resolved::Experiment;
use super::workloads::Workloads;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use strum::Display;

/// What is published of uses.
const PURPOSES: &str = include_str!("purposes.toml");

/// Time that it may take where nobody says.
pub(super) const BUDGET: Duration = Duration::from_mins(10);

/// What is better among variants that meet the requirements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Less divergence from the reference
    #[default]
    Closest,
    /// Faster generation
    Fastest,
    /// A smaller file
    Smallest,
}

impl Order {
    /// `diverges least`, which follows "it".
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Closest => "diverges least",
            Self::Fastest => "generates fastest",
            Self::Smallest => "is the smallest",
        }
    }
}

/// What a model is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Purpose {
    /// A conversation: the first token within 450 ms, 25 tokens a second
    Chat,
    /// Answers from passages: the first token within 2 s, 5 tokens a second
    Rag,
    /// Writing code: as rag, and nearer to the reference
    Code,
    /// Many texts, nobody waits: the fastest
    Batch,
    /// A small machine: the smallest with 5 tokens a second
    Edge,
}

/// What a use needs, and who says so.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Needs {
    /// What the use is.
    pub title: String,
    /// What is better.
    pub order: Order,
    /// As keys of `[requirements]`.
    pub needs: BTreeMap<String, f64>,
    /// Where that was published.
    pub source: String,
}

impl Purpose {
    /// What it needs; `None`: the data file does not say, which a test rules out.
    pub fn needs(self) -> Option<Needs> {
        let mut all: BTreeMap<String, Needs> = toml::from_str(PURPOSES).ok()?;
        all.remove(&self.to_string())
    }
}

/// How a run recommends, as it is stored with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Recommend {
    /// What is better.
    pub order: Order,
    /// The use that requirements were taken for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// Tokens of context that memory is planned for, of each sequence; `None`: as `quantbench plan` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Sequences side by side that memory is planned for.
    #[serde(default)]
    pub parallel: u32,
}

/// What the command line asks of a recommendation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// A flag as it was written, the key of `[requirements]` that it stands for, and the limit in the key's unit.
    pub requirements: Vec<(String, String, f64)>,
    /// `--min-accuracy`: tasks, and how often their answers have to be right at least.
    pub accuracies: Vec<(String, f64)>,
    /// `--for`.
    pub purpose: Option<Purpose>,
    /// `--prefer`.
    pub order: Option<Order>,
    /// `--context`.
    pub context: Option<u32>,
    /// `--parallel`.
    pub parallel: u32,
}

/// Adds what is asked to an experiment, and leaves out what does not decide. Without any requirement the best trade-off is
/// looked for, within a budget.
///
/// # Errors
/// Something is asked for that is not measured; a sentence.
pub(super) fn apply(experiment: &mut Experiment, asked: &Asked) -> Result<(), String> {
    for (flag, key, limit) in &asked.requirements {
        let requirement = Requirement::of(key, *limit);
        bound(experiment, requirement.ok_or_else(|| format!("{flag}: is no bound"))?, flag)?;
    }
    for (task, share) in &asked.accuracies {
        let requirement = accuracy(experiment, task, *share)?;
        bound(experiment, requirement, &format!("--min-accuracy {task}"))?;
    }
    let needs = asked.purpose.and_then(Purpose::needs);
    for (key, limit) in needs.iter().flat_map(|needs| &needs.needs) {
        let Some(requirement) = Requirement::of(key, *limit) else { continue };
        // What is said goes before what a use needs.
        if !experiment.requirements.0.iter().any(|it| it.metric == requirement.metric) {
            let purpose = asked.purpose.map(|it| it.to_string()).unwrap_or_default();
            bound(experiment, requirement, &format!("--for {purpose}"))?;
        }
    }
    let order = asked.order.or(needs.map(|needs| needs.order));
    if experiment.requirements.is_empty() && order.is_none() {
        return Ok(());
    }
    let order = order.unwrap_or_default();
    let (context, parallel) = (asked.context, asked.parallel.max(1));
    experiment.recommend = Some(Recommend { order, purpose: asked.purpose, context, parallel });
    if let [_, _, ..] = experiment.models.as_slice() {
        let names: Vec<&str> = experiment.models.iter().map(|it| it.name.as_str()).collect();
        return Err(format!(
            "one model is recommended of; choose one with --model: {}",
            names.join(", ")
        ));
    }
    let requirements = experiment.requirements.0.clone();
    let own = experiment.models.iter_mut().filter_map(|model| model.workloads.as_mut());
    for workloads in own.chain([&mut experiment.workloads]) {
        measure_what_decides(workloads, &requirements, order);
    }
    Ok(())
}

/// Sets a bound, in place of one on the same figure.
fn bound(experiment: &mut Experiment, requirement: Requirement, flag: &str) -> Result<(), String> {
    if let Some((what, help)) = not_measured(&requirement.metric, experiment) {
        return Err(format!("{flag} asks for {what} that is not measured: {help}"));
    }
    let requirements = &mut experiment.requirements.0;
    requirements.retain(|it| (&it.metric, it.bound) != (&requirement.metric, requirement.bound));
    requirements.push(requirement);
    Ok(())
}

fn accuracy(experiment: &Experiment, task: &str, share: f64) -> Result<Requirement, String> {
    let tasks = || experiment.all_workloads().flat_map(|workloads| &workloads.tasks);
    let found = tasks().find(|it| it.name.parts().0.eq_ignore_ascii_case(task));
    let Some(found) = found else {
        let names: Vec<String> = tasks().map(|it| it.name.parts().0.to_owned()).collect();
        let there = if names.is_empty() {
            "tasks stand in an experiment, [[workloads.tasks]]".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        };
        return Err(format!("--min-accuracy: there is no task '{task}'; {there}"));
    };
    let metric = found.metrics.first().copied();
    let metric = metric.ok_or_else(|| format!("--min-accuracy: {task} has no metric"))?;
    let column = super::metric::TaskColumn { task: found.name, metric, is_main: true };
    // Some metrics are shares, some are of 100.
    let limit = share * 100.0 / metric.percent_factor();
    Ok(Requirement { metric: Metric::Task(column).name(), bound: Bound::AtLeast, limit })
}

/// Leaves out what neither a requirement nor the order is about. One generation test stays: memory is seen in it.
fn measure_what_decides(workloads: &mut Workloads, requirements: &[Requirement], order: Order) {
    let asks = |part: &str| requirements.iter().any(|it| it.metric.contains(part));
    let first = workloads.speed.iter().position(|test| test.is_generation_only()).unwrap_or(0);
    let mut at = 0;
    workloads.speed.retain(|&test| {
        at += 1;
        at - 1 == first || asks(&Metric::Speed(test).name())
    });
    workloads.cold_load &= asks("cold_load");
    if !asks("ttft_") && !asks("itl_") {
        workloads.latency = None;
    }
    if !asks("tokenizer") {
        workloads.tokenization = None;
    }
    workloads.tasks.retain(|task| {
        let columns = task.metrics.iter().map(|&metric| {
            let column = super::metric::TaskColumn { task: task.name, metric, is_main: false };
            Metric::Task(column).name()
        });
        let mut names = columns;
        names.any(|name| requirements.iter().any(|it| it.metric == name))
    });
    let is_text = |name: &str| {
        ["perplexity", "kld_", "top_token", "embedding_", "nearest_"]
            .iter()
            .any(|it| name.starts_with(it))
    };
    if order != Order::Closest && !requirements.iter().any(|it| is_text(&it.metric)) {
        workloads.quality = None;
    }
    if let Some(quality) = &mut workloads.quality {
        // How much of the text decides is found out.
        quality.precision = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_has_needs_with_a_source_that_are_figures() {
        for purpose in Purpose::value_variants() {
            let needs = purpose.needs().unwrap();
            assert!(needs.source.contains("https://") && !needs.title.is_empty(), "{purpose}");
            for (key, limit) in &needs.needs {
                assert!(Requirement::of(key, *limit).is_some(), "{purpose}: {key}");
            }
        }
    }
}
