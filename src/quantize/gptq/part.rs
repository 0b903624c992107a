//! The search for the scale, minimum and codes of one part.
//!
//! Candidates are tried sixteen at a time ([`super::trial`]): first a coarse grid of scales that clip the largest weights
//! more or less, then finer grids around the least-squares fit to the best codes. Uses the trial and the layout; used by
//! the search over blocks and by the sweeps.

use super::layout::{Layout, Levels, Minimum};
use super::trial::{Fit, LANES, Lanes, PartMetric};
use half::f16;

/// One part to store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a, const N: usize> {
    pub(super) layout: &'a Layout,
    pub(super) metric: &'a PartMetric<N>,
    pub(super) target: &'a [f32; N],
}

/// A way to store a part: weights are `scale * level(code) - minimum`.
#[derive(Debug, Clone)]
pub(super) struct Choice<const N: usize> {
    pub(super) loss: f32,
    pub(super) scale: f32,
    pub(super) minimum: f32,
    /// `scale` in units of the super-block.
    pub(super) scale_code: i16,
    /// `minimum` in units of the super-block.
    pub(super) minimum_code: i16,
    pub(super) codes: [i8; N],
}

/// The factors of the scales and of the minimums of a super-block's parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Units {
    pub(super) scale: f16,
    pub(super) minimum: f16,
}

impl<const N: usize> Choice<N> {
    /// Worse than any other.
    pub(super) fn none() -> Self {
        let (scale_code, minimum_code, codes) = (0, 0, [0; N]);
        Self { loss: f32::INFINITY, scale: 0.0, minimum: 0.0, scale_code, minimum_code, codes }
    }
}

