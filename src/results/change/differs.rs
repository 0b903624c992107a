//! What else differs between two sides, and what that means for the comparison.

use super::evidence::{disturbance, workloads};
use super::partners::{Measured, Pair, called};
use crate::experiment::settings::Settings;
use crate::results::each_once;
use crate::results::record::{Environment, LOCAL};
use serde::Serialize;
use serde_json::Value;

/// Something that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is.
    pub what: &'static str,
    /// The base's; of several runs all that occur.
    pub base: String,
    /// The new side's.
    pub new: String,
    /// What it means, in a sentence.
    pub meaning: &'static str,
}

/// What of a trial is looked at, in the order in which it is told.
struct Aspect {
    what: &'static str,
    of: fn(&Measured<'_>) -> String,
    meaning: &'static str,
}

const SPEED: &str = "speeds and memory depend on it";

#[rustfmt::skip]
const ASPECTS: &[Aspect] = &[
    Aspect { what: "engine", of: engine, meaning: "speed, memory and answers may all change with it" },
    Aspect { what: "file", of: file, meaning: "other weights: everything may change with them" },
    Aspect { what: "settings", of: settings, meaning: "speed and memory depend on them, answers on some" },
    Aspect { what: "threads", of: threads, meaning: SPEED },
    Aspect { what: "back ends", of: back_ends, meaning: "speed, memory and the last digits of answers depend on them" },
    Aspect { what: "adapters", of: adapters, meaning: "they change what the model computes" },
    Aspect { what: "machine", of: machine, meaning: "speeds are of two machines" },
    Aspect { what: "processor", of: |it| environment(it).cpu.clone(), meaning: "speeds are of two machines, and the last digits of answers may differ" },
    Aspect { what: "cores", of: cores, meaning: SPEED },
    Aspect { what: "GPU and driver", of: |it| environment(it).gpus.join(", "), meaning: "speed, memory and the last digits of answers depend on them" },
    Aspect { what: "governor", of: |it| environment(it).governor.clone().unwrap_or_default(), meaning: "it sets the clock: speeds are not those of the same machine" },
    Aspect { what: "memory", of: memory, meaning: "speed may depend on it where memory is short" },
    Aspect { what: "system", of: |it| environment(it).operating_system.clone(), meaning: "kernel and libraries may change speed and load times" },
    Aspect { what: "quantbench", of: |it| environment(it).quantbench.clone(), meaning: "it may measure otherwise: its changelog says so where it does" },
    Aspect { what: "build", of: |it| environment(it).build.clone(), meaning: "compiler and flags change speed, and the last digits of answers" },
    Aspect { what: "reference", of: reference, meaning: "divergence is measured from it" },
    Aspect { what: "text", of: text, meaning: "perplexity and divergence are over it" },
    Aspect { what: "prompts", of: prompts, meaning: "TTFT, ITL and the answers are of them" },
    Aspect { what: "tests", of: tests, meaning: "speeds of other tests have no partner, and peak memory is of all of them" },
    Aspect { what: "rounds", of: rounds, meaning: "the more, the surer" },
    Aspect { what: "repetitions", of: |it| of_experiment(it, "repetitions"), meaning: "the more, the surer" },
    Aspect { what: "disturbed by", of: |it| disturbance(it.run, it.trial).unwrap_or_default(), meaning: "speeds of that run suffer from it: measure again" },
];

/// What differs, and the names of what is known to be the same.
pub(super) fn of(pairs: &[Pair<'_>]) -> (Vec<Difference>, Vec<&'static str>) {
    let (mut differences, mut alike) = (Vec::new(), Vec::new());
    for Aspect { what, of, meaning } in ASPECTS {
        let is_disturbance = *what == "disturbed by";
        let mut told: Vec<(String, String)> = Vec::new();
        let mut is_known = false;
        for pair in pairs {
            let of_side = |is_new: bool| {
                let values = each_once(pair.side(is_new).iter().map(of));
                values.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" / ")
            };
            let (base, new) = (of_side(false), of_side(true));
            if is_disturbance {
                let none = |it: String| if it.is_empty() { "nothing".to_owned() } else { it };
                if !(base.is_empty() && new.is_empty()) {
                    told.push((none(base), none(new)));
                }
            } else if !base.is_empty() && !new.is_empty() {
                is_known = true;
                if base != new {
                    told.push((base, new));
                }
            }
        }
        if told.is_empty() {
            alike.extend(Some(*what).filter(|_| is_known));
        }
        for (base, new) in each_once(told) {
            differences.push(Difference { what, base, new, meaning });
        }
    }
    (differences, alike)
}

/// The name of another machine than the one where the run was made, which is called alike everywhere.
fn machine(measured: &Measured<'_>) -> String {
    Some(&measured.trial.host.name).filter(|name| *name != LOCAL).cloned().unwrap_or_default()
}

fn environment<'r>(measured: &Measured<'r>) -> &'r Environment {
    measured.run.environment_of(measured.trial)
}

