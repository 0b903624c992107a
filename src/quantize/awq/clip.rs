//! The search for limits: the largest weights of a group are cut where that makes the others' rounding better.
//!
//! Each row is divided into groups as wide as the parts that have scales of their own. Every limit of a grid is tried
//! on all groups at once with the real rounding. Each group takes the one with the least loss from its own columns;
//! sweeps then choose each anew by the loss of the whole row, in which errors of correlated columns cancel. A row takes
//! limits only if its loss falls when it is rounded with them. Uses the search; used by the entry point.

use super::AwqError;
use super::search::{quadratic, rounded};
use crate::model::gguf::GgmlType;
use faer::MatRef;
use rayon::prelude::*;
use std::ops::Range;

/// Rows that one thread works on at a time.
const ROWS: usize = 16;

/// Times that every group's limit is chosen anew with those of all others as they are.
const SWEEPS: usize = 2;

/// Limits of the groups of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Columns of a group.
    width: usize,
    /// Steps of the grid.
    grid: Grid,
    /// The step of each group, `[rows, groups]`; 0: not cut.
    steps: Vec<u8>,
}

/// Limits that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// How many, besides none.
    pub steps: u8,
    /// How much of the largest weight each step cuts off, hundredths.
    pub percent: u8,
}

impl Grid {
    fn ratio(self, step: u8) -> f32 {
        1.0 - f32::from(step) * f32::from(self.percent) / 100.0
    }
}

/// A matrix whose limits are searched.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// How it will be stored.
    pub format: GgmlType,
    /// Its weights, `[rows, columns]`.
    pub values: &'a [f32],
    /// Importance of its columns.
    pub importance: Option<&'a [f32]>,
    /// Second moment of its inputs.
    pub second: MatRef<'a, f32>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The limits.
    pub limits: Limits,
    /// Loss without.
    pub before: f64,
    /// Loss with.
    pub after: f64,
}

impl Limits {
    /// The limits of another matrix after those of this one.
    pub fn append(&mut self, mut other: Self) {
        self.steps.append(&mut other.steps);
    }

    /// Cuts rows of `columns`.
    pub fn apply(&self, rows: &mut [f32], columns: usize) {
        let groups = columns.div_ceil(self.width);
        for (row, steps) in rows.chunks_exact_mut(columns).zip(self.steps.chunks_exact(groups)) {
            for (group, &step) in row.chunks_mut(self.width).zip(steps) {
                cut(group, self.grid.ratio(step));
            }
        }
    }
}

fn cut(group: &mut [f32], ratio: f32) {
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

/// Finds the limits of a matrix.
///
/// # Errors
/// When it cannot be rounded to its format.
pub fn choose(problem: &Problem<'_>, grid: Grid) -> Result<Found, AwqError> {
    let columns = problem.second.ncols();
    let width = group_width(problem.format);
    let dense: Vec<f32> = (0..columns * columns)
        .map(|index| problem.second[(index / columns, index % columns)])
        .collect();
    let parts: Vec<Part> = problem
        .values
        .par_chunks(ROWS * columns)
        .map(|rows| problem.part(&dense, rows, width, grid))
        .collect::<Result<_, _>>()?;
    Ok(Found {
        before: parts.iter().map(|part| part.before).sum(),
        after: parts.iter().map(|part| part.after).sum(),
        limits: Limits {
            width,
            grid,
            steps: parts.into_iter().flat_map(|part| part.steps).collect(),
        },
    })
}

/// Some rows' limits.
struct Part {
    steps: Vec<u8>,
    before: f64,
    after: f64,
}

impl Problem<'_> {
    fn part(
        &self,
        dense: &[f32],
        rows: &[f32],
        width: usize,
        grid: Grid,
    ) -> Result<Part, AwqError> {
        let columns = self.second.ncols();
        let groups = columns.div_ceil(width);
        let tried: Vec<Vec<f32>> = (0..=grid.steps)
            .map(|step| {
                let mut cut_rows = rows.to_vec();
                cut_rows.chunks_mut(width).for_each(|group| cut(group, grid.ratio(step)));
                self.errors(rows, &cut_rows)
            })
            .collect::<Result<_, _>>()?;
        let before = quadratic(&tried[0], self.second);
        let mut best =
            Part { steps: vec![0; before.len() * groups], before: before.iter().sum(), after: 0.0 };
        let mut least = before;
        let row = |row: usize, error: &Vec<f32>| error[row * columns..][..columns].to_vec();
        let mut steps: Vec<Vec<u8>> = vec![Vec::new(); 2];
        for index in 0..least.len() {
            let errors = tried.iter().map(|error| row(index, error)).collect();
            let mut choice = Choice::new(dense, width, errors);
            choice.choose(Choice::alone);
            steps[0].extend(&choice.steps);
            for _ in 0..SWEEPS {
                choice.choose(Choice::change);
            }
            steps[1].extend(&choice.steps);
        }
        // Groups of one block are rounded together, so a mixture of limits can differ from what was tried.
        for steps in steps {
            let limits = Limits { width, grid, steps };
            let mut cut_rows = rows.to_vec();
            limits.apply(&mut cut_rows, columns);
            let losses = quadratic(&self.errors(rows, &cut_rows)?, self.second);
            for (index, loss) in losses.into_iter().enumerate() {
                if loss < least[index] {
                    least[index] = loss;
                    let range = index * groups..(index + 1) * groups;
                    best.steps[range.clone()].copy_from_slice(&limits.steps[range]);
                }
            }
        }
        best.after = least.iter().sum();
        Ok(best)
    }

    fn errors(&self, original: &[f32], cut: &[f32]) -> Result<Vec<f32>, AwqError> {
        let mut errors = rounded(self.format, cut, self.second.ncols(), self.importance)?;
        errors.iter_mut().zip(original).for_each(|(error, original)| *error -= original);
        Ok(errors)
    }
}

