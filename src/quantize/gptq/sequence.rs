//! Product after product, in the order of the graph: each matrix is chosen with the inputs it will have in the
//! model being made.
//!
//! Both models are evaluated up to the last cut before a group of products; from there the group's inputs
//! are computed, its matrices are stored, and what comes after sees the change. Uses the plan, the two sides, the
//! Hessian and the tables; used by the entry point.

use super::hessian::{Moments, Original};
use super::memory;
use super::plan::{Group, Plan};
use super::report::{Matrix, Outcome, Times};
use super::side::{Glance, Lane, Side};
use super::table::Table;
use super::{GptqError, Match, Parameters};
use crate::engine::error::EngineError;
use crate::engine::llama::gguf_file::GgufInput;
use crate::engine::llama::partial::{Look, Shown};
use crate::engine::llama::tensors::Weights;
use faer::Par;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;
use std::time::Instant;

/// What the sequence works on.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// The original's file.
    pub source: &'a GgufInput,
    /// The file of the model being made, as it was first.
    pub draft: &'a GgufInput,
    /// What is to be done.
    pub plan: &'a Plan,
    /// The original; `None` if outputs are not matched.
    pub original: Option<Side<'a>>,
    /// The model being made.
    pub made: Side<'a>,
    /// Its weights.
    pub weights: Weights<'a>,
    /// Number of texts.
    pub texts: usize,
    /// How.
    pub parameters: Parameters,
    /// Threads.
    pub threads: u32,
    /// Where the time went.
    pub times: Times,
}

/// Is told now and then which part of a step is done, from 0 to 1.
pub type Heartbeat<'h> = &'h mut dyn FnMut(f64);

/// What became of a group.
#[derive(Debug, Default)]
pub struct Done {
    /// The bytes of what was stored anew, by name.
    pub replaced: Vec<(String, Vec<u8>)>,
    /// Every matrix of the group.
    pub matrices: Vec<Matrix>,
}

#[expect(clippy::cast_precision_loss, reason = "far below 2⁵³")]
fn count(number: usize) -> f64 {
    number as f64
}

impl<'a> Sequence<'a> {
    fn parallel(&self) -> Par {
        Par::rayon(usize::try_from(self.threads).unwrap_or(1))
    }

    /// Stores the matrices of one group.
    ///
    /// # Errors
    /// When a model cannot be evaluated, or the one being made not changed.
    pub fn group(&mut self, index: usize, heartbeat: Heartbeat<'_>) -> Result<Done, GptqError> {
        let plan: &'a Plan = self.plan;
        let group = &plan.groups[index];
        let mut done = Done::default();
        let mut tables = Vec::new();
        for name in &group.weights {
            let shape = (group.columns, group.matrices);
            let how = (self.parameters.work, self.parallel());
            match Table::open(name, (self.source, self.draft), shape, how) {
                Ok(table) => tables.push(table),
                Err(reason) => done.matrices.extend(self.kept(name, reason)),
            }
        }
        if tables.is_empty() {
            return Ok(done);
        }
        let bytes = Moments::bytes(group.columns, self.is_matched(), self.stream_width(group));
        let ranges = memory::passes(group.matrices, bytes, self.parameters.memory);
        for (pass, range) in ranges.iter().enumerate() {
            let mut heartbeat = |part: f64| heartbeat((count(pass) + part) / count(ranges.len()));
            // The original does not change: the last time, it goes on to the next group's cut at once.
            let next = plan.groups.get(index + 1).filter(|_| pass + 1 == ranges.len());
            let next = next.map_or(group.cut, |next| next.cut);
            let moments = self.moments(group, range.clone(), next, &mut heartbeat)?;
            for (matrix, mut moments) in range.clone().zip(moments) {
                let began = Instant::now();
                let enough = moments.tokens() > 0;
                let damping = self.parameters.damping;
                let hessian = enough.then(|| moments.hessian(damping)).flatten();
                self.times.factors += began.elapsed();
                for table in &mut tables {
                    table.store(matrix, &mut moments, hessian.as_ref(), &mut self.times);
                }
            }
        }
        for table in tables {
            let (matrices, replaced) = table.finish();
            done.matrices.extend(matrices);
            if let Some((name, bytes)) = replaced {
                self.weights.write(&name, &bytes)?;
                done.replaced.push((name, bytes));
            }
        }
        Ok(done)
    }

