//! Product after product, in the order of the graph: each matrix is chosen with the inputs that it gets in the quantized
//! model.
//!
//! Both models are evaluated up to the last cut before a group of products. From there the group's inputs are computed
//! and its matrices are stored, so that later groups see the change. Uses the plan, the two models, the Hessian and the
//! tables; used by the entry point.

use super::forward::{PartialForward, Probe, TextStream};
use super::hessian::{Moments, Original};
use super::plan::{GptqPlan, Group};
use super::solve::Work;
use super::table::Table;
use crate::engine::error::EngineError;
use crate::engine::llama::gguf_file::GgufInput;
use crate::engine::llama::partial::{ProbeKind, Shown};
use crate::engine::llama::tensors::Weights;
use crate::experiment::parameters::{GptqSettings, Matching};
use crate::quantize::sums::runs;
use crate::quantize::{MethodError, MethodReport, fraction};
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

pub(super) struct Sequence<'a> {
    /// The original's file.
    pub(super) source: &'a GgufInput,
    /// The quantized model's file, as llama.cpp made it.
    pub(super) draft: &'a GgufInput,
    pub(super) plan: &'a GptqPlan,
    /// The original; `None` if outputs are not matched.
    pub(super) original: Option<PartialForward<'a>>,
    /// The quantized model.
    pub(super) made: PartialForward<'a>,
    /// Its weights.
    pub(super) weights: Weights<'a>,
    pub(super) settings: GptqSettings,
    /// Maximum size of the sums over inputs, bytes.
    pub(super) memory: u64,
    pub(super) work: Work,
    pub(super) report: MethodReport,
}

/// Called with the fraction of a step that is done, from 0 to 1.
type OnFraction<'h> = &'h mut dyn FnMut(f64);

impl<'a> Sequence<'a> {
    /// Stores the matrices of one group. Returns the new bytes by the name of the tensor.
    pub(super) fn group(
        &mut self,
        index: usize,
        on_fraction: OnFraction<'_>,
    ) -> Result<Vec<(String, Vec<u8>)>, MethodError> {
        let plan: &'a GptqPlan = self.plan;
        let group = &plan.groups[index];
        let mut tables = Vec::new();
        for name in &group.weights {
            let shape = (group.columns, group.matrices);
            match Table::open(name, (self.source, self.draft), shape) {
                Ok(table) => tables.push(table),
                Err(reason) => {
                    if let Some(tensor) = self.draft.find(name) {
                        self.report.keep(&tensor.entry, None, reason);
                    }
                }
            }
        }
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        let is_matched = self.original.is_some();
        let bytes = Moments::bytes(group.columns, is_matched, self.residual_width(group));
        let passes = runs(&vec![bytes; group.matrices], self.memory);
        for (pass, range) in passes.iter().enumerate() {
            let mut on_fraction = |part: f64| on_fraction(fraction(pass, part, passes.len()));
            // The original does not change, so its last pass goes on to the next group's cut.
            let next = plan.groups.get(index + 1).filter(|_| pass + 1 == passes.len());
            let next = next.map_or(group.cut, |next| next.cut);
            let moments = self.moments(group, range.clone(), next, &mut on_fraction)?;
            for (matrix, mut moments) in range.clone().zip(moments) {
                let hessian = moments.hessian(self.settings.damping);
                for table in &mut tables {
                    table.store(matrix, &mut moments, hessian.as_ref(), self.work);
                }
            }
        }
        let mut replaced = Vec::new();
        for table in tables {
            if let Some((name, bytes)) = table.finish(&mut self.report) {
                self.weights.write(&name, &bytes)?;
                replaced.push((name, bytes));
            }
        }
        Ok(replaced)
    }

    /// Width of the residual stream that a group's product is added to, if it is to be corrected.
    fn residual_width(&self, group: &Group) -> Option<usize> {
        let is_corrected = self.settings.matching == Matching::Stream;
        (is_corrected && !group.residuals.is_empty()).then_some(group.residual_width)
    }

