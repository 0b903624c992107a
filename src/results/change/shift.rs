//! Shifts: by how much a figure moved from one side to the other, and how sure that is.

use super::{Change, ChangeUnit};
use crate::statistics::estimate::{Estimate, Interval};
use crate::statistics::interval::one_sided_t;

/// Probability of an error to one side, of one figure alone.
const ONE_SIDED: f64 = 0.025;

/// Degrees of freedom of what comes from very many observations.
const MANY: usize = 10_000;

/// How a shift is counted while it is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// The logarithm of how many times the base the new figure is.
    Logarithm,
    /// A fraction of the base's value.
    Fraction,
    /// A difference, times this in percentage points.
    Points(f64),
    /// A difference in the figure's unit.
    Plain,
}

/// A shift with the 95 % interval that it has alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shift {
    scale: Scale,
    value: f64,
    interval: Interval,
    /// Of the estimate of its noise; `None`: it has none.
    degrees: Option<usize>,
}

impl Shift {
    /// What is read off on both sides; `None` if it is no number.
    pub(super) fn exact(scale: Scale, value: f64) -> Option<Self> {
        let interval = Interval { low: value, high: value };
        value.is_finite().then_some(Self { scale, value, interval, degrees: None })
    }

    /// From a standard error of so many degrees of freedom.
    pub(super) fn from_error(scale: Scale, value: f64, error: f64, degrees: usize) -> Option<Self> {
        let half = one_sided_t(ONE_SIDED, degrees) * error;
        let interval = Interval { low: value - half, high: value + half };
        let is_known = value.is_finite() && half.is_finite();
        is_known.then_some(Self { scale, value, interval, degrees: Some(degrees) }.settled())
    }

    /// From an estimate with its interval; `None` without one.
    pub(super) fn from_estimate(scale: Scale, estimate: Estimate, degrees: usize) -> Option<Self> {
        let interval = estimate.interval?;
        let is_known =
            [estimate.value, interval.low, interval.high].iter().all(|it| it.is_finite());
        is_known.then_some(
            Self { scale, value: estimate.value, interval, degrees: Some(degrees.clamp(1, MANY)) }
                .settled(),
        )
    }

    /// What is the same to the last digit has no noise.
    fn settled(self) -> Self {
        let Interval { low, high } = self.interval;
        let is_same = self.value == 0.0 && low == 0.0 && high == 0.0;
        Self { degrees: self.degrees.filter(|_| !is_same), ..self }
    }

    /// The same with an interval that is wider by a fraction of the base at both ends, whatever its noise; it has some.
    pub(super) fn widened(self, fraction: f64) -> Self {
        let by = match self.scale {
            Scale::Logarithm => fraction.ln_1p(),
            Scale::Fraction | Scale::Points(_) | Scale::Plain => fraction,
        };
        let Interval { low, high } = self.interval;
        Self { interval: Interval { low: low - by, high: high + by }, ..self }
    }

    /// Whether it has no noise.
    pub(super) fn is_exact(&self) -> bool {
        self.degrees.is_none()
    }

    /// With the interval that it needs so that those of `among` figures hold all together (Bonferroni).
    pub(super) fn change(&self, among: usize) -> Change {
        let wider = self.degrees.map_or(1.0, |degrees| {
            #[expect(clippy::cast_precision_loss, reason = "some hundred figures")]
            let among = among.max(1) as f64;
            one_sided_t(ONE_SIDED / among, degrees) / one_sided_t(ONE_SIDED, degrees)
        });
        let Interval { low, high } = self.interval;
        let together = Interval {
            low: self.value - (self.value - low) * wider,
            high: self.value + (high - self.value) * wider,
        };
        let shown = |value: f64| match self.scale {
            Scale::Logarithm => value.exp_m1(),
            Scale::Points(factor) => value * factor,
            // Nothing falls by more than all of it.
            Scale::Fraction => value.max(-1.0),
            Scale::Plain => value,
        };
        let both = |it: Interval| Interval { low: shown(it.low), high: shown(it.high) };
        Change {
            value: shown(self.value),
            interval: both(together),
            alone: both(self.interval),
            unit: match self.scale {
                Scale::Logarithm | Scale::Fraction => ChangeUnit::Relative,
                Scale::Points(_) => ChangeUnit::Points,
                Scale::Plain => ChangeUnit::Absolute,
            },
            exact: self.is_exact(),
        }
    }
}
