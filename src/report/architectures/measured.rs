//! What a run measured of each class of architecture.

use crate::causes::Problem;
use crate::experiment::resolved::Experiment;
use crate::experiment::tasks::UseCase;
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
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::VariantArray, strum::IntoStaticStr,
)]
#[strum(serialize_all = "kebab-case")]
pub(super) enum Architecture {
    DecoderOnly,
    EncoderOnly,
    EncoderDecoder,
    #[strum(serialize = "mixture of experts")]
    MixtureOfExperts,
    RetrievalAugmented,
    MultiModal,
}

impl Architecture {
    fn of(facts: &ModelFacts, sees: bool) -> Self {
        match facts.class {
            _ if sees => Self::MultiModal,
            _ if facts.experts.is_some() => Self::MixtureOfExperts,
            ArchitectureClass::DecoderOnly => Self::DecoderOnly,
            ArchitectureClass::EncoderOnly => Self::EncoderOnly,
            ArchitectureClass::EncoderDecoder => Self::EncoderDecoder,
        }
    }

    /// The class and use case that a task is an example of: answers from passages that were found are a
    /// class's own way to answer.
    fn place_of(self, use_case: UseCase) -> (Self, UseCase) {
        match use_case {
            UseCase::Rag => (Self::RetrievalAugmented, UseCase::QuestionAnswering),
            use_case => (self, use_case),
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
    summary: &'a Summary,
    models: Vec<Model<'a>>,
    uses: BTreeMap<(Architecture, UseCase), Entry>,
}

impl<'a> Measured<'a> {
    pub(super) fn of(
        run: &'a RunRecord,
        summary: &'a Summary,
        variant: Option<&str>,
    ) -> Result<Self, Problem> {
        let experiment: Experiment =
            serde_json::from_value(run.experiment.clone()).map_err(|error| {
                Problem::because(
                    format!("the experiment of run '{}' cannot be read", run.id),
                    error,
                )
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
            let variant = variant.unwrap_or("its reference");
            return Err(Problem::new(format!(
                "no model of run '{}' was measured in {variant}",
                run.id
            )));
        }
        let mut measured = Self { summary, models, uses: BTreeMap::new() };
        measured.find_uses(&experiment);
        Ok(measured)
    }

    fn find_uses(&mut self, experiment: &Experiment) {
        let mut uses: BTreeMap<_, Entry> = BTreeMap::new();
        for model in &self.models {
            let position = experiment.models.iter().position(|it| it.name == model.trial.model);
            let plans = position.map(|it| experiment.workloads_of(it).tasks.as_slice());
            let plan_of = |task: &TaskRecord| {
                plans.unwrap_or_default().iter().find(|plan| plan.name == task.task)
            };
            for task in &model.trial.tasks {
                let Some(plan) = plan_of(task) else { continue };
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
                let place = model.architecture.place_of(plan.use_case);
                let kept = uses.entry(place).or_insert_with(|| entry.clone());
                if kept.percent < entry.percent {
                    *kept = entry;
                }
            }
            if let Some(perplexity) = model.row.value(Metric::Perplexity) {
                let text = format!("PPL {}{}", significant(perplexity, 3), self.whose(model));
                let place = (model.architecture, UseCase::TextGeneration);
                uses.entry(place).or_insert(Entry { text, percent: None });
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
        let whose = (of_class.count() > 1).then(|| format!(" ({})", sanitize(&model.trial.model)));
        whose.unwrap_or_default()
    }

    /// What was measured of a class in a use case.
    pub(super) fn use_case(&self, class: Architecture, use_case: UseCase) -> Option<String> {
        self.uses.get(&(class, use_case)).map(|entry| entry.text.clone())
    }

    /// What is told of each model of a class.
    fn of_class(
        &self,
        class: Architecture,
        told: impl Fn(&Model<'_>) -> Option<String>,
    ) -> Option<String> {
        let models = self.models.iter().filter(|model| model.architecture == class);
        let told =
            models.filter_map(|model| Some(format!("{}{}", told(model)?, self.whose(model))));
        joined(told, "; ")
    }

    pub(super) fn context(&self, class: Architecture) -> Option<String> {
        self.of_class(class, |model| Some(format!("{} tokens", model.facts.context_length)))
    }

    /// Throughput and the times of seeing; of a class that looks its answers up, where the time of a question
    /// goes.
    pub(super) fn speed(&self, class: Architecture) -> Option<String> {
        if class != Architecture::RetrievalAugmented {
            let told = |model: &Model<'_>| {
                joined(self.speeds(model).into_iter().chain(vision(model)), "; ")
            };
            return self.of_class(class, told);
        }
        let mut tasks = self.models.iter().flat_map(|model| &model.trial.tasks);
        let found = tasks.find_map(|task| task.retrieval.filter(|it| it.seconds.prefill > 0.0));
        let seconds = found?.seconds;
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

    pub(super) fn memory(&self, class: Architecture) -> Option<String> {
        self.of_class(class, memory)
    }

    /// `pp256 12300 t/s, tg32 3210 t/s`: the tests without depth.
    fn speeds(&self, model: &Model<'_>) -> Option<String> {
        let told = self.summary.metrics.iter().filter_map(|&metric| match metric {
            Metric::Speed(test) if test.depth == 0 => {
                let speed = significant(model.row.value(metric)?, 3);
                Some(format!("{test} {speed} {}", test.unit().short()))
            }
            _ => None,
        });
        joined(told, ", ")
    }
}

/// `None` of nothing.
fn joined(parts: impl IntoIterator<Item = String>, separator: &str) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().collect();
    (!parts.is_empty()).then(|| parts.join(separator))
}

fn ms(seconds: f64) -> String {
    significant(seconds * 1e3, 2)
}

/// What seeing took the model in its first task with pictures.
fn vision_of(model: &Model<'_>) -> Option<VisionRecord> {
    model.trial.tasks.iter().find_map(|task| task.vision)
}

/// `3.1 ms to encode a picture, then 12 ms to read a question and 40 ms to answer`.
fn vision(model: &Model<'_>) -> Option<String> {
    let seconds = vision_of(model)?.seconds;
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
    joined(parts, ", ")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes in bytes, below 2^53"
)]
fn bytes(value: f64) -> String {
    format_bytes(value.max(0.0) as u64)
}
