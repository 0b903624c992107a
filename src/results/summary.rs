//! The summary of a run: every figure as an estimate, comparisons, verdicts, the best trade-off.

use super::baseline::compare_with_baselines;
use super::choice::{Choice, Front};
use super::domain::{self, DomainFigure};
use super::figure::Figure;
use super::format_test::{FormatTest, format_tests};
use super::judge::{mark_best, models};
use super::metric::{Metric, Models};
use super::recommendation::Recommendation;
use super::record::{Failure, RunRecord, TrialRecord};
use super::task_figure::PairedTest;
use super::verdict::Verdict;
use super::{each_once, extract};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
use crate::model::architecture::ArchitectureClass;
use crate::statistics::estimate::Estimate;
use crate::statistics::trend::{Point, relative_change};
use crate::units::to_f64;
use crate::worker::protocol::Phase;
use crate::workload::applicability;
use crate::workload::measured::ModelFacts;
use std::collections::{BTreeMap, BTreeSet};

/// What a run says, computed from its record alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// One row per trial, in the order of the experiment.
    pub rows: Vec<Row>,
    /// The models, in the order of the experiment.
    pub models: Vec<ModelSummary>,
    /// All metrics of which at least one trial has a figure, in the order of columns.
    pub metrics: Vec<Metric>,
    /// The test that stands for generation speed.
    pub generation: Option<SpeedTest>,
    /// Formats of each task against each other.
    pub format_tests: Vec<FormatTest>,
    /// Change of the drift control over the run, as a fraction; `None` if it was measured too seldom.
    pub drift: Option<Estimate>,
    /// Signs of throttling seen in any phase, each once.
    pub throttling: Vec<String>,
    /// What is recommended, where a run was asked to.
    pub recommendation: Option<Recommendation>,
    /// Rounds that every trial that did not fail has been through.
    pub rounds_done: u32,
    /// Rounds that the experiment asks for, if its record says so.
    pub rounds_planned: Option<u32>,
}

/// One trial's figures and what they come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Identifies the trial within the experiment.
    pub key: String,
    /// The model's name.
    pub model: String,
    /// The trial's name in tables.
    pub label: String,
    /// Its settings.
    pub settings: Settings,
    /// Whether quality is measured against this trial.
    pub is_reference: bool,
    /// The row that speeds and sizes are compared with; `None` for that row itself.
    pub baseline: Option<usize>,
    /// What was loaded; `None` if nothing was yet.
    pub facts: Option<ModelFacts>,
    /// Every figure that was measured.
    pub figures: BTreeMap<Metric, Figure>,
    /// Memory that it takes of what its host has, as a fraction, devices left out; `None`: not known.
    pub memory_share: Option<f64>,
    /// Quality by the domains of the text.
    pub domains: Vec<DomainFigure>,
    /// Quality by text, where there are several.
    pub texts: Vec<DomainFigure>,
    /// How many times the baseline's each figure is, where the two can be paired.
    pub ratios: BTreeMap<Metric, Estimate>,
    /// How the figures of tasks compare with the baseline's, question by question.
    pub tests: BTreeMap<Metric, PairedTest>,
    /// Figures that no other trial of the model beats beyond the noise.
    pub best: BTreeSet<Metric>,
    /// Whether the requirements are met; `None`: nothing is required, or the trial failed.
    pub verdict: Option<Verdict>,
    /// Workloads that failed.
    pub failed_workloads: Vec<Failure>,
    /// The adapters that it was measured with, in words.
    pub adapters: Vec<String>,
    /// Why the trial failed.
    pub failure: Option<Failure>,
}

/// One model: its trials and what to take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelSummary {
    /// Its name.
    pub name: String,
    /// Its trials by settings, in the order of the experiment.
    pub groups: Vec<Group>,
    /// What was loaded of it; `None` if nothing was.
    pub facts: Option<ModelFacts>,
    /// The row that quality is measured against, if it was measured itself.
    pub reference: Option<usize>,
    /// The Pareto front of size, speed and divergence; empty if fewer than two rows have figures to
    /// compare.
    pub front: Front,
    /// The best trade-off among those that meet the requirements, or among all if none does.
    pub choice: Option<Choice>,
    /// Next to the chosen row on the front: the smallest that diverges less by a quarter or more,
    /// beyond the noise.
    pub closer: Option<usize>,
    /// Next to the chosen row on the front: the largest of those smaller that do not lose far more than they save.
    pub smaller: Option<usize>,
    /// The throughput that its trials are judged by: of generation, or of embedding texts; `None` if neither
    /// was measured.
    pub speed: Option<Metric>,
}

