//! One visit: load a variant, run workloads on it, report.

use super::Tools;
use super::page_cache;
use super::protocol::{Event, Phase};
use crate::causes::in_words;
use crate::engine::memory::BufferMemory;
use crate::engine::{ContextPurpose, ContextShape, LoadExtent, Model};
use crate::experiment::settings::Settings;
use crate::experiment::tasks::Question;
use crate::experiment::workloads::SpeedTest;
use crate::model::architecture::ArchitectureClass;
use crate::model::split::all_parts;
use crate::prompt::choice::{FormatChoice, Prompter};
use crate::prompt::template::{ChatTemplate, TemplateError};
use crate::workload::encoder_quality::{answers, embeddings};
use crate::workload::jobs::{PredictJob, QualityJob, ReferenceUse, TaskJob};
use crate::workload::jobs::{VisitJob, WorkloadJob};
use crate::workload::latency::LatencyError;
use crate::workload::measured::{LeftOut, LoadSample, ModelFacts, PredictedMemory};
use crate::workload::tasks::TaskError;
use crate::workload::{applicability, latency, quality, speed, tasks};
use serde_json::{Map, Value};
use std::path::Path;
use time::OffsetDateTime;

/// Does a visit; an error is one sentence for the orchestrator.
pub(super) fn run(tools: Tools<'_>, job: &VisitJob) -> Result<(), String> {
    let Tools { reporter, .. } = tools;
    if job.cold_load {
        reporter.send(&Event::Phase(Phase::ColdLoad));
        for part in all_parts(&job.model.path) {
            page_cache::drop_file(&part)?;
        }
        load(tools, job, true)?;
    }
    reporter.send(&Event::Phase(Phase::Load));
    let (model, facts) = load(tools, job, false)?;
    let visit = Visit { tools, model: model.as_ref(), facts: &facts, settings: &job.settings };
    for workload in &job.workloads {
        // What does not apply to this class of architecture leaves its fields blank.
        if let Some(buffers) = visit.run_workload(workload)? {
            reporter.send(&Event::Memory { buffers });
        }
    }
    Ok(())
}

fn load(
    tools: Tools<'_>,
    job: &VisitJob,
    cold: bool,
) -> Result<(Box<dyn Model>, ModelFacts), String> {
    let Tools { engine, clock, reporter } = tools;
    let start = clock.now();
    let model = engine
        .load(&job.model.path, &job.settings, LoadExtent::Everything)
        .map_err(|error| in_words(&error))?;
    let sample = LoadSample { cold, seconds: clock.since(start).as_secs_f64() };
    let facts = facts(model.as_ref(), &job.settings);
    reporter.send(&Event::Loaded { sample, facts: facts.clone() });
    Ok((model, facts))
}

fn facts(model: &dyn Model, settings: &Settings) -> ModelFacts {
    let devices = model.engine().devices();
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
        types: model.stored_types(),
        context_length: model.context_length(),
        positions: model.learnt_positions(),
        layers: model.layers(),
        vocabulary: u32::try_from(model.vocabulary_size()).unwrap_or(u32::MAX),
        threads: settings.threads.unwrap_or_else(|| model.engine().default_threads()),
        mmap: settings.mmap,
        backends,
        devices: devices
            .iter()
            .map(|device| format!("{} ({})", device.name, device.description))
            .collect(),
    }
}

/// What the workloads of a visit have in common.
struct Visit<'a> {
    tools: Tools<'a>,
    model: &'a dyn Model,
    facts: &'a ModelFacts,
    settings: &'a Settings,
}

