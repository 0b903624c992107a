//! The search for everything that a block stores.
//!
//! A block of one part is that part's best choice. In a super-block, the parts' scales and minimums are integers times
//! the super-block's two numbers, its units. They are chosen in three steps: each part's best scale and minimum without
//! that constraint, with errors compensated in later parts; the few pairs of units whose multiples come closest to them;
//! for each pair the integers and codes, part by part again. The pair with the least loss wins. Uses the search over a
//! part; used by the solver.

use super::factor::Factor;
use super::layout::{Block, Layout, MOST_WEIGHTS, Minimum};
use super::part::{Choice, Part, Units};
use super::trial::PartMetric;
use half::f16;

/// The loss of errors in a block.
#[derive(Debug, Clone)]
pub(super) struct BlockMetric<const N: usize> {
    factor: Factor,
    parts: Vec<PartMetric<N>>,
}

/// The best scale and minimum of a part without the constraint of units.
#[derive(Debug, Clone, Copy, Default)]
struct Unconstrained {
    scale: f32,
    minimum: f32,
    /// Curvature of the loss over the scale, with the best minimum for each scale.
    scale_cost: f32,
    /// Curvature of the loss over the minimum.
    minimum_cost: f32,
}

impl<const N: usize> BlockMetric<N> {
    /// From the factor on the block's columns.
    pub(super) fn new(factor: Factor) -> Self {
        let parts =
            (0..factor.size / N).map(|part| PartMetric::new(&factor.part(part * N, N))).collect();
        Self { factor, parts }
    }

    /// Loss of storing `block` instead of `target`; leaves the sequence of errors in `errors`.
    pub(super) fn errors(
        &self,
        layout: &Layout,
        target: &[f32],
        block: &Block,
        errors: &mut [f32],
    ) -> f32 {
        layout.decode(block, errors);
        for (error, target) in errors.iter_mut().zip(target) {
            *error = target - *error;
        }
        self.factor.whiten(errors);
        self.factor.loss(errors)
    }

    /// The best block for `target`, from `count` candidates for each unit.
    pub(super) fn choose(&self, layout: &Layout, target: &[f32], count: usize) -> Block {
        if let [metric] = &self.parts[..] {
            let part = Part { layout, metric, target: &part_of(target, 0) };
            let mut block = Block::default();
            store_single(&part.ideal(), layout, &mut block);
            return block;
        }
        let unconstrained = self.unconstrained(layout, target);
        let mut best = Block::default();
        let mut least = f32::INFINITY;
        let parts = unconstrained[..self.parts.len()].iter();
        let scales = parts.clone().map(|part| (part.scale, part.scale_cost));
        let minimums = match layout.minimum {
            Minimum::Integers(most) => {
                let minimums = parts.map(|part| (part.minimum, part.minimum_cost));
                closest_units(&minimums, (0, most), count)
            }
            Minimum::Absent | Minimum::Free => vec![f16::ZERO],
        };
        for scale in closest_units(&scales, layout.scale.unwrap_or((1, 1)), count) {
            for &minimum in &minimums {
                let units = Units { scale, minimum };
                let block = self.constrained(layout, target, units, &unconstrained, least);
                if let Some((block, loss)) = block {
                    (best, least) = (block, loss);
                }
            }
        }
        best
    }

    fn unconstrained(&self, layout: &Layout, target: &[f32]) -> [Unconstrained; 16] {
        let mut weights = [0.0; MOST_WEIGHTS];
        weights[..target.len()].copy_from_slice(target);
        let mut unconstrained = [Unconstrained::default(); 16];
        for (index, metric) in self.parts.iter().enumerate() {
            let target = part_of(&weights, index);
            let part = Part { layout, metric, target: &target };
            let choice = part.ideal();
            let fit = part.fit(&choice);
            unconstrained[index] = Unconstrained {
                scale: choice.scale,
                minimum: choice.minimum,
                scale_cost: fit.curvature - fit.cross * fit.cross / metric.ones_squared,
                minimum_cost: metric.ones_squared,
            };
            self.compensate(layout, index, &target, &choice, &mut weights);
        }
        unconstrained
    }

