//! Estimates: a value together with how sure we are of it. A figure is never a bare number.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// A 95 % confidence interval; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies within.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Half of its width.
    pub fn half_width(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// A value with its 95 % interval and the number of independent observations behind both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its 95 % interval; `None`: a single observation tells nothing about its own spread.
    pub interval: Option<Interval>,
    /// Independent observations (rounds, prompts or chunks; 1 for what is simply read off).
    pub n: usize,
}

impl Estimate {
    /// What is read off and has no noise: a file's size.
    pub fn exact(value: f64) -> Self {
        Self { value, interval: Some(Interval { low: value, high: value }), n: 1 }
    }

    /// One observation of something that has noise.
    pub fn single(value: f64) -> Self {
        Self { value, interval: None, n: 1 }
    }

    /// Half width of the interval, in the unit of the value.
    pub fn half_width(&self) -> Option<f64> {
        self.interval.map(Interval::half_width)
    }

    /// Half width as a fraction of the value; `None` without an interval, infinite for a value of 0
    /// with a spread.
    pub fn relative_half_width(&self) -> Option<f64> {
        self.half_width().map(|half| if half == 0.0 { 0.0 } else { half / self.value.abs() })
    }

    /// With the interval cut to what such a figure can be.
    #[must_use]
    pub fn within(self, low: f64, high: f64) -> Self {
        let cut = |it: Interval| Interval { low: it.low.max(low), high: it.high.min(high) };
        Self { interval: self.interval.map(cut), ..self }
    }

    /// Applies an increasing function to value and interval, such as `exp` or a change of unit.
    #[must_use]
    pub fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        Self {
            value: increasing(self.value),
            interval: self.interval.map(|interval| Interval {
                low: increasing(interval.low),
                high: increasing(interval.high),
            }),
            n: self.n,
        }
    }
}

/// Flat, with `null` ends where there is no interval.
impl Serialize for Estimate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Estimate", 4)?;
        fields.serialize_field("value", &self.value)?;
        fields.serialize_field("low", &self.interval.map(|interval| interval.low))?;
        fields.serialize_field("high", &self.interval.map(|interval| interval.high))?;
        fields.serialize_field("n", &self.n)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_observation_has_no_spread_to_speak_of() {
        assert_eq!(Estimate::single(10.0).relative_half_width(), None);
    }

    #[test]
    fn what_is_read_off_has_no_spread_even_if_it_is_zero() {
        assert_eq!(Estimate::exact(0.0).relative_half_width(), Some(0.0));
    }

    #[test]
    fn a_change_of_unit_keeps_the_relative_width() {
        let seconds =
            Estimate { value: 2.0, interval: Some(Interval { low: 1.5, high: 2.5 }), n: 5 };
        let milliseconds = seconds.map(|value| value * 1000.0);
        assert_eq!(milliseconds.relative_half_width(), Some(0.25));
        assert!(milliseconds.interval.unwrap().contains(1500.0));
    }
}
