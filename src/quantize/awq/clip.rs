//! The search for limits: the largest weights of a group are clipped where the finer scale makes up for it.
//!
//! Each row is divided into groups as wide as the format's scales reach. Every limit of a grid is tried on all groups at
//! once with the real rounding. First each group takes the limit with the least loss of its own columns; then sweeps
//! choose each anew by the loss of the whole row, in which errors of correlated columns cancel. A row keeps limits only if
//! its loss falls when it is rounded with them. Uses the search; used by the entry point.

use super::search::{ROWS, quadratic};
use crate::engine::llama::blocks;
use crate::model::gguf::GgmlType;
use crate::quantize::MethodError;
use faer::Mat;
use rayon::prelude::*;
use std::ops::Range;

/// Number of sweeps over the groups of a row.
const SWEEPS: usize = 2;

/// Limits of the groups of a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    /// Columns of a group.
    width: usize,
    grid: LimitGrid,
    /// The step of each group, `[rows, groups]`; 0: not clipped.
    steps: Vec<u8>,
}

/// Limits to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitGrid {
    /// Number of limits, besides none.
    pub steps: u8,
    /// What each step cuts off the largest weight, percent.
    pub percent: u8,
}

impl LimitGrid {
    fn ratio(self, step: u8) -> f32 {
        1.0 - f32::from(step) * f32::from(self.percent) / 100.0
    }
}

/// A matrix whose limits are searched.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitSearch<'a> {
    /// How it will be stored.
    pub(super) format: GgmlType,
    /// `[rows, columns]`.
    pub(super) values: &'a [f32],
    /// Of the columns.
    pub(super) importance: Option<&'a [f32]>,
    /// Second moment of the inputs.
    pub(super) second: &'a Mat<f32>,
}

/// Limits, and the loss without and with them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FoundLimits {
    pub(super) limits: Limits,
    pub(super) before: f64,
    pub(super) after: f64,
}

impl Limits {
    /// Appends the limits of the next matrix.
    pub(super) fn append(&mut self, mut other: Self) {
        self.steps.append(&mut other.steps);
    }

    /// Clips rows of `columns`.
    pub(super) fn apply(&self, rows: &mut [f32], columns: usize) {
        let groups = columns.div_ceil(self.width);
        for (row, steps) in rows.chunks_exact_mut(columns).zip(self.steps.chunks_exact(groups)) {
            for (group, &step) in row.chunks_mut(self.width).zip(steps) {
                clip(group, self.grid.ratio(step));
            }
        }
    }
}

fn clip(group: &mut [f32], ratio: f32) {
    if ratio < 1.0 {
        let limit = ratio * group.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        for value in group {
            *value = value.clamp(-limit, limit);
        }
    }
}

/// Columns that share a scale in a format.
fn group_width(format: GgmlType) -> usize {
    if matches!(format.name(), "Q2_K" | "Q3_K" | "Q6_K") { 16 } else { 32 }
}

impl LimitSearch<'_> {
    /// Finds the limits of all rows.
    pub(super) fn run(&self, grid: LimitGrid) -> Result<FoundLimits, MethodError> {
        let parts: Vec<FoundLimits> = self
            .values
            .par_chunks(ROWS * self.second.ncols())
            .map(|rows| self.search_rows(rows, grid))
            .collect::<Result<_, _>>()?;
        Ok(FoundLimits {
            before: parts.iter().map(|part| part.before).sum(),
            after: parts.iter().map(|part| part.after).sum(),
            limits: Limits {
                width: group_width(self.format),
                grid,
                steps: parts.into_iter().flat_map(|part| part.limits.steps).collect(),
            },
        })
    }

    /// Finds the limits of some rows.
    fn search_rows(&self, rows: &[f32], grid: LimitGrid) -> Result<FoundLimits, MethodError> {
        let (columns, width) = (self.second.ncols(), group_width(self.format));
        let groups = columns.div_ceil(width);
        let tried: Vec<Vec<f32>> = (0..=grid.steps)
            .map(|step| {
                let mut clipped = rows.to_vec();
                clipped.chunks_mut(width).for_each(|group| clip(group, grid.ratio(step)));
                self.errors(rows, &clipped)
            })
            .collect::<Result<_, _>>()?;
        let mut least = quadratic(&tried[0], self.second.as_ref());
        let before = least.iter().sum();
        let mut best = vec![0; least.len() * groups];
        let (mut alone, mut swept) = (Vec::new(), Vec::new());
        for row in 0..least.len() {
            let errors = tried.iter().map(|error| &error[row * columns..][..columns]).collect();
            let mut choice = RowLimits::new(self.second, width, errors);
            choice.choose(RowLimits::own_loss);
            alone.extend(&choice.steps);
            for _ in 0..SWEEPS {
                choice.choose(RowLimits::change_of_loss);
            }
            swept.extend(&choice.steps);
        }
        // Groups of one block are rounded together, so a mixture of limits can differ from what was tried.
        for steps in [alone, swept] {
            let limits = Limits { width, grid, steps };
            let mut clipped = rows.to_vec();
            limits.apply(&mut clipped, columns);
            let losses = quadratic(&self.errors(rows, &clipped)?, self.second.as_ref());
            for (row, loss) in losses.into_iter().enumerate() {
                if loss < least[row] {
                    least[row] = loss;
                    let range = row * groups..(row + 1) * groups;
                    best[range.clone()].copy_from_slice(&limits.steps[range]);
                }
            }
        }
        let limits = Limits { width, grid, steps: best };
        Ok(FoundLimits { limits, before, after: least.iter().sum() })
    }

    /// Clipped rows, rounded, minus the original.
    fn errors(&self, original: &[f32], clipped: &[f32]) -> Result<Vec<f32>, MethodError> {
        let mut errors =
            blocks::rounded(self.format, clipped, self.second.ncols(), self.importance)?;
        errors.iter_mut().zip(original).for_each(|(error, original)| *error -= original);
        Ok(errors)
    }
}

