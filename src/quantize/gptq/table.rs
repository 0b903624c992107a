//! One weight being stored: a matrix, or a table of experts' matrices, each with its own Hessian.
//!
//! Uses the Hessian and the solver; used by the sequence.

use super::hessian::{Hessian, Moments};
use super::layout::Layout;
use super::report::{Matrix, Outcome, Times};
use super::solve::{self, Problem, Work};
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{GgufInput, InputTensor};
use faer::Par;
use std::time::Instant;

/// Numbers of experts that are named.
const NAMED: usize = 8;
/// An expert that was given fewer vectors than so many times its columns stays as it is. Its Hessian would have next to
/// no rank to spare, and the least squares fit the few vectors it saw: measured, this many are where nothing is
/// gained or lost (docs/GPTQ.md).
const VECTORS_PER_COLUMN: usize = 2;

/// A weight, as far as it is stored.
#[derive(Debug)]
pub struct Table<'a> {
    source: &'a InputTensor,
    source_bytes: &'a [u8],
    draft: &'a InputTensor,
    layout: &'static Layout,
    matrices: usize,
    work: Work,
    parallel: Par,
    /// As stored so far.
    bytes: Vec<u8>,
    /// Sums over the matrices that were stored: before, after the pass, in the end; and the largest damping.
    losses: [f64; 3],
    damping: f64,
    stored: usize,
    kept: Vec<(usize, String)>,
}

impl<'a> Table<'a> {
    /// A weight of the draft, with what it was in the original; or why it cannot be stored.
    ///
    /// # Errors
    /// A reason, for the report.
    pub fn open(
        name: &str,
        (source, draft): (&'a GgufInput, &'a GgufInput),
        (columns, matrices): (usize, usize),
        (work, parallel): (Work, Par),
    ) -> Result<Self, String> {
        let missing = || "the file has no such tensor".to_owned();
        let tensor = draft.find(name).ok_or_else(missing)?;
        let original = source.find(name).ok_or_else(missing)?;
        let format = tensor.entry.format;
        let layout = Layout::named(format.name())
            .ok_or_else(|| format!("GPTQ does not write the format {format}"))?;
        let dimensions = &tensor.entry.dimensions;
        let all: u64 = dimensions.iter().skip(2).product();
        if dimensions.len() < 2 || dimensions[0] != columns as u64 || all != matrices as u64 {
            return Err("it is used in another shape than it is stored in".to_owned());
        }
        Ok(Self {
            source: original,
            source_bytes: source.bytes(original),
            draft: tensor,
            layout,
            matrices,
            work,
            parallel,
            bytes: draft.bytes(tensor).to_vec(),
            losses: [0.0; 3],
            damping: 0.0,
            stored: 0,
            kept: Vec::new(),
        })
    }

    /// Stores one matrix. With experts, `moments` are over what was routed to it.
    pub fn store(
        &mut self,
        matrix: usize,
        moments: &mut Moments,
        hessian: Option<&Hessian>,
        times: &mut Times,
    ) {
        if self.matrices > 1 && moments.tokens() < VECTORS_PER_COLUMN * moments.width() {
            let reason = "the text routes fewer vectors to it than twice its columns";
            self.kept.push((matrix, reason.to_owned()));
            return;
        }
        if let Err(reason) = self.solve(matrix, moments, hessian, times) {
            self.kept.push((matrix, reason));
        }
    }

    fn solve(
        &mut self,
        matrix: usize,
        moments: &mut Moments,
        hessian: Option<&Hessian>,
        times: &mut Times,
    ) -> Result<(), String> {
        let hessian = hessian.ok_or("its inputs are all zero, or are not numbers")?;
        let began = Instant::now();
        let mut weights = Vec::new();
        let length = self.source_bytes.len() / self.matrices;
        let bytes = &self.source_bytes[matrix * length..][..length];
        blocks::dequantize(self.source.entry.format, bytes, &mut weights)
            .map_err(|error| error.to_string())?;
        let target = moments.target(&weights, hessian);
        times.factors += began.elapsed();
        let began = Instant::now();
        let factor = &hessian.factor;
        let problem = Problem {
            layout: self.layout,
            columns: factor.size,
            target: &target,
            hessian: &hessian.matrix,
            factor,
        };
        let length = self.bytes.len() / self.matrices;
        let stored = &mut self.bytes[matrix * length..][..length];
        let before = solve::loss(&problem, stored, self.parallel);
        let solution = solve::solve(&problem, self.work, self.parallel);
        times.rows += began.elapsed();
        if solution.loss >= before || solution.loss.is_nan() || before.is_nan() {
            return Err("rounding with the importance matrix was no worse".to_owned());
        }
        stored.copy_from_slice(&solution.bytes);
        self.stored += 1;
        self.damping = self.damping.max(hessian.damping);
        for (sum, loss) in self.losses.iter_mut().zip([before, solution.passed_loss, solution.loss])
        {
            *sum += loss;
        }
        Ok(())
    }

    /// What became of it, and its bytes if any of them changed.
    #[must_use]
    pub fn finish(self) -> (Vec<Matrix>, Option<(String, Vec<u8>)>) {
        let entry = &self.draft.entry;
        let mut matrices = Vec::new();
        let line = |part: Option<String>, count: usize, outcome: Outcome| Matrix {
            name: entry.name.clone(),
            part,
            format: entry.format,
            weights: entry.weights / self.matrices.max(1) as u64 * count as u64,
            outcome,
        };
        if self.stored > 0 {
            let [before, passed, after] = self.losses;
            let outcome = Outcome::Stored { before, passed, after, damping: self.damping };
            matrices.push(line(None, self.stored, outcome));
        }
        let mut reasons: Vec<(String, Vec<usize>)> = Vec::new();
        for (matrix, reason) in self.kept {
            match reasons.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, kept)) => kept.push(matrix),
                None => reasons.push((reason, vec![matrix])),
            }
        }
        for (reason, kept) in reasons {
            let part = (kept.len() < self.matrices).then(|| numbers(&kept, self.matrices));
            matrices.push(line(part, kept.len(), Outcome::Kept { reason }));
        }
        let name = entry.name.clone();
        (matrices, (self.stored > 0).then_some((name, self.bytes)))
    }
}

/// `matrices 3, 7 of 64`.
fn numbers(chosen: &[usize], of: usize) -> String {
    let named: Vec<String> = chosen.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if chosen.len() > NAMED {
        format!(", …: {} matrices", chosen.len())
    } else {
        String::new()
    };
    format!("matrices {}{more} of {of}", named.join(", "))
}
