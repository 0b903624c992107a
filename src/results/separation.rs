//! What is level, and what it would take to tell it apart.

use super::figure::{Evidence, Figure, Relation};
use super::metric::Metric;
use super::summary::{ModelSummary, Summary};
use crate::experiment::requirements::GENERATION;
use crate::statistics::estimate::Estimate;
use crate::statistics::sample::to_f64;

/// Two trials whose figures the noise does not tell apart, next to each other in their order; or one whose
/// speed it does not tell from what is required.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// Positions of the trials, twice the same for a requirement.
    pub rows: [usize; 2],
    /// A throughput, or the divergence.
    pub metric: Metric,
    /// Rounds, or chunks of text, that it would take besides those that there were; `None`: they are equal as far as can
    /// be told.
    pub more: Option<u64>,
}

/// What is level in the speed that each model's trials are judged by.
pub fn undecided(summary: &Summary) -> Vec<Level> {
    summary.models.iter().flat_map(|model| of_model(summary, model)).collect()
}

/// What is level in divergence from the reference.
pub fn undecided_divergence(summary: &Summary) -> Vec<Level> {
    let of_model = |model| neighbours(summary, model, Metric::Kld);
    summary.models.iter().flat_map(of_model).collect()
}

fn figures<'a>(
    summary: &'a Summary,
    model: &'a ModelSummary,
    metric: Metric,
) -> impl Iterator<Item = (usize, &'a Figure)> {
    let rows = model.groups.iter().flat_map(|group| &group.rows);
    let sound = rows.filter(|&&row| summary.rows[row].failure.is_none());
    sound.filter_map(move |&row| Some((row, summary.rows[row].figures.get(&metric)?)))
}

fn neighbours(summary: &Summary, model: &ModelSummary, metric: Metric) -> Vec<Level> {
    let mut ordered: Vec<(usize, &Figure)> = figures(summary, model, metric).collect();
    ordered.sort_by(|one, other| other.1.estimate.value.total_cmp(&one.1.estimate.value));
    // What was measured once is not known to be level.
    let is_known = |two: &&[(usize, &Figure)]| {
        apart(two[0].1, two[1].1).is_some_and(|apart| apart.interval.is_some())
    };
    let level = ordered.windows(2).filter(is_known);
    let level = level.filter(|two| two[0].1.relation(two[1].1) == Relation::Same);
    let told = level.map(|two| Level {
        rows: [two[0].0, two[1].0],
        metric,
        more: more_to_part(two[0].1, two[1].1),
    });
    told.collect()
}

fn of_model(summary: &Summary, model: &ModelSummary) -> Vec<Level> {
    let Some(metric) = model.speed else { return Vec::new() };
    let mut level = neighbours(summary, model, metric);
    for (row, figure) in figures(summary, model, metric) {
        let checks = summary.rows[row].verdict.iter().flat_map(|verdict| &verdict.checks);
        let on_speed = |name: &str| name == GENERATION || name == metric.name();
        let mut close = checks.filter(|it| it.close && on_speed(&it.requirement.metric));
        if let Some(check) = close.next() {
            let more = more_to_leave(figure, check.requirement.limit);
            level.push(Level { rows: [row, row], metric, more });
        }
    }
    level
}

/// An interval shrinks with the root of the number of rounds or chunks.
fn more(rounds: usize, half_width: f64, distance: f64) -> Option<u64> {
    let needed = to_f64(rounds) * (half_width / distance).powi(2);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 10^6")]
    let count = |rounds: f64| rounds.ceil() as u64;
    (needed < 1e6).then(|| count(needed).saturating_sub(rounds as u64).max(1))
}

/// How far two figures are apart, in logarithms where they are compared by ratio.
fn apart(one: &Figure, other: &Figure) -> Option<Estimate> {
    match one.evidence {
        Evidence::Rounds(_) => Some(one.ratio(other)?.map(f64::ln)),
        Evidence::Chunks { .. } => one.difference(other),
        _ => None,
    }
}

fn more_to_part(one: &Figure, other: &Figure) -> Option<u64> {
    let apart = apart(one, other)?;
    more(apart.n, apart.half_width()?, apart.value.abs())
}

fn more_to_leave(figure: &Figure, limit: f64) -> Option<u64> {
    let estimate = &figure.estimate;
    more(estimate.n, estimate.half_width()?, (estimate.value - limit).abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::MadeUp;

    #[test]
    fn what_was_measured_once_is_not_called_level() {
        let level = |rounds| undecided(&Summary::of(&MadeUp { rounds, ..MadeUp::default() }.run()));
        assert!(!level(3).is_empty());
        assert_eq!(level(1), []);
    }

    #[test]
    fn twice_the_width_takes_four_times_the_rounds() {
        assert_eq!(more(3, 0.02, 0.01), Some(9));
        assert_eq!(more(5, 0.0101, 0.01), Some(1));
        assert_eq!(more(3, 0.02, 0.0), None, "equal");
    }
}
