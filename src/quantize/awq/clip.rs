//! The search for limits: the largest weights of a group are cut where that makes the others' rounding better.
//!
//! Each row is divided into groups as wide as the parts that have scales of their own. Every limit of a grid is tried
//! on all groups at once with the real rounding; each group takes the one with the least loss from its own
//! columns, each row the limits only if its whole loss falls. Uses the search; used by the entry point.

use super::AwqError;
use super::search::{quadratic, rounded};
use crate::model::gguf::GgmlType;
use faer::MatRef;
use rayon::prelude::*;

/// Rows that one thread works on at a time.
const ROWS: usize = 16;

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
        group.iter_mut().for_each(|value| *value = value.clamp(-limit, limit));
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
    let parts: Vec<Part> = problem
        .values
        .par_chunks(ROWS * columns)
        .map(|rows| problem.part(rows, width, grid))
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
    fn part(&self, rows: &[f32], width: usize, grid: Grid) -> Result<Part, AwqError> {
        let columns = self.second.ncols();
        let groups = columns.div_ceil(width);
        let count = rows.len() / columns;
        let mut steps = vec![0_u8; count * groups];
        let mut best = vec![f64::INFINITY; count * groups];
        let mut before = Vec::new();
        for step in 0..=grid.steps {
            let mut cut_rows = rows.to_vec();
            cut_rows.chunks_mut(width).for_each(|group| cut(group, grid.ratio(step)));
            let errors = self.errors(rows, &cut_rows)?;
            if step == 0 {
                before = quadratic(&errors, self.second);
            }
            for (index, error) in errors.chunks(width).enumerate() {
                let first = index % groups * width;
                let loss = local_loss(error, first, self.second);
                if loss < best[index] {
                    best[index] = loss;
                    steps[index] = step;
                }
            }
        }
        let limits = Limits { width, grid, steps };
        let mut cut_rows = rows.to_vec();
        limits.apply(&mut cut_rows, columns);
        let after = quadratic(&self.errors(rows, &cut_rows)?, self.second);
        let mut steps = limits.steps;
        let mut total = 0.0;
        for ((steps, before), after) in steps.chunks_exact_mut(groups).zip(&before).zip(&after) {
            if after < before {
                total += after;
            } else {
                steps.fill(0);
                total += before;
            }
        }
        Ok(Part { steps, before: before.iter().sum(), after: total })
    }

    fn errors(&self, original: &[f32], cut: &[f32]) -> Result<Vec<f32>, AwqError> {
        let mut errors = rounded(self.format, cut, self.second.ncols(), self.importance)?;
        errors.iter_mut().zip(original).for_each(|(error, original)| *error -= original);
        Ok(errors)
    }
}

/// `e H eᵀ` of a group of columns from `first` on.
fn local_loss(error: &[f32], first: usize, second: MatRef<'_, f32>) -> f64 {
    error
        .iter()
        .enumerate()
        .map(|(j, value)| {
            let sum: f32 = error
                .iter()
                .enumerate()
                .map(|(i, other)| other * second[(first + i, first + j)])
                .sum();
            f64::from(value * sum)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::backend::Backend;
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
