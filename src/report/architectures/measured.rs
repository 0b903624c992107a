//! What a run measured of each class of architecture.

use super::ArchitecturesError;
use super::seed::{Architecture, Trait, Use};
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
use crate::workload::tasks::record::{SightRecord, TaskRecord};
use std::collections::BTreeMap;

/// What was measured of a use case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The figure with its metric, and the model if its class has several.
    pub(super) text: String,
    /// As a share of what is right, in per cent; `None` if the figure is none.
    pub(super) percent: Option<f64>,
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
    /// Answers with passages and without, of the same questions.
    with_and_without: Option<(f64, f64)>,
}

fn architecture_of(facts: &ModelFacts, sees: bool) -> Architecture {
    match facts.class {
        _ if sees => Architecture::MultiModal,
        _ if facts.experts.is_some() => Architecture::MixtureOfExperts,
        ArchitectureClass::DecoderOnly => Architecture::DecoderOnly,
        ArchitectureClass::EncoderOnly => Architecture::EncoderOnly,
        ArchitectureClass::EncoderDecoder => Architecture::EncoderDecoder,
    }
}

/// The class and use case of the diagram that a task is an example of; `None`: it has none such.
fn place_of(architecture: Architecture, use_case: UseCase) -> Option<(Architecture, Use)> {
    Some(match use_case {
        UseCase::TextGeneration => (architecture, Use::TextGeneration),
        UseCase::Classification => (architecture, Use::Classification),
        UseCase::QuestionAnswering => (architecture, Use::QuestionAnswering),
        UseCase::Translation => (architecture, Use::Translation),
        UseCase::Summarization => (architecture, Use::Summarization),
        UseCase::Rag => (Architecture::RetrievalAugmented, Use::QuestionAnswering),
        UseCase::ImageText => (architecture, Use::ImageText),
        UseCase::Retrieval => return None,
    })
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
                Some(Model { architecture: architecture_of(facts, sees), trial, row, facts })
            })
            .collect();
        if models.is_empty() {
            let variant = variant.unwrap_or("its reference").to_owned();
            return Err(ArchitecturesError::NoVariant { run: run.id.clone(), variant });
        }
        let mut measured = Self { models, uses: Vec::new(), with_and_without: None };
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
                let Some((architecture, use_case)) = place_of(model.architecture, plan.use_case)
                else {
                    continue;
                };
                let Some(entry) = self.entry(model, task) else { continue };
                if plan.use_case == UseCase::Rag {
                    let others = model.trial.tasks.iter().filter(|other| {
                        plan_of(other).is_some_and(|other| {
                            other.dataset == plan.dataset && other.use_case != UseCase::Rag
                        })
                    });
                    let without = others.filter_map(|other| self.entry(model, other)?.percent);
                    self.with_and_without = entry.percent.zip(without.reduce(f64::max));
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
    pub(super) fn use_case(&self, architecture: Architecture, use_case: Use) -> Option<&Entry> {
        let found = self.uses.iter().find(|(it, of, _)| *it == architecture && *of == use_case);
        found.map(|(_, _, entry)| entry)
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
                            speeds(model).into_iter().chain(sight(model)).collect();
                        (!parts.is_empty()).then(|| parts.join("; "))?
                    }
                    Trait::MemoryUsage => memory(model)?,
                    Trait::Accuracy => return None,
                };
                Some(format!("{text}{}", self.whose(model)))
            })
            .collect();
        if characteristic == Trait::Accuracy {
            let word = architecture.word_of(characteristic)?;
            let entry = self.use_case(architecture, Use::QuestionAnswering);
            return entry.filter(|_| !word.is_empty()).map(|entry| entry.text.clone());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn retrieval_augmented(&self, characteristic: Trait) -> Option<String> {
        match characteristic {
            Trait::Accuracy => self.with_and_without.map(|(with, without)| {
                format!("{with:.1} % right with retrieval, {without:.1} % without")
            }),
            Trait::InferenceSpeed => {
                let task =
                    self.models.iter().flat_map(|model| &model.trial.tasks).find(|task| {
                        task.retrieval.is_some_and(|found| found.seconds.prefill > 0.0)
                    })?;
                let seconds = task.retrieval?.seconds;
                let ms = |seconds: f64| significant(seconds * 1e3, 2);
                let total =
                    seconds.embedding + seconds.search + seconds.prefill + seconds.generation;
                Some(format!(
                    "{} ms a question: {} embedding, {} search, {} prefill, {} generation",
                    ms(total),
                    ms(seconds.embedding),
                    ms(seconds.search),
                    ms(seconds.prefill),
                    ms(seconds.generation)
                ))
            }
            Trait::ContextLength | Trait::MemoryUsage => None,
        }
    }

    /// Sentences about characteristics in which classes do not stand as the diagram has them.
    pub(super) fn comparisons(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let longest = |architecture| {
            self.of_class(architecture).map(|model| model.facts.context_length).max()
        };
        let contexts =
            [Architecture::DecoderOnly, Architecture::EncoderDecoder, Architecture::EncoderOnly]
                .map(longest);
        if let [Some(decoder), Some(both), Some(encoder)] = contexts
            && !(decoder > both && both > encoder)
        {
            sentences.push(format!(
                "context length: the diagram says Long, Medium, Short for decoder-only, \
                 encoder-decoder and encoder-only; here they are {decoder}, {both} and {encoder} \
                 tokens."
            ));
        }
        sentences.extend(self.speed_comparison());
        sentences.extend(self.memory_comparison());
        sentences
    }

    /// Whether the encoder reads fastest, in the first test that all classes have.
    fn speed_comparison(&self) -> Option<String> {
        let encoder = self.of_class(Architecture::EncoderOnly).next()?;
        let test = tests(encoder).into_iter().find(|test| test.is_prompt_only())?;
        let speed = |model: &Model<'_>| model.row.value(Metric::Speed(test));
        let own = speed(encoder)?;
        let others = self.models.iter().filter(|it| it.architecture != Architecture::EncoderOnly);
        let faster: Vec<String> = others
            .filter_map(|model| {
                let other = speed(model).filter(|&other| other > own)?;
                Some(format!("{} {} t/s", sanitize(&model.trial.model), significant(other, 3)))
            })
            .collect();
        (!faster.is_empty()).then(|| {
            format!(
                "encoder-only, inference speed: the diagram says Fast; in {test} it reads {} t/s, \
                 {}.",
                significant(own, 3),
                faster.join(", ")
            )
        })
    }

    /// Whether the mixture of experts takes more memory than the decoders.
    fn memory_comparison(&self) -> Option<String> {
        let weights = |model: &Model<'_>| model.row.value(Metric::WeightsBytes);
        let experts = self.of_class(Architecture::MixtureOfExperts).next()?;
        let decoder = self.of_class(Architecture::DecoderOnly).max_by(|one, other| {
            weights(one).unwrap_or(0.0).total_cmp(&weights(other).unwrap_or(0.0))
        })?;
        let (own, other) = (weights(experts)?, weights(decoder)?);
        let active = experts.facts.active_parameters?;
        (own < other).then(|| {
            format!(
                "mixture of experts, memory usage: the diagram says Very High; here its weights \
                 take {}, the decoder's {}. What holds is the proportion: {} parameters are kept \
                 for {} that compute a token.",
                bytes(own),
                bytes(other),
                format_count(experts.facts.parameters),
                format_count(active)
            )
        })
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
fn sight_of(model: &Model<'_>) -> Option<SightRecord> {
    model.trial.tasks.iter().find_map(|task| task.sight)
}

/// `3.1 ms to encode a picture, then 12 ms to read a question and 40 ms to answer`.
fn sight(model: &Model<'_>) -> Option<String> {
    let seconds = sight_of(model)?.seconds;
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
    let projector = sight_of(model).filter(|sight| sight.projector_bytes > 0);
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