    /// The best block with these units, if its loss is below `least`.
    fn constrained(
        &self,
        layout: &Layout,
        target: &[f32],
        units: Units,
        unconstrained: &[Unconstrained; 16],
        least: f32,
    ) -> Option<(Block, f32)> {
        let mut weights = [0.0; MOST_WEIGHTS];
        weights[..target.len()].copy_from_slice(target);
        let mut block = Block { scale: units.scale, minimum: units.minimum, ..Block::default() };
        let mut loss = 0.0;
        for (index, metric) in self.parts.iter().enumerate() {
            let target = part_of(&weights, index);
            let part = Part { layout, metric, target: &target };
            let mut choice = Choice::none();
            let Unconstrained { scale, minimum, .. } = unconstrained[index];
            part.around(units, scale, minimum, &mut choice);
            let fit = part.fit(&choice);
            part.around(units, fit.scale, fit.minimum, &mut choice);
            loss += choice.loss;
            if loss >= least || loss.is_nan() {
                return None;
            }
            self.compensate(layout, index, &target, &choice, &mut weights);
            store_part(&choice, index, &mut block);
        }
        Some((block, loss))
    }

    /// Compensates the errors of a part in the weights after it.
    fn compensate(
        &self,
        layout: &Layout,
        part: usize,
        target: &[f32; N],
        choice: &Choice<N>,
        weights: &mut [f32; MOST_WEIGHTS],
    ) {
        let mut error = *target;
        for (error, &code) in error.iter_mut().zip(&choice.codes) {
            *error -= choice.scale * layout.levels.value(code) - choice.minimum;
        }
        let sequence = self.parts[part].whiten(&error);
        self.factor.compensate(part * N, &sequence, &mut weights[(part + 1) * N..]);
    }
}

fn part_of<const N: usize>(weights: &[f32], part: usize) -> [f32; N] {
    let mut own = [0.0; N];
    own.copy_from_slice(&weights[part * N..][..N]);
    own
}

/// Puts a part's integers and codes into its block.
pub(super) fn store_part<const N: usize>(choice: &Choice<N>, part: usize, block: &mut Block) {
    block.scales[part] = choice.scale_code;
    block.minimums[part] = choice.minimum_code;
    block.codes[part * N..][..N].copy_from_slice(&choice.codes);
}

/// Puts a choice into a block of one part.
pub(super) fn store_single<const N: usize>(choice: &Choice<N>, layout: &Layout, block: &mut Block) {
    block.scale = f16::from_f32(choice.scale);
    block.scales[0] = 1;
    block.minimum = f16::ZERO;
    block.minimums[0] = 0;
    if layout.minimum == Minimum::Free {
        block.minimum = f16::from_f32(-choice.minimum);
        block.minimums[0] = -1;
    }
    block.codes[..N].copy_from_slice(&choice.codes);
}

/// The `count` units whose multiples, by integers from `least` to `most`, come closest to the values of parts. Each value
/// has a cost of deviating from it.
fn closest_units(
    parts: &(impl Iterator<Item = (f32, f32)> + Clone),
    (least, most): (i16, i16),
    count: usize,
) -> Vec<f16> {
    let larger =
        |extreme: f32, value: f32| if value.abs() > extreme.abs() { value } else { extreme };
    let extreme = parts.clone().map(|(value, _)| value).fold(0.0_f32, larger);
    let cost = |unit: f16| -> f32 {
        let deviation = |value| deviation(value, unit.to_f32(), least, most).powi(2);
        parts.clone().map(|(value, cost)| cost * deviation(value)).sum()
    };
    let ends = [most, least].into_iter().filter(|&end| end != 0);
    let candidates = ends.flat_map(|end| grid(extreme, end));
    let mut scored: Vec<(f32, f16)> = candidates.map(|unit| (cost(unit), unit)).collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    scored.dedup_by_key(|(_, unit)| *unit);
    scored.truncate(count.max(1));
    scored.into_iter().map(|(_, unit)| unit).collect()
}

/// Units that put `extreme` between 0.7 and 1.09 of the integer `end`.
fn grid(extreme: f32, end: i16) -> impl Iterator<Item = f16> {
    (0..32_u8).map(move |step| {
        f16::from_f32(extreme / (f32::from(end) * (0.70 + 0.0125 * f32::from(step))))
    })
}

fn deviation(wanted: f32, unit: f32, least: i16, most: i16) -> f32 {
    if unit == 0.0 {
        return wanted;
    }
    wanted - unit * (wanted / unit).round().max(f32::from(least)).min(f32::from(most))
}
