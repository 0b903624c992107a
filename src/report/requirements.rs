//! Requirements in words: what is required, and what of it.

use super::text::sanitize;
use crate::experiment::requirements::{Bound, GENERATION, MEMORY, Requirement};
use crate::results::metric::{Digits, Metric, Shown};
use crate::results::summary::Summary;
use crate::results::verdict::Check;
use crate::units::format_bytes;

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
            let number = (limit * factor * 1e6).round() / 1e6;
            let sign = if unit.starts_with('+') && number > 0.0 { "+" } else { "" };
            format!("{sign}{number} {}", unit.trim_start_matches('+')).trim_end().to_owned()
        }
    };
    let sign = if *bound == Bound::AtMost { '≤' } else { '≥' };
    format!("{what} {sign} {limit}")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size, not negative")]
fn in_bytes(size: f64) -> String {
    format_bytes(size as u64)
}
