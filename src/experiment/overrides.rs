//! What the command line changes about an experiment: `--model --quant --only --skip
//! --allow-requantize --rounds --repetitions --budget --lora --onnx --keep`.

use super::calibration::CalibrationChoice;
use super::keys::RUN;
use super::load::ExperimentError;
use super::models::{default_quantizations, named, not_makeable};
use super::reader::nearest;
use super::recommend::{self, Asked};
use super::resolved::{Experiment, Keep, LeftOutModel, ModelPlan};
use crate::model::adapter::AdapterSource;
use crate::model::engine_name::EngineName;
use crate::model::quantization::Quantization;
use crate::model::resolve::{onnx_quantizations, quantizations_in};
use crate::model::source::{Source, SourceError};
use std::path::Path;
use std::time::Duration;

/// Characters of a name that is made of the names of models.
const LONGEST_NAME: usize = 80;

/// What the command line says. Empty lists and `None` change nothing. Names match without regard to
/// case; a quantization may be named by any of its names (`INT8`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `--model`: models of the file to keep, or sources that replace them.
    pub models: Vec<String>,
    /// `--quant`: variants to make of every model instead of the file's.
    pub quantizations: Vec<Quantization>,
    /// `--only`: keep these models and these quantizations. Names of one kind add up; a model and a
    /// quantization together keep that quantization of that model. The variant that quality is
    /// measured against stays as well.
    pub only: Vec<String>,
    /// `--skip`: drop these models and these quantizations.
    pub skip: Vec<String>,
    /// `--calibration`: the text that variants are calibrated on, instead of the file's.
    pub calibration: Option<String>,
    /// `--allow-requantize`: make variants of sources that are quantized already.
    pub allow_requantize: bool,
    /// `--rounds`.
    pub rounds: Option<u32>,
    /// `--repetitions`.
    pub repetitions: Option<u32>,
    /// `--lora`: adapters of every model, instead of the file's.
    pub lora: Vec<String>,
    /// `--onnx`: where the model is as ONNX, instead of what the file says.
    pub onnx: Vec<String>,
    /// `--keep`.
    pub keep: Option<Keep>,
    /// `--budget`.
    pub budget: Option<Duration>,
    /// What `recommend` is asked; `None`: it is not.
    pub recommend: Option<Asked>,
}

/// What a model named on the command line gets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fallback {
    /// The file's top-level list.
    pub quantizations: Option<Vec<Quantization>>,
    /// The file's `[calibration]`.
    pub calibration: CalibrationChoice,
    /// Whether nobody asked for the experiment by its name.
    pub is_default: bool,
}

/// The end of a message about an unknown name.
fn hint(name: &str, known: &[String]) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean '{name}'?"),
        None => format!("; known: {}", known.join(", ")),
    }
}

/// Applies `overrides` to `experiment`.
///
/// # Errors
/// When a name matches nothing, a number is out of range, or nothing is left.
pub(crate) fn apply(
    mut experiment: Experiment,
    overrides: &Overrides,
    fallback: &Fallback,
) -> Result<Experiment, ExperimentError> {
    in_range("rounds", overrides.rounds, &mut experiment.rounds)?;
    in_range("repetitions", overrides.repetitions, &mut experiment.repetitions)?;
    experiment.keep = overrides.keep.unwrap_or(experiment.keep);
    experiment.budget = overrides.budget.or(experiment.budget);
    if overrides.recommend.is_some() {
        experiment.budget.get_or_insert(recommend::BUDGET);
    }
    if experiment.budget.is_some() && !experiment.keep.is_all() {
        return Err(ExperimentError::Refused(format!(
            "a budget goes back and forth between variants, whose files then stay: leave out --budget or --keep {}",
            experiment.keep
        )));
    }
    let skip = check_left_out(&mut experiment, overrides)?;
    choose_models(&mut experiment, &overrides.models, fallback)?;
    for model in &mut experiment.models {
        model.allow_requantize |= overrides.allow_requantize;
    }
    adapt(&mut experiment, &overrides.lora)?;
    add_onnx(&mut experiment, &overrides.onnx)?;
    if !overrides.quantizations.is_empty() {
        replace_quantizations(&mut experiment, &overrides.quantizations)?;
    }
    filter(&mut experiment, &overrides.only, &skip)?;
    calibrate(&mut experiment, &fallback.calibration);
    if let Some(asked) = &overrides.recommend {
        recommend::apply(&mut experiment, asked).map_err(ExperimentError::Refused)?;
    }
    Ok(experiment)
}