impl<const N: usize> Part<'_, N> {
    fn has_minimum(&self) -> bool {
        self.layout.minimum != Minimum::Absent
    }

    fn level_count(&self) -> f32 {
        match self.layout.levels {
            Levels::Integers(low, high) => f32::from(high) - f32::from(low) + 1.0,
            Levels::Table(table) => number(table.len()),
        }
    }

    /// Tries scales and minimums that are no multiples of units; keeps the best in `best`.
    fn attempt(&self, mut scales: Lanes, mut minimums: Lanes, best: &mut Choice<N>) {
        match self.layout.minimum {
            Minimum::Absent => minimums = [0.0; LANES],
            Minimum::Integers(_) => minimums = minimums.map(|minimum| minimum.max(0.0)),
            Minimum::Free => minimums = minimums.map(to_half),
        }
        if self.layout.scale.is_none() {
            scales = scales.map(to_half);
        }
        self.keep(&scales, &minimums, best);
    }

    /// Tries scales and minimums; returns the lane of the best if it is better than `best`.
    fn keep(&self, scales: &Lanes, minimums: &Lanes, best: &mut Choice<N>) -> Option<usize> {
        let trial = self.metric.trial(self.target, self.layout.levels, scales, minimums);
        let lane = trial.best();
        // False for NaN, which comes from inputs that are not finite.
        if trial.loss[lane] < best.loss {
            best.loss = trial.loss[lane];
            best.scale = scales[lane];
            best.minimum = minimums[lane];
            best.codes = trial.codes(lane);
            return Some(lane);
        }
        None
    }

    /// The best scale and minimum for the codes of a choice.
    pub(super) fn fit(&self, choice: &Choice<N>) -> Fit {
        let values = choice.codes.map(|code| self.layout.levels.value(code));
        let fit = self.metric.fit(self.target, &values, self.has_minimum());
        if fit.minimum < 0.0 && matches!(self.layout.minimum, Minimum::Integers(_)) {
            let alone = self.metric.fit(self.target, &values, false);
            return Fit { scale: alone.scale, minimum: 0.0, ..fit };
        }
        fit
    }

    /// The best choice without the constraint of units.
    pub(super) fn ideal(&self) -> Choice<N> {
        let mut best = Choice::none();
        let count = self.level_count();
        if self.has_minimum() {
            self.coarse_with_minimum(count, &mut best);
        } else {
            self.coarse(count, &mut best);
        }
        self.refine(1.0, &mut best);
        self.refine(0.3, &mut best);
        best
    }

    /// Tries scales and minimums around the best fit to the codes of `best`.
    pub(super) fn refine(&self, width: f32, best: &mut Choice<N>) {
        let fit = self.fit(best);
        let count = self.level_count();
        if self.has_minimum() {
            let scales = std::array::from_fn(|lane| {
                fit.scale * (1.0 + width * 0.3 * (column(lane) - 1.5) / count)
            });
            let minimums = std::array::from_fn(|lane| {
                fit.minimum + width * 0.2 * (row(lane) - 1.5) * fit.scale
            });
            self.attempt(scales, minimums, best);
        } else {
            let scales = std::array::from_fn(|lane| {
                fit.scale * (1.0 + width * 0.1 * (number(lane) - 7.0) / count)
            });
            self.attempt(scales, [0.0; LANES], best);
        }
    }

    fn coarse(&self, count: f32, best: &mut Choice<N>) {
        let most = self.target.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
        let (low, _) = self.layout.levels.ends();
        let narrowest = 1.0 - 1.6 / count.sqrt();
        let step = (1.05 - narrowest) / 15.0;
        for sign in [1.0, -1.0] {
            let scales = std::array::from_fn(|lane| {
                sign * most / low.abs() * (narrowest + step * number(lane))
            });
            self.attempt(scales, [0.0; LANES], best);
        }
    }

    fn coarse_with_minimum(&self, count: f32, best: &mut Choice<N>) {
        let mut low = self.target.iter().fold(f32::INFINITY, |low, &weight| low.min(weight));
        let high = self.target.iter().fold(f32::NEG_INFINITY, |high, &weight| high.max(weight));
        if self.layout.minimum != Minimum::Free {
            low = low.min(0.0);
        }
        let step = 0.3 / count.sqrt();
        let middle = 0.5 * (low + high);
        let ends = |lane: usize| {
            (
                middle + (low - middle) * (1.0 - step * column(lane)),
                middle + (high - middle) * (1.0 - step * row(lane)),
            )
        };
        let scales = std::array::from_fn(|lane| {
            let (low, high) = ends(lane);
            (high - low) / (count - 1.0)
        });
        self.attempt(scales, std::array::from_fn(|lane| -ends(lane).0), best);
    }

    /// Tries the multiples of units around a scale and a minimum.
    pub(super) fn around(&self, units: Units, scale: f32, minimum: f32, best: &mut Choice<N>) {
        let (scale_unit, minimum_unit) = (units.scale.to_f32(), units.minimum.to_f32());
        let (least, most) = self.layout.scale.unwrap_or((1, 1));
        let bound =
            |number: f32, least: i16, most: i16| number.max(f32::from(least)).min(f32::from(most));
        let centre = if scale_unit == 0.0 { 0.0 } else { scale / scale_unit };
        let (scales, minimums): (Lanes, Lanes) =
            if let Minimum::Integers(highest) = self.layout.minimum {
                let first = bound(centre.floor() - 1.0, least, (most - 3).max(least));
                let middle = if minimum_unit == 0.0 { 0.0 } else { minimum / minimum_unit };
                let lowest = bound(middle.floor() - 1.0, 0, (highest - 3).max(0));
                (
                    std::array::from_fn(|lane| first + column(lane)),
                    std::array::from_fn(|lane| lowest + row(lane)),
                )
            } else {
                let first = bound(centre.round() - 7.0, least, (most - 15).max(least));
                (std::array::from_fn(|lane| first + number(lane)), [0.0; LANES])
            };
        let exact_scales = scales.map(|scale| scale * scale_unit);
        let exact_minimums = minimums.map(|minimum| minimum * minimum_unit);
        if let Some(lane) = self.keep(&exact_scales, &exact_minimums, best) {
            best.scale_code = to_integer(scales[lane]);
            best.minimum_code = to_integer(minimums[lane]);
        }
    }
}

fn number(lane: usize) -> f32 {
    f32::from(u8::try_from(lane).unwrap_or(0))
}

fn column(lane: usize) -> f32 {
    number(lane % 4)
}

fn row(lane: usize) -> f32 {
    number(lane / 4)
}

#[expect(clippy::cast_possible_truncation, reason = "small integers")]
fn to_integer(number: f32) -> i16 {
    number as i16
}

fn to_half(number: f32) -> f32 {
    f16::from_f32(number).to_f32()
}