    /// The report's line of a weight that cannot be stored; none if it is not in the file.
    fn kept(&self, name: &str, reason: String) -> Option<Matrix> {
        let entry = &self.draft.find(name)?.entry;
        Some(Matrix {
            name: name.to_owned(),
            part: None,
            format: entry.format,
            weights: entry.weights,
            outcome: Outcome::Kept { reason },
        })
    }

    fn is_matched(&self) -> bool {
        self.original.is_some()
    }

    /// Width of the residual stream that a group's product is added to, if it is to be corrected.
    fn stream_width(&self, group: &Group) -> Option<usize> {
        let matched = self.parameters.matching == Match::Stream && !group.streams.is_empty();
        matched.then_some(group.stream_width)
    }

    /// Sums over the inputs of some of a group's matrices, in the model being made and in the original. On the way
    /// the one goes on to the group's cut, the other to `next`.
    fn moments(
        &mut self,
        group: &Group,
        matrices: Range<usize>,
        next: Option<usize>,
        heartbeat: Heartbeat<'_>,
    ) -> Result<Vec<Moments>, GptqError> {
        let width = self.stream_width(group);
        let mut moments: Vec<Moments> = matrices
            .clone()
            .map(|_| Moments::new(group.columns, self.is_matched(), width, self.parallel()))
            .collect();
        let mut wanted = vec![(group.step, Look::Input)];
        if width.is_some() {
            wanted.extend(group.streams.iter().map(|&step| (step, Look::Output)));
        }
        let flow = &self.plan.flow;
        let here = self.made.glance(flow, &wanted, group.cut);
        let there = self.original.as_ref().map(|side| side.glance(flow, &wanted, next));
        let mut pairs = Pairs::default();
        for first in (0..self.texts).step_by(self.made.lanes()) {
            heartbeat(count(first) / count(self.texts));
            let began = Instant::now();
            let seen = self.look(first, &here, there.as_ref())?;
            self.times.forward += began.elapsed();
            let began = Instant::now();
            for (made, original) in &seen {
                let drift = original.as_ref().filter(|_| width.is_some());
                let drift = drift.map(|original| stream(&original[1..], &made[1..]));
                let (made, original) = (&made[0], original.as_ref().map(|shown| &shown[0]));
                if group.matrices == 1 {
                    let residual = drift.as_deref();
                    let original = original.map(|shown| Original { inputs: &shown.rows, residual });
                    moments[0].add(&made.rows, original);
                    continue;
                }
                for (matrix, moments) in matrices.clone().zip(&mut moments) {
                    pairs.of(matrix, group.is_routed, self.made.tokens(), made, original);
                    let original =
                        original.map(|_| Original { inputs: &pairs.there, residual: None });
                    moments.add(&pairs.here, original);
                }
            }
            self.times.moments += began.elapsed();
        }
        self.made.arrive(&here);
        if let (Some(original), Some(there)) = (&mut self.original, &there) {
            original.arrive(there);
        }
        Ok(moments)
    }

