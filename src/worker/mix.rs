//! Mixes: what the worker does for `quantbench mix`.

use super::making::{in_words, read_text};
use super::protocol::{ApplyRecipeJob, Event, MixJob, Phase};
use super::report::Reporter;
use crate::llama::backend::Backend;
use crate::llama::quantize::Importance;
use crate::mix::{self, Application, MixProgress, MixRequest};
use crate::model::gguf::GgmlType;
use crate::quantize::importance::ImportanceMatrix;
use std::path::Path;

/// Measures, chooses and writes a mix; an error is one sentence for the orchestrator.
pub(super) fn run(backend: Backend, job: &MixJob, reporter: &Reporter) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::Mix));
    let text = read_text(&job.text)?;
    let importance = importance(backend, job.importance.as_deref())?;
    let (types, measured) = (formats(&job.types)?, formats(&job.measured_types)?);
    let request = MixRequest {
        source: &job.source,
        output: &job.output,
        scratch: &job.scratch,
        reference_budget_bytes: job.reference_budget_bytes,
        ledger: Some(&job.ledger),
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
    let importance = importance(backend, job.importance.as_deref())?;
    let application = Application {
        recipe: &job.recipe,
        source: &job.source,
        output: &job.output,
        importance: importance.as_deref(),
        threads: job.threads.unwrap_or_else(|| backend.default_threads()),
        maker: &job.maker,
    };
    mix::apply(backend, &application).map(|_| ()).map_err(|error| in_words(&error))
}

fn importance(backend: Backend, path: Option<&Path>) -> Result<Option<Vec<Importance>>, String> {
    let matrix = path.map(|path| ImportanceMatrix::read(backend, path)).transpose();
    Ok(matrix.map_err(|error| in_words(&error))?.map(|matrix| matrix.importance()))
}

fn formats(names: &[String]) -> Result<Vec<GgmlType>, String> {
    let format = |name: &String| {
        GgmlType::from_name(name).ok_or_else(|| format!("'{name}' is no type of ggml"))
    };
    names.iter().map(format).collect()
}