/// The trials of one model under the same settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The settings.
    pub settings: Settings,
    /// Positions in [`Summary::rows`].
    pub rows: Vec<usize>,
}

impl Summary {
    /// Summarizes a run, finished or not.
    pub fn of(run: &RunRecord) -> Self {
        let tests = each_once(run.trials.iter().flat_map(extract::speed_tests));
        let generation = extract::generation_test(&tests);
        let mut rows: Vec<Row> = run.trials.iter().map(|trial| row(run, trial)).collect();
        over_common_chunks(run, &mut rows);
        compare_with_baselines(&mut rows);
        let columns = each_once(run.trials.iter().flat_map(extract::task_columns));
        let known = Metric::all(&tests, &columns);
        for row in &mut rows {
            if row.failure.is_none() {
                row.verdict = Verdict::of(
                    &run.requirements,
                    &row.figures,
                    &known,
                    generation.map(Metric::Speed),
                    row.is_reference,
                );
            }
        }
        let metrics: Vec<Metric> = known
            .into_iter()
            .filter(|metric| rows.iter().any(|row| row.figures.contains_key(metric)))
            .collect();
        let mut models = models(&rows, generation.map(Metric::Speed));
        let recommendation = Recommendation::of(run);
        if let Some(found) = &recommendation {
            let row = found.chosen.or(found.nearest);
            for model in &mut models {
                model.choice = row.map(|row| Choice {
                    row,
                    equals: Vec::new(),
                    rests_on_single_speeds: false,
                });
                (model.closer, model.smaller) = (None, None);
            }
        }
        for model in &models {
            mark_best(&mut rows, model, &metrics);
        }
        Self {
            models,
            metrics,
            generation,
            format_tests: format_tests(&rows),
            drift: drift(run),
            throttling: throttling(run),
            recommendation,
            rounds_done: rounds_done(run),
            rounds_planned: run.stored_experiment().rounds,
            rows,
        }
    }

    /// Whether a row is the best trade-off of its model.
    pub fn is_chosen(&self, row: usize) -> bool {
        self.models.iter().any(|model| model.choice.as_ref().is_some_and(|it| it.row == row))
    }

    /// Whether a row is on the Pareto front of its model.
    pub fn is_on_front(&self, row: usize) -> bool {
        self.models.iter().any(|model| model.front.members.contains(&row))
    }

    /// Whether requirements were stated and no trial meets them all: exit code 1.
    pub fn requirements_unmet(&self) -> bool {
        let mut verdicts = self.rows.iter().filter_map(|row| row.verdict.as_ref()).peekable();
        verdicts.peek().is_some() && verdicts.all(|verdict| !verdict.is_met())
    }

    /// Whether any trial failed, or a workload of one: exit code 3.
    pub fn any_failed(&self) -> bool {
        self.rows.iter().any(|row| row.failure.is_some() || !row.failed_workloads.is_empty())
    }
}

impl Row {
    /// The value of a figure.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.figures.get(&metric).map(|figure| figure.estimate.value)
    }

    /// Whether a figure has no meaning for the class of architecture of the row's model, or is of a
    /// task that the model was not given.
    pub fn is_inapplicable(&self, metric: Metric) -> bool {
        let not_given = match metric {
            Metric::Task(column) => {
                let phase = Phase::Task(column.task);
                let has_failed =
                    self.failed_workloads.iter().any(|workload| workload.phase == phase);
                !has_failed && !self.figures.contains_key(&metric)
            }
            _ => false,
        };
        (not_given && self.failure.is_none())
            || self.facts.as_ref().is_some_and(|facts| !applies_to(metric, facts))
    }

    /// Whether the figure's interval is wider than a stable figure's.
    pub fn is_unstable(&self, metric: Metric) -> bool {
        let width =
            self.figures.get(&metric).and_then(|figure| figure.estimate.relative_half_width());
        matches!((width, metric.descriptor().stable_within), (Some(width), Some(limit)) if width > limit)
    }
}

