//! The summary of a run: every figure as an estimate, comparisons, verdicts, the best trade-off.

use super::choice::{Candidate, Choice, Front, best_trade_off, pareto_front};
use super::extract;
use super::figure::{Evidence, Figure, Relation};
use super::metric::{Better, Metric};
use super::record::{Failure, RunRecord, TrialRecord};
use super::verdict::Verdict;
use crate::experiment::settings::Settings;
use crate::experiment::workloads::SpeedTest;
use crate::statistics::estimate::Estimate;
use crate::statistics::trend::{Point, relative_change};
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
    /// Change of the anchor over the run, as a fraction; `None` if it was measured too seldom.
    pub drift: Option<Estimate>,
    /// Signs of throttling seen in any phase, each once.
    pub throttling: Vec<String>,
    /// Rounds that every trial that did not fail has been through.
    pub rounds_done: u32,
    /// Rounds that the experiment asks for, if its record says so.
    pub rounds_planned: Option<u32>,
}

/// One trial's figures and what they come to.
#[derive(Debug, Clone, PartialEq)]
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
    /// Every figure that was measured.
    pub figures: BTreeMap<Metric, Figure>,
    /// How many times the baseline's each figure is, where the two can be paired.
    pub ratios: BTreeMap<Metric, Estimate>,
    /// Figures that no other trial of the model beats beyond the noise.
    pub best: BTreeSet<Metric>,
    /// Whether the requirements are met; `None`: nothing is required, or the trial failed.
    pub verdict: Option<Verdict>,
    /// Why the trial failed.
    pub failure: Option<Failure>,
}

/// One model: its trials and what to take.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSummary {
    /// Its name.
    pub name: String,
    /// Its trials by settings, in the order of the experiment.
    pub groups: Vec<Group>,
    /// The row that quality is measured against, if it was measured itself.
    pub reference: Option<usize>,
    /// The Pareto front of size, speed and divergence; empty if fewer than two rows have figures to
    /// compare.
    pub front: Front,
    /// The best trade-off among those that meet the requirements, or among all if none does.
    pub choice: Option<Choice>,
    /// Next to the chosen row on the front: the smallest that diverges less, beyond the noise.
    pub closer: Option<usize>,
    /// Next to the chosen row on the front: the largest that is smaller.
    pub smaller: Option<usize>,
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
    #[must_use]
    pub fn of(run: &RunRecord) -> Self {
        let mut tests = Vec::new();
        for test in run.trials.iter().flat_map(extract::speed_tests) {
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
        let generation = extract::generation_test(&tests);
        let mut rows: Vec<Row> = run.trials.iter().map(row).collect();
        compare_with_baselines(&mut rows);
        for row in &mut rows {
            if row.failure.is_none() {
                row.verdict = Verdict::of(
                    &run.requirements,
                    &row.figures,
                    generation.map(Metric::Speed),
                    row.is_reference,
                );
            }
        }
        let metrics: Vec<Metric> = Metric::all(&tests)
            .into_iter()
            .filter(|metric| rows.iter().any(|row| row.figures.contains_key(metric)))
            .collect();
        let models = models(&rows, generation.map(Metric::Speed));
        for model in &models {
            mark_best(&mut rows, model, &metrics);
        }
        let planned = run.experiment.get("rounds").and_then(serde_json::Value::as_u64);
        Self {
            models,
            metrics,
            generation,
            drift: drift(run),
            throttling: throttling(run),
            rounds_done: rounds_done(run),
            rounds_planned: planned.and_then(|rounds| u32::try_from(rounds).ok()),
            rows,
        }
    }

    /// Whether requirements were stated and no trial meets them all: exit code 1.
    #[must_use]
    pub fn requirements_unmet(&self) -> bool {
        let mut verdicts = self.rows.iter().filter_map(|row| row.verdict.as_ref()).peekable();
        verdicts.peek().is_some() && verdicts.all(|verdict| !verdict.is_met())
    }

    /// Whether any trial failed: exit code 3.
    #[must_use]
    pub fn any_failed(&self) -> bool {
        self.rows.iter().any(|row| row.failure.is_some())
    }
}

impl Row {
    /// The value of a figure.
    #[must_use]
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.figures.get(&metric).map(|figure| figure.estimate.value)
    }

    /// Whether the figure's interval is wider than a stable figure's.
    #[must_use]
    pub fn is_unstable(&self, metric: Metric) -> bool {
        let width =
            self.figures.get(&metric).and_then(|figure| figure.estimate.relative_half_width());
        matches!((width, metric.stable_within()), (Some(width), Some(limit)) if width > limit)
    }
}

