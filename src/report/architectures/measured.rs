//! What a run measured of each class of architecture.

use super::ArchitecturesError;
use crate::experiment::resolved::Experiment;
use crate::experiment::tasks::UseCase;
use crate::experiment::workloads::SpeedTest;
use crate::metrics::Aggregation;
use crate::model::architecture::ArchitectureClass;
use crate::report::text::sanitize;
use crate::results::metric::{Metric, TaskColumn};
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::{Row, Summary};
use crate::units::{format_bytes, format_count, significant};
use crate::workload::measured::ModelFacts;
use crate::workload::tasks::record::{TaskRecord, VisionRecord};
use std::collections::BTreeMap;

/// A class of architecture. What is built from several models is one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    DecoderOnly,
    EncoderOnly,
    EncoderDecoder,
    MixtureOfExperts,
    RetrievalAugmented,
    MultiModal,
}

/// What a model is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    TextGeneration,
    Classification,
    QuestionAnswering,
    Translation,
    Summarization,
    Retrieval,
    ImageText,
}

/// What a model is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trait {
    ContextLength,
    InferenceSpeed,
    MemoryUsage,
}

impl Architecture {
    pub(super) const ALL: [Self; 6] = [
        Self::DecoderOnly,
        Self::EncoderOnly,
        Self::EncoderDecoder,
        Self::MixtureOfExperts,
        Self::RetrievalAugmented,
        Self::MultiModal,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DecoderOnly => "decoder-only",
            Self::EncoderOnly => "encoder-only",
            Self::EncoderDecoder => "encoder-decoder",
            Self::MixtureOfExperts => "mixture of experts",
            Self::RetrievalAugmented => "retrieval-augmented",
            Self::MultiModal => "multi-modal",
        }
    }

    fn of(facts: &ModelFacts, sees: bool) -> Self {
        match facts.class {
            _ if sees => Self::MultiModal,
            _ if facts.experts.is_some() => Self::MixtureOfExperts,
            ArchitectureClass::DecoderOnly => Self::DecoderOnly,
            ArchitectureClass::EncoderOnly => Self::EncoderOnly,
            ArchitectureClass::EncoderDecoder => Self::EncoderDecoder,
        }
    }

    /// The class and use case that a task is an example of.
    fn place_of(self, use_case: UseCase) -> (Self, Use) {
        match use_case {
            UseCase::TextGeneration => (self, Use::TextGeneration),
            UseCase::Classification => (self, Use::Classification),
            UseCase::QuestionAnswering => (self, Use::QuestionAnswering),
            UseCase::Translation => (self, Use::Translation),
            UseCase::Summarization => (self, Use::Summarization),
            UseCase::Retrieval => (self, Use::Retrieval),
            UseCase::Rag => (Self::RetrievalAugmented, Use::QuestionAnswering),
            UseCase::ImageText => (self, Use::ImageText),
        }
    }
}

impl Use {
    pub(super) const ALL: [Self; 7] = [
        Self::TextGeneration,
        Self::Classification,
        Self::QuestionAnswering,
        Self::Translation,
        Self::Summarization,
        Self::Retrieval,
        Self::ImageText,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TextGeneration => "text generation",
            Self::Classification => "classification",
            Self::QuestionAnswering => "question answering",
            Self::Translation => "translation",
            Self::Summarization => "summarization",
            Self::Retrieval => "retrieval",
            Self::ImageText => "image-text",
        }
    }
}

impl Trait {
    pub(super) const ALL: [Self; 3] =
        [Self::ContextLength, Self::InferenceSpeed, Self::MemoryUsage];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ContextLength => "context length",
            Self::InferenceSpeed => "inference speed",
            Self::MemoryUsage => "memory usage",
        }
    }
}

/// What was measured of a use case.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    /// The figure with its metric, and the model if its class has several.
    text: String,
    /// As a share of what is right, in per cent; `None` if the figure is none.
    percent: Option<f64>,
}

/// A model of a class, by the trial that stands for it.
struct Model<'a> {
    architecture: Architecture,
    trial: &'a TrialRecord,
    row: &'a Row,
    facts: &'a ModelFacts,
}

/// The figures of a run by class of architecture.
pub(super) struct Measured<'a> {
    models: Vec<Model<'a>>,
    uses: Vec<(Architecture, Use, Entry)>,
}

