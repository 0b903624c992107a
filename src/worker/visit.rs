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
use crate::model::architecture::ArchitectureClass;
use crate::model::gguf::{Header, SpecialTokens};
use crate::model::split::all_parts;
use crate::prompt::choice::{FormatChoice, Prompter};
use crate::prompt::template::{ChatTemplate, TemplateError};
use crate::workload::encoder_quality::{answers, embeddings};
use crate::workload::latency::LatencyError;
use crate::workload::measured::{LoadSample, ModelFacts, PredictedMemory};
use crate::workload::tasks::TaskError;
use crate::workload::tasks::retrieve::Corpus;
use crate::workload::{applicability, latency, quality, speed, tasks};
use serde_json::{Map, Value};
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
    let (model, facts) = load(backend, &job.model, &job.settings, false, reporter)?;
    let visit =
        Visit { model: &model, path: &job.model, facts: &facts, settings: &job.settings, reporter };
    for workload in &job.workloads {
        // What does not apply to this class of architecture leaves its fields blank.
        if let Some(buffers) = visit.run_workload(workload)? {
            reporter.send(&Event::Memory { buffers });
        }
    }
    Ok(())
}

fn load(
    backend: Backend,
    path: &Path,
    settings: &Settings,
    cold: bool,
    reporter: &Reporter,
) -> Result<(Model, ModelFacts), String> {
    let start = Instant::now();
    let model = Model::load(backend, path, settings, LoadExtent::Everything)
        .map_err(|error| error.to_string())?;
    let sample = LoadSample { cold, seconds: start.elapsed().as_secs_f64() };
    let facts = facts(&model, path, settings)?;
    reporter.send(&Event::Loaded { sample, facts: facts.clone() });
    Ok((model, facts))
}

fn facts(model: &Model, path: &Path, settings: &Settings) -> Result<ModelFacts, String> {
    let header = Header::read(path).map_err(|error| error.to_string())?;
    let devices = crate::llama::devices::list(model.backend());
    let mut backends: Vec<String> = devices.iter().map(|device| device.backend.clone()).collect();
    backends.sort();
    backends.dedup();
    Ok(ModelFacts {
        description: model.description(),
        class: model.class(),
        parameters: model.parameters(),
        active_parameters: Some(header.active_parameters()),
        experts: header.experts(),
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
    })
}

/// What the workloads of a visit have in common.
struct Visit<'a> {
    model: &'a Model,
    path: &'a Path,
    facts: &'a ModelFacts,
    settings: &'a Settings,
    reporter: &'a Reporter,
}