fn row(trial: &TrialRecord) -> Row {
    Row {
        key: trial.key.clone(),
        model: trial.model.clone(),
        label: trial.label.clone(),
        settings: trial.settings.clone(),
        is_reference: trial.is_reference,
        baseline: None,
        figures: extract::figures(trial),
        ratios: BTreeMap::new(),
        best: BTreeSet::new(),
        verdict: None,
        failure: trial.failure.clone(),
    }
}

/// A trial's baseline is the reference variant under the same settings, or else the reference.
fn compare_with_baselines(rows: &mut [Row]) {
    for own in 0..rows.len() {
        let subject = &rows[own];
        let references: Vec<usize> = (0..rows.len())
            .filter(|&other| rows[other].model == subject.model && rows[other].is_reference)
            .collect();
        let same_settings = (0..rows.len()).find(|&other| {
            other != own
                && rows[other].model == subject.model
                && rows[other].settings == subject.settings
                && references.iter().any(|&reference| rows[reference].label == rows[other].label)
        });
        let baseline = same_settings.or_else(|| references.first().copied());
        let Some(baseline) = baseline.filter(|&baseline| baseline != own) else { continue };
        let increase = perplexity_increase(subject, &rows[baseline]);
        let ratios = subject.figures.iter().filter_map(|(&metric, figure)| {
            let others = rows[baseline].figures.get(&metric)?;
            figure.ratio(others).map(|ratio| (metric, ratio))
        });
        let ratios = ratios.collect();
        let row = &mut rows[own];
        row.baseline = Some(baseline);
        row.ratios = ratios;
        if let Some(increase) = increase {
            row.figures.insert(Metric::PerplexityIncrease, increase);
        }
    }
}

/// Paired by chunk; better than what the worker's own ratio with its error over tokens can say.
fn perplexity_increase(subject: &Row, reference: &Row) -> Option<Figure> {
    let own = subject.figures.get(&Metric::Perplexity)?;
    let ratio = own.ratio(reference.figures.get(&Metric::Perplexity)?)?;
    Some(Figure { estimate: ratio.map(|ratio| ratio - 1.0), evidence: Evidence::IntervalOnly })
}

fn models(rows: &[Row], speed: Option<Metric>) -> Vec<ModelSummary> {
    let mut models: Vec<ModelSummary> = Vec::new();
    for (position, row) in rows.iter().enumerate() {
        let found = models.iter().position(|model| model.name == row.model);
        let model = found.unwrap_or_else(|| {
            models.push(ModelSummary {
                name: row.model.clone(),
                groups: Vec::new(),
                reference: None,
                front: Front::default(),
                choice: None,
                closer: None,
                smaller: None,
            });
            models.len() - 1
        });
        let model = &mut models[model];
        let group = model.groups.iter().position(|group| group.settings == row.settings);
        let group = group.unwrap_or_else(|| {
            model.groups.push(Group { settings: row.settings.clone(), rows: Vec::new() });
            model.groups.len() - 1
        });
        model.groups[group].rows.push(position);
        if row.is_reference && model.reference.is_none() {
            model.reference = Some(position);
        }
    }
    for model in &mut models {
        judge(rows, model, speed);
    }
    models
}

/// Finds the front and the best trade-off of a model among its trials that did not fail.
fn judge(rows: &[Row], model: &mut ModelSummary, speed: Option<Metric>) {
    let sound: Vec<usize> = model
        .groups
        .iter()
        .flat_map(|group| group.rows.iter().copied())
        .filter(|&row| rows[row].failure.is_none() && !rows[row].figures.is_empty())
        .collect();
    let loss_is_perplexity = !sound.iter().any(|&row| rows[row].figures.contains_key(&Metric::Kld));
    let candidates: Vec<Candidate> = sound
        .iter()
        .map(|&row| {
            let figure = |metric: Metric| rows[row].figures.get(&metric).cloned();
            let loss = if loss_is_perplexity {
                figure(Metric::Perplexity)
            } else if rows[row].is_reference {
                Some(Figure::exact(0.0))
            } else {
                figure(Metric::Kld)
            };
            Candidate {
                row,
                size: figure(Metric::FileBytes),
                speed: speed.and_then(figure),
                loss,
                loss_is_perplexity,
            }
        })
        .collect();
    if candidates.len() > 1 {
        model.front = pareto_front(&candidates);
    }
    let meets =
        |candidate: &&Candidate| rows[candidate.row].verdict.as_ref().is_none_or(Verdict::is_met);
    let meeting: Vec<Candidate> = candidates.iter().filter(meets).cloned().collect();
    let perplexities = sound.iter().filter_map(|&row| rows[row].value(Metric::Perplexity));
    let loss = model
        .reference
        .and_then(|row| rows[row].value(Metric::Perplexity))
        .or_else(|| perplexities.reduce(f64::min))
        .map(f64::ln);
    let Some(loss) = loss else { return };
    model.choice = match meeting.as_slice() {
        [] => best_trade_off(&candidates, loss),
        [only] if candidates.len() > 1 => Some(Choice { row: only.row, equals: Vec::new() }),
        _ => best_trade_off(&meeting, loss),
    };
    find_neighbours(if meeting.is_empty() { &candidates } else { &meeting }, model);
}

