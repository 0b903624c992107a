//! Mixes: a type for every tensor, chosen so that a file of a given size diverges least from the original.
//!
//! `groups` says what can be chosen, `meter` measures what each choice does to the model's output, `choose`
//! and `knapsack` choose, `ledger` keeps what was measured, `recipe` is the choice as a file. Runs inside the worker
//! process. Uses `quantize`, `workload` and `llama`; used by `worker` and, for recipes, by `cli`. docs/MIX.md
//! defines what is computed and shows what it is worth.

mod assignment;
mod choose;
pub mod groups;
mod interpolation;
pub mod knapsack;
pub mod ledger;
mod meter;
pub mod recipe;
pub mod rounding;
mod write;

pub use assignment::Assignment;
pub use choose::Target;
pub use write::{Application, Applied, TensorTypes, apply};

use crate::engine::LoadExtent;
use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{GgufFileError, GgufInput};
use crate::engine::llama::model::Model;
use crate::engine::llama::quantize::Importance;
use crate::engine::llama::tensors::Weights;
use crate::engine::{Engine as _, Model as _};
use crate::experiment::settings::Settings;
use crate::model::gguf::{GgmlType, GgufError};
use crate::workload::quality::{self, Comparison, QualityError, Reference};
use choose::Chooser;
use ledger::Ledger;
use meter::Meter;
use rounding::Original;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Why there is no mix.
#[derive(Debug, thiserror::Error)]
pub enum MixError {
    /// A native call failed.
    #[error(transparent)]
    Llama(#[from] EngineError),
    /// The model could not be read.
    #[error(transparent)]
    File(#[from] GgufFileError),
    /// A header could not be read.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// The model could not be evaluated.
    #[error(transparent)]
    Quality(#[from] QualityError),
    /// What was measured could not be kept.
    #[error("cannot keep what was measured")]
    Ledger(#[source] std::io::Error),
    /// The comparison has nothing to compare with.
    #[error("the original's log-probabilities were not kept")]
    NoReference,
    /// There is nothing to choose.
    #[error("there is nothing to choose: no tensor of this model can be stored as two of {types}")]
    NothingToChoose {
        /// The types that were offered.
        types: String,
    },
    /// A type is not for weights, or needs what is not there.
    #[error("type {format}: {reason}")]
    Type {
        /// Its name.
        format: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The target is below what the types can reach.
    #[error(
        "the smallest mix of these types makes a file of {smallest} bytes ({bits_per_weight:.2} bits per \
         weight), and the target is {target} bytes; raise the target or offer smaller types"
    )]
    TooSmall {
        /// Bytes of the smallest file.
        smallest: u64,
        /// Its bits per weight.
        bits_per_weight: f64,
        /// Bytes asked for.
        target: u64,
    },
    /// The divergence asked for is below what the types can reach.
    #[error(
        "the largest mix of these types diverges by {kld:.5} nats, and at most {limit} were asked for; \
         raise --max-kld or offer larger types"
    )]
    TooPrecise {
        /// Mean KLD of the largest mix.
        kld: f64,
        /// The limit.
        limit: f64,
    },
    /// A tensor is missing.
    #[error("the model has no tensor '{name}'")]
    NoTensor {
        /// Its name.
        name: String,
    },
    /// An importance matrix is of another model.
    #[error(
        "the importance matrix has {found} values for '{name}', and the tensor needs {needed}; it is of \
         another model"
    )]
    Importance {
        /// The tensor.
        name: String,
        /// Values that are there.
        found: usize,
        /// Columns of all matrices.
        needed: usize,
    },
    /// A recipe cannot be read.
    #[error("the recipe cannot be used: {reason}")]
    RecipeText {
        /// The place, and what is wrong there.
        reason: String,
    },
    /// A recipe does not suit a model.
    #[error("the recipe does not suit this model: {reason}")]
    Recipe {
        /// What differs.
        reason: String,
    },
    /// The file that was written is not what was asked for.
    #[error("llama.cpp stored '{name}' as {found}, not as {wanted}")]
    StoredOtherwise {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
        /// The type that was asked for.
        wanted: String,
    },
}

/// What to mix.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// A folder for files that are needed meanwhile: a draft, and the original's log-probabilities.
    pub scratch: &'a Path,
    /// Bytes that the original's log-probabilities may take.
    pub reference_budget_bytes: u64,
    /// Where what was measured is kept; `None`: nowhere.
    pub ledger: Option<&'a Path>,
    /// The text that divergence is measured on.
    pub text: &'a str,
    /// Tokens per chunk.
    pub context: u32,
    /// Chunks of the text that are used.
    pub chunks: u32,
    /// The types to choose from.
    pub formats: &'a [GgmlType],
    /// The types whose divergence is measured; that of the others is interpolated. Empty: all.
    pub measured: &'a [GgmlType],
    /// Importance of the columns; `None`: round to nearest.
    pub importance: Option<&'a [Importance]>,
    /// What the mix must keep to.
    pub target: Target,
    /// Neighbouring layers whose tensors of one kind get one type.
    pub layers_per_group: u32,
    /// How many times the choice is revised around the mix itself.
    pub revisions: u32,
    /// How the model is evaluated.
    pub settings: &'a Settings,
    /// What makes the file, program and version: for its metadata.
    pub maker: &'a str,
    /// Checksums of what goes in, for the recipe.
    pub checksums: &'a recipe::Checksums,
}

