//! One visit: load a variant, run workloads on it, report.

use super::page_cache;
use super::protocol::{Event, Phase, PredictJob, QualityJob, ReferenceUse, TaskJob};
use super::protocol::{VisitJob, WorkloadJob};
use super::report::Reporter;
use crate::experiment::settings::Settings;
use crate::experiment::tasks::Question;
use crate::llama::backend::Backend;
use crate::llama::context::{Context, ContextShape};
use crate::llama::memory::BufferMemory;
use crate::llama::model::{LoadExtent, Model};
use crate::model::gguf::{Header, SpecialTokens};
use crate::model::split::all_parts;
use crate::prompt::choice::{FormatChoice, Prompter};
use crate::prompt::template::ChatTemplate;
use crate::workload::measured::{LoadSample, ModelFacts, PredictedMemory};
use crate::workload::{latency, quality, speed, tasks};
use std::path::Path;
use std::time::Instant;
use time::OffsetDateTime;

/// Does a visit; an error is one sentence for the orchestrator.
pub(super) fn run(backend: Backend, job: &VisitJob, reporter: &Reporter) -> Result<(), String> {
    if job.cold_load {
        reporter.send(&Event::Phase(Phase::ColdLoad));
        for part in all_parts(&job.model) {
            page_cache::drop_file(&part)?;
        }
        load(backend, &job.model, &job.settings, true, reporter)?;
    }
    reporter.send(&Event::Phase(Phase::Load));
    let model = load(backend, &job.model, &job.settings, false, reporter)?;
    for workload in &job.workloads {
        let memory = run_workload(&model, job, workload, reporter)?;
        reporter.send(&Event::Memory { buffers: memory });
    }
    Ok(())
}

fn load(
    backend: Backend,
    path: &Path,
    settings: &Settings,
    cold: bool,
    reporter: &Reporter,
) -> Result<Model, String> {
    let start = Instant::now();
    let model = Model::load(backend, path, settings, LoadExtent::Everything)
        .map_err(|error| error.to_string())?;
    let sample = LoadSample { cold, seconds: start.elapsed().as_secs_f64() };
    let facts = facts(&model, settings);
    reporter.send(&Event::Loaded { sample, facts });
    Ok(model)
}

fn facts(model: &Model, settings: &Settings) -> ModelFacts {
    let devices = crate::llama::devices::list(model.backend());
    let mut backends: Vec<String> = devices.iter().map(|device| device.backend.clone()).collect();
    backends.sort();
    backends.dedup();
    ModelFacts {
        description: model.description(),
        parameters: model.parameters(),
        tensor_bytes: model.tensor_bytes(),
        context_length: model.context_length(),
        layers: model.layers(),
        vocabulary: u32::try_from(model.vocabulary_size()).unwrap_or(u32::MAX),
        threads: settings.threads.unwrap_or_else(|| model.backend().default_threads()),
        mmap: settings.mmap,
        backends,
        devices: devices
            .iter()
            .map(|device| format!("{} ({})", device.name, device.description))
            .collect(),
    }
}

fn run_workload(
    model: &Model,
    job: &VisitJob,
    workload: &WorkloadJob,
    reporter: &Reporter,
) -> Result<Vec<BufferMemory>, String> {
    let settings = &job.settings;
    let mut progress = |fraction: f64, note: &str| reporter.progress(fraction, note);
    match workload {
        WorkloadJob::Speed { test, repetitions } => {
            reporter.send(&Event::Phase(Phase::Speed(*test)));
            let run = speed::run(model, settings, *test, *repetitions, &mut progress)
                .map_err(|error| error.to_string())?;
            for sample in run.samples {
                reporter.send(&Event::Speed { test: *test, sample });
            }
            Ok(run.memory)
        }
        WorkloadJob::Latency { prompts, max_tokens, sampling, format } => {
            reporter.send(&Event::Phase(Phase::Latency));
            let prompter = prompter(*format, &job.model)?;
            let mut answered = |response| reporter.send(&Event::Response(response));
            let run = latency::run(
                model,
                settings,
                prompts,
                latency::Answers {
                    max_tokens: *max_tokens,
                    sampling: *sampling,
                    prompter: &prompter,
                },
                &mut answered,
                &mut progress,
            )
            .map_err(|error| error.to_string())?;
            Ok(run.memory)
        }
        WorkloadJob::Quality(job) => {
            reporter.send(&Event::Phase(Phase::Quality));
            let run = measure_quality(model, settings, job, &mut progress)?;
            reporter.send(&Event::Quality(run.quality));
            Ok(run.memory)
        }
        WorkloadJob::Task(task) => {
            reporter.send(&Event::Phase(Phase::Task(task.name)));
            let run = answer(model, job, task, &mut progress)?;
            reporter.send(&Event::Task(run.record));
            Ok(run.memory)
        }
    }
}