/// A model that this build cannot measure may be skipped, but not asked for. Where others are asked for,
/// it is no longer worth a word. Returns what else is skipped.
fn check_left_out(
    experiment: &mut Experiment,
    overrides: &Overrides,
) -> Result<Vec<String>, ExperimentError> {
    let asked = |flag, names: &[String]| {
        let mut left_out = experiment.left_out.iter();
        let found = left_out.find(|it| names.iter().any(|name| same(&it.model, name)));
        found.map_or(Ok(()), |LeftOutModel { model, reason }| {
            Err(ExperimentError::Refused(format!("{flag} {model}: {reason}")))
        })
    };
    asked("--model", &overrides.models)?;
    asked("--only", &overrides.only)?;
    let mut skip = overrides.skip.clone();
    skip.retain(|name| !experiment.left_out.iter().any(|it| same(&it.model, name)));
    let is_skipped = |it: &LeftOutModel| overrides.skip.iter().any(|name| same(&it.model, name));
    experiment.left_out.retain(|it| !is_skipped(it));
    if !overrides.models.is_empty() || !overrides.only.is_empty() {
        experiment.left_out.clear();
    }
    Ok(skip)
}

/// Gives every model the adapters of the command line.
fn adapt(experiment: &mut Experiment, lora: &[String]) -> Result<(), ExperimentError> {
    let read = lora.iter().map(|text| AdapterSource::parse(text, Path::new("")));
    let adapters = read.collect::<Result<Vec<AdapterSource>, String>>();
    let adapters = adapters.map_err(|wrong| ExperimentError::Refused(format!("--lora {wrong}")))?;
    if !adapters.is_empty() {
        experiment.models.iter_mut().for_each(|model| model.adapters.clone_from(&adapters));
    }
    Ok(())
}

/// Tells where the only model is as ONNX.
fn add_onnx(experiment: &mut Experiment, onnx: &[String]) -> Result<(), ExperimentError> {
    if onnx.is_empty() {
        return Ok(());
    }
    let refused = |message: String| ExperimentError::Refused(format!("--onnx {message}"));
    let read = |text: &String| match Source::parse_onnx(text, Path::new("")) {
        Ok(source) if source.may_hold_onnx() => Ok(source),
        Ok(_) => Err(refused(format!(
            "is '{text}', which holds no ONNX: write a folder, an .onnx file or a repository"
        ))),
        Err(error) => Err(refused(error.to_string())),
    };
    let sources = onnx.iter().map(read).collect::<Result<Vec<Source>, _>>()?;
    match experiment.models.as_mut_slice() {
        [model] => model.onnx = sources,
        models => {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            let message = format!(
                "is of one model, and there are {}: name it with --model, or write onnx = [\"FOLDER\"] under one of them",
                names.join(", ")
            );
            return Err(refused(message));
        }
    }
    Ok(())
}

/// Gives models whose variants are calibrated their text, and takes it from those that need none.
fn calibrate(experiment: &mut Experiment, choice: &CalibrationChoice) {
    for model in &mut experiment.models {
        model.calibration = model.calibrated().map(|_| choice.plan_for(&model.source));
    }
}

/// Takes a number of the command line, whose bounds are those of the key of the same name.
fn in_range(key: &str, written: Option<u32>, value: &mut u32) -> Result<(), ExperimentError> {
    let Some(written) = written else { return Ok(()) };
    match RUN.bounds(key) {
        Some((least, most)) if !(least..=most).contains(&i64::from(written)) => {
            let message = format!("--{key} {written} must be from {least} to {most}");
            Err(ExperimentError::Refused(message))
        }
        _ => {
            *value = written;
            Ok(())
        }
    }
}

