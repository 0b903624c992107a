//! `[[models]]`: names, sources and the variants to make of them, with defaults per kind of source; projectors, the tasks
//! that need one, and the models that a build without pictures leaves out.

use super::diagnostic::Problem;
use super::expand::{Expansion, combinations, wrong_name};
use super::file::{ExperimentFile, ModelFile};
use super::reader::Located;
use super::resolved::{LeftOutModel, ModelPlan};
use super::tasks::{TaskFile, UseCase};
use super::workloads;
use crate::dataset::picture;
use crate::model::adapter::AdapterSource;
use crate::model::convert;
use crate::model::engine_name::EngineName;
use crate::model::file_type::FileType;
use crate::model::gguf::Header;
use crate::model::quantization::{Quantization, USUAL};
use crate::model::source::Source;
use crate::model::stores;

/// Every model of the file, and those that this build cannot measure.
pub(crate) fn expand(
    file: &ExperimentFile,
    expansion: &mut Expansion<'_>,
) -> (Vec<ModelPlan>, Vec<LeftOutModel>) {
    if file.models.is_none() {
        expansion.problems.push(Problem::new(usize::MAX..usize::MAX, "no model to measure").help(
            "add [[models]] with source = \"path/to/model.gguf\", an hf:// file or \"demo\"",
        ));
    }
    check_seeing(file, &mut expansion.problems);
    let mut plans: Vec<ModelPlan> = Vec::new();
    for model in built_in(file) {
        let Some(plan) = expand_one(model, file, expansion) else {
            continue;
        };
        let lower = plan.name.to_lowercase();
        if plans.iter().any(|other| other.name.to_lowercase() == lower) {
            expansion.problems.push(
                Problem::new(
                    model.name.as_ref().map_or(model.span.clone(), |name| name.span.clone()),
                    format!("two models are called '{}'", plan.name),
                )
                .help("give each of them a name of its own with name = \"…\""),
            );
        }
        plans.push(plan);
    }
    (plans, left_out(file, expansion))
}

fn expand_one(
    model: &Located<ModelFile>,
    file: &ExperimentFile,
    expansion: &mut Expansion<'_>,
) -> Option<ModelPlan> {
    let Expansion { origin, problems } = expansion;
    let Some(written) = &model.source else {
        if !model.wrong.iter().any(|wrong| wrong.value == "source") {
            problems.push(
                Problem::new(model.span.clone(), "this model has no source")
                    .help("add source = \"path/to/model.gguf\", an hf:// file or \"demo\""),
            );
        }
        return None;
    };
    let source = match Source::parse(written, origin.base) {
        Ok(source) => source,
        Err(error) => {
            problems.push(written.problem(error));
            return None;
        }
    };
    let shared = file.quantizations.as_ref().filter(|_| named(&source).is_none());
    let list = model.quantizations.as_ref().or(shared);
    let allow_requantize = *model.allow_requantize || origin.allow_requantize;
    if let Some(list) = list {
        check_makeable(list, &source, problems);
        if !allow_requantize {
            check_precision(list, &source, problems);
        }
    }
    let quantizations = list.map_or_else(
        || default_quantizations(&source),
        |list| list.iter().map(|located| located.value).collect(),
    );
    let onnx = onnx(model, expansion);
    let Expansion { problems, .. } = expansion;
    let reference = model.reference.as_ref().or(file.reference.as_ref());
    let reference = reference.and_then(|written| read_reference(written, &quantizations, problems));
    let name = model_name(model, &source, problems);
    Some(ModelPlan {
        quantizations,
        reference,
        settings: model.settings.as_ref().map(|settings| combinations(settings, problems)),
        projector: projector(model, expansion),
        adapters: adapters(model, expansion),
        onnx,
        workloads: model
            .workloads
            .as_ref()
            .map(|workloads| workloads::expand_own(workloads, expansion)),
        allow_requantize,
        ..ModelPlan::new(name, source)
    })
}

fn model_name(model: &ModelFile, source: &Source, problems: &mut Vec<Problem>) -> String {
    let Some(written) = &model.name else { return source.default_name() };
    if let Some(wrong) = wrong_name(&written.value) {
        problems.push(written.problem(wrong));
    } else if written.value.parse::<Quantization>().is_ok() {
        problems.push(
            written
                .problem(format!("is '{}', the name of a quantization", written.value))
                .help("choose another, so that --only and --skip know which of the two is meant"),
        );
    }
    written.value.clone()
}

/// A ladder below the source's own precision; a source that is quantized already is taken as it is.
pub(crate) fn default_quantizations(source: &Source) -> Vec<Quantization> {
    if let Some(named) = named(source) {
        return vec![named];
    }
    let own = own_type(source);
    if source.holds_variants() || own.is_some_and(|own| !own.is_float()) {
        return Vec::new();
    }
    let first = own.or_else(|| "F16".parse().ok());
    let ladder = USUAL.iter().filter_map(|name| name.parse().ok());
    first.into_iter().chain(ladder).map(|file_type: FileType| file_type.into()).collect()
}