impl Visit<'_> {
    /// Runs a workload; returns what llama.cpp allocated for it, or `None` if it does not apply.
    fn run_workload(&self, workload: &WorkloadJob) -> Result<Option<Vec<BufferMemory>>, String> {
        let Self { model, settings, reporter, .. } = *self;
        let mut progress = |fraction: f64, note: &str| reporter.progress(fraction, note);
        match workload {
            WorkloadJob::Speed { test, .. }
                if applicability::speed(*test, self.facts).is_some() =>
            {
                Ok(None)
            }
            WorkloadJob::Speed { test, repetitions } => {
                reporter.send(&Event::Phase(Phase::Speed(*test)));
                let run = speed::run(model, settings, *test, *repetitions, &mut progress)
                    .map_err(|error| error.to_string())?;
                for sample in run.samples {
                    reporter.send(&Event::Speed { test: *test, sample });
                }
                Ok(Some(run.memory))
            }
            WorkloadJob::Latency { .. } if !self.facts.class.generates() => Ok(None),
            WorkloadJob::Latency {
                prompts,
                max_tokens,
                sampling,
                format,
                chat_template_kwargs,
            } => {
                reporter.send(&Event::Phase(Phase::Latency));
                let prompter = match self.prompter(*format, chat_template_kwargs)? {
                    Ok(prompter) => prompter,
                    Err(error) => return Ok(self.leave_out(Phase::Latency, &error)),
                };
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
                );
                match run {
                    Ok(run) => Ok(Some(run.memory)),
                    Err(error @ LatencyError::Template { .. }) => {
                        Ok(self.leave_out(Phase::Latency, &error))
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
            WorkloadJob::Quality(job) => {
                reporter.send(&Event::Phase(Phase::Quality));
                self.measure_quality(job, &mut progress).map(Some)
            }
            WorkloadJob::Task(task)
                if applicability::task(
                    &task.answering,
                    self.facts.class,
                    task.projector.is_some(),
                )
                .is_some() =>
            {
                Ok(None)
            }
            WorkloadJob::Task(task) => self.run_task(task, &mut progress),
        }
    }

    fn run_task(
        &self,
        task: &TaskJob,
        progress: crate::workload::Progress<'_>,
    ) -> Result<Option<Vec<BufferMemory>>, String> {
        let phase = Phase::Task(task.name);
        self.reporter.send(&Event::Phase(phase.clone()));
        let prompter = match self.prompter(task.format, &task.chat_template_kwargs)? {
            Ok(prompter) => prompter,
            Err(error) => return Ok(self.leave_out(phase, &error)),
        };
        match self.answer(task, &prompter, progress)? {
            Ok(run) => {
                self.reporter.send(&Event::Task(run.record));
                Ok(Some(run.memory))
            }
            Err(error) if error.is_of_template() => Ok(self.leave_out(phase, &error)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Says that a workload is left out: what is wrong with a template costs only what needs it.
    fn leave_out(&self, phase: Phase, error: &dyn std::error::Error) -> Option<Vec<BufferMemory>> {
        self.reporter.send(&Event::LeftOut { phase, reason: error.to_string() });
        None
    }

    fn answer(
        &self,
        task: &TaskJob,
        prompter: &Prompter,
        progress: crate::workload::Progress<'_>,
    ) -> Result<Result<tasks::TaskRun, TaskError>, String> {
        let questions: Vec<Question> = read_list(&task.questions)?;
        let corpus = task.corpus.as_ref();
        let passages: Option<Vec<String>> =
            corpus.map(|corpus| read_list(&corpus.passages)).transpose()?;
        let encoder = corpus.and_then(|corpus| corpus.encoder.as_deref()).map(|path| {
            Model::load(self.model.backend(), path, self.settings, LoadExtent::Everything)
                .map_err(|error| error.to_string())
        });
        let encoder = encoder.transpose()?;
        if let Some(encoder) = &encoder
            && encoder.class() != ArchitectureClass::EncoderOnly
        {
            return Err(format!("the encoder of task {} is {}", task.name, encoder.class()));
        }
        let request = tasks::Request {
            name: task.name,
            questions: &questions,
            answering: &task.answering,
            metrics: &task.metrics,
            prompter,
            separator: task.separator.as_deref(),
            corpus: corpus.zip(passages.as_deref()).map(|(job, passages)| Corpus {
                passages,
                job,
                encoder: encoder.as_ref(),
            }),
            gallery: task
                .pictures
                .as_deref()
                .zip(task.projector.as_deref())
                .map(|(folder, projector)| tasks::Gallery { folder, projector }),
        };
        Ok(tasks::run(self.model, self.settings, &request, progress))
    }

    /// What puts requests into a format; the model's own template is read from its file.
    fn prompter(
        &self,
        format: FormatChoice,
        variables: &Map<String, Value>,
    ) -> Result<Result<Prompter, TemplateError>, String> {
        let header = Header::read(self.path).map_err(|error| error.to_string())?;
        let tokens = SpecialTokens::read(self.path).map_err(|error| error.to_string())?;
        let template = || {
            let Some(source) = header.chat_template() else { return Ok(None) };
            let template = ChatTemplate::new(source, tokens, OffsetDateTime::now_utc())?;
            Ok(Some(template.with_variables(variables.clone())))
        };
        Ok(Prompter::new(format, template))
    }

    fn measure_quality(
        &self,
        job: &QualityJob,
        progress: crate::workload::Progress<'_>,
    ) -> Result<Vec<BufferMemory>, String> {
        let Self { model, settings, reporter, .. } = *self;
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
        let run = match self.facts.class {
            ArchitectureClass::DecoderOnly => quality::run(model, settings, request, progress)
                .map_err(|error| error.to_string())?,
            ArchitectureClass::EncoderDecoder => answers::run(model, settings, &request, progress)
                .map_err(|error| error.to_string())?,
            ArchitectureClass::EncoderOnly => {
                let run = embeddings::run(model, settings, &request, progress)
                    .map_err(|error| error.to_string())?;
                reporter.send(&Event::EmbeddingQuality(run.quality));
                return Ok(run.memory);
            }
        };
        reporter.send(&Event::Quality(run.quality));
        Ok(run.memory)
    }
}

/// A list that the orchestrator wrote as JSON.
fn read_list<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, String> {
    let unreadable = |reason: String| format!("cannot read {}: {reason}", path.display());
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
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