impl<'a> Measured<'a> {
    pub(super) fn of(
        run: &'a RunRecord,
        summary: &'a Summary,
        variant: Option<&str>,
    ) -> Result<Self, ArchitecturesError> {
        let experiment: Experiment =
            serde_json::from_value(run.experiment.clone()).map_err(|error| {
                let reason = error.to_string();
                ArchitecturesError::Experiment { run: run.id.clone(), reason }
            })?;
        let chosen = |trial: &TrialRecord| match variant {
            None => trial.is_reference,
            Some(label) => trial.label.eq_ignore_ascii_case(label),
        };
        let models: Vec<Model<'a>> = run
            .trials
            .iter()
            .zip(&summary.rows)
            .filter(|(trial, _)| chosen(trial))
            .filter_map(|(trial, row)| {
                let facts = trial.facts.as_ref()?;
                let plan = experiment.models.iter().find(|it| it.name == trial.model);
                let sees = plan.is_some_and(|plan| plan.projector.is_some());
                Some(Model { architecture: Architecture::of(facts, sees), trial, row, facts })
            })
            .collect();
        if models.is_empty() {
            let variant = variant.unwrap_or("its reference").to_owned();
            return Err(ArchitecturesError::NoVariant { run: run.id.clone(), variant });
        }
        let mut measured = Self { models, uses: Vec::new() };
        measured.find_uses(&experiment);
        Ok(measured)
    }

    fn find_uses(&mut self, experiment: &Experiment) {
        let mut uses: Vec<(Architecture, Use, Entry)> = Vec::new();
        for model in &self.models {
            let position = experiment.models.iter().position(|it| it.name == model.trial.model);
            let plans = position.map(|it| experiment.workloads_of(it).tasks.as_slice());
            let plan_of = |task: &TaskRecord| {
                plans.unwrap_or_default().iter().find(|plan| plan.name == task.task)
            };
            for task in &model.trial.tasks {
                let Some(plan) = plan_of(task) else { continue };
                let (architecture, use_case) = model.architecture.place_of(plan.use_case);
                let Some(mut entry) = self.entry(model, task) else { continue };
                if plan.use_case == UseCase::Rag {
                    let others = model.trial.tasks.iter().filter(|other| {
                        plan_of(other).is_some_and(|other| {
                            other.dataset == plan.dataset && other.use_case != UseCase::Rag
                        })
                    });
                    let without = others.filter_map(|other| self.entry(model, other)?.percent);
                    let without = without.reduce(f64::max);
                    entry.text.extend(without.map(|it| format!(" ({it:.1} % without passages)")));
                }
                keep_better(&mut uses, architecture, use_case, entry);
            }
            let perplexity = model.row.value(Metric::Perplexity);
            let has_task = uses.iter().any(|(it, use_case, _)| {
                *it == model.architecture && *use_case == Use::TextGeneration
            });
            if let (Some(perplexity), false) = (perplexity, has_task) {
                let text = format!("PPL {}{}", significant(perplexity, 3), self.whose(model));
                let entry = Entry { text, percent: None };
                uses.push((model.architecture, Use::TextGeneration, entry));
            }
        }
        self.uses = uses;
    }

    /// The main figure of a task.
    fn entry(&self, model: &Model<'_>, task: &TaskRecord) -> Option<Entry> {
        let metric = task.scores.first()?.metric;
        let column = TaskColumn { task: task.task, metric, is_main: true };
        let percent = model.row.value(Metric::Task(column))? * metric.percent_factor();
        let figure = if metric.aggregation() == Aggregation::Corpus {
            format!("{metric} {percent:.1}")
        } else {
            format!("{percent:.1} % {metric}")
        };
        let text = format!("{figure}{}", self.whose(model));
        Some(Entry { text, percent: Some(percent) })
    }

    /// ` (chat)`, if a model's class has several.
    fn whose(&self, model: &Model<'_>) -> String {
        let of_class = self.models.iter().filter(|it| it.architecture == model.architecture);
        if of_class.count() > 1 {
            format!(" ({})", sanitize(&model.trial.model))
        } else {
            String::new()
        }
    }

    /// What was measured of a class in a use case.
    pub(super) fn use_case(&self, architecture: Architecture, use_case: Use) -> Option<String> {
        let found = self.uses.iter().find(|(it, of, _)| *it == architecture && *of == use_case);
        found.map(|(_, _, entry)| entry.text.clone())
    }

