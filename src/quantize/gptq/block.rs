//! The search for everything that a block stores.
//!
//! A block of one part is that part's best choice. In a block of several parts, the parts' scales and
//! minimums are integers times the block's two numbers. Those are chosen in three steps: the parts' best
//! choices if they were free, one part after the other with errors moved on; the few pairs of numbers whose
//! multiples come closest to them; for each pair the integers and codes, part after part again. The pair with
//! the least loss wins. Uses the search over a part; used by the solver.

use super::factor::Factor;
use super::layout::{Block, Layout, MOST_WEIGHTS, Minimum};
use super::part::{Choice, Part, Units};
use super::trial::Metric;
use half::f16;

/// What errors in a block cost.
#[derive(Debug, Clone)]
pub struct BlockMetric<const N: usize> {
    factor: Factor,
    parts: Vec<Metric<N>>,
}

/// How thoroughly a block's numbers are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Numbers for scales, and for minimums, that are tried in full.
    pub units: usize,
}

/// What the free choice of a part says about the block's numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    scale: f32,
    minimum: f32,
    /// What a deviation of the scale costs, the minimum following.
    scale_cost: f32,
    /// What a deviation of the minimum costs.
    minimum_cost: f32,
}

impl<const N: usize> BlockMetric<N> {
    /// Of the factor on the block's columns.
    #[must_use]
    pub fn new(factor: Factor) -> Self {
        let parts =
            (0..factor.size / N).map(|part| Metric::new(&factor.part(part * N, N))).collect();
        Self { factor, parts }
    }

    /// Loss of storing `block` instead of `target`; leaves the sequence of errors in `errors`.
    pub fn errors(
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

    /// The best way to store `target`, beginning with `known` ways to do so.
    #[must_use]
    pub fn choose(
        &self,
        layout: &Layout,
        target: &[f32],
        known: Option<Units>,
        effort: Effort,
    ) -> Block {
        if self.parts.len() == 1 {
            return self.choose_single(layout, target);
        }
        let wishes = self.wishes(layout, target);
        let mut best = Block::default();
        let mut least = f32::INFINITY;
        let mut tried: Vec<Units> = Vec::new();
        let scales = scale_units(layout, &wishes, effort.units);
        let minimums = minimum_units(layout, &wishes, effort.units);
        let pairs = scales
            .iter()
            .flat_map(|&scale| minimums.iter().map(move |&minimum| Units { scale, minimum }))
            .chain(known);
        for units in pairs {
            if tried.contains(&units) {
                continue;
            }
            tried.push(units);
            if let Some((block, loss)) = self.walk(layout, target, units, &wishes, least) {
                (best, least) = (block, loss);
            }
        }
        best
    }

    fn choose_single(&self, layout: &Layout, target: &[f32]) -> Block {
        let mut weights = [0.0; N];
        weights.copy_from_slice(&target[..N]);
        let part = Part { layout, metric: &self.parts[0], target: &weights };
        let mut block = Block::default();
        store_single(&part.ideal(), layout, &mut block);
        block
    }

    /// Free choices, part after part.
    fn wishes(&self, layout: &Layout, target: &[f32]) -> [Wish; 16] {
        let mut weights = [0.0; MOST_WEIGHTS];
        weights[..target.len()].copy_from_slice(target);
        let mut wishes = [Wish::default(); 16];
        for (index, metric) in self.parts.iter().enumerate() {
            let target = part_of(&weights, index);
            let part = Part { layout, metric, target: &target };
            let choice = part.ideal();
            let fit = part.fit(&choice);
            wishes[index] = Wish {
                scale: choice.scale,
                minimum: choice.minimum,
                scale_cost: fit.curvature - fit.cross * fit.cross / metric.ones_squared,
                minimum_cost: metric.ones_squared,
            };
            self.move_on(layout, index, &target, &choice, &mut weights);
        }
        wishes
    }

    /// The block with these numbers, if its loss is below `least`.
    fn walk(
        &self,
        layout: &Layout,
        target: &[f32],
        units: Units,
        wishes: &[Wish; 16],
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
            part.around(units, wishes[index].scale, wishes[index].minimum, &mut choice);
            let fit = part.fit(&choice);
            part.around(units, fit.scale, fit.minimum, &mut choice);
            loss += choice.loss;
            if loss >= least || loss.is_nan() {
                return None;
            }
            self.move_on(layout, index, &target, &choice, &mut weights);
            store_part(&choice, index, &mut block);
        }
        Some((block, loss))
    }

    /// Moves the errors of a part on to the weights after it.
    fn move_on(
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
        let from = (part + 1) * N;
        for (i, step) in sequence.iter().enumerate() {
            let row = &self.factor.row(part * N + i)[from..];
            for (weight, r) in weights[from..].iter_mut().zip(row) {
                *weight -= step * r;
            }
        }
    }
}

fn part_of<const N: usize>(weights: &[f32; MOST_WEIGHTS], part: usize) -> [f32; N] {
    let mut own = [0.0; N];
    own.copy_from_slice(&weights[part * N..][..N]);
    own
}

/// Puts a part's integers and codes into its block.
pub fn store_part<const N: usize>(choice: &Choice<N>, part: usize, block: &mut Block) {
    block.scales[part] = choice.scale_code;
    block.minimums[part] = choice.minimum_code;
    block.codes[part * N..][..N].copy_from_slice(&choice.codes);
}

/// Makes a choice the whole of a block of one part.
pub fn store_single<const N: usize>(choice: &Choice<N>, layout: &Layout, block: &mut Block) {
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

/// The numbers whose multiples come closest to the parts' scales.
fn scale_units(layout: &Layout, wishes: &[Wish; 16], count: usize) -> Vec<f16> {
    let (least, most) = layout.scale.unwrap_or((1, 1));
    let wishes = &wishes[..layout.parts()];
    let extreme = wishes
        .iter()
        .map(|wish| wish.scale)
        .fold(0.0_f32, |extreme, scale| if scale.abs() > extreme.abs() { scale } else { extreme });
    let ends = [most, least];
    let candidates = ends.iter().filter(|&&end| end != 0).flat_map(|&end| grid(extreme, end));
    closest(candidates, count, |unit| {
        wishes
            .iter()
            .map(|wish| wish.scale_cost * deviation(wish.scale, unit, least, most).powi(2))
            .sum()
    })
}

/// The numbers whose multiples come closest to the parts' minimums.
fn minimum_units(layout: &Layout, wishes: &[Wish; 16], count: usize) -> Vec<f16> {
    let Minimum::Integers(most) = layout.minimum else { return vec![f16::ZERO] };
    let wishes = &wishes[..layout.parts()];
    let extreme = wishes.iter().fold(0.0_f32, |extreme, wish| extreme.max(wish.minimum));
    closest(grid(extreme, most), count, |unit| {
        wishes
            .iter()
            .map(|wish| wish.minimum_cost * deviation(wish.minimum, unit, 0, most).powi(2))
            .sum()
    })
}

/// Numbers for which `extreme` is at, somewhat below or a little beyond the integer `end`.
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

fn closest(
    candidates: impl Iterator<Item = f16>,
    count: usize,
    cost: impl Fn(f32) -> f32,
) -> Vec<f16> {
    let mut scored: Vec<(f32, f16)> = candidates.map(|unit| (cost(unit.to_f32()), unit)).collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    scored.dedup_by_key(|(_, unit)| *unit);
    scored.truncate(count.max(1));
    scored.into_iter().map(|(_, unit)| unit).collect()
}
