//! Time left, estimated from the visits that are over.

use crate::orchestrator::schedule::{PlannedVisit, Purpose};
use std::collections::HashMap;
use std::time::Duration;

/// Estimates how long the visits that remain will take.
#[derive(Debug, Default)]
pub(super) struct TimeLeft {
    remaining: Vec<PlannedVisit>,
    pause: Duration,
    spent: HashMap<(Kind, usize), Spent>,
}

/// Visits of one kind take about as long as each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Quality,
    Tasks,
    Round,
    Anchor,
}

/// Time spent on visits of one kind to one trial.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    total: Duration,
    visits: u32,
}

impl From<Purpose> for Kind {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Quality => Self::Quality,
            Purpose::Tasks => Self::Tasks,
            Purpose::Round(_) => Self::Round,
            Purpose::Anchor(_) => Self::Anchor,
        }
    }
}

impl TimeLeft {
    /// All visits that are to be made, with a pause before each.
    pub(super) fn new(visits: &[PlannedVisit], pause: Duration) -> Self {
        Self { remaining: visits.to_vec(), pause, spent: HashMap::new() }
    }

    /// How many visits remain.
    pub(super) fn visits(&self) -> usize {
        self.remaining.len()
    }

    /// A visit is over.
    pub(super) fn finished(&mut self, visit: PlannedVisit, length: Duration) {
        let spent = self.spent.entry((visit.purpose.into(), visit.trial)).or_default();
        spent.total += length;
        spent.visits += 1;
        self.remaining.retain(|other| *other != visit);
    }

    /// A trial failed: it is not visited again, and how long it took says nothing.
    pub(super) fn failed(&mut self, trial: usize) {
        self.remaining.retain(|visit| visit.trial != trial);
    }

    /// Time that the visits that remain will take; `None` while nothing like them is over.
    ///
    /// A trial's own visits of the same kind count; else those of other trials; an anchor is
    /// guessed as a quarter of a visit until there is one.
    pub(super) fn estimate(&self) -> Option<Duration> {
        self.remaining.iter().map(|visit| Some(self.pause + self.one(*visit)?)).sum()
    }

    fn one(&self, visit: PlannedVisit) -> Option<Duration> {
        let kind = Kind::from(visit.purpose);
        if let Some(own) = self.spent.get(&(kind, visit.trial)) {
            return Some(own.total / own.visits);
        }
        let others = |kind| {
            let of_kind = self.spent.iter().filter(|((other, _), _)| *other == kind);
            let sum = of_kind.fold(Spent::default(), |sum, (_, spent)| Spent {
                total: sum.total + spent.total,
                visits: sum.visits + spent.visits,
            });
            (sum.visits > 0).then(|| sum.total / sum.visits)
        };
        others(kind).or_else(|| {
            (kind == Kind::Anchor).then(|| others(Kind::Round).map(|length| length / 4)).flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(trial: usize, purpose: Purpose) -> PlannedVisit {
        PlannedVisit { trial, purpose }
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
        assert_eq!(left.estimate(), Some(Duration::from_secs(30)));
        left.finished(visit(1, Purpose::Round(0)), Duration::from_secs(2));
        assert_eq!(left.estimate(), Some(Duration::from_secs(12)));
    }

    #[test]
    fn a_failed_trial_takes_no_more_time() {
        let mut left = two_trials_two_rounds();
        left.finished(visit(0, Purpose::Round(0)), Duration::from_secs(10));
        left.failed(1);
        assert_eq!((left.visits(), left.estimate()), (1, Some(Duration::from_secs(10))));
    }

    #[test]
    fn pauses_count() {
        let visits = [visit(0, Purpose::Round(0)), visit(0, Purpose::Round(1))];
        let mut left = TimeLeft::new(&visits, Duration::from_secs(5));
        left.finished(visits[0], Duration::from_secs(3));
        assert_eq!(left.estimate(), Some(Duration::from_secs(8)));
    }
}
