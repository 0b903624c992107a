//! Mixes: a type for every tensor, chosen so that a file of a given size diverges least from the original.
//!
//! `groups` lists the types to choose from, `meter` measures the divergence that each causes at the model's output,
//! `choose` and `knapsack` choose, `ledger` keeps the measurements, `recipe` is the mix as a file. Runs inside the worker
//! process. Uses `quantize`, `workload` and `engine::llama`; used by `worker` and, for recipes, by `cli`. docs/MIX.md defines what
//! is computed and shows what it is worth.

mod assignment;
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
pub use write::{Application, TensorTypes, apply};

use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{GgufFileError, GgufInput};
use crate::engine::llama::model::Model;
use crate::engine::llama::quantize::Importance;
use crate::engine::llama::tensors::Weights;
use crate::engine::{Engine as _, LoadExtent, Model as _};
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
    /// The comparison has no reference.
    #[error("the original's log-probabilities were not kept")]
    NoReference,
    /// No group has two types to choose from.
    #[error("there is nothing to choose: no tensor of this model can be stored as two of {0}")]
    NothingToChoose(String),
    /// A type is not for weights, or needs an importance matrix.
    #[error("type {format}: {reason}")]
    Type {
        /// ggml's name of the type.
        format: String,
        /// The obstacle, as a clause.
        reason: &'static str,
    },
    /// The target is below the smallest mix.
    #[error(
        "the smallest mix of these types makes a file of {smallest} bytes ({bits_per_weight:.2} bits per \
         weight), and the target is {target} bytes; raise the target or offer smaller types"
    )]
    TooSmall {
        /// Size of the smallest file, bytes.
        smallest: u64,
        /// Over all its tensors.
        bits_per_weight: f64,
        /// Size asked for, bytes.
        target: u64,
    },
    /// The limit is below the divergence of the largest mix.
    #[error(
        "the largest mix of these types diverges by {kld:.5} nats, and at most {limit} were asked for; \
         raise --max-kld or offer larger types"
    )]
    TooPrecise {
        /// Mean KLD of the largest mix, nats.
        kld: f64,
        /// Maximum asked for, nats.
        limit: f64,
    },
    /// A tensor is missing.
    #[error("the model has no tensor '{0}'")]
    NoTensor(String),
    /// The importance matrix was made from another model.
    #[error(
        "the importance matrix has {found} values for '{name}', and the tensor needs {needed}; it is of \
         another model"
    )]
    Importance {
        /// Name of the tensor.
        name: String,
        /// Number of values in the matrix.
        found: usize,
        /// Columns of all matrices of the tensor.
        needed: usize,
    },
    /// A recipe cannot be parsed.
    #[error("the recipe cannot be used: {0}")]
    RecipeText(String),
    /// A recipe does not fit a model.
    #[error("the recipe does not suit this model: {0}")]
    Recipe(String),
    /// llama.cpp did not take a type.
    #[error("llama.cpp stored '{name}' as {found}, not as {wanted}")]
    StoredOtherwise {
        /// Name of the tensor.
        name: String,
        /// Its type in the file.
        found: String,
        /// The type asked for.
        wanted: String,
    },
}

/// A mix to make.
#[derive(Debug, Clone)]
pub struct MixRequest<'a> {
    /// The F32, F16 or BF16 GGUF (first part, if split).
    pub source: &'a Path,
    /// The file to write.
    pub output: &'a Path,
    /// Folder for a draft and the original's log-probabilities.
    pub scratch: &'a Path,
    /// Maximum size of the original's log-probabilities, bytes.
    pub reference_budget_bytes: u64,
    /// File of earlier measurements; `None`: keep none.
    pub ledger: Option<&'a Path>,
    /// The text itself that divergence is measured on.
    pub text: &'a str,
    /// Tokens per chunk.
    pub context: u32,
    /// Number of chunks.
    pub chunks: u32,
    /// The types to choose from.
    pub formats: &'a [GgmlType],
    /// The types whose divergence is measured, not interpolated. Empty: all.
    pub measured: &'a [GgmlType],
    /// Importance of the columns; `None`: round to nearest.
    pub importance: Option<&'a [Importance]>,
    /// The limit of the mix.
    pub target: Target,
    /// Number of neighbouring layers whose tensors of one kind get the same type.
    pub layers_per_group: u32,
    /// Maximum number of revisions with measurements around the mix itself.
    pub revisions: u32,
    /// Settings for evaluating the model.
    pub settings: &'a Settings,
    /// Program and version, stored in the file.
    pub maker: &'a str,
    /// Stored in the recipe.
    pub checksums: &'a recipe::Checksums,
}