/// What a shape is stored as, if its source says it.
pub(super) fn named(source: &Source) -> Option<Quantization> {
    match source {
        Source::Shape(shape) => shape.quantization,
        _ => None,
    }
}

/// The file type of the source, if known without fetching it.
fn own_type(source: &Source) -> Option<FileType> {
    match source {
        Source::Demo | Source::Shape(_) => "F16".parse().ok(),
        Source::Directory(folder) => convert::target(folder).filter(|_| !source.holds_variants()),
        Source::Repository { .. } => None,
        // A file that cannot be read is reported when it is resolved.
        Source::File(path) => Header::read(path)
            .ok()
            .and_then(|header| header.file_type())
            .or_else(|| crate::model::naming::file_type_in(&path.file_name()?.to_string_lossy())),
        Source::Ollama(name) => {
            let blob = stores::ollama(name, &stores::ollama_folders()).ok()?;
            Header::read(&blob.path).ok()?.file_type()
        }
        Source::Hub { file, .. } => crate::model::naming::file_type_in(file),
    }
}

/// Why `quantization` cannot be made of this source, with the remedy; `None` if it can.
pub fn not_makeable(source: &Source, quantization: Quantization) -> Option<(String, String)> {
    if !matches!(source, Source::Shape(_)) {
        return not_rounded(quantization);
    }
    let label = quantization.label.name();
    if quantization.method.is_calibrated() {
        let reason = "the weights of a shape are generated: no text says which of them matter";
        return Some((reason.to_owned(), format!("write '{label}'")));
    }
    // Generated weights are rounded without an importance matrix whatever the type.
    quantization.to_make().err().map(|error| (error.reason.to_owned(), error.remedy))
}

/// Why `quantization` cannot be made by this version, with the remedy; `None` if it can.
fn not_rounded(quantization: Quantization) -> Option<(String, String)> {
    let (file_type, method) = match quantization.to_make() {
        Ok(file_type) => (file_type, quantization.method),
        Err(error) => return Some((error.reason.to_owned(), error.remedy)),
    };
    let facts = method.facts();
    if !method.is_calibrated() {
        return file_type.needs_importance_matrix().then(|| {
            let remedy = "which makes one from a calibration text";
            (
                format!("{file_type} needs an importance matrix"),
                format!("write 'imatrix:{file_type}', {remedy}"),
            )
        });
    }
    if file_type.is_float() {
        let reason = "are not rounded: there is nothing to choose";
        return Some((format!("weights in {file_type} {reason}"), format!("write '{file_type}'")));
    }
    facts.without.contains(&file_type.name()).then(|| {
        (
            format!("{} does not write the formats of {file_type}", facts.title),
            format!("write 'imatrix:{file_type}'"),
        )
    })
}

