//! `quantbench run --dry-run`: the trials of an experiment and the disk they take, nothing measured.

use crate::cli::fetching::resolve_options;
use crate::cli::output;
use crate::cli::session::Session;
use crate::error::{Error, Outcome};
use crate::experiment::resolved::Experiment;
use crate::orchestrator::display::Verbosity;
use crate::orchestrator::plan::{Origin, Plan};
use crate::orchestrator::schedule::schedule;
use crate::units::format_bytes;
use comfy_table::{Table, presets};
use std::fmt::Write as _;

/// Prints the trials of an experiment. Nothing is fetched: a source on the hub must be there.
pub(super) fn run(session: &Session, experiment: &Experiment) -> Result<Outcome, Error> {
    let mut options = resolve_options(Verbosity::Live);
    options.hub.offline = true;
    let plan = session.plan(experiment, &options)?;
    let files = plan
        .variants
        .iter()
        .map(|variant| {
            Ok(match &variant.origin {
                Origin::Ready(artifact) => File::Ready(artifact.file_bytes),
                Origin::Make { key, expected_bytes, .. } => {
                    match session.cache.variant(key).existing()? {
                        Some(artifact) => File::Cached(artifact.file_bytes),
                        None => File::ToMake(*expected_bytes),
                    }
                }
            })
        })
        .collect::<Result<Vec<File>, Error>>()?;
    output::print(text(experiment, &plan, &files).as_bytes())?;
    Ok(Outcome::Done)
}

/// Where a variant's file is, and its bytes.
#[derive(Debug, Clone, Copy)]
enum File {
    Ready(u64),
    Cached(u64),
    ToMake(u64),
}

fn text(experiment: &Experiment, plan: &Plan, files: &[File]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["model", "variant", "settings", "file", ""]);
    for trial in &plan.trials {
        let variant = &plan.variants[trial.variant];
        let (state, bytes) = match files[trial.variant] {
            File::Ready(bytes) => ("as it is", bytes),
            File::Cached(bytes) => ("in the cache", bytes),
            File::ToMake(bytes) => ("to be made", bytes),
        };
        table.add_row([
            variant.model.clone(),
            format!("{}{}", variant.label, if trial.is_reference { " (reference)" } else { "" }),
            trial.settings.to_string(),
            state.to_owned(),
            format_bytes(bytes),
        ]);
    }
    let disk: u64 =
        files.iter().map(|file| if let File::ToMake(bytes) = file { *bytes } else { 0 }).sum();
    let workloads: Vec<String> = workloads(experiment);
    let mut text = format!("{table}\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} trials, {} visits in {} rounds\neach trial: {}",
        plan.trials.len(),
        schedule(experiment, plan).len(),
        experiment.rounds,
        workloads.join(", ")
    );
    let _ = writeln!(text, "disk for variants to be made: at most {}", format_bytes(disk));
    text
}

fn workloads(experiment: &Experiment) -> Vec<String> {
    let workloads = &experiment.workloads;
    let mut names = vec!["load".to_owned()];
    if workloads.cold_load {
        names.insert(0, "cold load".to_owned());
    }
    names.extend(workloads.speed.iter().map(ToString::to_string));
    if let Some(latency) = &workloads.latency {
        names.push(format!("latency ({} prompts)", latency.prompts.len()));
    }
    if let Some(quality) = &workloads.quality {
        names.push("perplexity".to_owned());
        if quality.divergence {
            names.push("divergence".to_owned());
        }
    }
    names.extend(
        workloads.tasks.iter().map(|it| format!("{} ({} questions)", it.name, it.question_count)),
    );
    names
}
