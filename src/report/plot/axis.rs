//! Axes: from values to positions, and which values are named.

use crate::units::significant;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Decades that an axis has room for.
const MOST_DECADES: f64 = 24.0;

/// An axis of a plot.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) enum Axis {
    /// Numbers, evenly or by their logarithms.
    Numbers {
        /// With the unit: `file size (MiB)`.
        title: String,
        low: f64,
        high: f64,
        is_log: bool,
    },
    /// Rows from the top, by their names.
    Rows(Vec<String>),
}

impl Axis {
    /// From zero to a little more than the largest value; `None` where there is none.
    pub(super) fn from_zero(
        title: impl Into<String>,
        values: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        let high = finite(values).reduce(f64::max).filter(|high| *high > 0.0)?;
        Some(Self::Numbers { title: title.into(), low: 0.0, high: high * 1.06, is_log: false })
    }

    /// Around the values, with the logarithm; `None` where none is above zero, or they are no measurements.
    pub(super) fn logarithmic(
        title: impl Into<String>,
        values: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        let values: Vec<f64> = finite(values).filter(|value| *value > 0.0).collect();
        let low = values.iter().copied().reduce(f64::min)?.log10();
        let high = values.iter().copied().reduce(f64::max)?.log10();
        let room = ((high - low) * 0.06).max(0.04);
        let (low, high) = (low - room, high + room);
        let ends = (10.0_f64.powf(low), 10.0_f64.powf(high));
        let is_sound = high - low < MOST_DECADES && ends.0 > 0.0 && ends.1.is_finite();
        let (low, high) = ends;
        is_sound.then(|| Self::Numbers { title: title.into(), low, high, is_log: true })
    }

    /// Between two values.
    pub(super) fn between(title: impl Into<String>, low: f64, high: f64) -> Self {
        Self::Numbers { title: title.into(), low, high, is_log: false }
    }

    pub(in crate::report) fn title(&self) -> &str {
        match self {
            Self::Numbers { title, .. } => title,
            Self::Rows(_) => "",
        }
    }

    pub(super) fn rows(&self) -> Option<&[String]> {
        match self {
            Self::Rows(names) => Some(names),
            Self::Numbers { .. } => None,
        }
    }

    /// The values to name.
    pub(in crate::report) fn ticks(&self, most: usize) -> Vec<f64> {
        match self {
            Self::Rows(names) => (0..names.len()).map(row).collect(),
            Self::Numbers { low, high, is_log: true, .. } => logarithmic(*low, *high, most),
            Self::Numbers { low, high, .. } => even(*low, *high, most),
        }
    }

    pub(in crate::report) fn name(&self, value: f64) -> String {
        match self {
            Self::Rows(names) => {
                let at = (0..names.len()).find(|&at| (row(at) - value).abs() < 0.25);
                at.map_or_else(String::new, |at| names[at].clone())
            }
            Self::Numbers { low, high, is_log, .. } => {
                if value == 0.0 {
                    return "0".to_owned();
                }
                if *is_log {
                    return plain(value);
                }
                let digits = ((high - low).abs().log10().floor() - 1.0).clamp(-6.0, 0.0);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "0 to 6"
                )]
                let decimals = -digits as usize;
                let text = format!("{value:.decimals$}");
                if text.contains('.') {
                    text.trim_end_matches('0').trim_end_matches('.').to_owned()
                } else {
                    text
                }
            }
        }
    }

    /// Where a value stands: 0 to 1.
    pub(in crate::report) fn position(&self, value: f64) -> f64 {
        match self {
            // Half a row of room at each end; the first row is on top.
            Self::Rows(names) => 1.0 - (value + 0.5) / row(names.len().max(1)),
            Self::Numbers { low, high, is_log: true, .. } => {
                (value.max(*low / 1e3).log10() - low.log10()) / (high.log10() - low.log10())
            }
            Self::Numbers { low, high, .. } => (value - low) / (high - low),
        }
    }
}

/// Where a row stands.
#[expect(clippy::cast_precision_loss, reason = "rows of a chart")]
pub(super) fn row(at: usize) -> f64 {
    at as f64
}

