//! `quantbench run --dry-run`: the trials of an experiment and the disk they take, nothing measured.

use crate::cli::foreseen;
use crate::cli::native;
use crate::cli::needs::{Needs, Scene, Sizes};
use crate::cli::output;
use crate::cli::session::{Session, resolve_options};
use crate::error::{Error, Outcome};
use crate::experiment::resolved::Experiment;
use crate::experiment::workloads::Workloads;
use crate::model::architecture::ArchitectureClass;
use crate::model::engine_name::EngineName;
use crate::model::gguf::Header;
use crate::model::resolve::ResolveOptions;
use crate::model::stored_types::StoredTypes;
use crate::orchestrator::cost;
use crate::orchestrator::display::roughly;
use crate::orchestrator::plan::{Origin, Plan, Variant};
use crate::orchestrator::schedule::schedule;
use crate::orchestrator::strategy::Known;
use crate::quantize::jobs::PlannedVariant;
use crate::report::sanitize;
use crate::report::table::Align::{Left, Right};
use crate::report::table::Table;
use crate::report::terminal::{self, Look};
use crate::results::store::Store;
use crate::units::{count, format_bytes};
use crate::workload;
use crate::workload::measured::ModelFacts;
use crate::workload::quality::{ALONG_ANSWERS, NO_TEMPLATE};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;

/// Prints the trials of an experiment. No file is fetched: one that is named must be there, of a repository only
/// its list is read and how a file begins.
pub(super) fn run(session: &Session, experiment: &Experiment) -> Result<Outcome, Error> {
    let mut options = resolve_options(false);
    options.fetches = false;
    let plan = session.plan(experiment, &options)?;
    let mut files = plan
        .variants
        .iter()
        .map(|variant| {
            let (state, bytes, made_of) = match &variant.origin {
                Origin::Ready(artifact) if is_onnx(variant) => {
                    (State::Ready, artifact.file_bytes, None)
                }
                Origin::Ready(artifact) => {
                    let header = Header::read(&artifact.path)?;
                    let types = Some(StoredTypes::of(&header));
                    let (state, bytes) = (State::Ready, artifact.file_bytes);
                    return Ok(File { state, bytes, made_of: None, types });
                }
                Origin::Remote(artifact, _) => {
                    let there = artifact.path.exists();
                    let state = if there { State::Ready } else { State::Remote };
                    (state, artifact.file_bytes, None)
                }
                Origin::Make { input, key, expected_bytes, .. } => {
                    match session.cache.variant(key).existing()? {
                        Some(artifact) => (State::Cached, artifact.file_bytes, Some(input)),
                        None => (State::AtMost, *expected_bytes, Some(input)),
                    }
                }
            };
            Ok(File { state, bytes, made_of: made_of.map(PathBuf::as_path), types: None })
        })
        .collect::<Result<Vec<File<'_>>, Error>>()?;
    find_types(&plan, &mut files);
    let (measured, left_out) = measured(experiment, &plan, &options)?;
    let visits = schedule(experiment, &plan);
    let order = Scene::order(&plan, visits.iter().map(|visit| visit.trial));
    let (cache, hub) = (&session.cache, &options.hub);
    let scene = Scene { experiment, plan: &plan, order: &order, cache, hub };
    let sizes = Sizes {
        bytes: files.iter().map(|file| file.bytes).collect(),
        at_most: files.iter().any(|file| file.state == State::AtMost),
    };
    let needs = Needs::of(scene, &sizes, scene.keep()).in_words();
    let time = time(session, experiment, &plan, &options);
    let told = [needs, time].into_iter().chain(left_out).collect::<Vec<_>>().join("\n");
    output::print(text(experiment, &plan, &files, measured, &told).as_bytes())?;
    Ok(Outcome::Done)
}

