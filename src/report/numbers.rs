//! How figures are written: one unit and one number of decimals per column.

use crate::results::metric::{Digits, Shown};

const MEBIBYTE: f64 = 1.0 / 1_048_576.0;
const GIBIBYTE: f64 = MEBIBYTE / 1024.0;

/// A unit to show, and how many decimals a column of such values has.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Scale {
    /// What a value is multiplied with to be in the unit shown.
    pub(crate) factor: f64,
    /// Digits after the point.
    pub(crate) decimals: usize,
}

impl Scale {
    /// Unit and scale in which a column of such values is shown.
    pub(super) fn of(shown: Shown, values: &[f64]) -> (&'static str, Self) {
        // From 10 GiB on a column in MiB has digits that nobody reads.
        let large = values.iter().any(|&value| value * GIBIBYTE >= 10.0);
        match shown {
            Shown::Bytes if large => ("GiB", Self { factor: GIBIBYTE, decimals: 2 }),
            Shown::Bytes => ("MiB", Self::typical(values, MEBIBYTE, 3)),
            Shown::In(unit, factor, Digits::Significant(digits)) => {
                (unit, Self::typical(values, factor, digits))
            }
            Shown::In(unit, factor, Digits::Decimals(decimals)) => {
                (unit, Self { factor, decimals })
            }
            Shown::In(unit, _, Digits::OfSmallest(digits)) => {
                (unit, Self::smallest(values, digits, 3, 5))
            }
        }
    }

    /// So many decimals that the typical (median) value has `digits` significant ones.
    fn typical(values: &[f64], factor: f64, digits: i32) -> Self {
        let mut sizes = sizes(values, factor);
        sizes.sort_by(f64::total_cmp);
        let typical = sizes.get(sizes.len() / 2).copied().unwrap_or(1.0);
        Self { factor, decimals: decimals(typical, digits) }
    }

    /// So many decimals that the smallest value has `digits` significant ones, within limits: for
    /// values that differ by orders of magnitude.
    fn smallest(values: &[f64], digits: i32, at_least: usize, at_most: usize) -> Self {
        let smallest = sizes(values, 1.0).into_iter().reduce(f64::min).unwrap_or(1.0);
        Self { factor: 1.0, decimals: decimals(smallest, digits).clamp(at_least, at_most) }
    }

    /// A value in the unit; what would read as 0 and is not, as less than the smallest number shown.
    pub(super) fn show(self, value: f64) -> String {
        let decimals = self.decimals;
        let scaled = value * self.factor;
        let smallest = self.smallest_shown();
        if scaled != 0.0 && scaled.abs() < smallest / 2.0 {
            return format!("<{smallest:.decimals$}");
        }
        format!("{scaled:.decimals$}")
    }

    /// A half width, rounded up: it never reads as more certain than it is. One that exceeds the
    /// value says only that nothing is known.
    pub(super) fn half_width(self, half_width: f64, value: f64) -> String {
        let decimals = self.decimals;
        if half_width >= value.abs() && half_width > 0.0 {
            return ">100%".to_owned();
        }
        let steps = (half_width * self.factor / self.smallest_shown() - 1e-9).ceil();
        // `max` may give either of two zeros; a sum with the positive one is positive.
        format!("{:.decimals$}", steps.max(0.0) * self.smallest_shown() + 0.0)
    }

    fn smallest_shown(self) -> f64 {
        10.0_f64.powi(-i32::try_from(self.decimals).unwrap_or(0))
    }
}

fn sizes(values: &[f64], factor: f64) -> Vec<f64> {
    let sizes = values.iter().map(|value| (value * factor).abs());
    sizes.filter(|size| size.is_finite() && *size > 0.0).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "log10 of a finite f64 is within ±324")]
fn decimals(value: f64, digits: i32) -> usize {
    let magnitude = value.log10().floor() as i32;
    usize::try_from((digits - 1 - magnitude).clamp(0, 6)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_the_decimals_of_its_typical_value() {
        let scale = Scale::typical(&[12.1, 33.4, 96.0, 1820.0], 1.0, 3);
        assert_eq!(scale.show(12.14), "12.1");
        assert_eq!(scale.show(1820.0), "1820.0");
        assert_eq!(Scale::typical(&[0.0124, 0.2], 1e3, 3).show(0.0124), "12");
    }

    #[test]
    fn values_of_many_magnitudes_keep_the_smallest_readable() {
        let scale = Scale::smallest(&[0.0, 0.00114, 0.61], 2, 3, 5);
        assert_eq!(scale.show(0.00114), "0.0011");
        assert_eq!(scale.show(0.61), "0.6100");
        assert_eq!(scale.show(0.000_02), "<0.0001");
        assert_eq!(scale.show(0.0), "0.0000");
    }

    #[test]
    fn half_widths_are_rounded_up() {
        let scale = Scale { factor: 1.0, decimals: 1 };
        assert_eq!(scale.half_width(0.01, 9.0), "0.1");
        assert_eq!(scale.half_width(0.2, 9.0), "0.2");
        assert_eq!(scale.half_width(0.0, 9.0), "0.0");
        assert_eq!(scale.half_width(5720.0, 532.0), ">100%");
    }

    #[test]
    fn nothing_to_go_by_is_no_reason_to_fail() {
        assert_eq!(Scale::typical(&[], 1.0, 3).show(1.0), "1.00");
        assert_eq!(Scale::typical(&[f64::NAN, 0.0], 1.0, 3).decimals, 2);
    }
}