fn finite(values: impl IntoIterator<Item = f64>) -> impl Iterator<Item = f64> {
    values.into_iter().filter(|value| value.is_finite())
}

/// 1000 and 0.001, without noise of the arithmetic.
fn plain(value: f64) -> String {
    let text = significant(value, 2);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Round numbers evenly apart.
fn even(low: f64, high: f64, most: usize) -> Vec<f64> {
    let rough = (high - low) / row(most.max(1));
    if !(rough > 0.0 && rough.is_finite()) {
        return vec![low];
    }
    let power = 10.0_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power);
    let step = steps.into_iter().find(|step| *step >= rough * (1.0 - 1e-9)).unwrap_or(rough);
    let first = (low / step).ceil();
    let values = (0..=most + 1).map(|tick| (first + row(tick)) * step);
    values.take_while(|value| *value <= high + step * 1e-9).collect()
}

/// Powers of ten, with 2 and 5 times them where these are few.
#[expect(clippy::cast_possible_truncation, reason = "log10 of a finite f64 is within ±324")]
fn logarithmic(low: f64, high: f64, most: usize) -> Vec<f64> {
    let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    let within = |factors: &[f64]| -> Vec<f64> {
        let all = decades.clone().flat_map(|decade| {
            factors.iter().map(move |factor| factor * 10.0_f64.powi(decade)).collect::<Vec<_>>()
        });
        all.filter(|value| (low..=high).contains(value)).collect()
    };
    let fine: [&[f64]; 3] = [&[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
    let found = fine.into_iter().map(within).find(|ticks| ticks.len() <= most);
    match found {
        Some(ticks) if ticks.len() >= 2 => ticks,
        None => {
            let all = within(&[1.0]);
            let every = all.len().div_ceil(most.max(1));
            all.into_iter().step_by(every.max(1)).collect()
        }
        // Less than a factor of five between the ends.
        Some(_) => even(low, high, most.min(5)),
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "pixels of a drawing")]
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let length = f64::from(limit.1 - limit.0);
        (f64::from(limit.0) + length * self.position(*value).clamp(-0.2, 1.2)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks(hint.max_num_points())
    }

    fn range(&self) -> Range<f64> {
        match self {
            Self::Rows(names) => -0.5..row(names.len()) - 0.5,
            Self::Numbers { low, high, .. } => *low..*high,
        }
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        plain(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<String> {
        axis.ticks(6).into_iter().map(|tick| axis.name(tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let axis = Axis::from_zero("", [0.0, 37.0]).unwrap();
        assert_eq!(names(&axis), ["0", "10", "20", "30"]);
        let small = Axis::from_zero("", [0.004]).unwrap();
        assert_eq!(names(&small), ["0", "0.001", "0.002", "0.003", "0.004"]);
    }

    #[test]
    fn a_logarithmic_axis_names_powers_of_ten_and_what_lies_between_where_they_are_few() {
        assert_eq!(
            names(&Axis::logarithmic("", [0.001, 0.61]).unwrap()),
            ["0.001", "0.003", "0.01", "0.03", "0.1", "0.3"]
        );
        assert_eq!(names(&Axis::logarithmic("", [554.0, 2365.0]).unwrap()), ["1000", "2000"]);
        assert_eq!(names(&Axis::logarithmic("", [1e-5, 1e3]).unwrap()).len(), 5);
        assert_eq!(
            names(&Axis::logarithmic("", [100.0, 120.0]).unwrap()),
            ["100", "110", "120", "130"]
        );
    }

    #[test]
    fn absurd_values_make_no_axis() {
        assert_eq!(Axis::logarithmic("", [0.0, -1.0, f64::NAN]), None);
        assert_eq!(Axis::logarithmic("", [1e-300, 1e300]), None);
        assert_eq!(Axis::from_zero("", [f64::INFINITY]), None);
    }

    #[test]
    fn rows_stand_from_the_top() {
        let axis = Axis::Rows(vec!["a".to_owned(), "b".to_owned()]);
        assert!(axis.position(0.0) > axis.position(1.0));
        assert_eq!(axis.name(1.0), "b");
    }
}
