//! Time left, estimated from the visits that are over.

use crate::orchestrator::schedule::{PlannedVisit, Purpose};
use crate::units::format_seconds;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

/// Estimates how long the visits that remain will take.
#[derive(Debug, Default)]
pub(super) struct TimeLeft {
    remaining: Vec<PlannedVisit>,
    pause: Duration,
    spent: HashMap<(Kind, usize), Spent>,
}

/// Visits of one kind, whatever their round, take about as long as each other.
type Kind = Discriminant<Purpose>;

/// Time spent on visits of one kind to one trial.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    total: Duration,
    visits: u32,
}

impl TimeLeft {
    /// All visits that are to be made, with a pause before each.
    pub(super) fn new(visits: &[PlannedVisit], pause: Duration) -> Self {
        Self { remaining: visits.to_vec(), pause, spent: HashMap::new() }
    }

    /// All visits that are to be made are known.
    pub(super) fn begin(&mut self, visits: &[PlannedVisit]) {
        self.remaining = visits.to_vec();
    }

    /// How many visits remain.
    pub(super) fn visits(&self) -> usize {
        self.remaining.len()
    }

    /// A visit is over.
    pub(super) fn finished(&mut self, visit: PlannedVisit, length: Duration) {
        let spent = self.spent.entry((discriminant(&visit.purpose), visit.trial)).or_default();
        spent.total += length;
        spent.visits += 1;
        self.remaining.retain(|other| *other != visit);
    }

    /// A trial failed: it is not visited again, and how long it took says nothing.
    pub(super) fn failed(&mut self, trial: usize) {
        self.remaining.retain(|visit| visit.trial != trial);
    }

    /// Time that the visits that remain will take; `None` before a visit is over.
    ///
    /// A trial's own visits of the same kind count; else those of other trials; else a visit of another kind
    /// is taken as a guess, a drift control for a quarter of one.
    pub(super) fn estimate(&self) -> Option<Estimate> {
        let mut estimate = Estimate { length: Duration::ZERO, is_guess: false };
        for &visit in &self.remaining {
            let (length, is_guess) = self.one(visit)?;
            estimate.length += self.pause + length;
            estimate.is_guess |= is_guess;
        }
        Some(estimate)
    }

    /// How long a visit takes, and whether that is a guess.
    fn one(&self, visit: PlannedVisit) -> Option<(Duration, bool)> {
        let kind = discriminant(&visit.purpose);
        let mean = |is_counted: &dyn Fn(Kind, usize) -> bool| {
            let counted = self.spent.iter().filter(|((kind, trial), _)| is_counted(*kind, *trial));
            let sum = counted.fold(Spent::default(), |sum, (_, spent)| Spent {
                total: sum.total + spent.total,
                visits: sum.visits + spent.visits,
            });
            (sum.visits > 0).then(|| sum.total / sum.visits)
        };
        let known = mean(&|other, trial| other == kind && trial == visit.trial)
            .or_else(|| mean(&|other, _| other == kind));
        let guess = || {
            let whole = mean(&|other, _| other == discriminant(&Purpose::Round(0)))
                .or_else(|| mean(&|_, _| true))?;
            let is_control = matches!(visit.purpose, Purpose::DriftControl(_));
            Some(if is_control { whole / 4 } else { whole })
        };
        known.map(|length| (length, false)).or_else(|| guess().map(|length| (length, true)))
    }
}

/// How long something will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Estimate {
    pub(super) length: Duration,
    /// Something in it is of a kind that was not seen yet.
    pub(super) is_guess: bool,
}

/// Less of some work says nothing of the rest.
const TELLING: f64 = 0.02;

/// How long the rest of some work will take of which a fraction took `length`, in words.
pub(super) fn left(length: Duration, fraction: f64) -> String {
    if fraction < TELLING {
        return "time left not known yet".to_owned();
    }
    format!("about {} left", roughly(length.mul_f64((1.0 - fraction.min(1.0)) / fraction)))
}

/// An estimate, without digits that it cannot have.
pub(super) fn roughly(length: Duration) -> String {
    let seconds = length.as_secs_f64().ceil();
    if seconds < 100.0 { format!("{seconds} s") } else { format_seconds(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(trial: usize, purpose: Purpose) -> PlannedVisit {
        PlannedVisit { trial, purpose }
    }

    #[expect(clippy::unnecessary_wraps, reason = "compared with what may be none")]
    fn seconds(seconds: u64, is_guess: bool) -> Option<Estimate> {
        Some(Estimate { length: Duration::from_secs(seconds), is_guess })
    }

    fn two_trials_two_rounds() -> TimeLeft {
        let visits: Vec<PlannedVisit> = (0..2)
            .flat_map(|round| (0..2).map(move |trial| visit(trial, Purpose::Round(round))))
            .collect();
        TimeLeft::new(&visits, Duration::ZERO)
    }

    #[test]
    fn nothing_is_estimated_before_a_visit_is_over() {
        assert_eq!(two_trials_two_rounds().estimate(), None);
    }

    #[test]
    fn a_trial_is_estimated_from_its_own_visits_and_else_from_the_others() {
        let mut left = two_trials_two_rounds();
        left.finished(visit(0, Purpose::Round(0)), Duration::from_secs(10));
        assert_eq!(left.estimate(), seconds(30, false));
        left.finished(visit(1, Purpose::Round(0)), Duration::from_secs(2));
        assert_eq!(left.estimate(), seconds(12, false));
    }

    #[test]
    fn there_is_a_guess_from_the_first_visit_on() {
        let visits = [
            visit(0, Purpose::Quality { until: None }),
            visit(1, Purpose::Quality { until: None }),
            visit(0, Purpose::Round(0)),
            visit(1, Purpose::Round(0)),
            visit(0, Purpose::DriftControl(0)),
        ];
        let mut left = TimeLeft::new(&visits, Duration::ZERO);
        left.finished(visits[0], Duration::from_secs(8));
        assert_eq!(left.estimate(), seconds(8 + 8 + 8 + 2, true));
        left.finished(visits[1], Duration::from_secs(8));
        left.finished(visits[2], Duration::from_secs(4));
        assert_eq!(left.estimate(), seconds(4 + 1, true));
        left.failed(0);
        assert_eq!(left.estimate(), seconds(4, false));
    }

    #[test]
    fn a_failed_trial_takes_no_more_time() {
        let mut left = two_trials_two_rounds();
        left.finished(visit(0, Purpose::Round(0)), Duration::from_secs(10));
        left.failed(1);
        assert_eq!((left.visits(), left.estimate()), (1, seconds(10, false)));
    }

    #[test]
    fn pauses_count() {
        let visits = [visit(0, Purpose::Round(0)), visit(0, Purpose::Round(1))];
        let mut left = TimeLeft::new(&visits, Duration::from_secs(5));
        left.finished(visits[0], Duration::from_secs(3));
        assert_eq!(left.estimate(), seconds(8, false));
    }
}
