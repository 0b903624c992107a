//! Mixes: a type for every tensor, chosen so that a file of a given size diverges least from the original.
//!
//! `groups` lists the types to choose from, `meter` measures the divergence that each causes at the model's output,
//! `choose` and `knapsack` choose, `ledger` keeps the measurements, `recipe` is the mix as a file. Runs inside the worker
//! process. Uses `quantize`, `workload` and `engine::llama`; used by `worker` and, for recipes, by `cli`. docs/MIX.md defines what
//! is computed and shows what it is worth.

mod choose;
mod groups;
mod interpolation;
pub mod jobs;
mod knapsack;
mod ledger;
mod meter;
pub mod recipe;
mod rounding;
mod write;

pub use choose::Target;

use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{GgufFileError, GgufInput};
use crate::engine::llama::model::Model;
use crate::engine::llama::tensors::Weights;
use crate::engine::{LoadExtent, Model as _};
use crate::model::artifact::ArtifactRef;
use crate::model::gguf::{GgmlType, GgufError, Header};
use crate::model::progress::Progress;
use crate::quantize::importance::{ImportanceError, ImportanceMatrix};
use crate::quantize::types::TypesError;
use crate::workload::quality::{self, Comparison, QualityError, Reference};
use choose::Chooser;
use jobs::{ApplyRecipeJob, MixJob};
use ledger::Ledger;
use meter::Meter;
use rounding::Original;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Why there is no mix.
#[derive(Debug, thiserror::Error)]
pub enum MixError {
    /// A llama.cpp call failed.
    #[error(transparent)]
    Llama(#[from] EngineError),
    /// The model cannot be read.
    #[error(transparent)]
    File(#[from] GgufFileError),
    /// A header cannot be read.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// The model cannot be evaluated.
    #[error(transparent)]
    Quality(#[from] QualityError),
    /// The ledger cannot be read or written.
    #[error("cannot keep what was measured")]
    Ledger(#[source] std::io::Error),
    /// There is no mix of these types, limits and files.
    #[error("{0}")]
    Refused(String),
    /// A recipe cannot be parsed.
    #[error("the recipe cannot be used: {0}")]
    RecipeText(String),
    /// A recipe does not fit a model.
    #[error("the recipe does not suit this model: {0}")]
    Recipe(String),
    /// llama.cpp did not take a type.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// The importance matrix cannot be used.
    #[error(transparent)]
    Matrix(#[from] ImportanceError),
}

/// A finished mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixReport {
    /// Types of the tensors and measured divergence.
    pub recipe: recipe::Recipe,
    /// Size of the file.
    pub file_bytes: u64,
    /// Number of evaluations made.
    pub evaluations: u32,
    /// Upper bound of the predicted divergence above that of the best mix, nats; with a limit on divergence, of the size
    /// above that of the smallest mix, bytes. 0: this is the best one.
    pub gap: f64,
}

impl MixError {
    fn no_reference() -> Self {
        Self::Refused("the original's log-probabilities were not kept".to_owned())
    }
}

/// Measures, chooses and writes a mix.
///
/// # Errors
/// See [`MixError`].
pub fn run(
    backend: Backend,
    job: &MixJob,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<MixReport, MixError> {
    let matrix = matrix(backend, job.importance.as_ref(), &job.source.path)?;
    let importance = matrix.as_ref().map(ImportanceMatrix::importance);
    let importance = importance.as_deref();
    check_types(job, importance.is_some())?;
    let draft = write::draft(backend, job)?;
    let source = GgufInput::open(backend, &job.source.path)?;
    let original = Original::new(&source, importance);
    let has_importance = |tensor: &str| original.has_importance(tensor);
    let layers = job.layers_per_group;
    let groups = groups::groups(source.header(), &draft, &job.types, layers, &has_importance);
    original.check(&groups)?;
    if groups.iter().all(|group| group.alternatives.len() < 2) {
        let types: Vec<&str> = job.types.iter().map(|format| format.name()).collect();
        let types = types.join(", ");
        return Err(MixError::Refused(format!(
            "there is nothing to choose: no tensor of this model can be stored as two of {types}"
        )));
    }
    let sizes = choose::Sizes::new(&draft, &groups);
    sizes.check(job.target, &groups)?;
    let model = Model::load(backend, &job.source.path, &job.settings, LoadExtent::Editable)?;
    let path = &*job.scratch.path.join("reference");
    let write = Reference::Write { path, budget_bytes: job.reference_budget_bytes };
    let evaluated = quality::run(&model, &job.settings, quality_of(job, write), &mut |_, _| {})?;
    let read = quality_of(job, Reference::Read { path });
    let comparison = Comparison::open(&model, &job.settings, read)?;
    let meter = Meter {
        groups: &groups,
        original: &original,
        weights: Weights::of(&model)?,
        comparison,
        ledger: Ledger::open(&job.ledger.path).map_err(MixError::Ledger)?,
        stored: vec![None; groups.len()],
        evaluations: 0,
    };
    let chooser = Chooser { meter, sizes, job, on_progress, alone: Vec::new() };
    let (choice, evaluations) = chooser.choose(evaluated.quality.seconds, model.tensor_bytes())?;
    let recipe = recipe::Recipe::new(job, source.header(), &groups, &choice)?;
    let apply = ApplyRecipeJob {
        recipe,
        source: job.source.clone(),
        output: job.output.clone(),
        importance: job.importance.clone(),
        threads: job.settings.threads,
        maker: job.maker.clone(),
    };
    let file_bytes = write::apply(backend, &apply, matrix.as_ref(), on_progress)?;
    Ok(MixReport { recipe: apply.recipe, file_bytes, evaluations, gap: choice.gap })
}

/// Writes a model with the types of a recipe, and checks that llama.cpp took them.
///
/// # Errors
/// The recipe does not fit the model or the file cannot be written.
pub fn apply(
    backend: Backend,
    job: &ApplyRecipeJob,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<(), MixError> {
    let matrix = matrix(backend, job.importance.as_ref(), &job.source.path)?;
    write::apply(backend, job, matrix.as_ref(), on_progress).map(|_| ())
}

/// The importance matrix of a model.
fn matrix(
    backend: Backend,
    file: Option<&ArtifactRef>,
    model: &Path,
) -> Result<Option<ImportanceMatrix>, MixError> {
    let Some(ArtifactRef { path, .. }) = file else { return Ok(None) };
    let matrix = ImportanceMatrix::read(backend, path)?;
    matrix.check(path, &Header::read(model)?)?;
    Ok(Some(matrix))
}

fn check_types(job: &MixJob, has_importance: bool) -> Result<(), MixError> {
    let wrong =
        |format: &GgmlType, reason| Err(MixError::Refused(format!("type {format}: {reason}")));
    for format in &job.types {
        if !blocks::can_quantize(*format) {
            return wrong(format, "weights cannot be stored so");
        }
        if groups::needs_importance(*format) && !has_importance {
            return wrong(format, "llama.cpp rounds to it only with an importance matrix");
        }
    }
    match job.measured_types.iter().find(|format| !job.types.contains(format)) {
        None => Ok(()),
        Some(format) => {
            wrong(format, "it is to be measured, but is not among the types to choose from")
        }
    }
}

fn quality_of<'a>(job: &'a MixJob, reference: Reference<'a>) -> quality::QualityRequest<'a> {
    let MixJob { text, context, chunks, .. } = job;
    quality::QualityRequest {
        text,
        domains: &[],
        context: *context,
        chunks: Some(*chunks),
        reference,
        precision: None,
        answers: None,
        part: None,
    }
}