/// The next steps from the chosen row along the front, either way, past those that equal it.
fn find_neighbours(candidates: &[Candidate], model: &mut ModelSummary) {
    let candidate = |row: usize| candidates.iter().find(|candidate| candidate.row == row);
    let Some(chosen) = model.choice.as_ref().and_then(|choice| candidate(choice.row)) else {
        return;
    };
    let size = |candidate: &Candidate| {
        candidate.size.as_ref().map_or(f64::NAN, |size| size.estimate.value)
    };
    let equals = model.choice.as_ref().map(|choice| choice.equals.as_slice()).unwrap_or_default();
    let members = model.front.members.iter().filter(|row| !equals.contains(row));
    let on_front: Vec<&Candidate> = members.filter_map(|&row| candidate(row)).collect();
    let diverges_less = |other: &Candidate| match (&other.loss, &chosen.loss) {
        (Some(own), Some(others)) => own.relation(others) == Relation::Lower,
        _ => false,
    };
    model.closer = on_front
        .iter()
        .filter(|other| size(other) > size(chosen) && diverges_less(other))
        .min_by(|left, right| size(left).total_cmp(&size(right)))
        .map(|other| other.row);
    model.smaller = on_front
        .iter()
        .filter(|other| size(other) < size(chosen))
        .max_by(|left, right| size(left).total_cmp(&size(right)))
        .map(|other| other.row);
}

/// Marks, per metric, every sound trial of the model that no other beats beyond the noise, unless
/// that is all of them: then the column has no best.
fn mark_best(rows: &mut [Row], model: &ModelSummary, metrics: &[Metric]) {
    let sound: Vec<usize> = model
        .groups
        .iter()
        .flat_map(|group| group.rows.iter().copied())
        .filter(|&row| rows[row].failure.is_none())
        .collect();
    for &metric in metrics {
        let Some(better) = metric.better() else { continue };
        let figures: Vec<(usize, Figure)> = sound
            .iter()
            .filter_map(|&row| Some((row, rows[row].figures.get(&metric)?.clone())))
            .collect();
        let wins = |own: &Figure, other: &Figure| match better {
            Better::Lower => own.relation(other) == Relation::Lower,
            Better::Higher => own.relation(other) == Relation::Higher,
        };
        let Some((_, top)) = figures.iter().reduce(|best, next| {
            let (own, others) = (next.1.estimate.value, best.1.estimate.value);
            let ahead = match better {
                Better::Lower => own < others,
                Better::Higher => own > others,
            };
            if ahead { next } else { best }
        }) else {
            continue;
        };
        let best: Vec<usize> =
            figures.iter().filter(|(_, figure)| !wins(top, figure)).map(|&(row, _)| row).collect();
        if best.len() < figures.len() {
            for row in best {
                rows[row].best.insert(metric);
            }
        }
    }
}

fn drift(run: &RunRecord) -> Option<Estimate> {
    let points: Vec<Point> = run
        .anchor
        .iter()
        .map(|anchor| Point { at: anchor.at_seconds, value: anchor.tokens_per_second })
        .collect();
    relative_change(&points)
}

fn throttling(run: &RunRecord) -> Vec<String> {
    let mut signs: Vec<String> = Vec::new();
    let visits = run.trials.iter().flat_map(|trial| &trial.visits);
    for sign in visits.flat_map(|visit| &visit.usage).flat_map(|phase| &phase.usage.throttling) {
        if !signs.contains(sign) {
            signs.push(sign.clone());
        }
    }
    signs
}

fn rounds_done(run: &RunRecord) -> u32 {
    let sound = run.trials.iter().filter(|trial| trial.failure.is_none());
    let done = sound.map(|trial| {
        let rounds: BTreeSet<u32> = trial.visits.iter().map(|visit| visit.round).collect();
        u32::try_from(rounds.len()).unwrap_or(u32::MAX)
    });
    done.min().unwrap_or(0)
}