fn engine(measured: &Measured<'_>) -> String {
    let version = measured.run.engine_version(measured.trial);
    if version.is_empty() {
        String::new()
    } else {
        format!("{} {version}", measured.trial.engine.name)
    }
}

/// The name and the beginning of the checksum: what is to be told apart is seldom one of billions.
fn file(measured: &Measured<'_>) -> String {
    let Some(artifact) = &measured.trial.artifact else { return String::new() };
    let checksum: String = artifact.checksum.chars().take(12).collect();
    if checksum.is_empty() { checksum } else { format!("{} {checksum}", called(measured.trial)) }
}

/// Without threads, of which only what they came to counts.
fn settings(measured: &Measured<'_>) -> String {
    Settings { threads: None, ..measured.trial.settings.clone() }.to_string()
}

fn threads(measured: &Measured<'_>) -> String {
    let facts = measured.trial.facts.as_ref().map(|facts| facts.threads);
    facts.filter(|&threads| threads > 0).map(|it| it.to_string()).unwrap_or_default()
}

fn back_ends(measured: &Measured<'_>) -> String {
    measured.trial.facts.as_ref().map(|facts| facts.backends.join(", ")).unwrap_or_default()
}

fn adapters(measured: &Measured<'_>) -> String {
    let adapters: Vec<String> = measured.trial.adapters.iter().map(ToString::to_string).collect();
    if adapters.is_empty() { "none".to_owned() } else { adapters.join(", ") }
}

fn cores(measured: &Measured<'_>) -> String {
    let environment = environment(measured);
    if environment.logical_cpus == 0 {
        return String::new();
    }
    let usable = environment.usable_cpus.unwrap_or(environment.logical_cpus);
    let quota = environment.cpu_quota_cores.map(|it| format!(", quota {it}")).unwrap_or_default();
    format!(
        "{} cores, {usable} of {} usable{quota}",
        environment.physical_cores, environment.logical_cpus
    )
}

fn memory(measured: &Measured<'_>) -> String {
    let bytes = environment(measured).memory_bytes;
    if bytes == 0 { String::new() } else { crate::units::format_bytes(bytes) }
}

fn reference(measured: &Measured<'_>) -> String {
    let model = &measured.trial.model;
    let trials = measured.run.trials.iter();
    let mut references = trials.filter(|it| it.is_reference && it.model == *model);
    let Some(reference) = references.next() else { return String::new() };
    if reference.quality.is_none() && reference.embedding_quality.is_none() {
        return String::new();
    }
    let checksum =
        reference.artifact.as_ref().map(|it| it.checksum.chars().take(12).collect::<String>());
    format!("{} {}", reference.label, checksum.unwrap_or_default())
}

fn text(measured: &Measured<'_>) -> String {
    let plan = workloads(measured.run, &measured.trial.model).and_then(|it| it.get("quality"));
    let (Some(plan), Some(_)) = (plan.filter(|it| !it.is_null()), &measured.trial.quality) else {
        return String::new();
    };
    let source = plan.get("source").and_then(Value::as_str).unwrap_or_default();
    let parts =
        ["text", "answers"].map(|field| plan.get(field).map(Value::to_string).unwrap_or_default());
    let checksum: String =
        crate::model::cache::of_bytes(parts.concat().as_bytes()).chars().take(6).collect();
    let context = plan.get("context").map(Value::to_string).unwrap_or_default();
    let chunks = plan.get("chunks").filter(|it| !it.is_null()).map(Value::to_string);
    let chunks = chunks.unwrap_or_else(|| "all".to_owned());
    format!("{source} ({checksum}), {chunks} chunks of {context} tokens")
}

fn tests(measured: &Measured<'_>) -> String {
    let plan = workloads(measured.run, &measured.trial.model).and_then(|it| it.get("speed"));
    let tests = plan.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    tests.collect::<Vec<_>>().join(" ")
}

fn prompts(measured: &Measured<'_>) -> String {
    let plan = workloads(measured.run, &measured.trial.model).and_then(|it| it.get("latency"));
    let Some(plan) = plan.filter(|it| !it.is_null()) else { return String::new() };
    let source = plan.get("source").and_then(Value::as_str).unwrap_or_default();
    let parts = ["prompts", "format", "max_tokens", "sampling"]
        .map(|field| plan.get(field).map(Value::to_string));
    let text: String = parts.into_iter().flatten().collect();
    let checksum: String = crate::model::cache::of_bytes(text.as_bytes()).chars().take(6).collect();
    format!("{source} ({checksum})")
}

/// Rounds that were made, and how many were asked for where that is more.
fn rounds(measured: &Measured<'_>) -> String {
    let made = each_once(measured.trial.visits.iter().map(|visit| visit.round)).len();
    let asked = measured.run.experiment.get("rounds").and_then(Value::as_u64);
    match asked {
        _ if made == 0 => String::new(),
        Some(asked) if asked > made as u64 => format!("{made} of {asked}"),
        _ => made.to_string(),
    }
}

fn of_experiment(measured: &Measured<'_>, key: &str) -> String {
    measured.run.experiment.get(key).map(Value::to_string).unwrap_or_default()
}