/// The limits of one row while they are chosen.
struct Choice<'a> {
    /// The second moment, row after row.
    second: &'a [f32],
    width: usize,
    /// Errors of the row with each limit on all groups.
    tried: Vec<Vec<f32>>,
    /// The step of each group.
    steps: Vec<u8>,
    /// `E H`, `E` the errors with these steps.
    product: Vec<f32>,
}

impl<'a> Choice<'a> {
    fn new(second: &'a [f32], width: usize, tried: Vec<Vec<f32>>) -> Self {
        let columns = tried[0].len();
        let mut choice = Self {
            second,
            width,
            tried,
            steps: vec![0; columns.div_ceil(width)],
            product: vec![0.0; columns],
        };
        for column in 0..columns {
            choice.add(column, choice.tried[0][column]);
        }
        choice
    }

    /// Adds to one column's error.
    fn add(&mut self, column: usize, error: f32) {
        if error != 0.0 {
            let row = &self.second[column * self.product.len()..];
            self.product.iter_mut().zip(row).for_each(|(sum, value)| *sum += error * value);
        }
    }

    fn columns(&self, group: usize) -> Range<usize> {
        group * self.width..((group + 1) * self.width).min(self.product.len())
    }

    /// Gives each group the step of the least cost.
    fn choose(&mut self, cost: impl Fn(&Self, usize, usize) -> f32) {
        for group in 0..self.steps.len() {
            let costs = (0..self.tried.len()).map(|step| cost(self, group, step));
            let Some((step, _)) = costs.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)) else {
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
    fn alone(&self, group: usize, step: usize) -> f32 {
        let error = &self.tried[step];
        self.form(self.columns(group), |column| error[column])
    }

    /// What another step of a group adds to the row's whole loss.
    fn change(&self, group: usize, step: usize) -> f32 {
        let (old, new) = (&self.tried[usize::from(self.steps[group])], &self.tried[step]);
        let columns = self.columns(group);
        let difference = |column: usize| new[column] - old[column];
        let crossed: f32 =
            columns.clone().map(|column| difference(column) * self.product[column]).sum();
        2.0 * crossed + self.form(columns, difference)
    }

    fn form(&self, columns: Range<usize>, error: impl Fn(usize) -> f32) -> f32 {
        columns
            .clone()
            .map(|j| {
                let row = &self.second[j * self.product.len()..][columns.clone()];
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
    use faer::Mat;

    const COLUMNS: usize = 64;

    /// One weight of the first group is eight times the others, and its input is almost nothing.
    fn rows() -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(4);
        let mut rows: Vec<f32> = (0..4 * COLUMNS).map(|_| random.f32() - 0.5).collect();
        rows.chunks_exact_mut(COLUMNS).for_each(|row| row[7] = 4.0);
        rows
    }

    fn found(values: &[f32], outlier: f32) -> Found {
        let _backend = Backend::initialise();
        let second = Mat::from_fn(COLUMNS, COLUMNS, |i, j| match (i == j, i) {
            (false, _) => 0.0,
            (true, 7) => outlier,
            (true, _) => 1.0,
        });
        let problem = Problem {
            format: GgmlType::from_name("Q4_0").unwrap(),
            values,
            importance: None,
            second: second.as_ref(),
        };
        choose(&problem, Grid { steps: 10, percent: 8 }).unwrap()
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