/// How long measuring will take, in a line.
fn time(
    session: &Session,
    experiment: &Experiment,
    plan: &Plan,
    options: &ResolveOptions,
) -> String {
    if let Some(budget) = experiment.budget {
        return format!("time: {}, the budget", roughly(budget));
    }
    let foreseen = foreseen::spent(experiment, plan, &session.cache, options);
    let run = Session::new_run(experiment, plan, String::new(), OffsetDateTime::now_utc());
    // That it cannot be read is no reason not to say what is known.
    let earlier = Store::open_existing().ok().flatten();
    let earlier = earlier.and_then(|it| it.earlier(&experiment.name).ok().flatten());
    let past = earlier.map_or_else(Vec::new, |earlier| earlier.trials);
    let known = Known { experiment, plan, run: &run, past: &past, foreseen: &foreseen };
    match cost::seconds(&known, &schedule(experiment, plan)) {
        Some(seconds) => format!(
            "time: about {} to measure; files that are made not counted",
            roughly(Duration::from_secs_f64(seconds))
        ),
        None => {
            "time: known after an earlier run, or by the machine's profile ('quantbench devices \
                 --measure', 20 s once; not of GPUs, tasks and several sequences)"
                .to_owned()
        }
    }
}

/// Where a variant's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// It is to be fetched.
    Remote,
    Cached,
    /// It is to be made, and its size is known.
    ToMake,
    /// It is to be made, and its size is not known.
    AtMost,
}

/// The file of a variant.
struct File<'a> {
    state: State,
    bytes: u64,
    /// What it was made of or is to be.
    made_of: Option<&'a Path>,
    types: Option<StoredTypes>,
}

