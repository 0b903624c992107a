//! Verdicts: whether a trial meets the requirements.

use super::figure::Figure;
use super::metric::{Better, Metric};
use crate::experiment::requirements::{Bound, GENERATION, MEMORY, Requirement, Requirements};
use crate::statistics::estimate::Interval;
use serde::Serialize;
use std::collections::BTreeMap;

/// How a trial stands against one requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The figure is within the limit.
    Met,
    /// It is not.
    Missed,
    /// There is no such figure.
    NotMeasured,
}

/// One requirement against one trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What is required.
    #[serde(flatten)]
    pub requirement: Requirement,
    /// The figure that it is on, if that is a column and any trial has it.
    #[serde(skip)]
    pub measured: Option<Metric>,
    /// The trial's figure.
    pub value: Option<f64>,
    /// How they compare.
    pub outcome: Standing,
    /// Whether the figure's 95 % interval holds the limit: measured again, it might turn out
    /// differently.
    pub close: bool,
}

impl Check {
    /// By which factor the limit is missed, above 1; 1 if it is met.
    pub fn excess(&self) -> f64 {
        let Requirement { bound, limit, .. } = self.requirement;
        let factor = match (self.value, bound) {
            (Some(value), Bound::AtLeast) => limit / value,
            (Some(value), Bound::AtMost) => value / limit,
            (None, _) => f64::INFINITY,
        };
        if self.outcome == Standing::Met || factor.is_nan() { 1.0 } else { factor.max(1.0) }
    }
}

/// Whether a trial meets the requirements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Every requirement that was stated.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Whether all requirements are met; what was not measured is not met.
    pub fn is_met(&self) -> bool {
        self.checks.iter().all(|check| check.outcome == Standing::Met)
    }

    /// Judges figures, all kinds of which are `known`; `None` if nothing is required.
    ///
    /// The value decides, not its interval: a requirement is about what is typical, and `close`
    /// says where noise could turn the verdict. The reference differs from itself by nothing.
    pub(super) fn of(
        requirements: &Requirements,
        figures: &BTreeMap<Metric, Figure>,
        known: &[Metric],
        generation: Option<Metric>,
        is_reference: bool,
    ) -> Option<Self> {
        let check = |requirement: &Requirement| {
            let measured = match requirement.metric.as_str() {
                MEMORY => return check(requirement, None, memory(figures).as_ref()),
                GENERATION => generation,
                name => known.iter().copied().find(|metric| metric.name() == name),
            };
            let figure = match measured {
                Some(metric) if is_reference && metric.descriptor().is_comparison => {
                    let is_best = metric.descriptor().better == Some(Better::Higher);
                    Some(Figure::exact(if is_best { 1.0 } else { 0.0 }))
                }
                measured => measured.and_then(|metric| figures.get(&metric).cloned()),
            };
            check(requirement, measured, figure.as_ref())
        };
        let checks: Vec<Check> = requirements.0.iter().map(check).collect();
        (!checks.is_empty()).then_some(Self { checks })
    }
}

/// What a variant takes in all: resident memory plus memory of devices of their own.
pub(super) fn memory(figures: &BTreeMap<Metric, Figure>) -> Option<Figure> {
    let rss = figures.get(&Metric::PeakRssBytes)?.estimate.value;
    let device = figures.get(&Metric::DeviceBytes).map_or(0.0, |figure| figure.estimate.value);
    Some(Figure::exact(rss + device))
}

fn check(requirement: &Requirement, measured: Option<Metric>, figure: Option<&Figure>) -> Check {
    let limit = requirement.limit;
    let value = figure.map(|figure| figure.estimate.value);
    let outcome = match (value, requirement.bound) {
        (None, _) => Standing::NotMeasured,
        (Some(value), Bound::AtLeast) if value >= limit => Standing::Met,
        (Some(value), Bound::AtMost) if value <= limit => Standing::Met,
        (Some(_), _) => Standing::Missed,
    };
    let open = |interval: Interval| interval.low < limit && limit < interval.high;
    let interval = figure.and_then(|figure| figure.estimate.interval);
    let requirement = requirement.clone();
    Check { requirement, measured, value, outcome, close: interval.is_some_and(open) }
}