impl Visit<'_> {
    /// Runs a workload; returns what llama.cpp allocated for it, or `None` if it does not apply.
    fn run_workload(&self, workload: &WorkloadJob) -> Result<Option<Vec<BufferMemory>>, String> {
        let Self { model, settings, tools, .. } = *self;
        let Tools { clock, reporter, .. } = tools;
        let mut progress = |fraction: f64, note: &str| reporter.fraction(fraction, note);
        match workload {
            WorkloadJob::Speed { test, .. }
                if applicability::speed(*test, self.facts).is_some() =>
            {
                if let Some(reason) = applicability::beyond_positions(test.positions(), self.facts)
                {
                    self.leave_out(test.to_string(), reason);
                }
                Ok(None)
            }
            WorkloadJob::Speed { test, repetitions } => {
                self.run_speed(*test, *repetitions, &mut progress).map(Some)
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
                    Err(error) => return Ok(self.fail_workload(Phase::Latency, &error)),
                };
                let mut answered = |response| reporter.send(&Event::Response(response));
                let run = latency::run(
                    model,
                    settings,
                    prompts,
                    latency::Answers {
                        max_tokens: *max_tokens,
                        sampling: *sampling,
                        clock,
                        prompter: &prompter,
                    },
                    &mut answered,
                    &mut progress,
                );
                let run = match run {
                    Ok(run) => run,
                    Err(error @ LatencyError::Template { .. }) => {
                        return Ok(self.fail_workload(Phase::Latency, &error));
                    }
                    Err(error) => return Err(in_words(&error)),
                };
                for left_out in run.left_out {
                    reporter.send(&Event::LeftOut(left_out));
                }
                Ok(Some(run.memory))
            }
            WorkloadJob::Quality(job)
                if applicability::quality(job.context, self.facts).is_some() =>
            {
                if let Some(reason) = applicability::quality(job.context, self.facts) {
                    self.leave_out(format!("perplexity over chunks of {}", job.context), reason);
                }
                Ok(None)
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

    fn run_speed(
        &self,
        test: SpeedTest,
        repetitions: u32,
        progress: crate::workload::Progress<'_>,
    ) -> Result<Vec<BufferMemory>, String> {
        let Tools { clock, reporter, .. } = self.tools;
        reporter.send(&Event::Phase(Phase::Speed(test)));
        let run = speed::run(self.model, self.settings, test, repetitions, clock, progress)
            .map_err(|error| in_words(&error))?;
        for sample in run.samples {
            reporter.send(&Event::Speed { test, sample });
        }
        Ok(run.memory)
    }

    fn run_task(
        &self,
        task: &TaskJob,
        progress: crate::workload::Progress<'_>,
    ) -> Result<Option<Vec<BufferMemory>>, String> {
        let phase = Phase::Task(task.name);
        self.tools.reporter.send(&Event::Phase(phase.clone()));
        let prompter = match self.prompter(task.format, &task.chat_template_kwargs)? {
            Ok(prompter) => prompter,
            Err(error) => return Ok(self.fail_workload(phase, &error)),
        };
        match self.answer(task, &prompter, progress)? {
            Ok(run) => {
                self.tools.reporter.send(&Event::Task(run.record));
                Ok(Some(run.memory))
            }
            Err(error) if error.is_of_template() => Ok(self.fail_workload(phase, &error)),
            Err(error) => Err(in_words(&error)),
        }
    }

    /// Says that a workload failed: what is wrong with a template costs only what needs it.
    fn fail_workload(
        &self,
        phase: Phase,
        error: &dyn std::error::Error,
    ) -> Option<Vec<BufferMemory>> {
        self.tools.reporter.send(&Event::WorkloadFailed { phase, reason: in_words(error) });
        None
    }

    fn leave_out(&self, what: String, reason: applicability::Inapplicable) {
        self.tools.reporter.send(&Event::LeftOut(LeftOut { what, reason: reason.to_string() }));
    }

    fn answer(
        &self,
        task: &TaskJob,
        prompter: &Prompter,
        progress: crate::workload::Progress<'_>,
    ) -> Result<Result<tasks::TaskRun, TaskError>, String> {
        let questions: Vec<Question> = read_list(&task.questions.path)?;
        let corpus = task.corpus.as_ref();
        let passages: Option<Vec<String>> =
            corpus.map(|corpus| read_list(&corpus.passages.path)).transpose()?;
        let encoder = corpus.and_then(|corpus| corpus.encoder.as_ref()).map(|file| {
            self.tools
                .engine
                .load(&file.path, self.settings, LoadExtent::Everything)
                .map_err(|error| in_words(&error))
        });
        let encoder = encoder.transpose()?;
        if let Some(encoder) = &encoder
            && encoder.class() != ArchitectureClass::EncoderOnly
        {
            return Err(format!("the encoder of task {} is {}", task.name, encoder.class()));
        }
        let request = tasks::TaskRequest {
            job: task,
            questions: &questions,
            prompter,
            passages: passages.as_deref(),
            encoder: encoder.as_deref(),
        };
        Ok(tasks::run(self.model, self.settings, &request, progress))
    }

    /// What puts requests into a format; the model's own template is read from its file.
    fn prompter(
        &self,
        format: FormatChoice,
        variables: &Map<String, Value>,
    ) -> Result<Result<Prompter, TemplateError>, String> {
        let own = self.model.chat_template().map_err(|error| in_words(&error))?;
        let template = || {
            let Some((source, tokens)) = own else { return Ok(None) };
            let template = ChatTemplate::new(&source, tokens, OffsetDateTime::now_utc())?;
            Ok(Some(template.with_variables(variables.clone())))
        };
        Ok(Prompter::new(format, template))
    }

    fn measure_quality(
        &self,
        job: &QualityJob,
        progress: crate::workload::Progress<'_>,
    ) -> Result<Vec<BufferMemory>, String> {
        let Self { model, settings, tools: Tools { reporter, .. }, .. } = *self;
        let text = std::fs::read_to_string(&job.text.path).map_err(|error| {
            format!("cannot read the text {}: {error}", job.text.path.display())
        })?;
        let request = quality::Request {
            text: &text,
            context: job.context,
            chunks: job.chunks,
            reference: match &job.reference {
                ReferenceUse::None => quality::Reference::None,
                ReferenceUse::Write { file, budget_bytes } => {
                    quality::Reference::Write { path: &file.path, budget_bytes: *budget_bytes }
                }
                ReferenceUse::Read { file } => quality::Reference::Read { path: &file.path },
            },
            precision: job.precision,
        };
        let run = match self.facts.class {
            ArchitectureClass::DecoderOnly => quality::run(model, settings, request, progress),
            ArchitectureClass::EncoderDecoder => answers::run(model, settings, &request, progress),
            ArchitectureClass::EncoderOnly => {
                let run = embeddings::run(model, settings, &request, progress)
                    .map_err(|error| in_words(&error))?;
                reporter.send(&Event::EmbeddingQuality(run.quality));
                return Ok(run.memory);
            }
        };
        let run = run.map_err(|error| in_words(&error))?;
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
pub(super) fn predict_memory(tools: Tools<'_>, job: &PredictJob) -> Result<(), String> {
    let Tools { engine, reporter, .. } = tools;
    reporter.send(&Event::Phase(Phase::PredictMemory));
    let model = engine
        .load(&job.model.path, &job.settings, LoadExtent::MemoryPlan)
        .map_err(|error| in_words(&error))?;
    let mut predictions = Vec::new();
    for &context in &job.contexts {
        let shape = ContextShape {
            tokens: context,
            sequences: 1,
            batch: job.settings.batch,
            ubatch: job.settings.ubatch,
        };
        let planned = model
            .context(&job.settings, shape, ContextPurpose::Separate)
            .map_err(|error| in_words(&error))?;
        predictions.push(PredictedMemory { context, buffers: planned.memory() });
    }
    reporter.send(&Event::PredictedMemory { predictions });
    Ok(())
}
