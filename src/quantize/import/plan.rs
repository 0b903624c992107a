//! What each tensor of the result is made from, decided before anything is written.

use super::checkpoint::Checkpoint;
use super::config::Configuration;
use super::error::ImportError;
use super::names::{Architecture, Place, row_order};
use super::reading::Reading;
use super::store::Storage;
use super::unpack::Module;
use crate::engine::llama::gguf_file::{GgufInput, TensorPlan};
use crate::model::gguf::Tensor;
use crate::quantize::shape as tensor_shape;
use std::collections::BTreeMap;

/// What a tensor is made from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TensorOrigin {
    /// BASE, as it is.
    Base,
    /// Quantized modules: one, or one per expert.
    Quantized {
        /// Names of the modules in order.
        modules: Vec<String>,
        /// How all of them are stored.
        storage: Storage,
        /// In how many heads rows are reordered.
        heads: Option<usize>,
    },
    /// A tensor of the checkpoint that was not quantized: methods change norms and biases too.
    Plain {
        /// Its name.
        name: String,
        /// In how many heads rows are reordered.
        heads: Option<usize>,
        /// What is added to each weight.
        offset: f32,
    },
}

/// Everything that is to be written, in the order of BASE.
pub(crate) struct ImportPlan {
    /// One per tensor.
    pub origins: Vec<(TensorPlan, TensorOrigin)>,
    /// How the checkpoint is packed, which its configuration may say wrongly.
    pub configuration: Configuration,
    /// What the user should know of that.
    pub note: Option<String>,
}

/// Modules that go into one tensor of BASE, by expert.
pub(super) type Modules = BTreeMap<usize, (String, Place)>;

/// Decides where each tensor comes from.
///
/// # Errors
/// When a module has no place in BASE, another shape than there, or experts are missing.
pub(crate) fn plan(
    base: &GgufInput,
    checkpoint: &Checkpoint,
    configuration: Configuration,
) -> Result<ImportPlan, ImportError> {
    let architecture = Architecture::of(base.header())?;
    let quantized = quantized_modules(base, checkpoint, &architecture)?;
    if quantized.is_empty() {
        return Err(ImportError::tensor("*.qweight", "is missing: no module is quantized"));
    }
    let reading = Reading { base, checkpoint, configuration, quantized: &quantized };
    let (packing, note) = reading.packing()?;
    let configuration = Configuration { packing, ..configuration };
    let plain = plain_tensors(base, checkpoint, &architecture)?;
    let mut origins = Vec::with_capacity(base.tensors().len());
    for tensor in base.tensors() {
        let entry = &tensor.entry;
        let mut planned = TensorPlan::from(entry);
        let origin = match (quantized.get(&entry.name), plain.get(&entry.name)) {
            (Some(modules), _) => {
                let (storage, heads) = check_modules(entry, modules, checkpoint, configuration)?;
                planned.format = storage.format().unwrap_or(entry.format);
                let modules = modules.values().map(|(name, _)| name.clone()).collect();
                TensorOrigin::Quantized { modules, storage, heads }
            }
            (None, Some(origin)) => origin.clone(),
            (None, None) => TensorOrigin::Base,
        };
        origins.push((planned, origin));
    }
    Ok(ImportPlan { origins, configuration, note })
}

/// The quantized modules by the tensor of BASE that they belong into.
fn quantized_modules(
    base: &GgufInput,
    checkpoint: &Checkpoint,
    architecture: &Architecture,
) -> Result<BTreeMap<String, Modules>, ImportError> {
    let mut found: BTreeMap<String, Modules> = BTreeMap::new();
    for module in checkpoint.names().filter_map(|name| name.strip_suffix(".qweight")) {
        let place = architecture
            .place(module)
            .ok_or_else(|| ImportError::mismatch(module, "no tensor is known by that name"))?;
        let tensor = format!("{}.weight", place.stem);
        if base.find(&tensor).is_none() {
            return Err(ImportError::mismatch(module, format!("BASE has no tensor '{tensor}'")));
        }
        let expert = place.expert.unwrap_or(0);
        let twice = found.entry(tensor.clone()).or_default().insert(expert, (module.into(), place));
        if let Some((other, _)) = twice {
            let problem = format!("'{other}' is to be '{tensor}' too");
            return Err(ImportError::mismatch(module, problem));
        }
    }
    Ok(found)
}

