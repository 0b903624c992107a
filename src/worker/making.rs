//! Jobs that make files: variants, imports, importance matrices.

use super::protocol::{Event, MemoryPart, Phase};
use super::report::Reporter;
use crate::causes::in_words;
use crate::engine::Engine as _;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::quantize::planned_types;
use crate::mix::TensorTypes;
use crate::mix::jobs::QuantizeJob;
use crate::model::gguf::{GgmlType, Header};
use crate::model::quantization::{Method, Quantization};
use crate::model::size;
use crate::model::stored_types::StoredTypes;
use crate::quantize::import::Import;
use crate::quantize::importance::{self, CalibrationRequest};
use crate::quantize::jobs::{CalibrateJob, ImportJob, PlanTypesJob, PlannedVariant};
use crate::quantize::{self, CalibrationText, Progress};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Makes a variant.
pub(super) fn quantize(
    backend: Backend,
    job: &QuantizeJob,
    reporter: &Reporter,
) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::Quantize));
    let calibration = job.calibration.as_ref();
    let text = calibration.and_then(|calibration| calibration.text.as_ref());
    let text = text.map(|text| read_text(&text.path)).transpose()?;
    let types = job.recipe.as_ref().map(|recipe| {
        let model = Header::read(&job.input.path).map_err(|error| in_words(&error))?;
        let has_importance = job.method.is_calibrated();
        TensorTypes::of(recipe, &model, has_importance).map_err(|error| in_words(&error))
    });
    let types = types.transpose()?;
    let request = quantize::QuantizeRequest {
        input: &job.input.path,
        output: &job.output.path,
        file_type: job.file_type,
        types: types.as_ref().map(|types| quantize::TensorTypes {
            overrides: &types.overrides,
            checksum: &types.checksum,
        }),
        method: job.method,
        threads: job.threads.unwrap_or_else(|| backend.default_threads()),
        allow_requantize: job.allow_requantize,
        calibration: calibration.map(|calibration| quantize::Calibration {
            importance: &calibration.importance.path,
            text: text.as_deref(),
            dataset: &calibration.dataset,
            context: calibration.context,
            chunks: calibration.chunks,
            gptq: calibration.gptq,
            folder: &calibration.folder.path,
        }),
    };
    let on_progress = {
        let reporter = reporter.clone();
        move |event| report_progress(&reporter, event)
    };
    let report =
        quantize::quantize(backend, &request, on_progress).map_err(|error| in_words(&error))?;
    if let Some(types) = types {
        types.check(&job.output.path).map_err(|error| in_words(&error))?;
    }
    if let Some(quantize::MethodReport { chosen, kept }) = report {
        reporter.send(&Event::Quantized { chosen, kept });
    }
    Ok(())
}

/// Finds the types of variants that are not made yet.
pub(super) fn plan_types(
    backend: Backend,
    job: &PlanTypesJob,
    reporter: &Reporter,
) -> Result<(), String> {
    let header = Header::read(&job.input.path).map_err(|error| in_words(&error))?;
    let variants = job.quantizations.iter().map(|quantization| {
        let Quantization { file_type, method } = *quantization;
        let is_weighted = method != Method::Rtn;
        let types = planned_types(backend, &job.input.path, file_type, is_weighted)
            .map_err(|error| in_words(&error))?;
        let types: HashMap<String, GgmlType> = types.into_iter().collect();
        let formats: Option<Vec<GgmlType>> =
            header.tensors.iter().map(|tensor| types.get(&tensor.name).copied()).collect();
        let formats = formats.ok_or("llama.cpp does not tell the types of all tensors")?;
        Ok(PlannedVariant {
            bytes: size::bytes_as(&header, &formats),
            types: StoredTypes::given(&header, &formats, Some(file_type)),
        })
    });
    let variants = variants.collect::<Result<_, String>>()?;
    reporter.send(&Event::PlannedTypes { variants });
    Ok(())
}

fn report_progress(reporter: &Reporter, event: Progress) {
    let part = |(purpose, bytes)| MemoryPart { purpose, bytes };
    match event {
        Progress::Memory(parts) => {
            let parts = parts.into_iter().map(part).collect();
            reporter.send(&Event::MemoryNeeded { parts });
        }
        Progress::Fraction(fraction, note) => reporter.progress(fraction, &note),
        Progress::Note(text) => reporter.send(&Event::Note { text }),
    }
}

/// Writes a checkpoint as a GGUF.
pub(super) fn import(backend: Backend, job: &ImportJob, reporter: &Reporter) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::Quantize));
    let request = Import {
        checkpoint: &job.checkpoint.path,
        kind: job.kind,
        base: &job.base.path,
        output: &job.output.path,
    };
    let note = crate::quantize::import::import(backend, &request, |fraction| {
        reporter.progress(fraction, "");
    })
    .map_err(|error| in_words(&error))?;
    if let Some(text) = note {
        reporter.send(&Event::Note { text });
    }
    Ok(())
}

/// Makes an importance matrix.
pub(super) fn calibrate(
    backend: Backend,
    job: &CalibrateJob,
    reporter: &Reporter,
) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::Calibrate));
    let text = read_text(&job.text.path)?;
    let request = CalibrationRequest {
        model: &job.model.path,
        model_checksum: &job.model.key,
        text: CalibrationText { text: &text, context: job.context, chunks: job.chunks },
        dataset: &job.dataset,
        output_weight: job.output_weight,
        threads: job.threads,
        output: &job.output.path,
    };
    let report = importance::calibrate(backend, &request, &mut |event| {
        report_progress(reporter, event);
        ControlFlow::Continue(())
    });
    let report = report.map_err(|error| in_words(&error))?;
    reporter.send(&Event::Calibrated {
        chunks: report.chunks,
        resumed: report.resumed,
        weights: report.weights as u64,
    });
    Ok(())
}

/// Reads a text for a job.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the text {}: {error}", path.display()))
}
