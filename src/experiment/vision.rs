//! Multimodal models: their projectors, the tasks that need one, and the models that a build without
//! pictures leaves out.

use super::diagnostic::Problem;
use super::expand::Expansion;
use super::file::{ExperimentFile, ModelFile};
use super::reader::Located;
use super::resolved::LeftOutModel;
use super::tasks::{TaskFile, UseCase};
use crate::dataset::picture;
use crate::model::source::Source;

/// The projector of a model, if it names one.
pub(crate) fn projector(model: &ModelFile, expansion: &mut Expansion<'_>) -> Option<Source> {
    let Expansion { origin, problems } = expansion;
    let written = model.mmproj.as_ref()?;
    match Source::parse(&written.value, origin.base) {
        Ok(source @ (Source::File(_) | Source::Hub { .. })) => return Some(source),
        Ok(Source::Demo | Source::Directory(_)) => problems.push(
            written
                .problem(format!("is '{}', which is no file", written.value))
                .help("write the GGUF file of the model's projector, or its hf:// address"),
        ),
        Err(error) => problems.push(written.problem(error)),
    }
    None
}

/// The task, if it shows pictures.
fn shows(task: &TaskFile) -> bool {
    task.kind.as_deref() == Some(&UseCase::ImageText)
}

/// Every task that shows pictures needs a model that sees them.
pub(crate) fn check(file: &ExperimentFile, problems: &mut Vec<Problem>) {
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

/// Whether this build can measure a model.
pub(crate) fn is_built_in(model: &ModelFile) -> bool {
    picture::BUILT_IN || model.mmproj.is_none()
}

/// Models that this build cannot measure. That no other is left is a problem.
pub(crate) fn left_out(file: &ExperimentFile, expansion: &mut Expansion<'_>) -> Vec<LeftOutModel> {
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