/// Checks shapes against BASE and chooses how the modules of one tensor are stored.
fn check_modules(
    entry: &Tensor,
    modules: &Modules,
    checkpoint: &Checkpoint,
    configuration: Configuration,
) -> Result<(Storage, Option<usize>), ImportError> {
    let [columns, rows, matrices] = tensor_shape(entry);
    if !modules.keys().copied().eq(0..matrices) {
        let problem = format!("the checkpoint has {} of its {matrices} experts", modules.len());
        return Err(ImportError::mismatch(&entry.name, problem));
    }
    let mut storage: Option<Storage> = None;
    let mut heads = None;
    for (name, place) in modules.values() {
        let configuration = configuration.of_module(checkpoint, name, columns)?;
        let module = Module { checkpoint, configuration, name };
        let shape = module.shape()?;
        if (shape.columns, shape.rows) != (columns, rows) {
            let problem = format!(
                "it has {} columns and {} rows, '{}' has {columns} and {rows}",
                shape.columns, shape.rows, entry.name
            );
            return Err(ImportError::mismatch(name, problem));
        }
        if row_order(shape.rows, place.heads).is_none() {
            let problem = format!("its {} rows do not divide into heads", shape.rows);
            return Err(ImportError::mismatch(name, problem));
        }
        let zeros = module.zeros(shape)?;
        if configuration.is_symmetric && zeros.iter().any(|&zero| zero != 8) {
            let problem = "has zero points that are not 8, though zero_point is false: it is damaged, \
                           or its configuration is of another checkpoint";
            return Err(ImportError::tensor(&format!("{name}.qzeros"), problem));
        }
        let own = Storage::of(configuration.bits, &zeros);
        storage = Some(storage.map_or(own, |storage| storage.or(own)));
        heads = place.heads;
    }
    match storage {
        Some(storage) => Ok((storage, heads)),
        None => Err(ImportError::mismatch(&entry.name, "no module belongs there")),
    }
}

/// The tensors that are plain in the checkpoint and may differ there from the original: norms, biases, the routers of
/// experts and matrices that were left out of quantization. AWQ scales them all.
fn plain_tensors(
    base: &GgufInput,
    checkpoint: &Checkpoint,
    architecture: &Architecture,
) -> Result<BTreeMap<String, TensorOrigin>, ImportError> {
    let mut found = BTreeMap::new();
    for name in checkpoint.names() {
        let Some((module, part)) = name.rsplit_once('.') else { continue };
        let Some(place) = architecture.place(module) else { continue };
        // What turns tokens into vectors and back is neither scaled nor always of the same size.
        let is_vocabulary = matches!(place.stem.as_str(), "output" | "token_embd");
        if !matches!(part, "weight" | "bias") || is_vocabulary {
            continue;
        }
        if place.expert.is_some() {
            let problem = "an expert that is not quantized cannot be taken";
            return Err(ImportError::mismatch(name, problem));
        }
        let tensor = format!("{}.{part}", place.stem);
        let Some(own) = base.find(&tensor) else {
            // AutoGPTQ writes biases of zero where the original has none.
            if part == "bias" && checkpoint.numbers(name)?.values.iter().all(|&bias| bias == 0.0) {
                continue;
            }
            return Err(ImportError::mismatch(name, format!("BASE has no tensor '{tensor}'")));
        };
        let shape: Vec<u64> =
            checkpoint.shape(name)?.iter().rev().map(|&size| size as u64).collect();
        if shape != own.entry.dimensions {
            let problem = format!("it has the shape {shape:?}, not {:?}", own.entry.dimensions);
            return Err(ImportError::mismatch(name, problem));
        }
        let format = own.entry.format;
        if !matches!(format.name(), "F32" | "F16" | "BF16") {
            let problem = format!(
                "it is not quantized, and BASE has it in {format}; BASE must be F32, F16 or BF16"
            );
            return Err(ImportError::mismatch(name, problem));
        }
        let rows = shape.last().map_or(0, |&rows| usize::try_from(rows).unwrap_or(0));
        if row_order(rows, place.heads).is_none() {
            return Err(ImportError::mismatch(name, "its rows do not divide into heads"));
        }
        let is_norm = place.stem.ends_with("norm");
        let offset = if is_norm { architecture.norm_offset() } else { 0.0 };
        found.insert(
            tensor,
            TensorOrigin::Plain { name: name.to_owned(), heads: place.heads, offset },
        );
    }
    Ok(found)
}
