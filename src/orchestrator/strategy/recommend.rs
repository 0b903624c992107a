//! Measures no more than decides which variant to run.
//!
//! The trial that promises most comes first: by what was measured of it, else by its size, which is used for the order
//! alone and never to conclude. Of it, what may rule it out for the least time is measured first: a few chunks of the
//! text or two rounds, whichever costs less. Then as much more as its verdicts take, in steps ([`ROUNDS`], [`CHUNKS`]),
//! each of them a look in the sense of `results::proof`. It ends when one is proved to meet everything and all others
//! are shown not to, or to be no better; or when no step is left that would decide more.
//!
//! Where none meets everything and only speeds are in the way, other settings are tried: first with the variant
//! that comes closest, and, if it meets everything so, with those that would be better.

use super::looks::{BELIEVED, CHUNKS, ROUNDS, next_of};
use super::{
    Known, Step, Strategy, has_failed_reference, is_pointless, is_quality_over, reference_of,
    scored,
};
use crate::experiment::recommend::Order;
use crate::experiment::requirements::MEMORY;
use crate::orchestrator::cost::{self, Costs};
use crate::orchestrator::schedule::{PlannedVisit, Purpose};
use crate::results::metric::Metric;
use crate::results::proof::{Finding, Proof, Unit};
use crate::results::recommendation::{Assessment, Recommendation, Status};
use crate::results::record::{Stage, TrialRecord};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// How a divergence falls with the bits of a weight, in logarithms per bit: for the order alone.
const LOSS_PER_BIT: f64 = -1.4;
/// How likely it is that a step rules out what so far looks well, looks bad, or was not looked at.
const LOOKS_WELL: f64 = 0.1;
const LOOKS_BAD: f64 = 0.9;
const NOT_LOOKED_AT: f64 = 0.4;

/// Share of the budget that what has to be decided under the settings asked for leaves to others.
const KEPT: f64 = 0.3;

/// Measures until the recommendation is proved, or the time is out.
#[derive(Debug)]
pub struct Recommend {
    order: Order,
    /// Seconds, those before the first visit included.
    budget: f64,
    next: VecDeque<PlannedVisit>,
    has_begun: bool,
    /// The reference that this process has evaluated; its answers are not kept longer.
    evaluated: Option<usize>,
    /// Parts of the text that were evaluated; once is enough, whatever came of it.
    texts: BTreeSet<(usize, u32)>,
    /// Other values of settings, and whether they were tried with the nearest variant and with those that are better.
    others: Vec<Other>,
    adjusted: [bool; 2],
    /// Seconds that are left for these while they were not tried.
    kept: f64,
    /// Trials under other settings that are to join: like which one, with what.
    joining: VecDeque<(usize, Other)>,
}

