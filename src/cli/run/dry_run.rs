//! `quantbench run --dry-run`: the trials of an experiment and the disk they take, nothing measured.

use crate::cli::fetching::resolve_options;
use crate::cli::output;
use crate::cli::session::Session;
use crate::error::{Error, Outcome};
use crate::experiment::resolved::{Experiment, Workloads};
use crate::experiment::workloads::SpeedTest;
use crate::model::architecture::ArchitectureClass;
use crate::model::gguf::Header;
use crate::model::resolve::ResolveError;
use crate::orchestrator::display::Verbosity;
use crate::orchestrator::plan::{Origin, Plan};
use crate::orchestrator::schedule::schedule;
use crate::units::format_bytes;
use crate::workload::applicability;
use crate::workload::measured::ModelFacts;
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
    let measured = measured(experiment, &plan)?;
    output::print(text(experiment, &plan, &files, measured).as_bytes())?;
    Ok(Outcome::Done)
}

/// Where a variant's file is, and its bytes.
#[derive(Debug, Clone, Copy)]
enum File {
    Ready(u64),
    Cached(u64),
    ToMake(u64),
}

fn text(experiment: &Experiment, plan: &Plan, files: &[File], measured: Measured) -> String {
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
    let mut text = format!("{table}\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} trials, {} visits in {} rounds",
        plan.trials.len(),
        schedule(experiment, plan).len(),
        experiment.rounds,
    );
    for (models, measured) in measured {
        let _ = writeln!(text, "each trial of {}: {}", models.join(", "), measured.join(", "));
    }
    let _ = writeln!(text, "disk for variants to be made: at most {}", format_bytes(disk));
    text
}

/// What is measured in each trial of a model; models of which the same is measured stand together.
type Measured = Vec<(Vec<String>, Vec<String>)>;

fn measured(experiment: &Experiment, plan: &Plan) -> Result<Measured, Error> {
    let mut measured = Measured::new();
    for model in &experiment.models {
        let Some(variant) = plan.variants.iter().find(|it| it.model == model.name) else {
            continue;
        };
        let header = Header::read(match &variant.origin {
            Origin::Ready(artifact) => &artifact.path,
            Origin::Make { input, .. } => input,
        })
        .map_err(ResolveError::from)?;
        let workloads = model.workloads.as_ref().unwrap_or(&experiment.workloads);
        let names = names(workloads, &header, variant.projector.is_some());
        match measured.iter_mut().find(|(_, others)| *others == names) {
            Some((models, _)) => models.push(model.name.clone()),
            None => measured.push((vec![model.name.clone()], names)),
        }
    }
    Ok(measured)
}

/// The names of the workloads that apply to a model.
fn names(workloads: &Workloads, header: &Header, sees: bool) -> Vec<String> {
    let class = header.architecture_class();
    let context = header.context_length().and_then(|tokens| u32::try_from(tokens).ok());
    let facts =
        ModelFacts { class, context_length: context.unwrap_or(u32::MAX), ..ModelFacts::default() };
    let mut names = vec!["load".to_owned()];
    if workloads.cold_load {
        names.insert(0, "cold load".to_owned());
    }
    let applies = |test: &&SpeedTest| applicability::speed(**test, &facts).is_none();
    names.extend(workloads.speed.iter().filter(applies).map(ToString::to_string));
    if let Some(latency) = workloads.latency.as_ref().filter(|_| class.generates()) {
        names.push(format!("latency ({} prompts)", latency.prompts.len()));
    }
    if let Some(quality) = &workloads.quality {
        if class == ArchitectureClass::DecoderOnly {
            names.push("perplexity".to_owned());
        }
        if quality.divergence {
            let of = if class.generates() { "divergence" } else { "distance of embeddings" };
            names.push(of.to_owned());
        }
    }
    let tasks = workloads.tasks.iter();
    let tasks = tasks.filter(|it| applicability::task(&it.answering, class, sees).is_none());
    names.extend(tasks.map(|it| format!("{} ({} questions)", it.name, it.question_count)));
    names
}