fn row(run: &RunRecord, trial: &TrialRecord) -> Row {
    let figures = extract::figures(trial);
    Row {
        key: trial.key.clone(),
        model: trial.model.clone(),
        label: trial.label.clone(),
        settings: trial.settings.clone(),
        is_reference: trial.is_reference,
        facts: trial.facts.clone(),
        memory_share: memory_share(run.environment_of(trial).memory_bytes, &figures),
        figures,
        domains: trial.quality.as_ref().map(domain::figures).unwrap_or_default(),
        texts: trial.quality.as_ref().map(domain::of_texts).unwrap_or_default(),
        failed_workloads: trial.failed_workloads.clone(),
        adapters: trial.adapters.iter().map(ToString::to_string).collect(),
        failure: trial.failure.clone(),
        ..Row::default()
    }
}

/// Of a file that is mapped, pages that found no room are not resident: the buffers of the engine count, too.
fn memory_share(there: u64, figures: &BTreeMap<Metric, Figure>) -> Option<f64> {
    let bytes = |metric| figures.get(&metric).map(|figure| figure.estimate.value);
    let kept = [Metric::WeightsBytes, Metric::KvBytes, Metric::ComputeBytes];
    let buffers: f64 = kept.into_iter().filter_map(bytes).sum();
    let on_host = buffers - bytes(Metric::DeviceBytes).unwrap_or(0.0);
    let needed = bytes(Metric::PeakRssBytes)?.max(on_host);
    (there > 0).then(|| needed / to_f64(there))
}

/// Perplexities of different parts of a text say nothing side by side: where the variants of a model ended at
/// different places, each is over the chunks that all of them scored.
fn over_common_chunks(run: &RunRecord, rows: &mut [Row]) {
    for (at, trial) in run.trials.iter().enumerate() {
        let others = run.trials.iter().filter(|other| other.model == trial.model);
        let scored = others.filter_map(|other| other.quality.as_ref()).map(|it| it.chunk_nll.len());
        let (Some(quality), Some(common)) = (&trial.quality, scored.min()) else { continue };
        if common == quality.chunk_nll.len() {
            continue;
        }
        if let Some(figure) = rows[at].figures.get_mut(&Metric::Perplexity)
            && let Some(over_common) = extract::perplexity(&quality.chunk_nll[..common])
        {
            *figure = over_common;
        }
    }
}

/// Whether the figure has a meaning for a model. What was used while generating has none for a
/// model that does not generate, nor has a KV cache for one that keeps nothing.
fn applies_to(metric: Metric, facts: &ModelFacts) -> bool {
    if let Metric::Speed(test) = metric {
        return applicability::speed(test, facts).is_none();
    }
    match metric.descriptor().models {
        Models::All => true,
        Models::Generating => facts.class.generates(),
        Models::DecoderOnly => facts.class == ArchitectureClass::DecoderOnly,
        Models::EncoderOnly => facts.class == ArchitectureClass::EncoderOnly,
    }
}

fn drift(run: &RunRecord) -> Option<Estimate> {
    let points: Vec<Point> = run
        .drift_controls
        .iter()
        .map(|control| Point { at: control.at_seconds, value: control.tokens_per_second })
        .collect();
    relative_change(&points)
}

/// Every sign of throttling once; of those that differ in their number alone, the largest.
pub(super) fn throttling(run: &RunRecord) -> Vec<String> {
    let mut signs: Vec<String> = Vec::new();
    let visits = run.trials.iter().flat_map(|trial| &trial.visits);
    for sign in visits.flat_map(|visit| &visit.usage).flat_map(|phase| &phase.usage.throttling) {
        let (words, number) = words_and_number(sign);
        match signs.iter_mut().find(|other| words_and_number(other).0 == words) {
            None => signs.push(sign.clone()),
            Some(other) if words_and_number(other).1 < number => other.clone_from(sign),
            Some(_) => {}
        }
    }
    signs
}

/// A sign without its digits, and the number that they make.
fn words_and_number(sign: &str) -> (String, u64) {
    let words = sign.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    let digits: String = sign.chars().filter(char::is_ascii_digit).collect();
    (words, digits.parse().unwrap_or(0))
}

fn rounds_done(run: &RunRecord) -> u32 {
    let sound = run.trials.iter().filter(|trial| trial.failure.is_none());
    let done = sound.map(|trial| {
        let rounds: BTreeSet<u32> = trial.visits.iter().map(|visit| visit.round).collect();
        u32::try_from(rounds.len()).unwrap_or(u32::MAX)
    });
    done.min().unwrap_or(0)
}