fn check_makeable(list: &[Located<Quantization>], source: &Source, problems: &mut Vec<Problem>) {
    // Of ready variants the list chooses; what is to be made is known once they are.
    if source.holds_variants() {
        return;
    }
    let own = own_type(source).map(Quantization::from);
    // What is ONNX is there already; whether it is, is seen when it is looked for.
    let is_made = |written: &&Located<Quantization>| {
        Some(written.value) != own && written.value.engine() != EngineName::OnnxRuntime
    };
    for written in list.iter().filter(is_made) {
        if let Some((reason, remedy)) = not_makeable(source, written.value) {
            let problem =
                Problem::new(written.span.clone(), format!("'{}': {reason}", written.key));
            let problem = problem.help(remedy);
            // A list shared by several models is checked for each of them.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
}

/// Rounding what was rounded before adds up errors. A file on the hub is looked at when it is fetched.
fn check_precision(list: &[Located<Quantization>], source: &Source, problems: &mut Vec<Problem>) {
    let (Source::File(path), Some(own)) = (source, own_type(source)) else { return };
    let is_other = |written: &&Located<Quantization>| {
        let is_onnx = written.value.engine() == EngineName::OnnxRuntime;
        written.value.label != own.into() && !is_onnx
    };
    let other = list.iter().find(is_other);
    if let (Some(written), false) = (other, own.is_float()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        problems.push(
            written
                .problem(format!("has {}, but {name} is quantized already ({own})", written.value))
                .help(
                    "give an F32, F16 or BF16 source, allow it with --allow-requantize or \
                 allow_requantize = true, or set quantizations = [] to measure it as it is",
                ),
        );
    }
}

/// The reference, if it is among the quantizations; which files a folder holds is seen when it is read.
fn read_reference(
    written: &Located<Quantization>,
    quantizations: &[Quantization],
    problems: &mut Vec<Problem>,
) -> Option<Quantization> {
    let value = written.value;
    let is_onnx = value.engine() == EngineName::OnnxRuntime;
    if quantizations.is_empty() || quantizations.contains(&value) || is_onnx {
        return Some(value);
    }
    let names: Vec<String> = quantizations.iter().map(ToString::to_string).collect();
    problems.push(
        written
            .problem(format!("is {value}, which is not among the quantizations"))
            .help(format!("add {value} to them, or choose one of: {}", names.join(", "))),
    );
    None
}

/// The projector of a model, if it names one.
fn projector(model: &ModelFile, expansion: &mut Expansion<'_>) -> Option<Source> {
    let Expansion { origin, problems } = expansion;
    let written = model.mmproj.as_ref()?;
    match Source::parse(&written.value, origin.base) {
        Ok(source @ (Source::File(_) | Source::Hub { .. })) => return Some(source),
        Ok(_) => problems.push(
            written
                .problem(format!("is '{}', which is no file", written.value))
                .help("write the GGUF file of the model's projector, or its hf:// address"),
        ),
        Err(error) => problems.push(written.problem(error)),
    }
    None
}

/// The adapters of a model.
fn adapters(model: &ModelFile, expansion: &mut Expansion<'_>) -> Vec<AdapterSource> {
    let Expansion { origin, problems } = expansion;
    let mut adapters = Vec::new();
    for written in model.lora.as_deref().into_iter().flatten() {
        match AdapterSource::parse(&written.value, origin.base) {
            Ok(adapter) => adapters.push(adapter),
            Err(wrong) => problems.push(written.problem(wrong)),
        }
    }
    adapters
}

/// Where the model is as ONNX.
fn onnx(model: &ModelFile, expansion: &mut Expansion<'_>) -> Vec<Source> {
    let Expansion { origin, problems } = expansion;
    let mut sources = Vec::new();
    for written in model.onnx.as_deref().into_iter().flatten() {
        match Source::parse_onnx(&written.value, origin.base) {
            Ok(source) if source.may_hold_onnx() => sources.push(source),
            Ok(_) => problems.push(
                written
                    .problem(format!("is '{}', which holds no ONNX", written.value))
                    .help("write a folder, an .onnx file or a repository"),
            ),
            Err(error) => problems.push(written.problem(error)),
        }
    }
    sources
}

/// The task, if it shows pictures.
fn shows(task: &TaskFile) -> bool {
    task.kind.as_deref() == Some(&UseCase::ImageText)
}

/// Every task that shows pictures needs a model that sees them.
fn check_seeing(file: &ExperimentFile, problems: &mut Vec<Problem>) {
    let models = || file.models().iter();
    let shared = file.workloads.tasks();
    let mut blind: Vec<&Located<TaskFile>> = Vec::new();
    for model in models().filter(|model| model.mmproj.is_none()) {
        // The experiment's are looked at once, below.
        let own = model.workloads.iter().flat_map(|workloads| workloads.tasks());
        blind.extend(own.filter(|task| shows(task) && !shared.contains(task)));
    }
    if models().all(|model| model.mmproj.is_none()) {
        blind.extend(shared.iter().filter(|task| shows(task)));
    }
    for task in blind {
        let span = task.kind.as_ref().map_or(task.span.clone(), |kind| kind.span.clone());
        let problem = Problem::new(span, "this task shows pictures to a model that sees none");
        problems.push(problem.help(
            "name the model's projector in its [[models]]: mmproj = \"path/to/mmproj.gguf\"",
        ));
    }
}

/// The models of a file that this build can measure.
pub(super) fn built_in(file: &ExperimentFile) -> impl Iterator<Item = &Located<ModelFile>> {
    file.models().iter().filter(|model| is_built_in(model))
}

/// Whether this build can measure a model.
fn is_built_in(model: &ModelFile) -> bool {
    picture::BUILT_IN || model.mmproj.is_none()
}

/// Models that this build cannot measure. That no other is left is a problem.
fn left_out(file: &ExperimentFile, expansion: &mut Expansion<'_>) -> Vec<LeftOutModel> {
    let Expansion { origin, problems } = expansion;
    let models = || file.models().iter();
    if models().next().is_some() && !models().any(|model| is_built_in(model)) {
        for written in models().filter_map(|model| model.mmproj.as_ref()) {
            problems
                .push(written.problem(format!("is for pictures, and {}", picture::NOT_BUILT_IN)));
        }
    }
    let left_out = |model: &Located<ModelFile>| {
        let named = model.name.as_ref().map(|name| name.value.clone());
        let source = || Source::parse(&model.source.as_ref()?.value, origin.base).ok();
        Some(LeftOutModel {
            model: named.or_else(|| source().map(|source| source.default_name()))?,
            reason: picture::NOT_BUILT_IN.to_owned(),
        })
    };
    models().filter(|model| !is_built_in(model)).filter_map(left_out).collect()
}