    fn of_class(&self, architecture: Architecture) -> impl Iterator<Item = &Model<'a>> {
        self.models.iter().filter(move |model| model.architecture == architecture)
    }

    /// What was measured of a characteristic of a class.
    pub(super) fn characteristic(
        &self,
        architecture: Architecture,
        characteristic: Trait,
    ) -> Option<String> {
        if architecture == Architecture::RetrievalAugmented {
            return self.retrieval_augmented(characteristic);
        }
        let parts: Vec<String> = self
            .of_class(architecture)
            .filter_map(|model| {
                let text = match characteristic {
                    Trait::ContextLength => format!("{} tokens", model.facts.context_length),
                    Trait::InferenceSpeed => {
                        let parts: Vec<String> =
                            speeds(model).into_iter().chain(vision(model)).collect();
                        (!parts.is_empty()).then(|| parts.join("; "))?
                    }
                    Trait::MemoryUsage => memory(model)?,
                };
                Some(format!("{text}{}", self.whose(model)))
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Where the time of a question goes whose answer is looked up.
    fn retrieval_augmented(&self, characteristic: Trait) -> Option<String> {
        if characteristic != Trait::InferenceSpeed {
            return None;
        }
        let mut tasks = self.models.iter().flat_map(|model| &model.trial.tasks);
        let found = tasks.find_map(|task| task.retrieval.filter(|it| it.seconds.prefill > 0.0));
        let seconds = found?.seconds;
        let ms = |seconds: f64| significant(seconds * 1e3, 2);
        let total = seconds.embedding + seconds.search + seconds.prefill + seconds.generation;
        Some(format!(
            "{} ms a question: {} embedding, {} search, {} prefill, {} generation",
            ms(total),
            ms(seconds.embedding),
            ms(seconds.search),
            ms(seconds.prefill),
            ms(seconds.generation)
        ))
    }
}

/// Keeps the better of two entries of a use case.
fn keep_better(
    uses: &mut Vec<(Architecture, Use, Entry)>,
    architecture: Architecture,
    use_case: Use,
    entry: Entry,
) {
    match uses.iter_mut().find(|(it, of, _)| *it == architecture && *of == use_case) {
        Some((_, _, kept)) if kept.percent < entry.percent => *kept = entry,
        Some(_) => {}
        None => uses.push((architecture, use_case, entry)),
    }
}

/// The throughput tests of a model without depth, in order.
fn tests(model: &Model<'_>) -> Vec<SpeedTest> {
    let mut tests: BTreeMap<usize, SpeedTest> = BTreeMap::new();
    let measured = model.trial.visits.iter().flat_map(|visit| visit.speed.iter().enumerate());
    for (position, record) in measured.filter(|(_, record)| record.test.depth == 0) {
        tests.entry(position).or_insert(record.test);
    }
    tests.into_values().collect()
}

/// `pp256 12300 t/s, tg32 3210 t/s`.
fn speeds(model: &Model<'_>) -> Option<String> {
    let parts: Vec<String> = tests(model)
        .into_iter()
        .filter_map(|test| {
            let speed = model.row.value(Metric::Speed(test))?;
            Some(format!("{test} {} {}", significant(speed, 3), test.unit().short()))
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What seeing took the model in its first task with pictures.
fn vision_of(model: &Model<'_>) -> Option<VisionRecord> {
    model.trial.tasks.iter().find_map(|task| task.vision)
}

/// `3.1 ms to encode a picture, then 12 ms to read a question and 40 ms to answer`.
fn vision(model: &Model<'_>) -> Option<String> {
    let seconds = vision_of(model)?.seconds;
    let ms = |seconds: f64| significant(seconds * 1e3, 2);
    Some(format!(
        "{} ms to encode a picture, then {} ms to read a question and {} ms to answer",
        ms(seconds.encoding),
        ms(seconds.prefill),
        ms(seconds.generation)
    ))
}

/// `weights 4.07 MiB, peak 35.2 MiB`.
fn memory(model: &Model<'_>) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(weights) = model.row.value(Metric::WeightsBytes) {
        parts.push(format!("weights {}", bytes(weights)));
        let peak = model.row.value(Metric::PeakRssBytes);
        parts.extend(peak.map(|peak| format!("peak {}", bytes(peak))));
        if let (Some(_), Some(active)) = (model.facts.experts, model.facts.active_parameters) {
            parts.push(format!(
                "{} of {} parameters active",
                format_count(active),
                format_count(model.facts.parameters)
            ));
        }
    }
    let projector = vision_of(model).filter(|vision| vision.projector_bytes > 0);
    parts.extend(projector.map(|it| format!("projector {}", format_bytes(it.projector_bytes))));
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes in bytes, below 2^53"
)]
fn bytes(value: f64) -> String {
    format_bytes(value.max(0.0) as u64)
}
