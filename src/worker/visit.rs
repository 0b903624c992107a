//! One visit: load a variant, run workloads on it, report. What goes before and after is in
//! `src/orchestrator/sequence.rs`, which asks for it.

use super::protocol::{Event, Phase};
use super::{AnyError, Tools, page_cache, process_memory};
use crate::causes::in_words;
use crate::engine::error::EngineError;
use crate::engine::{ContextPurpose, ContextShape, LoadExtent, Model};
use crate::experiment::settings::Settings;
use crate::model::architecture::ArchitectureClass;
use crate::workload::applicability::Applies;
use crate::workload::jobs::{MemoryQuestion, PredictJob, VisitJob};
use crate::workload::measured::{LoadSample, ModelFacts, PredictedMemory};
use crate::workload::{Measurement, Observer as _, Visit, Workload, WorkloadError};

/// Does a visit; the orchestrator is told an error with its causes.
pub(super) fn run(tools: Tools<'_>, job: &VisitJob) -> Result<(), AnyError> {
    let Tools { engine, clock, reporter } = tools;
    if job.cold_load {
        reporter.send(&Event::Phase(Phase::ColdLoad));
        for part in engine.files(&job.model.path) {
            page_cache::drop_file(&part)?;
        }
        load(tools, job, true)?;
    }
    reporter.send(&Event::Phase(Phase::Load));
    let (model, facts) = load(tools, job, false)?;
    let (model, facts, settings) = (model.as_ref(), &facts, &job.settings);
    let visit = Visit { engine, clock, model, facts, settings, observer: reporter };
    job.workloads.iter().try_for_each(|workload| measure(tools, &visit, workload.workload()))
}

/// Measures one workload, if it has a meaning for the model.
fn measure(tools: Tools<'_>, visit: &Visit<'_>, workload: &dyn Workload) -> Result<(), AnyError> {
    let Tools { reporter, .. } = tools;
    match workload.applies(visit.facts) {
        Applies::Yes => {}
        Applies::No => return Ok(()),
        Applies::LeftOut(left_out) => {
            reporter.measured(Measurement::LeftOut(left_out));
            return Ok(());
        }
    }
    reporter.send(&Event::Phase(workload.phase()));
    match workload.run(visit) {
        Ok(buffers) => reporter.send(&Event::Memory { buffers }),
        Err(WorkloadError::ThisOne(reason)) => {
            reporter.send(&Event::WorkloadFailed { phase: workload.phase(), reason });
        }
        Err(WorkloadError::Visit(reason)) => return Err(reason.into()),
    }
    Ok(())
}

fn load(
    tools: Tools<'_>,
    job: &VisitJob,
    cold: bool,
) -> Result<(Box<dyn Model>, ModelFacts), AnyError> {
    let Tools { engine, clock, reporter } = tools;
    let start = clock.now();
    let mut model = engine.load(&job.model.path, &job.settings, LoadExtent::Everything)?;
    for adapter in &job.adapters {
        model.adapt(&adapter.file.path, adapter.scale)?;
    }
    let sample = LoadSample { cold, seconds: clock.since(start).as_secs_f64() };
    let facts = facts(model.as_ref(), &job.settings);
    reporter.send(&Event::Loaded { sample, facts: facts.clone() });
    Ok((model, facts))
}

fn facts(model: &dyn Model, settings: &Settings) -> ModelFacts {
    let devices = model.engine().devices_for(settings);
    let mut backends: Vec<String> = devices.iter().map(|device| device.backend.clone()).collect();
    backends.sort();
    backends.dedup();
    ModelFacts {
        description: model.description(),
        class: model.class(),
        parameters: model.parameters(),
        active_parameters: model.active_parameters(),
        experts: model.experts(),
        tensor_bytes: model.tensor_bytes(),
        bytes_per_token: model.bytes_per_token(),
        types: model.stored_types(),
        context_length: model.context_length(),
        positions: model.learnt_positions(),
        layers: model.layers(),
        vocabulary: u32::try_from(model.vocabulary_size()).unwrap_or(u32::MAX),
        threads: settings.threads.unwrap_or_else(|| model.engine().default_threads()),
        mmap: settings.mmap,
        cache: model.cache_use(),
        backends,
        devices: devices
            .iter()
            .map(|device| format!("{} ({})", device.name, device.description))
            .collect(),
    }
}

/// Tells what an engine can compute on.
pub(super) fn devices(tools: Tools<'_>) {
    tools.reporter.send(&Event::Devices { devices: tools.engine.devices() });
}

/// Predicts memory, without loading weights.
pub(super) fn predict_memory(tools: Tools<'_>, job: &PredictJob) -> Result<(), AnyError> {
    let Tools { reporter, .. } = tools;
    reporter.send(&Event::Phase(Phase::PredictMemory));
    let mut predictions = Vec::new();
    for alike in job.questions.chunk_by(load_alike) {
        let Some(&MemoryQuestion { ref settings, experts_on_host, .. }) = alike.first() else {
            continue;
        };
        let extent = LoadExtent::MemoryPlan { experts_on_host };
        let model = tools.engine.load(&job.model.path, settings, extent)?;
        let predicted = alike.iter().map(|question| predict(model.as_ref(), question));
        predictions.extend(predicted.map(|it| it.map_err(|error| in_words(&error))));
    }
    reporter.send(&Event::PredictedMemory { predictions });
    Ok(())
}

/// Whether both load the model alike.
fn load_alike(one: &MemoryQuestion, other: &MemoryQuestion) -> bool {
    let load = |MemoryQuestion { settings, experts_on_host, .. }: &MemoryQuestion| {
        let experts_on_host = *experts_on_host || settings.cpu_moe;
        let weights = (settings.gpu_layers, experts_on_host, settings.repack);
        (weights, settings.split_mode, settings.tensor_split.clone(), settings.main_gpu)
    };
    load(one) == load(other)
}

fn predict(model: &dyn Model, question: &MemoryQuestion) -> Result<PredictedMemory, EngineError> {
    let &MemoryQuestion { ref settings, tokens, sequences, all_logits, .. } = question;
    let (batch, ubatch) = match model.class() {
        ArchitectureClass::DecoderOnly => (settings.batch, settings.ubatch),
        // An encoder reads a text at once.
        ArchitectureClass::EncoderOnly | ArchitectureClass::EncoderDecoder => (tokens, tokens),
    };
    let purpose = match model.class() {
        ArchitectureClass::EncoderOnly => ContextPurpose::Embeddings,
        _ if all_logits => ContextPurpose::Separate,
        _ => ContextPurpose::Generation,
    };
    let shape = ContextShape { tokens, sequences, batch, ubatch };
    let buffers = model.context(settings, shape, purpose)?.memory();
    let (process_bytes, gpu_process_bytes) =
        (process_memory::resident(), process_memory::on_gpus(model.engine(), settings));
    Ok(PredictedMemory { context: tokens, buffers, process_bytes, gpu_process_bytes })
}
