//! GPTQ (Frantar et al. 2022, arXiv:2210.17323) in ggml's block formats.
//!
//! llama.cpp first makes the file with an importance matrix, so that every tensor has the type it would have anyway.
//! Then matrix after matrix is replaced in place, in the order of llama.cpp's graph and with the inputs that the
//! quantized model gives it. What GPTQ cannot do stays as the importance matrix rounded it, and the report says why.
//! docs/GPTQ.md defines what is computed.
//!
//! Runs inside the worker process. Uses `engine::llama` and `model::gguf`; used by `quantize`.

mod block;
mod factor;
mod forward;
mod hessian;
mod layout;
mod memory;
mod part;
mod plan;
mod sequence;
mod solve;
mod sweep;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trial;

use super::streams::{chunk_length, chunk_tokens};
use super::{MethodError, MethodReport, Progress, check_class, fraction};
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::{GgufInput, InputTensor};
use crate::engine::llama::model::Model;
use crate::engine::llama::tensors::Weights;
use crate::engine::{LoadExtent, Model as _};
use crate::experiment::calibration::CalibrationPlan;
use crate::experiment::parameters::{GptqSettings, Matching};
use crate::experiment::settings::Settings;
use crate::model::quantization::Method;
use faer::Par;
use forward::PartialForward;
use memory::Contexts;
use plan::GptqPlan;
use sequence::Sequence;
use solve::Work;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Maximum size of the sums over the inputs of one group of products, bytes. Tables of many experts that need more take
/// several passes over the text.
pub const SUMS_BYTES: u64 = 2 << 30;

/// More gained little (docs/GPTQ.md).
pub const UNITS: usize = 2;

/// A file whose weights are to be replaced.
#[derive(Debug, Clone, Copy)]
pub struct GptqRequest<'a> {
    /// The original, in floating point.
    pub source: &'a Path,
    /// The original as llama.cpp rounds it with the importance matrix; changed in place.
    pub output: &'a Path,
    /// The calibration text; damping, sweeps, and what outputs are compared with.
    pub plan: &'a CalibrationPlan,
    /// Number of threads.
    pub threads: u32,
    /// Candidates for a super-block's scale, and for its minimum, that are tried in full; usually [`UNITS`].
    pub units: usize,
    /// Usually [`SUMS_BYTES`].
    pub memory: u64,
}

impl GptqRequest<'_> {
    fn settings(&self) -> GptqSettings {
        self.plan.parameters.gptq
    }

    /// Whether the original is evaluated too.
    fn is_matched(&self) -> bool {
        self.settings().matching != Matching::Nothing
    }
}

/// Replaces the weights of a file.
///
/// # Errors
/// See [`MethodError`]; the file is then incomplete.
pub fn quantize(
    backend: Backend,
    request: &GptqRequest<'_>,
    on_progress: impl FnMut(Progress),
) -> Result<MethodReport, MethodError> {
    let tokens = chunk_tokens(request.plan, backend, request.source)?;
    run(backend, request, &tokens, on_progress)
}

/// As [`quantize`], with the text's tokens, in whole chunks.
fn run(
    backend: Backend,
    request: &GptqRequest<'_>,
    tokens: &[i32],
    mut on_progress: impl FnMut(Progress),
) -> Result<MethodReport, MethodError> {
    let source = GgufInput::open(backend, request.source)?;
    let draft = GgufInput::open(backend, request.output)?;
    let texts: Vec<&[i32]> = tokens.chunks(chunk_length(request.plan)).collect();
    let contexts = Contexts::plan(backend, request, texts.len())?;
    let memory = memory::needed(&source, &draft, tokens.len(), request, &contexts);
    on_progress(Progress::Memory(memory));
    let load = |path: &Path, extent| {
        let settings = Settings { gpu_layers: 0, ..Settings::default() };
        Model::load(backend, path, &settings, extent)
    };
    let made = load(request.output, LoadExtent::Overwritable)?;
    check_class(Method::Gptq, made.class())?;
    let original = request.is_matched().then(|| load(request.source, LoadExtent::Everything));
    let original = original.transpose()?;
    let of_made = contexts.open(&made)?;
    let plan = GptqPlan::new(of_made[0].graph());
    let original = original.as_ref().map(|original| contexts.open(original)).transpose()?;
    if original.as_ref().is_some_and(|contexts| GptqPlan::new(contexts[0].graph()) != plan) {
        let (original, output) = (request.source.display(), request.output.display());
        return Err(MethodError::Refused(format!(
            "llama.cpp computes {original} and {output} differently, so that GPTQ cannot compare their values"
        )));
    }
    let mut sequence = Sequence {
        source: &source,
        draft: &draft,
        plan: &plan,
        original: original.map(|contexts| PartialForward::new(contexts, &texts)),
        made: PartialForward::new(of_made, &texts),
        weights: Weights::of(&made)?,
        settings: request.settings(),
        memory: request.memory,
        work: Work {
            units: request.units,
            sweeps: request.settings().sweeps,
            parallel: Par::rayon(usize::try_from(request.threads).unwrap_or(1)),
        },
        report: MethodReport::default(),
    };
    let failed = |source| MethodError::Write { path: request.output.to_owned(), source };
    let mut file = OpenOptions::new().write(true).open(request.output).map_err(failed)?;
    let (layers, groups) = (made.layers(), &plan.groups);
    for (index, group) in groups.iter().enumerate() {
        let layer = group.layer().map_or(layers, |layer| layer + 1);
        let replaced = sequence.group(index, &mut |part| {
            let note = format!("layer {layer} of {layers}");
            on_progress(Progress::Fraction(fraction(index, part, groups.len()), note));
        })?;
        for (name, bytes) in &replaced {
            let Some(tensor) = draft.find(name) else { continue };
            overwrite(&mut file, &draft, tensor, bytes).map_err(failed)?;
        }
    }
    file.sync_all().map_err(failed)?;
    let mut report = sequence.report;
    add_untouched(&draft, &plan, &mut report);
    Ok(report)
}

/// Adds the matrices that are in no group of the plan.
fn add_untouched(draft: &GgufInput, plan: &GptqPlan, report: &mut MethodReport) {
    for tensor in draft.tensors() {
        let name = &tensor.entry.name;
        if plan.groups.iter().any(|group| group.weights.contains(name)) {
            continue;
        }
        let reason = match plan.left.iter().find(|(left, _)| left == name) {
            Some((_, reason)) => reason,
            None if name.starts_with("blk.") => "the model multiplies nothing with it",
            None => "it belongs to no layer",
        };
        report.keep(&tensor.entry, None, reason.to_owned());
    }
}

fn overwrite(
    file: &mut File,
    draft: &GgufInput,
    tensor: &InputTensor,
    bytes: &[u8],
) -> std::io::Result<()> {
    debug_assert_eq!(bytes.len(), draft.bytes(tensor).len());
    file.seek(SeekFrom::Start(tensor.file_offset()))?;
    file.write_all(bytes)
}