/// Another value of a setting: its key and the value.
pub type Other = (&'static str, Value);

/// Visits that would decide something, what they take and how much they promise.
struct Move {
    visits: Vec<PlannedVisit>,
    seconds: f64,
    promise: f64,
}

impl Recommend {
    /// In this order, within a time.
    pub fn new(order: Order, budget: Duration) -> Self {
        Self {
            order,
            budget: budget.as_secs_f64(),
            next: VecDeque::new(),
            has_begun: false,
            evaluated: None,
            texts: BTreeSet::new(),
            others: Vec::new(),
            adjusted: [false; 2],
            kept: 0.0,
            joining: VecDeque::new(),
        }
    }

    /// The same, which tries other settings where nothing meets everything.
    #[must_use]
    pub fn adjusting(self, others: Vec<Other>) -> Self {
        let kept = if others.is_empty() { 0.0 } else { self.budget * KEPT };
        Self { others, kept, ..self }
    }

    /// The next trial under other settings, once nothing else is left to decide.
    fn adjust(&mut self, known: &Known<'_>) -> Option<Step> {
        if self.joining.is_empty() && self.left(known) > 0.0 {
            self.joining = self.others(known).into();
        }
        let (trial, (key, value)) = self.joining.pop_front()?;
        let own = &known.plan.trials[trial].settings;
        let Ok(settings) = own.with(key, &value) else { return self.adjust(known) };
        let variant = known.plan.trials[trial].variant;
        let mut all = known.plan.trials.iter();
        if all.any(|it| it.variant == variant && it.settings == settings) {
            return self.adjust(known);
        }
        Some(Step::Add(Box::new(known.plan.under(known.experiment, trial, settings))))
    }

    fn others(&mut self, known: &Known<'_>) -> Vec<(usize, Other)> {
        let found = Recommendation::by(known.run, self.order);
        let slow = found.candidates.iter().filter(|it| is_only_slow(it));
        let slow: Vec<usize> = slow.map(|it| it.row).collect();
        match found.chosen {
            None if !self.adjusted[0] => {
                self.adjusted[0] = true;
                let nearest = found.nearest.filter(|row| slow.contains(row));
                let each = |row| self.others.iter().map(move |other| (row, other.clone()));
                nearest.or(slow.first().copied()).into_iter().flat_map(each).collect()
            }
            Some(chosen) if self.adjusted == [true, false] => {
                self.adjusted[1] = true;
                let own = &known.plan.trials[chosen].settings;
                let is_its =
                    |(key, value): &&Other| own.with(key, value).is_ok_and(|it| it == *own);
                let Some(other) = self.others.iter().find(is_its).cloned() else {
                    return Vec::new();
                };
                let promise = Promise::of(known, &found);
                let is_better = |&row: &usize| promise.of_row(row) > promise.of_row(chosen);
                slow.into_iter().filter(is_better).map(|row| (row, other.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn left(&self, known: &Known<'_>) -> f64 {
        self.budget - self.kept - known.run.active_seconds.unwrap_or(0.0)
    }

    /// The visits that decide most for their time about the most promising trial that is open.
    fn batch(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        let found = Recommendation::by(known.run, self.order);
        let promise = Promise::of(known, &found);
        let mut open: Vec<&Assessment> = found.undecided().collect();
        let is_hard = |row: usize| {
            let is_timed_often = rounds_of(&known.run.trials[row]) > ROUNDS[BELIEVED];
            is_timed_often || scored(known, row) > CHUNKS[BELIEVED]
        };
        open.sort_by(|one, other| {
            let by_promise = promise.of_row(other.row).total_cmp(&promise.of_row(one.row));
            is_hard(one.row).cmp(&is_hard(other.row)).then(by_promise)
        });
        let costs = Costs::of(known);
        for candidate in &open {
            if let Some(visits) = self.step(known, &found, &promise, &costs, candidate) {
                return visits;
            }
        }
        // What comes closest is shown with all that was asked for; what is too large is not made for that either.
        let is_too_large = |it: &&Assessment| it.findings.iter().any(Finding::is_predicted_not_met);
        let nearest = found.nearest.map(|row| &found.candidates[row]);
        let nearest = nearest.filter(|it| !is_too_large(it));
        let mut unmeasured = nearest.into_iter().flat_map(|candidate| {
            let findings = candidate.findings.iter();
            let findings = findings.filter(|it| it.proof == Proof::NotMeasured);
            findings.filter_map(|finding| self.further(known, candidate.row, finding))
        });
        let is_in_time =
            |visits: &Vec<PlannedVisit>| Self::seconds(known, &costs, visits) <= self.left(known);
        unmeasured.find(is_in_time).unwrap_or_default()
    }

    /// The step about a trial that decides most for its time.
    fn step(
        &self,
        known: &Known<'_>,
        found: &Recommendation,
        promise: &Promise,
        costs: &Costs<'_>,
        candidate: &Assessment,
    ) -> Option<Vec<PlannedVisit>> {
        let option = |visits: Vec<PlannedVisit>, promise| Move {
            seconds: Self::seconds(known, costs, &visits),
            visits,
            promise,
        };
        let mut options = Vec::new();
        for finding in candidate.findings.iter().filter(|it| it.proof != Proof::Met) {
            let likely = match finding.margin() {
                None => NOT_LOOKED_AT,
                Some(margin) if margin < 0.0 => LOOKS_BAD,
                Some(_) => LOOKS_WELL,
            };
            let visits = self.further(known, candidate.row, finding);
            options.extend(visits.map(|visits| option(visits, likely)));
        }
        // Nothing is asked for that would load it.
        if candidate.findings.iter().all(|it| it.proof == Proof::Met)
            && candidate.status == Status::Open
        {
            let visits = self.rounds(known, candidate.row, 1);
            options.extend(visits.map(|visits| option(visits, NOT_LOOKED_AT)));
        }
        if let Some(chosen) = found.chosen {
            let is_worse = promise.of_row(candidate.row) < promise.of_row(chosen);
            let likely = if is_worse { LOOKS_BAD } else { LOOKS_WELL };
            let visits = self.ordering(known, found, candidate.row, chosen);
            options.extend(visits.map(|visits| option(visits, likely)));
        }
        let left = self.left(known);
        options.retain(|it| it.seconds <= left);
        let best = options.into_iter().min_by(|one, other| {
            (one.seconds / one.promise).total_cmp(&(other.seconds / other.promise))
        });
        best.map(|option| option.visits)
    }

    /// What visits take, the making of files included; of what was not seen yet, little.
    fn seconds(known: &Known<'_>, costs: &Costs<'_>, visits: &[PlannedVisit]) -> f64 {
        let seconds: f64 = visits.iter().map(|&visit| costs.visit(visit).unwrap_or(0.0)).sum();
        let variants: BTreeSet<usize> = visits
            .iter()
            .filter(|visit| known.run.trials[visit.trial].artifact.is_none())
            .map(|visit| known.plan.trials[visit.trial].variant)
            .collect();
        let files: f64 = variants.into_iter().map(|variant| cost::making(known, variant)).sum();
        seconds + files
    }

    /// More of what a finding rests on; `None`: there is no more, or nobody waits for it.
    fn further(
        &self,
        known: &Known<'_>,
        row: usize,
        finding: &Finding,
    ) -> Option<Vec<PlannedVisit>> {
        let trial = &known.run.trials[row];
        let is_measured = finding.value.is_some() && !finding.is_predicted;
        if finding.requirement.metric == MEMORY {
            return if is_measured { None } else { self.rounds(known, row, 1) };
        }
        let stage = if finding.metric.is_some() {
            finding.stage()
        } else {
            Metric::named(&finding.requirement.metric)
                .map_or(Stage::Rounds, crate::results::proof::stage_of)
        };
        if is_measured && finding.unit == Unit::Once {
            return None;
        }
        match stage {
            Stage::Tasks => {
                let is_over = trial.stages.iter().any(|it| it.stage == Stage::Tasks);
                let visit = PlannedVisit { trial: row, purpose: Purpose::Tasks };
                (!is_over).then(|| vec![visit])
            }
            Stage::Quality => self.text(known, row, finding.more),
            Stage::Rounds => {
                let done = rounds_of(trial);
                let is_answered = finding.unit == Unit::Prompts && done >= known.experiment.rounds;
                // What two rounds do not measure cannot be measured here.
                let is_missing = !is_measured && done >= ROUNDS[0];
                if is_answered || is_missing {
                    None
                } else {
                    let costs = Costs::of(known);
                    let visits = self.rounds(known, row, next_of(&ROUNDS, done, finding.more)?);
                    let fits = |it: &Vec<PlannedVisit>| {
                        Self::seconds(known, &costs, it) <= self.left(known)
                    };
                    visits
                        .filter(fits)
                        .or_else(|| self.rounds(known, row, next_of(&ROUNDS, done, None)?))
                }
            }
        }
    }

    /// What shows which of two is better in the order.
    fn ordering(
        &self,
        known: &Known<'_>,
        found: &Recommendation,
        row: usize,
        chosen: usize,
    ) -> Option<Vec<PlannedVisit>> {
        match self.order {
            Order::Smallest => None,
            Order::Fastest => {
                let done = [row, chosen].map(|row| rounds_of(&known.run.trials[row]));
                let until = next_of(&ROUNDS, done[0].min(done[1]), None)?;
                // Side by side: they are compared within a round.
                let visits = (0..until).flat_map(|round| {
                    let missing = [(row, done[0]), (chosen, done[1])];
                    let missing = missing.into_iter().filter(move |&(_, done)| round >= done);
                    missing.map(move |(trial, _)| PlannedVisit {
                        trial,
                        purpose: Purpose::Round(round),
                    })
                });
                Some(visits.collect())
            }
            Order::Closest => {
                let is_reference = |row: usize| known.plan.trials[row].is_reference;
                let pair = found.evidences().log_ratio(row, chosen, found.loss());
                let needed = pair.and_then(|pair| {
                    let half = pair.half_width()?;
                    let more =
                        crate::units::to_f64(pair.n as u64) * ((half / pair.value).powi(2) - 1.0);
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "saturates"
                    )]
                    let more = more.max(1.0) as u64;
                    Some(more)
                });
                let behind = [row, chosen].into_iter().filter(|&row| !is_reference(row));
                let behind = behind.min_by_key(|&row| scored(known, row))?;
                self.text(known, behind, needed)
            }
        }
    }

    /// Rounds of a trial up to so many.
    #[expect(clippy::unused_self, reason = "one of three alike")]
    fn rounds(&self, known: &Known<'_>, row: usize, until: u32) -> Option<Vec<PlannedVisit>> {
        let model = known.plan.trials[row].model_position;
        if !known.experiment.workloads_of(model).has(Stage::Rounds) {
            return None;
        }
        let done = rounds_of(&known.run.trials[row]);
        let visit = |round| PlannedVisit { trial: row, purpose: Purpose::Round(round) };
        let visits: Vec<PlannedVisit> = (done..until).map(visit).collect();
        (!visits.is_empty()).then_some(visits)
    }

    /// More of the text for a trial, the reference before it where it was not evaluated so far.
    fn text(&self, known: &Known<'_>, row: usize, more: Option<u64>) -> Option<Vec<PlannedVisit>> {
        let model = known.plan.trials[row].model_position;
        let workloads = known.experiment.workloads_of(model);
        let is_lost = has_failed_reference(known, row);
        if !workloads.has(Stage::Quality) || is_lost || is_quality_over(known, row) {
            return None;
        }
        let until = next_of(&CHUNKS, scored(known, row), more)?;
        let visit =
            |trial, until| PlannedVisit { trial, purpose: Purpose::Quality { until: Some(until) } };
        let Some(reference) = reference_of(known, row).filter(|&it| it != row) else {
            return Some(vec![visit(row, until)]);
        };
        if !workloads.compare() {
            return Some(vec![visit(row, until)]);
        }
        let has = scored(known, reference);
        let is_whole = is_quality_over(known, reference);
        let until = if is_whole { until.min(has) } else { until };
        if until <= scored(known, row) {
            return None;
        }
        let first = (self.evaluated != Some(reference) || (until > has && !is_whole))
            .then(|| visit(reference, until.max(has)));
        Some(first.into_iter().chain([visit(row, until)]).collect())
    }
}

impl Strategy for Recommend {
    fn next(&mut self, known: &Known<'_>) -> Step {
        self.has_begun = true;
        loop {
            while let Some(visit) = self.next.pop_front() {
                // More of the text than there is.
                let is_over = matches!(visit.purpose, Purpose::Quality { .. })
                    && self.evaluated.is_some()
                    && is_quality_over(known, visit.trial);
                let is_new = match visit.purpose {
                    Purpose::Quality { until: Some(until) } => {
                        self.texts.insert((visit.trial, until))
                    }
                    _ => true,
                };
                if !is_pointless(known, visit) && !is_over && is_new {
                    let is_reference = known.plan.trials[visit.trial].is_reference;
                    if is_reference && matches!(visit.purpose, Purpose::Quality { .. }) {
                        self.evaluated = Some(visit.trial);
                    }
                    return Step::Visit(visit);
                }
            }
            self.next = self.batch(known).into();
            self.next.retain(|&visit| {
                let is_done = matches!(visit.purpose, Purpose::Quality { until: Some(until) }
                    if self.texts.contains(&(visit.trial, until)));
                !is_done && !is_pointless(known, visit)
            });
            if self.next.is_empty() {
                let kept = std::mem::take(&mut self.kept);
                match self.adjust(known) {
                    Some(step) => return step,
                    // Nothing is to be tried in that time.
                    None if kept > 0.0 => {}
                    None => return Step::Done,
                }
            }
        }
    }

    fn ahead(&self, known: &Known<'_>) -> Vec<PlannedVisit> {
        if self.has_begun { self.next.iter().copied().collect() } else { self.batch(known) }
    }
}

/// How good a trial promises to be in the order, higher being better.
struct Promise(Vec<f64>);

impl Promise {
    fn of(known: &Known<'_>, found: &Recommendation) -> Self {
        let rows = 0..known.run.trials.len();
        let bytes = |row: usize| crate::units::to_f64(known.plan.variant_of(row).expected_bytes());
        let worth = |row: usize| found.worth(known.run, row);
        let is_reference = |row: usize| known.plan.trials[row].is_reference;
        let reference = rows.clone().find(|&row| is_reference(row)).map_or(1.0, bytes);
        // What sizes say of the order.
        let by_size = |row: usize| match found.order {
            Order::Closest => LOSS_PER_BIT * 16.0 * bytes(row) / reference,
            Order::Fastest => -bytes(row).ln(),
            Order::Smallest => 0.0,
        };
        let by_measure = |row: usize| match found.order {
            Order::Closest => (-worth(row)).max(f64::MIN_POSITIVE).ln(),
            Order::Fastest => worth(row).ln(),
            Order::Smallest => worth(row),
        };
        let is_measured = |row: usize| worth(row).is_finite() && !is_reference(row);
        let offsets: Vec<f64> = rows
            .clone()
            .filter(|&row| is_measured(row))
            .map(|row| by_measure(row) - by_size(row))
            .collect();
        let offset = if offsets.is_empty() {
            0.0
        } else {
            offsets.iter().sum::<f64>() / crate::units::to_f64(offsets.len() as u64)
        };
        let promise = |row: usize| match found.order {
            Order::Smallest => -bytes(row),
            Order::Closest if is_reference(row) => f64::INFINITY,
            Order::Closest if is_measured(row) => -by_measure(row),
            Order::Closest => -(by_size(row) + offset),
            Order::Fastest if is_measured(row) => by_measure(row),
            Order::Fastest => by_size(row) + offset,
        };
        Self(rows.map(promise).collect())
    }

    fn of_row(&self, row: usize) -> f64 {
        self.0[row]
    }
}

/// Whether nothing but speeds keeps a trial from meeting everything.
fn is_only_slow(candidate: &Assessment) -> bool {
    let mut lacking = candidate.findings.iter().filter(|it| it.proof != Proof::Met).peekable();
    let is_measured = candidate.findings.iter().any(|it| it.value.is_some() && !it.is_predicted);
    let is_speed = |it: &Finding| it.requirement.metric != MEMORY && it.stage() == Stage::Rounds;
    is_measured && lacking.peek().is_some() && lacking.all(is_speed)
}

/// Rounds that a trial has been through.
fn rounds_of(trial: &TrialRecord) -> u32 {
    trial.visits.iter().map(|visit| visit.round + 1).max().unwrap_or(0)
}
