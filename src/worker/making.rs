//! Jobs that make files: variants, imports, importance matrices, mixes. The orchestrator is told an error with its causes.

use super::AnyError;
use super::protocol::{Event, Made, Phase};
use super::report::Reporter;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::{GgufInput, GgufOutput, MetadataValue, TensorPlan};
use crate::engine::llama::quantize::planned_types;
use crate::mix::{self, jobs};
use crate::model::file_type::FileType;
use crate::model::gguf::{GgmlType, Header};
use crate::model::progress::Progress;
use crate::model::quantization::Method;
use crate::model::size;
use crate::model::stored_types::StoredTypes;
use crate::quantize::jobs::{
    CalibrateJob, ExportJob, ImportJob, PlanTypesJob, PlannedVariant, QuantizeJob,
};
use crate::quantize::{self, importance};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Makes a variant.
pub(super) fn quantize(
    backend: Backend,
    job: &QuantizeJob,
    reporter: &Reporter,
) -> Result<(), AnyError> {
    reporter.send(&Event::Phase(Phase::Quantize));
    let on_progress = {
        let reporter = reporter.clone();
        move |event| reporter.progress(event)
    };
    let report = quantize::quantize(backend, job, on_progress)?;
    if let Some(report) = report {
        reporter.send(&Event::Made(Made::Variant(report)));
    }
    Ok(())
}

/// Finds the types of variants that are not made yet.
pub(super) fn plan_types(
    backend: Backend,
    job: &PlanTypesJob,
    reporter: &Reporter,
) -> Result<(), AnyError> {
    let header = Header::read(&job.input.path)?;
    let variants = job.quantizations.iter().enumerate().map(|(at, quantization)| {
        let file_type = quantization.to_make()?;
        let is_weighted = quantization.method != Method::Rtn || file_type.needs_importance_matrix();
        let types = planned_types(backend, &job.input.path, file_type, is_weighted)?;
        let types: HashMap<String, GgmlType> = types.into_iter().collect();
        let formats: Option<Vec<GgmlType>> =
            header.tensors.iter().map(|tensor| types.get(&tensor.name).copied()).collect();
        let formats = formats.ok_or("llama.cpp does not tell the types of all tensors")?;
        if let Some(outline) = job.outlines.get(at) {
            write_outline(backend, &job.input.path, &formats, file_type, &outline.path)?;
        }
        Ok(PlannedVariant {
            bytes: size::bytes_as(&header, &formats),
            types: StoredTypes::given(&header, &formats, Some(file_type)),
        })
    });
    let variants = variants.collect::<Result<_, AnyError>>()?;
    reporter.send(&Event::PlannedTypes { variants });
    Ok(())
}

/// Writes the header that a file of these types has, and leaves the room of its weights empty.
fn write_outline(
    backend: Backend,
    input: &Path,
    formats: &[GgmlType],
    file_type: FileType,
    outline: &Path,
) -> Result<(), AnyError> {
    let input = GgufInput::open(backend, input)?;
    let mut keys = input.metadata()?;
    keys.set("general.file_type", MetadataValue::U32(file_type.number()))?;
    let tensors = input.header().tensors.iter().zip(formats);
    let tensors: Vec<TensorPlan> =
        tensors.map(|(tensor, &format)| TensorPlan { format, ..tensor.into() }).collect();
    Ok(GgufOutput::create(outline, &keys, &tensors)?.leave_empty()?)
}

/// Writes a checkpoint as a GGUF.
pub(super) fn import(
    backend: Backend,
    job: &ImportJob,
    reporter: &Reporter,
) -> Result<(), AnyError> {
    reporter.send(&Event::Phase(Phase::Quantize));
    let note = quantize::import::import(backend, job, |done| reporter.fraction(done, ""));
    if let Some(note) = note? {
        reporter.progress(Progress::Note(note));
    }
    Ok(())
}

/// Writes a model as an ONNX file.
pub(super) fn export_onnx(
    backend: Backend,
    job: &ExportJob,
    reporter: &Reporter,
) -> Result<(), AnyError> {
    reporter.send(&Event::Phase(Phase::Quantize));
    let report = quantize::onnx::export(backend, job, |done| reporter.fraction(done, ""))?;
    reporter.send(&Event::Made(Made::Onnx(report)));
    Ok(())
}

/// Makes an importance matrix.
pub(super) fn calibrate(
    backend: Backend,
    job: &CalibrateJob,
    reporter: &Reporter,
) -> Result<(), AnyError> {
    reporter.send(&Event::Phase(Phase::Calibrate));
    let report = importance::calibrate(backend, job, &mut |event| {
        reporter.progress(event);
        ControlFlow::Continue(())
    });
    reporter.send(&Event::Made(Made::Importance(report?)));
    Ok(())
}

/// Measures, chooses and writes a mix.
pub(super) fn mix(
    backend: Backend,
    job: &jobs::MixJob,
    reporter: &Reporter,
) -> Result<(), AnyError> {
    reporter.send(&Event::Phase(Phase::Mix));
    let report = mix::run(backend, job, &mut |event| reporter.progress(event));
    let report = Box::new(report?);
    reporter.send(&Event::Made(Made::Mix(report)));
    Ok(())
}

/// Writes a file with the types of a recipe.
pub(super) fn apply_recipe(
    backend: Backend,
    job: &jobs::ApplyRecipeJob,
    reporter: &Reporter,
) -> Result<(), AnyError> {
    reporter.send(&Event::Phase(Phase::Quantize));
    Ok(mix::apply(backend, job, &mut |event| reporter.progress(event))?)
}