/// Asks llama.cpp which types variants will have, which also tells their sizes. Where it does not say, they
/// stay unknown.
fn find_types(plan: &Plan, files: &mut [File<'_>]) {
    let inputs: BTreeSet<&Path> = files.iter().filter_map(|file| file.made_of).collect();
    for input in inputs {
        let of_input: Vec<usize> =
            (0..files.len()).filter(|&at| files[at].made_of == Some(input)).collect();
        let quantizations = of_input.iter().map(|&at| plan.variants[at].quantization).collect();
        let Ok(planned) = native::planned_types(input, quantizations) else { continue };
        for (at, PlannedVariant { bytes, types }) in of_input.into_iter().zip(planned) {
            let file = &mut files[at];
            if file.state == State::AtMost {
                (file.state, file.bytes) = (State::ToMake, bytes);
            }
            file.types = Some(types);
        }
    }
}

fn text(
    experiment: &Experiment,
    plan: &Plan,
    files: &[File<'_>],
    measured: Measured,
    needs: &str,
) -> String {
    let rows = plan.trials.iter().map(|trial| {
        let variant = &plan.variants[trial.variant];
        let file = &files[trial.variant];
        let state = match file.state {
            State::Ready => "as it is",
            State::Remote => "to be fetched",
            State::Cached => "in the cache",
            State::ToMake => "to be made",
            State::AtMost => "to be made, at most",
        };
        [
            variant.model.clone(),
            format!(
                "{}{}",
                sanitize(&variant.label),
                if trial.is_reference { " (reference)" } else { "" }
            ),
            trial.settings.to_string(),
            state.to_owned(),
            format_bytes(file.bytes),
        ]
    });
    let titles =
        [("model", Left), ("variant", Left), ("settings", Left), ("file", Left), ("size", Right)];
    let mut text = terminal::text(&Table::of_words(titles, rows), &Look::default());
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{}, {} in {}",
        count(plan.trials.len(), "trial"),
        count(schedule(experiment, plan).len(), "visit"),
        count(experiment.rounds, "round"),
    );
    for (models, measured) in measured {
        let _ = writeln!(text, "each trial of {}: {}", models.join(", "), measured.join(", "));
    }
    let _ = writeln!(text, "{needs}");
    for note in notes(plan, files) {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// What variants will hold besides what their names say, and which of them will be one file.
fn notes(plan: &Plan, files: &[File<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut groups: Vec<(usize, Vec<String>)> = Vec::new();
    for (at, (variant, file)) in plan.variants.iter().zip(files).enumerate() {
        let Some(types) = &file.types else { continue };
        let told = types.told(variant.quantization.file_type());
        notes.extend(told.map(|told| format!("{}: {told}", sanitize(&variant.name()))));
        // A file that is there already may have the same types and other weights.
        if file.made_of.is_none() {
            continue;
        }
        let same = groups.iter_mut().find(|(first, _)| {
            plan.variants[*first].model == variant.model
                && plan.variants[*first].quantization.method == variant.quantization.method
                && files[*first].types.as_ref().is_some_and(|it| it.checksum == types.checksum)
        });
        match same {
            Some((_, names)) => names.push(variant.label.clone()),
            None => groups.push((at, vec![variant.name()])),
        }
    }
    let same = groups.into_iter().filter(|(_, names)| names.len() > 1);
    notes.extend(same.map(|(_, names)| {
        format!(
            "{} are one file under {} names: all their tensors have the same types",
            names.join(", "),
            names.len()
        )
    }));
    notes
}

/// What is measured in each trial of a model; models of which the same is measured stand together.
type Measured = Vec<(Vec<String>, Vec<String>)>;

/// Notes, a line each.
type Notes = Vec<String>;

fn measured(
    experiment: &Experiment,
    plan: &Plan,
    options: &ResolveOptions,
) -> Result<(Measured, Notes), Error> {
    let (mut measured, mut left_out) = (Measured::new(), Notes::new());
    for model in &experiment.models {
        let Some(variant) = plan.variants.iter().find(|it| it.model == model.name) else {
            continue;
        };
        let (path, remote) = match &variant.origin {
            Origin::Ready(artifact) => (&artifact.path, None),
            Origin::Remote(artifact, remote) => (&artifact.path, Some(remote)),
            Origin::Make { input, remote, .. } => (input, remote.as_ref()),
        };
        let header = match remote.filter(|_| !path.exists()) {
            // What a graph is of is known once it is loaded; most continue texts.
            None if is_onnx(variant) => None,
            None => Some(Header::read(path)?),
            Some(remote) => Some(remote.header(&options.hub)?),
        };
        let workloads = model.workloads.as_ref().unwrap_or(&experiment.workloads);
        let mut workloads = workloads.clone();
        if let Some(header) = &header
            && answers_nothing(&workloads, header)
        {
            left_out
                .push(format!("note: {}: {ALONG_ANSWERS} is left out: {NO_TEMPLATE}", model.name));
            // Texts that are measured beside the answers stay.
            workloads.quality = workloads.quality.filter(|quality| !quality.text.is_empty());
        }
        let names = names(&workloads, header.as_ref(), variant.projector.is_some());
        match measured.iter_mut().find(|(_, others)| *others == names) {
            Some((models, _)) => models.push(model.name.clone()),
            None => measured.push((vec![model.name.clone()], names)),
        }
    }
    Ok((measured, left_out))
}

/// Whether quality is asked for along answers that a model without a chat template does not give.
fn answers_nothing(workloads: &Workloads, header: &Header) -> bool {
    let answers = workloads.quality.as_ref().and_then(|quality| quality.answers.as_ref());
    let chats = header.architecture_class() == ArchitectureClass::DecoderOnly
        && header.chat_template().is_some();
    answers.is_some_and(|answers| !answers.or_text) && !chats
}

fn is_onnx(variant: &Variant) -> bool {
    variant.engine.name == EngineName::OnnxRuntime
}

/// The names of the workloads that apply to a model.
fn names(workloads: &Workloads, header: Option<&Header>, sees: bool) -> Vec<String> {
    let class = header.map(Header::architecture_class).unwrap_or_default();
    let context = header.and_then(Header::context_length);
    let context = context.and_then(|tokens| u32::try_from(tokens).ok());
    let facts =
        ModelFacts { class, context_length: context.unwrap_or(u32::MAX), ..ModelFacts::default() };
    let mut names = vec!["load".to_owned()];
    if workloads.cold_load {
        names.insert(0, "cold load".to_owned());
    }
    names.extend(workloads.plans().flat_map(|plan| workload::names(plan, &facts, sees)));
    names
}
