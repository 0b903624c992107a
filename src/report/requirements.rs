//! Requirements in words: what is required, and what of it.

use super::text::sanitize;
use crate::experiment::requirements::{Bound, GENERATION, MEMORY, Requirement};
use crate::results::metric::{Digits, Metric, Shown};
use crate::results::summary::Summary;
use crate::results::verdict::Check;
use crate::units::{format_bytes, significant};

/// What is required, as briefly as a table needs it: `memory`.
pub(super) fn name(check: &Check) -> String {
    match check.requirement.metric.as_str() {
        MEMORY => "memory".to_owned(),
        GENERATION => "speed".to_owned(),
        name => check.measured.map_or_else(|| sanitize(name), Metric::label),
    }
}

/// `memory ≤ 2.00 GiB`, `same top ≥ 97 %`.
pub(super) fn in_words(requirement: &Requirement, summary: &Summary) -> String {
    let Requirement { metric: name, bound, limit } = requirement;
    let (what, shown) = match name.as_str() {
        MEMORY => ("memory".to_owned(), Some(Shown::Bytes)),
        GENERATION => ("generation".to_owned(), Some(Shown::In("t/s", 1.0, Digits::Decimals(0)))),
        name => {
            let measured = summary.metrics.iter().copied().find(|metric| metric.name() == name);
            let metric = measured.or_else(|| Metric::named(name));
            (
                metric.map_or_else(|| sanitize(name), Metric::label),
                metric.map(|it| it.descriptor().shown),
            )
        }
    };
    let limit = match shown {
        None => limit.to_string(),
        Some(Shown::Bytes) => in_bytes(*limit),
        Some(Shown::In(unit, factor, _)) => {
            in_unit(unit, (limit * factor * 1e6).round() / 1e6, |number| number.to_string())
        }
    };
    let sign = if *bound == Bound::AtMost { '≤' } else { '≥' };
    format!("{what} {sign} {limit}")
}

/// A value of a figure with its unit, to three digits.
pub(super) fn quantity(metric: Option<Metric>, name: &str, value: f64) -> String {
    let shown = match (name, metric) {
        (MEMORY, _) => Some(Shown::Bytes),
        (_, Some(metric)) => Some(metric.descriptor().shown),
        (name, None) => Metric::named(name).map(|it| it.descriptor().shown),
    };
    match shown {
        None => significant(value, 3),
        Some(Shown::Bytes) => in_bytes(value),
        Some(Shown::In(unit, factor, _)) => {
            in_unit(unit, value * factor, |number| significant(number, 3))
        }
    }
}

fn in_unit(unit: &str, number: f64, shown: impl Fn(f64) -> String) -> String {
    let sign = if unit.starts_with('+') && number > 0.0 { "+" } else { "" };
    format!("{sign}{} {}", shown(number), unit.trim_start_matches('+')).trim_end().to_owned()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size, not negative")]
fn in_bytes(size: f64) -> String {
    format_bytes(size as u64)
}
