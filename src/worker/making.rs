//! Jobs that make files: variants, imports, importance matrices.

use super::protocol::{CalibrateJob, Event, ImportJob, MemoryPart, Phase, QuantizeJob};
use super::report::Reporter;
use crate::llama::backend::Backend;
use crate::llama::quantize::Rounding;
use crate::quantize::import::Import;
use crate::quantize::importance::{self, Calibration, Told};
use std::ops::ControlFlow;
use std::path::Path;

/// Makes a variant.
pub(super) fn quantize(
    backend: Backend,
    job: &QuantizeJob,
    reporter: &Reporter,
) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::Quantize));
    let progress = {
        let reporter = reporter.clone();
        move |fraction| reporter.progress(fraction, "")
    };
    let request = Rounding {
        input: &job.input,
        output: &job.output,
        file_type: job.file_type,
        threads: job.threads.unwrap_or_else(|| backend.default_threads()),
        allow_requantize: job.allow_requantize,
        importance: None,
        overrides: &[],
        metadata: &[],
    };
    crate::quantize::rtn::quantize(backend, &request, progress).map_err(|error| error.to_string())
}

/// Writes a checkpoint as a GGUF.
pub(super) fn import(backend: Backend, job: &ImportJob, reporter: &Reporter) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::Quantize));
    let request = Import {
        checkpoint: &job.checkpoint,
        kind: job.kind,
        base: &job.base,
        output: &job.output,
    };
    crate::quantize::import::import(backend, &request, |fraction| reporter.progress(fraction, ""))
        .map_err(|error| in_words(&error))
}

/// Makes an importance matrix.
pub(super) fn calibrate(
    backend: Backend,
    job: &CalibrateJob,
    reporter: &Reporter,
) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::Calibrate));
    let text = read_text(&job.text)?;
    let request = Calibration {
        model: &job.model,
        model_checksum: &job.model_checksum,
        text: &text,
        dataset: &job.dataset,
        context: job.context,
        chunks: job.chunks,
        output_weight: job.output_weight,
        threads: job.threads,
        output: &job.output,
    };
    let report = importance::calibrate(backend, &request, &mut |told| {
        match told {
            Told::Memory(parts) => {
                let part = |(purpose, bytes)| MemoryPart { purpose, bytes };
                let parts = parts.into_iter().map(part).collect();
                reporter.send(&Event::MemoryNeeded { parts });
            }
            Told::Chunk { done, all } => {
                let note = format!("chunk {done} of {all}");
                reporter.progress(f64::from(done) / f64::from(all), &note);
            }
        }
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

/// An error with all its causes.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