/// The cost of a mix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Number of groups of tensors.
    pub groups: u32,
    /// Evaluations of the text for the first choice.
    pub evaluations: u32,
    /// Those among them that the ledger has.
    pub known: u32,
    /// Maximum number of further evaluations for the revisions.
    pub revising: u32,
    /// Chunks per evaluation.
    pub chunks: u32,
    /// Estimated from the original's evaluation.
    pub seconds_per_evaluation: f64,
    /// Size of the model in memory.
    pub model_bytes: u64,
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

/// Progress of a mix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MixProgress<'a> {
    /// The cost, before any group is measured.
    Cost(Cost),
    /// Fraction of a stage's evaluations done, from 0 to 1, and what is being measured.
    Fraction(f64, &'a str),
}

/// Measures, chooses and writes a mix.
///
/// # Errors
/// See [`MixError`].
pub fn run(
    backend: Backend,
    request: &MixRequest<'_>,
    on_progress: &mut dyn FnMut(MixProgress<'_>),
) -> Result<MixReport, MixError> {
    check_types(request)?;
    let draft = write::draft(backend, request)?;
    let source = GgufInput::open(backend, request.source)?;
    let original = Original::new(&source, request.importance);
    let (formats, layers) = (request.formats, request.layers_per_group);
    let has_importance = |tensor: &str| original.has_importance(tensor);
    let groups = groups::groups(source.header(), &draft, formats, layers, &has_importance);
    original.check(&groups)?;
    if groups.iter().all(|group| group.alternatives.len() < 2) {
        let types: Vec<&str> = request.formats.iter().map(|format| format.name()).collect();
        return Err(MixError::NothingToChoose(types.join(", ")));
    }
    let sizes = choose::Sizes::new(&draft, &groups);
    sizes.check(request.target, &groups)?;
    let model = Model::load(backend, request.source, request.settings, LoadExtent::Editable)?;
    let path = &*request.scratch.join("reference");
    let write = Reference::Write { path, budget_bytes: request.reference_budget_bytes };
    let asked = quality_request(request, write);
    let evaluated = quality::run(&model, request.settings, asked, &mut |_, _| {})?;
    let asked = quality_request(request, Reference::Read { path });
    let comparison = Comparison::open(&model, request.settings, asked)?;
    let ledger = request.ledger.map_or(Ok(Ledger::in_memory()), Ledger::open);
    let meter = Meter {
        groups: &groups,
        original: &original,
        weights: Weights::of(&model)?,
        comparison,
        ledger: ledger.map_err(MixError::Ledger)?,
        stored: vec![None; groups.len()],
        evaluations: 0,
    };
    let chooser = Chooser::new(meter, sizes, request, on_progress);
    let (choice, evaluations) = chooser.choose(evaluated.quality.seconds, model.tensor_bytes())?;
    let recipe = recipe::Recipe::new(request, source.header(), &groups, &choice)?;
    let application = Application {
        recipe: &recipe,
        source: request.source,
        output: request.output,
        importance: request.importance,
        threads: threads(backend, request.settings),
        maker: request.maker,
    };
    let file_bytes = apply(backend, &application)?;
    Ok(MixReport { recipe, file_bytes, evaluations, gap: choice.gap })
}

fn check_types(request: &MixRequest<'_>) -> Result<(), MixError> {
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

fn quality_request<'a>(
    request: &MixRequest<'a>,
    reference: Reference<'a>,
) -> quality::QualityRequest<'a> {
    let MixRequest { text, context, chunks, .. } = *request;
    quality::QualityRequest { text, context, chunks: Some(chunks), reference, precision: None }
}

fn threads(backend: Backend, settings: &Settings) -> u32 {
    settings.threads.unwrap_or_else(|| backend.default_threads())
}