    /// Looks at as many texts as there are lanes, side by side, beginning with `first`.
    fn look(
        &mut self,
        first: usize,
        here: &Glance,
        there: Option<&Glance>,
    ) -> Result<Vec<Seen>, EngineError> {
        let originals = self.original.iter_mut().flat_map(|side| side.from(first)).map(Some);
        let originals = originals.chain(std::iter::repeat_with(|| None));
        let look = |mut made: Lane<'_, '_>, original: Option<Lane<'_, '_>>| {
            let shown = made.look(here)?;
            let original = original.zip(there).map(|(mut lane, glance)| lane.look(glance));
            Ok((shown, original.transpose()?))
        };
        let look = &look;
        thread::scope(|scope| {
            let lanes: Vec<_> = self
                .made
                .from(first)
                .zip(originals)
                .map(|(made, original)| scope.spawn(move || look(made, original)))
                .collect();
            let ended = lanes.into_iter().map(thread::ScopedJoinHandle::join);
            ended.map(|seen| seen.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }
}

/// What was seen of a text, in the model being made and in the original.
type Seen = (Vec<Shown>, Option<Vec<Shown>>);

/// What the residual stream lacks: the sum of its parts in the original minus that here.
fn stream(there: &[Shown], here: &[Shown]) -> Vec<f32> {
    let mut sum = vec![0.0; here.first().map_or(0, |shown| shown.rows.len())];
    for (there, here) in there.iter().zip(here) {
        for ((sum, new), old) in sum.iter_mut().zip(&there.rows).zip(&here.rows) {
            *sum += new - old;
        }
    }
    sum
}

/// The vectors that one of several matrices is multiplied with, in both models.
#[derive(Debug, Default)]
struct Pairs {
    here: Vec<f32>,
    there: Vec<f32>,
}

impl Pairs {
    /// Of one matrix. A vector that the original does not multiply with this matrix, because it routes the token
    /// elsewhere, is taken for its own counterpart: it says what errors cost and not what to aim at.
    fn of(
        &mut self,
        matrix: usize,
        is_routed: bool,
        tokens: usize,
        here: &Shown,
        there: Option<&Shown>,
    ) {
        self.here.clear();
        self.there.clear();
        // Routed vectors are a few per token, in the order of the model's preference.
        let chosen = if is_routed { here.matrix_of_row.len() / tokens.max(1) } else { 1 };
        for (row, &own) in here.matrix_of_row.iter().enumerate() {
            if own as usize != matrix {
                continue;
            }
            let vector = &here.rows[row * here.columns..][..here.columns];
            self.here.extend_from_slice(vector);
            let Some(there) = there else { continue };
            let first = row / chosen.max(1) * chosen.max(1);
            let others = there.matrix_of_row.iter().enumerate().skip(first).take(chosen);
            let mut counterparts = others.filter(|(_, other)| **other == own);
            let counterpart = counterparts
                .next()
                .map(|(row, _)| &there.rows[row * there.columns..][..there.columns]);
            self.there.extend_from_slice(counterpart.unwrap_or(vector));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_paired_by_token_and_expert_and_stand_alone_where_the_original_routes_elsewhere()
    {
        let shown = |matrix_of_row: [u32; 4], rows: [f32; 4]| Shown {
            columns: 1,
            rows: rows.to_vec(),
            matrix_of_row: matrix_of_row.to_vec(),
        };
        // Two tokens, two experts each; the original prefers them the other way round, and once another one.
        let here = shown([0, 1, 1, 2], [1.0, 2.0, 3.0, 4.0]);
        let there = shown([1, 0, 0, 2], [20.0, 10.0, 30.0, 40.0]);
        let mut pairs = Pairs::default();
        let mut of = |matrix, is_routed, there: Option<&Shown>| {
            pairs.of(matrix, is_routed, 2, &here, there);
            (pairs.here.clone(), pairs.there.clone())
        };
        assert_eq!(of(0, true, Some(&there)), (vec![1.0], vec![10.0]));
        assert_eq!(of(1, true, Some(&there)), (vec![2.0, 3.0], vec![20.0, 3.0]));
        assert_eq!(of(2, true, Some(&there)), (vec![4.0], vec![40.0]));
        assert_eq!(of(3, true, Some(&there)), (vec![], vec![]));
        assert_eq!(of(1, true, None), (vec![2.0, 3.0], vec![]));
        // Matrices that each see their own share of the input: row by row.
        assert_eq!(of(2, false, Some(&there)), (vec![4.0], vec![40.0]));
    }
}