fn choose_models(
    experiment: &mut Experiment,
    names: &[String],
    fallback: &Fallback,
) -> Result<(), ExperimentError> {
    let mut chosen: Vec<ModelPlan> = Vec::new();
    let mut all_are_new = true;
    for name in names {
        let found = experiment.models.iter().find(|model| same(&model.name, name));
        let plan = match found {
            Some(model) => model.clone(),
            None => plan_for_source(name, experiment, fallback)?,
        };
        all_are_new &= found.is_none();
        if chosen.iter().any(|other| found.is_none() && other.source == plan.source) {
            continue;
        }
        if !chosen.iter().any(|other| same(&other.name, &plan.name)) {
            chosen.push(plan);
        } else if found.is_none() {
            // Two sources with the same file name: the second is called by its path.
            chosen.push(ModelPlan { name: name.clone(), ..plan });
        }
    }
    if !chosen.is_empty() {
        if all_are_new && fallback.is_default {
            // Nothing is left of what the experiment is called after.
            let names: Vec<&str> = chosen.iter().map(|model| model.name.as_str()).collect();
            experiment.name = names.join(", ").chars().take(LONGEST_NAME).collect();
        }
        experiment.models = chosen;
    }
    Ok(())
}

fn plan_for_source(
    name: &str,
    experiment: &Experiment,
    fallback: &Fallback,
) -> Result<ModelPlan, ExperimentError> {
    let source = Source::parse(name, Path::new("")).map_err(|error| {
        if let SourceError::Shape { .. } = error {
            return ExperimentError::Refused(format!("the model {error}"));
        }
        let known: Vec<String> = experiment.models.iter().map(|model| model.name.clone()).collect();
        ExperimentError::Refused(format!(
            "--model '{name}' is no model of this experiment, and as a source it {error}{}",
            hint(name, &known)
        ))
    })?;
    let default = default_quantizations(&source);
    // A folder or a file that is quantized already is taken as it is, whatever the file's list says.
    let quantizations = match &fallback.quantizations {
        Some(list) if !default.is_empty() && named(&source).is_none() => list.clone(),
        _ => default,
    };
    Ok(ModelPlan { quantizations, ..ModelPlan::new(source.default_name(), source) })
}

fn replace_quantizations(
    experiment: &mut Experiment,
    quantizations: &[Quantization],
) -> Result<(), ExperimentError> {
    let keeps_reference = compares(experiment);
    for model in &mut experiment.models {
        // In a folder of ready variants the list chooses; nothing is made.
        let made = if model.source.holds_variants() { &[] } else { quantizations };
        // What is ONNX is there already; whether it is, is seen when it is looked for.
        let is_made =
            |it: &&Quantization| model.onnx.is_empty() || it.engine() != EngineName::OnnxRuntime;
        for &quantization in made.iter().filter(is_made) {
            if let Some((reason, remedy)) = not_makeable(&model.source, quantization) {
                let message = format!("--quant {quantization}: {reason}; {remedy}");
                return Err(ExperimentError::Refused(message));
            }
        }
        let mut list: Vec<Quantization> = Vec::new();
        let reference = model.reference.filter(|_| keeps_reference);
        for quantization in reference.into_iter().chain(quantizations.iter().copied()) {
            if !list.contains(&quantization) {
                list.push(quantization);
            }
        }
        model.reference = model.reference.filter(|reference| list.contains(reference));
        model.quantizations = list;
    }
    Ok(())
}

/// Whether variants are compared with a reference.
fn compares(experiment: &Experiment) -> bool {
    experiment.all_workloads().any(|workloads| workloads.compare() || !workloads.tasks.is_empty())
}

/// Names sorted into what they are.
type Names = (Vec<String>, Vec<Quantization>);