/// The limits of one row while they are chosen.
struct RowLimits<'a> {
    /// The second moment `H`; symmetric, so that its columns are its rows.
    second: &'a Mat<f32>,
    width: usize,
    /// Errors of the row with each limit on all groups.
    tried: Vec<&'a [f32]>,
    /// The step of each group.
    steps: Vec<u8>,
    /// `e H`, `e` the errors with these steps.
    product: Vec<f32>,
}

impl<'a> RowLimits<'a> {
    fn new(second: &'a Mat<f32>, width: usize, tried: Vec<&'a [f32]>) -> Self {
        let columns = tried[0].len();
        let steps = vec![0; columns.div_ceil(width)];
        let mut row = Self { second, width, tried, steps, product: vec![0.0; columns] };
        for column in 0..columns {
            row.add(column, row.tried[0][column]);
        }
        row
    }

    /// Adds to one column's error.
    fn add(&mut self, column: usize, error: f32) {
        if error != 0.0 {
            let row = self.second.col_as_slice(column);
            self.product.iter_mut().zip(row).for_each(|(sum, value)| *sum += error * value);
        }
    }

    fn columns(&self, group: usize) -> Range<usize> {
        group * self.width..((group + 1) * self.width).min(self.product.len())
    }

    /// Gives each group the step of the least loss.
    fn choose(&mut self, loss: impl Fn(&Self, usize, usize) -> f32) {
        for group in 0..self.steps.len() {
            let losses = (0..self.tried.len()).map(|step| loss(self, group, step));
            let Some((step, _)) = losses.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)) else {
                continue;
            };
            let old = usize::from(self.steps[group]);
            self.steps[group] = u8::try_from(step).unwrap_or(0);
            for column in self.columns(group) {
                self.add(column, self.tried[step][column] - self.tried[old][column]);
            }
        }
    }

    /// `e H eᵀ` of a group's columns alone.
    fn own_loss(&self, group: usize, step: usize) -> f32 {
        self.quadratic(self.columns(group), |column| self.tried[step][column])
    }

    /// What another step of a group adds to the row's loss.
    fn change_of_loss(&self, group: usize, step: usize) -> f32 {
        let (old, new) = (self.tried[usize::from(self.steps[group])], self.tried[step]);
        let columns = self.columns(group);
        let difference = |column: usize| new[column] - old[column];
        let crossed: f32 =
            columns.clone().map(|column| difference(column) * self.product[column]).sum();
        2.0 * crossed + self.quadratic(columns, difference)
    }

    fn quadratic(&self, columns: Range<usize>, error: impl Fn(usize) -> f32) -> f32 {
        columns
            .clone()
            .map(|j| {
                let row = &self.second.col_as_slice(j)[columns.clone()];
                let sum: f32 = columns.clone().zip(row).map(|(i, value)| error(i) * value).sum();
                error(j) * sum
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::llama::backend::Backend;

    const COLUMNS: usize = 64;

    /// One weight of the first group is eight times the others, and its input is almost nothing.
    fn rows() -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(4);
        let mut rows: Vec<f32> = (0..4 * COLUMNS).map(|_| random.f32() - 0.5).collect();
        rows.chunks_exact_mut(COLUMNS).for_each(|row| row[7] = 4.0);
        rows
    }

    fn found(values: &[f32], outlier: f32) -> FoundLimits {
        let _backend = Backend::initialise();
        let second = Mat::from_fn(COLUMNS, COLUMNS, |i, j| match (i == j, i) {
            (false, _) => 0.0,
            (true, 7) => outlier,
            (true, _) => 1.0,
        });
        let search = LimitSearch {
            format: GgmlType::from_name("Q4_0").unwrap(),
            values,
            importance: None,
            second: &second,
        };
        search.run(LimitGrid { steps: 10, percent: 8 }).unwrap()
    }

    #[test]
    fn a_large_weight_that_hardly_matters_is_cut() {
        let rows = rows();
        let found = found(&rows, 1e-4);
        assert!(found.after < 0.5 * found.before, "{} of {}", found.after, found.before);
        let mut cut = rows.clone();
        found.limits.apply(&mut cut, COLUMNS);
        for (cut, row) in cut.chunks_exact(COLUMNS).zip(rows.chunks_exact(COLUMNS)) {
            assert!(cut[7] < 2.0, "{}", cut[7]);
            // The other weights of the group are smaller than the limit.
            assert_eq!(cut[..7], row[..7]);
        }
    }

    #[test]
    fn a_large_weight_that_matters_is_kept_and_no_row_gets_worse() {
        let rows = rows();
        let found = found(&rows, 100.0);
        assert!(found.after <= found.before);
        let mut cut = rows.clone();
        found.limits.apply(&mut cut, COLUMNS);
        assert!(cut.chunks_exact(COLUMNS).all(|row| row[7] > 3.9));
    }

    #[test]
    fn limits_of_several_matrices_follow_each_other() {
        let rows = rows();
        let mut limits = found(&rows, 1e-4).limits;
        limits.append(found(&rows, 100.0).limits);
        let mut both = [rows.clone(), rows.clone()].concat();
        limits.apply(&mut both, COLUMNS);
        assert!(both[7] < 2.0 && both[rows.len() + 7] > 3.9);
    }
}
