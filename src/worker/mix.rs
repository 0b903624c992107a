//! Mixes: what the worker does for `quantbench mix`.

use super::making::read_text;
use super::protocol::{Event, Phase};
use super::report::Reporter;
use crate::causes::in_words;
use crate::engine::Engine as _;
use crate::engine::llama::backend::Backend;
use crate::mix::jobs::{ApplyRecipeJob, MixJob};
use crate::mix::{self, Application, MixProgress, MixRequest};
use crate::model::artifact::ArtifactRef;
use crate::model::gguf::{GgmlType, Header};
use crate::quantize::importance::{Coverage, ImportanceMatrix};
use std::path::Path;

/// Measures, chooses and writes a mix; an error is one sentence for the orchestrator.
pub(super) fn run(backend: Backend, job: &MixJob, reporter: &Reporter) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::Mix));
    let text = read_text(&job.text.path)?;
    let matrix = matrix(backend, job.importance.as_ref(), &job.source.path)?;
    let importance = matrix.as_ref().map(ImportanceMatrix::importance);
    let (types, measured) = (formats(&job.types)?, formats(&job.measured_types)?);
    let request = MixRequest {
        source: &job.source.path,
        output: &job.output.path,
        scratch: &job.scratch.path,
        reference_budget_bytes: job.reference_budget_bytes,
        ledger: Some(&job.ledger.path),
        text: &text,
        context: job.context,
        chunks: job.chunks,
        formats: &types,
        measured: &measured,
        importance: importance.as_deref(),
        target: job.target,
        layers_per_group: job.layers_per_group,
        revisions: job.revisions,
        settings: &job.settings,
        maker: &job.maker,
        checksums: &job.checksums,
    };
    let mut on_progress = |event: MixProgress<'_>| match event {
        MixProgress::Cost(cost) => reporter.send(&Event::MixCost(cost)),
        MixProgress::Fraction(fraction, note) => reporter.progress(fraction, note),
    };
    let report = mix::run(backend, &request, &mut on_progress).map_err(|error| in_words(&error))?;
    tell_coverage(matrix.as_ref(), &job.source.path, &job.output.path, reporter)?;
    reporter.send(&Event::Mixed(Box::new(report)));
    Ok(())
}

/// Writes a file with the types of a recipe; an error is one sentence for the orchestrator.
pub(super) fn apply(
    backend: Backend,
    job: &ApplyRecipeJob,
    reporter: &Reporter,
) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::Quantize));
    let matrix = matrix(backend, job.importance.as_ref(), &job.source.path)?;
    let importance = matrix.as_ref().map(ImportanceMatrix::importance);
    let application = Application {
        recipe: &job.recipe,
        source: &job.source.path,
        output: &job.output.path,
        importance: importance.as_deref(),
        threads: job.threads.unwrap_or_else(|| backend.default_threads()),
        maker: &job.maker,
    };
    mix::apply(backend, &application).map_err(|error| in_words(&error))?;
    tell_coverage(matrix.as_ref(), &job.source.path, &job.output.path, reporter)
}

fn matrix(
    backend: Backend,
    file: Option<&ArtifactRef>,
    model: &Path,
) -> Result<Option<ImportanceMatrix>, String> {
    let Some(ArtifactRef { path, .. }) = file else { return Ok(None) };
    let matrix = ImportanceMatrix::read(backend, path).map_err(|error| in_words(&error))?;
    let model = Header::read(model).map_err(|error| in_words(&error))?;
    matrix.check(path, &model).map_err(|error| in_words(&error))?;
    Ok(Some(matrix))
}

/// Says what of the result was rounded without the matrix.
fn tell_coverage(
    matrix: Option<&ImportanceMatrix>,
    source: &Path,
    made: &Path,
    reporter: &Reporter,
) -> Result<(), String> {
    let Some(matrix) = matrix else { return Ok(()) };
    let header = |path| Header::read(path).map_err(|error| in_words(&error));
    if let Some(text) = Coverage::note(matrix, &header(source)?, &header(made)?) {
        reporter.send(&Event::Note { text });
    }
    Ok(())
}

fn formats(names: &[String]) -> Result<Vec<GgmlType>, String> {
    let format = |name: &String| {
        GgmlType::from_name(name).ok_or_else(|| format!("'{name}' is no type of ggml"))
    };
    names.iter().map(format).collect()
}