fn sort_names(
    flag: &'static str,
    names: &[String],
    experiment: &Experiment,
) -> Result<Names, ExperimentError> {
    let (mut models, mut quantizations) = Names::default();
    for name in names {
        let quantization = name.parse::<Quantization>().ok().filter(|quantization| {
            experiment.models.iter().any(|model| {
                // What a file on the hub holds is seen when it is fetched.
                model.quantizations.is_empty()
                    || model.quantizations.iter().any(|own| is_called(*own, *quantization))
            })
        });
        if let Some(model) = experiment.models.iter().find(|model| same(&model.name, name)) {
            models.push(model.name.clone());
        } else if let Some(quantization) = quantization {
            quantizations.push(quantization);
        } else {
            return Err(ExperimentError::Refused(format!(
                "{flag} '{name}' is neither a model nor a quantization of this experiment{}",
                hint(name, &known_names(experiment))
            )));
        }
    }
    Ok((models, quantizations))
}

fn filter(
    experiment: &mut Experiment,
    only: &[String],
    skip: &[String],
) -> Result<(), ExperimentError> {
    if only.is_empty() && skip.is_empty() {
        return Ok(());
    }
    for model in &mut experiment.models {
        // To choose among what a folder holds, it has to be known.
        if let (Source::Directory(folder), true) = (&model.source, model.quantizations.is_empty()) {
            model.quantizations = quantizations_in(folder);
        }
        let is_onnx = |it: &Quantization| it.engine() == EngineName::OnnxRuntime;
        if !model.quantizations.is_empty() && !model.quantizations.iter().any(is_onnx) {
            model.quantizations.extend(onnx_quantizations(&model.onnx));
        }
    }
    let (only_models, only) = sort_names("--only", only, experiment)?;
    let (skipped_models, skip) = sort_names("--skip", skip, experiment)?;
    let known = known_names(experiment);
    let keeps_reference = compares(experiment);
    experiment.models.retain_mut(|model| {
        let is_kept = only_models.is_empty() || only_models.contains(&model.name);
        let is_skipped = skipped_models.contains(&model.name);
        is_kept && !is_skipped && keep_variants(model, &only, &skip, keeps_reference)
    });
    if experiment.models.is_empty() {
        let message =
            format!("--only and --skip leave no variant to measure; known: {}", known.join(", "));
        return Err(ExperimentError::Refused(message));
    }
    Ok(())
}

/// Whether anything of the model is left.
fn keep_variants(
    model: &mut ModelPlan,
    only: &[Quantization],
    skip: &[Quantization],
    keeps_reference: bool,
) -> bool {
    if only.is_empty() && skip.is_empty() {
        return true;
    }
    if model.quantizations.is_empty() {
        // A file taken as it is: what it holds is known once it is read.
        model.quantizations =
            only.iter().copied().filter(|quantization| !skip.contains(quantization)).collect();
        return only.is_empty() || !model.quantizations.is_empty();
    }
    let is_in =
        |names: &[Quantization], own: &Quantization| names.iter().any(|it| is_called(*own, *it));
    let is_asked_for = |quantization: &Quantization| {
        (only.is_empty() || is_in(only, quantization)) && !is_in(skip, quantization)
    };
    if !model.quantizations.iter().any(is_asked_for) {
        return false;
    }
    // Quality would change its meaning if it were measured against another variant.
    let reference = model
        .reference
        .or_else(|| {
            let by_rank = |one: &Quantization| one.precision_rank();
            model.quantizations.iter().copied().min_by_key(by_rank)
        })
        .filter(|reference| keeps_reference && !is_in(skip, reference));
    model.quantizations.retain(|one| is_asked_for(one) || reference == Some(*one));
    model.reference = model.reference.filter(|one| model.quantizations.contains(one));
    true
}

/// Whether a name is a quantization's; that of a storage is the name of all graphs that are stored so.
fn is_called(own: Quantization, name: Quantization) -> bool {
    own == name || own.engine() == EngineName::OnnxRuntime && own.meets(name)
}

fn known_names(experiment: &Experiment) -> Vec<String> {
    let models = experiment.models.iter().map(|model| model.name.clone());
    let mut known: Vec<String> = models.collect();
    for model in &experiment.models {
        for quantization in &model.quantizations {
            let name = quantization.to_string();
            if !known.contains(&name) {
                known.push(name);
            }
        }
    }
    known
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}