fn answer(
    model: &Model,
    job: &VisitJob,
    task: &TaskJob,
    progress: crate::workload::Progress<'_>,
) -> Result<tasks::TaskRun, String> {
    let unreadable = |reason: String| {
        format!("cannot read the questions {}: {reason}", task.questions.display())
    };
    let bytes = std::fs::read(&task.questions).map_err(|error| unreadable(error.to_string()))?;
    let questions: Vec<Question> =
        serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    let request = tasks::Request {
        name: task.name,
        questions: &questions,
        answering: &task.answering,
        metrics: &task.metrics,
        prompter: &prompter(task.format, &job.model)?,
        separator: task.separator.as_deref(),
    };
    tasks::run(model, &job.settings, &request, progress).map_err(|error| error.to_string())
}

/// What puts requests into a format; the model's own template is read from its file.
fn prompter(format: FormatChoice, model: &Path) -> Result<Prompter, String> {
    let header = Header::read(model).map_err(|error| error.to_string())?;
    let tokens = SpecialTokens::read(model).map_err(|error| error.to_string())?;
    let template = || {
        let source = header.chat_template();
        source
            .map(|source| ChatTemplate::new(source, tokens, OffsetDateTime::now_utc()))
            .transpose()
    };
    Prompter::new(format, template).map_err(|error| error.to_string())
}

fn measure_quality(
    model: &Model,
    settings: &Settings,
    job: &QualityJob,
    progress: crate::workload::Progress<'_>,
) -> Result<quality::QualityRun, String> {
    let text = std::fs::read_to_string(&job.text)
        .map_err(|error| format!("cannot read the text {}: {error}", job.text.display()))?;
    let request = quality::Request {
        text: &text,
        context: job.context,
        chunks: job.chunks,
        reference: match &job.reference {
            ReferenceUse::None => quality::Reference::None,
            ReferenceUse::Write { path, budget_bytes } => {
                quality::Reference::Write { path, budget_bytes: *budget_bytes }
            }
            ReferenceUse::Read { path } => quality::Reference::Read { path },
        },
        precision: job.precision,
    };
    quality::run(model, settings, request, progress).map_err(|error| error.to_string())
}

/// Predicts memory at each context length asked for, without loading weights.
pub(super) fn predict_memory(
    backend: Backend,
    job: &PredictJob,
    reporter: &Reporter,
) -> Result<(), String> {
    reporter.send(&Event::Phase(Phase::PredictMemory));
    let model = Model::load(backend, &job.model, &job.settings, LoadExtent::MemoryPlan)
        .map_err(|error| error.to_string())?;
    let mut predictions = Vec::new();
    for &context in &job.contexts {
        let shape = ContextShape {
            tokens: context,
            sequences: 1,
            batch: job.settings.batch,
            ubatch: job.settings.ubatch,
        };
        let planned =
            Context::new(&model, &job.settings, shape).map_err(|error| error.to_string())?;
        predictions.push(PredictedMemory { context, buffers: planned.memory() });
    }
    reporter.send(&Event::PredictedMemory { predictions });
    Ok(())
}
