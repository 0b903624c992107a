//! The repository's models.toml is a tour of every key, and says what the defaults are: both are held
//! to here.

use super::load;
use crate::experiment::resolved::Experiment;
use crate::experiment::settings_file::SettingsFile;
use crate::experiment::{Overrides, built_in};

const TOUR: &str = include_str!("../../../models.toml");

/// Keys whose value in the tour is not their default, which the tour says.
const NOT_DEFAULTS: [&str; 6] =
    ["quantizations", "reference", "name", "max_tokens", "chunks", "source"];

/// The key of a line `key = value`.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    is_key.then_some(key)
}

fn without_line(number: usize) -> Experiment {
    let lines = TOUR.lines().enumerate().filter(|(index, _)| *index != number);
    let mut experiment = load(&lines.map(|(_, line)| line).collect::<Vec<_>>().join("\n"));
    experiment.name = "demo".to_owned();
    experiment
}

#[test]
fn the_built_in_experiment_makes_twelve_variants_of_the_demo() {
    let experiment = built_in(&Overrides::default()).unwrap();
    assert_eq!(experiment.name, "demo");
    assert_eq!(experiment.models.len(), 1);
    assert_eq!(experiment.models[0].quantizations.len(), 12);
    assert_eq!(experiment.models[0].reference, Some("F16".parse().unwrap()));
    let latency = experiment.workloads.latency.unwrap();
    assert!(latency.prompts.len() >= 20, "{}", latency.prompts.len());
    assert!(experiment.workloads.quality.unwrap().text.len() > 100_000);
}

#[test]
fn a_value_of_the_tour_is_the_default_unless_it_says_otherwise() {
    let whole = built_in(&Overrides::default()).unwrap();
    let mut checked = 0;
    for (number, line) in TOUR.lines().enumerate() {
        let Some(key) = key(line).filter(|key| !NOT_DEFAULTS.contains(key)) else { continue };
        assert_eq!(without_line(number), whole, "{key}");
        checked += 1;
    }
    assert!(checked >= 27, "{checked}");
}

#[test]
fn every_key_is_in_the_tour_and_what_is_commented_out_is_right() {
    let uncommented: Vec<String> = TOUR
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if key(rest).is_some() => rest.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let experiment = load(&uncommented.join("\n"));
    let asked = experiment.requirements;
    assert!(asked.max_memory_bytes.is_some() && asked.max_perplexity_increase.is_some());
    assert_eq!(experiment.models[0].quantizations.len(), 2);

    let keys: Vec<&str> = uncommented.iter().filter_map(|line| key(line)).collect();
    for known in SettingsFile::KEYS.iter().chain(&[
        "rounds",
        "repetitions",
        "cool_down",
        "phase_limit",
        "cold_load",
        "speed",
        "enabled",
        "prompts",
        "format",
        "chat_template_kwargs",
        "temperature",
        "top_k",
        "top_p",
        "seed",
        "text",
        "context",
        "damping",
        "sweeps",
        "matching",
        "divergence",
        "precision",
        "memory_budget",
        "max_memory",
        "min_generation_tps",
        "max_ttft_ms",
        "max_kld",
        "settings",
        "allow_requantize",
    ]) {
        assert!(keys.contains(known), "{known}");
    }
}
