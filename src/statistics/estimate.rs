//! Estimates: a value together with how sure we are of it. A figure is never a bare number.

use serde::Serialize;

/// A 95 % confidence interval; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies within.
    #[must_use]
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Half of its width.
    #[must_use]
    pub fn half_width(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// A value with its 95 % interval and the number of independent observations behind both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its 95 % interval; `None`: a single observation tells nothing about its own spread.
    pub interval: Option<Interval>,
    /// Independent observations (rounds, prompts or chunks; 1 for what is simply read off).
    pub n: usize,
}

impl Estimate {
    /// Half width above which a figure is not stable, as a fraction of its value.
    pub const STABLE_WITHIN: f64 = 0.05;

    /// What is read off and has no noise: a file's size.
    #[must_use]
    pub fn exact(value: f64) -> Self {
        Self { value, interval: Some(Interval { low: value, high: value }), n: 1 }
    }

    /// One observation of something that has noise.
    #[must_use]
    pub fn single(value: f64) -> Self {
        Self { value, interval: None, n: 1 }
    }

    /// Half width of the interval, in the unit of the value.
    #[must_use]
    pub fn half_width(&self) -> Option<f64> {
        self.interval.map(Interval::half_width)
    }

    /// Whether the interval is known and within ±5 % of the value.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        self.half_width().is_some_and(|half| half <= Self::STABLE_WITHIN * self.value.abs())
    }

    /// Whether the interval is known and wider than ±5 % of the value: what tables mark.
    #[must_use]
    pub fn is_unstable(&self) -> bool {
        self.interval.is_some() && !self.is_stable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_observation_is_neither_stable_nor_unstable() {
        let estimate = Estimate::single(10.0);
        assert!(!estimate.is_stable() && !estimate.is_unstable());
    }

    #[test]
    fn five_percent_of_the_value_is_the_limit_of_stable() {
        let with = |half: f64| Estimate {
            value: 100.0,
            interval: Some(Interval { low: 100.0 - half, high: 100.0 + half }),
            n: 5,
        };
        assert!(with(5.0).is_stable());
        assert!(with(5.1).is_unstable());
        assert!(Estimate::exact(0.0).is_stable());
    }
}