/// What a mix will cost, told before it is paid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Groups of tensors.
    pub groups: u32,
    /// Evaluations of the text for the first choice.
    pub evaluations: u32,
    /// Those that were made before, in another call.
    pub known: u32,
    /// At most so many more for the revisions.
    pub revising: u32,
    /// Chunks per evaluation.
    pub chunks: u32,
    /// Seconds per evaluation, as the original's took.
    pub seconds_per_evaluation: f64,
    /// Bytes of the model in memory.
    pub model_bytes: u64,
}

/// What came of a mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The choice.
    pub recipe: recipe::Recipe,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Evaluations that were made now.
    pub evaluations: u32,
    /// How much lower the predicted divergence of the best choice can be at most than that of this one, nats (for a
    /// divergence asked for: bytes); 0: this is the best one.
    pub gap: f64,
}

/// What is told on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Told<'a> {
    /// The cost, once it is known.
    Cost(Cost),
    /// A fraction from 0 to 1 of the evaluations, and what is measured.
    Progress(f64, &'a str),
}

/// Measures, chooses and writes a mix.
///
/// # Errors
/// See [`MixError`].
pub fn run(
    backend: Backend,
    request: &Request<'_>,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Report, MixError> {
    check_types(request)?;
    let draft = write::draft(backend, request)?;
    let source = GgufInput::open(backend, request.source)?;
    let original = Original::new(&source, request.importance);
    let groups = groups::groups(
        source.header(),
        &draft,
        request.formats,
        request.layers_per_group,
        &|tensor| original.is_weighed(tensor),
    );
    original.check(&groups)?;
    if groups.iter().all(|group| group.alternatives.len() < 2) {
        let types =
            request.formats.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ");
        return Err(MixError::NothingToChoose { types });
    }
    let sizes = choose::Sizes::new(&draft, &groups);
    sizes.check(request.target, &groups)?;
    let model = Model::load(backend, request.source, request.settings, LoadExtent::Editable)?;
    let reference = request.scratch.join("reference");
    let seconds = evaluate_original(&model, request, &reference)?;
    let comparison = Comparison::open(
        &model,
        request.settings,
        quality::Request {
            reference: Reference::Read { path: &reference },
            ..quality_request(request)
        },
    )?;
    let ledger = request.ledger.map_or(Ok(Ledger::in_memory()), Ledger::open);
    let meter = Meter {
        groups: &groups,
        original: &original,
        weights: Weights::of(&model)?,
        comparison,
        ledger: ledger.map_err(MixError::Ledger)?,
        stored: vec![None; groups.len()],
        made: 0,
    };
    let mut chooser = Chooser::new(meter, sizes, request);
    let cost = chooser.cost(seconds, model.tensor_bytes());
    tell(Told::Cost(cost));
    let choice = chooser.choose(tell)?;
    let evaluations = chooser.evaluations();
    drop(chooser);
    let recipe = recipe::Recipe::new(request, source.header(), &groups, &choice)?;
    let applied = write::apply(
        backend,
        &write::Application {
            recipe: &recipe,
            source: request.source,
            output: request.output,
            importance: request.importance,
            threads: threads(backend, request.settings),
            maker: request.maker,
        },
    )?;
    Ok(Report { recipe, file_bytes: applied.file_bytes, evaluations, gap: choice.gap })
}

fn check_types(request: &Request<'_>) -> Result<(), MixError> {
    for format in request.formats {
        let wrong = |reason| MixError::Type { format: format.name().to_owned(), reason };
        if !blocks::can_quantize(*format) {
            return Err(wrong("weights cannot be stored so"));
        }
        if groups::needs_importance(*format) && request.importance.is_none() {
            return Err(wrong("llama.cpp rounds to it only with an importance matrix"));
        }
    }
    for format in request.measured {
        if !request.formats.contains(format) {
            let reason = "it is to be measured, but is not among the types to choose from";
            return Err(MixError::Type { format: format.name().to_owned(), reason });
        }
    }
    Ok(())
}

fn quality_request<'a>(request: &Request<'a>) -> quality::Request<'a> {
    quality::Request {
        text: request.text,
        context: request.context,
        chunks: Some(request.chunks),
        reference: Reference::None,
        precision: None,
    }
}

/// Keeps what the original says about the text; the seconds that it took.
fn evaluate_original(
    model: &Model,
    request: &Request<'_>,
    reference: &Path,
) -> Result<f64, MixError> {
    let write = Reference::Write { path: reference, budget_bytes: request.reference_budget_bytes };
    let asked = quality::Request { reference: write, ..quality_request(request) };
    let run = quality::run(model, request.settings, asked, &mut |_, _| {})?;
    Ok(run.quality.seconds)
}

fn threads(backend: Backend, settings: &Settings) -> u32 {
    settings.threads.unwrap_or_else(|| backend.default_threads())
}