    /// Sums over the inputs of some of a group's matrices, in both models. The quantized model advances to the group's
    /// cut, the original to `next`.
    fn moments(
        &mut self,
        group: &Group,
        matrices: Range<usize>,
        next: Option<usize>,
        on_fraction: OnFraction<'_>,
    ) -> Result<Vec<Moments>, MethodError> {
        let width = self.residual_width(group);
        let is_matched = self.original.is_some();
        let mut moments: Vec<Moments> = matrices
            .clone()
            .map(|_| Moments::new(group.columns, is_matched, width, self.work.parallel))
            .collect();
        let mut wanted = vec![(group.step, ProbeKind::Input)];
        if width.is_some() {
            wanted.extend(group.residuals.iter().map(|&step| (step, ProbeKind::Output)));
        }
        let flow = &self.plan.flow;
        let here = self.made.probe(flow, &wanted, group.cut);
        let there = self.original.as_ref().map(|forward| forward.probe(flow, &wanted, next));
        let mut pairs = Pairs::default();
        for first in (0..self.made.texts()).step_by(self.made.streams()) {
            on_fraction(fraction(first, 0.0, self.made.texts()));
            for (made, original) in &self.read(first, &here, there.as_ref())? {
                let drift = original.as_ref().filter(|_| width.is_some());
                let drift = drift.map(|original| residual_drift(&original[1..], &made[1..]));
                let (made, original) = (&made[0], original.as_ref().map(|shown| &shown[0]));
                if group.matrices == 1 {
                    let residual = drift.as_deref();
                    let original = original.map(|shown| Original { inputs: &shown.rows, residual });
                    moments[0].add(&made.rows, original);
                    continue;
                }
                for (matrix, moments) in matrices.clone().zip(&mut moments) {
                    pairs.select(matrix, group.is_routed, self.made.tokens(), made, original);
                    let original =
                        original.map(|_| Original { inputs: &pairs.there, residual: None });
                    moments.add(&pairs.here, original);
                }
            }
        }
        self.made.advance(&here);
        if let (Some(original), Some(there)) = (&mut self.original, &there) {
            original.advance(there);
        }
        Ok(moments)
    }

    /// Evaluates as many texts as there are streams, in parallel, from text `first` on.
    fn read(
        &mut self,
        first: usize,
        here: &Probe,
        there: Option<&Probe>,
    ) -> Result<Vec<ShownPair>, EngineError> {
        let originals = self.original.iter_mut().flat_map(|forward| forward.from(first)).map(Some);
        let originals = originals.chain(std::iter::repeat_with(|| None));
        let read = |mut made: TextStream<'_, '_>, original: Option<TextStream<'_, '_>>| {
            let shown = made.read(here)?;
            let original = original.zip(there).map(|(mut stream, probe)| stream.read(probe));
            Ok((shown, original.transpose()?))
        };
        let read = &read;
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .made
                .from(first)
                .zip(originals)
                .map(|(made, original)| scope.spawn(move || read(made, original)))
                .collect();
            let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
            results.map(|shown| shown.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }
}

/// What was read of a text, in the quantized model and in the original.
type ShownPair = (Vec<Shown>, Option<Vec<Shown>>);

/// The residual stream of the original minus that of the quantized model, each the sum of its parts.
fn residual_drift(there: &[Shown], here: &[Shown]) -> Vec<f32> {
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
    /// Selects the vectors of one matrix. Where the original routes a token elsewhere, the vector is its own counterpart:
    /// it counts for the Hessian, not for the target.
    fn select(
        &mut self,
        matrix: usize,
        is_routed: bool,
        tokens: usize,
        here: &Shown,
        there: Option<&Shown>,
    ) {
        self.here.clear();
        self.there.clear();
        // Routed vectors are a few per token, in the order of the router's preference.
        let chosen = if is_routed { here.matrix_of_row.len() / tokens.max(1) } else { 1 }.max(1);
        let vector = |shown: &'_ Shown, row: usize| row * shown.columns..(row + 1) * shown.columns;
        for (row, &own) in here.matrix_of_row.iter().enumerate() {
            if own as usize != matrix {
                continue;
            }
            let own_vector = &here.rows[vector(here, row)];
            self.here.extend_from_slice(own_vector);
            let Some(there) = there else { continue };
            let others = there.matrix_of_row.iter().enumerate();
            let mut others = others.skip(row / chosen * chosen).take(chosen);
            let counterpart = others.find(|(_, other)| **other == own);
            let counterpart = counterpart.map(|(row, _)| &there.rows[vector(there, row)]);
            self.there.extend_from_slice(counterpart.unwrap_or(own_vector));
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
            pairs.select(matrix, is_routed, 2, &here, there);
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
