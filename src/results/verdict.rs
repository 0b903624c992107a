//! Verdicts: whether a trial meets the requirements.

use super::figure::Figure;
use super::metric::Metric;
use crate::experiment::requirements::Requirements;
use crate::statistics::estimate::Interval;
use serde::Serialize;
use std::collections::BTreeMap;

/// One thing that can be required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Peak resident memory plus device memory, bytes, at most.
    Memory,
    /// Tokens per second of the first generation test, at least.
    GenerationSpeed,
    /// 90th percentile of the time to first token, seconds, at most.
    TimeToFirstToken,
    /// Mean divergence, nats, at most.
    Divergence,
    /// Perplexity over the reference's minus 1, at most.
    PerplexityIncrease,
}

impl Need {
    /// One word for a table: `memory`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::GenerationSpeed => "speed",
            Self::TimeToFirstToken => "TTFT",
            Self::Divergence => "KLD",
            Self::PerplexityIncrease => "PPL",
        }
    }

    /// Whether the limit is a lower one.
    #[must_use]
    pub fn at_least(self) -> bool {
        self == Self::GenerationSpeed
    }
}

/// How a trial stands against one requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The figure is within the limit.
    Met,
    /// It is not.
    Missed,
    /// There is no such figure.
    NotMeasured,
}

/// One requirement against one trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Check {
    /// What is required.
    pub need: Need,
    /// The limit, in the unit of the need.
    pub limit: f64,
    /// The trial's figure.
    pub value: Option<f64>,
    /// How they compare.
    pub outcome: Outcome,
    /// Whether the figure's 95 % interval holds the limit: measured again, it might turn out
    /// differently.
    pub close: bool,
}

impl Check {
    /// By which factor the limit is missed, above 1; 1 if it is met.
    #[must_use]
    pub fn excess(&self) -> f64 {
        let factor = match self.value {
            Some(value) if self.need.at_least() => self.limit / value,
            Some(value) => value / self.limit,
            None => f64::INFINITY,
        };
        if self.outcome == Outcome::Met || factor.is_nan() { 1.0 } else { factor.max(1.0) }
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
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.checks.iter().all(|check| check.outcome == Outcome::Met)
    }

    /// Judges figures; `None` if nothing is required.
    ///
    /// The value decides, not its interval: a requirement is about what is typical, and `close`
    /// says where noise could turn the verdict. The reference diverges from itself by nothing.
    pub(super) fn of(
        requirements: &Requirements,
        figures: &BTreeMap<Metric, Figure>,
        generation: Option<Metric>,
        is_reference: bool,
    ) -> Option<Self> {
        let figure = |metric: Metric| figures.get(&metric).cloned();
        let own = |metric: Metric| {
            if is_reference { Some(Figure::exact(0.0)) } else { figure(metric) }
        };
        #[expect(clippy::cast_precision_loss, reason = "sizes are below 2^53")]
        let memory_limit = requirements.max_memory_bytes.map(|bytes| bytes as f64);
        let checks: Vec<Check> = [
            memory_limit.map(|limit| check(Need::Memory, limit, memory(figures).as_ref())),
            requirements.min_generation_tokens_per_second.map(|limit| {
                check(Need::GenerationSpeed, limit, generation.and_then(figure).as_ref())
            }),
            requirements.max_ttft_ms.map(|limit| {
                let figure = figure(Metric::Ttft90Seconds);
                check(Need::TimeToFirstToken, limit / 1e3, figure.as_ref())
            }),
            requirements
                .max_kld
                .map(|limit| check(Need::Divergence, limit, own(Metric::Kld).as_ref())),
            requirements.max_perplexity_increase.map(|limit| {
                let figure = own(Metric::PerplexityIncrease);
                check(Need::PerplexityIncrease, limit, figure.as_ref())
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!checks.is_empty()).then_some(Self { checks })
    }
}

/// What a variant takes in all: resident memory plus memory of devices of their own.
pub(super) fn memory(figures: &BTreeMap<Metric, Figure>) -> Option<Figure> {
    let rss = figures.get(&Metric::PeakRssBytes)?.estimate.value;
    let device = figures.get(&Metric::DeviceBytes).map_or(0.0, |figure| figure.estimate.value);
    Some(Figure::exact(rss + device))
}

fn check(need: Need, limit: f64, figure: Option<&Figure>) -> Check {
    let Some(figure) = figure else {
        return Check { need, limit, value: None, outcome: Outcome::NotMeasured, close: false };
    };
    let value = figure.estimate.value;
    let met = if need.at_least() { value >= limit } else { value <= limit };
    let open = |interval: Interval| interval.low < limit && limit < interval.high;
    Check {
        need,
        limit,
        value: Some(value),
        outcome: if met { Outcome::Met } else { Outcome::Missed },
        close: figure.estimate.interval.is_some_and(open),
    }
}
