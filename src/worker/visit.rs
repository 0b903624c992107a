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
use crate::prompt::template::ChatTemplate;
use crate::workload::encoder_quality::{answers, embeddings};
use crate::workload::measured::{LeftOut, LoadSample, ModelFacts, PredictedMemory};
use crate::workload::tasks::retrieve::Corpus;
use crate::workload::{applicability, latency, quality, speed, tasks};
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
        positions: learnt_positions(&header),
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

/// How many positions a decoder has learnt embeddings of; `None`: it computes any position.
fn learnt_positions(header: &Header) -> Option<u32> {
    let mut tensors = header.tensors.iter();
    let embeddings = tensors.find(|tensor| tensor.name == "position_embd.weight")?;
    embeddings.dimensions.get(1).and_then(|&rows| u32::try_from(rows).ok())
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
                if let Some(reason) = applicability::beyond_positions(test.positions(), self.facts)
                {
                    self.leave_out(test.to_string(), reason);
                }
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
            WorkloadJob::Latency { prompts, max_tokens, sampling, format } => {
                reporter.send(&Event::Phase(Phase::Latency));
                let prompter = self.prompter(*format)?;
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
            WorkloadJob::Task(task) => {
                reporter.send(&Event::Phase(Phase::Task(task.name)));
                let run = self.answer(task, &mut progress)?;
                reporter.send(&Event::Task(run.record));
                Ok(Some(run.memory))
            }
        }
    }

    fn leave_out(&self, what: String, reason: applicability::Inapplicable) {
        self.reporter.send(&Event::LeftOut(LeftOut { what, reason: reason.to_string() }));
    }

    fn answer(
        &self,
        task: &TaskJob,
        progress: crate::workload::Progress<'_>,
    ) -> Result<tasks::TaskRun, String> {
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
            prompter: &self.prompter(task.format)?,
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
        tasks::run(self.model, self.settings, &request, progress).map_err(|error| error.to_string())
    }

    /// What puts requests into a format; the model's own template is read from its file.
    fn prompter(&self, format: FormatChoice) -> Result<Prompter, String> {
        let header = Header::read(self.path).map_err(|error| error.to_string())?;
        let tokens = SpecialTokens::read(self.path).map_err(|error| error.to_string())?;
        let template = || {
            let source = header.chat_template();
            source
                .map(|source| ChatTemplate::new(source, tokens, OffsetDateTime::now_utc()))
                .transpose()
        };
        Prompter::new(format, template).map_err(|error| error.to_string())
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
