//! One weight being stored: a matrix, or a table of experts' matrices, each with its own Hessian.
//!
//! Uses the Hessian and the solver; used by the sequence.

use super::hessian::{Hessian, Moments};
use super::layout::Layout;
use super::solve::{self, Problem, Work};
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::{GgufInput, InputTensor};
use crate::quantize::{MethodReport, shape};

/// Most experts that a report lists by number.
const LISTED: usize = 8;
/// An expert with fewer vectors per column stays as it is: the least squares would fit noise. With this many nothing was
/// gained or lost (docs/GPTQ.md).
const VECTORS_PER_COLUMN: usize = 2;

/// A weight, as far as it is stored.
pub(super) struct Table<'a> {
    source: &'a InputTensor,
    source_bytes: &'a [u8],
    draft: &'a InputTensor,
    layout: &'static Layout,
    matrices: usize,
    /// The draft's, replaced matrix by matrix.
    bytes: Vec<u8>,
    stored: usize,
    kept: Vec<(usize, String)>,
}

impl<'a> Table<'a> {
    /// A weight of the draft and of the original.
    ///
    /// # Errors
    /// Why it cannot be stored, for the report.
    pub(super) fn open(
        name: &str,
        (source, draft): (&'a GgufInput, &'a GgufInput),
        (columns, matrices): (usize, usize),
    ) -> Result<Self, String> {
        let missing = || "the file has no such tensor".to_owned();
        let tensor = draft.find(name).ok_or_else(missing)?;
        let original = source.find(name).ok_or_else(missing)?;
        let format = tensor.entry.format;
        let layout = Layout::named(format.name())
            .ok_or_else(|| format!("GPTQ does not write the format {format}"))?;
        let [stored_columns, _, stored_matrices] = shape(&tensor.entry);
        let is_matrix = tensor.entry.dimensions.len() > 1;
        if !is_matrix || (stored_columns, stored_matrices) != (columns, matrices) {
            return Err("it is used in another shape than it is stored in".to_owned());
        }
        Ok(Self {
            source: original,
            source_bytes: source.bytes(original),
            draft: tensor,
            layout,
            matrices,
            bytes: draft.bytes(tensor).to_vec(),
            stored: 0,
            kept: Vec::new(),
        })
    }

    /// Stores one matrix. `moments` are over the vectors that were routed to it.
    pub(super) fn store(
        &mut self,
        matrix: usize,
        moments: &mut Moments,
        hessian: Option<&Hessian>,
        work: Work,
    ) {
        if self.matrices > 1 && moments.tokens < VECTORS_PER_COLUMN * moments.width {
            let reason = "the text routes fewer vectors to it than twice its columns";
            self.kept.push((matrix, reason.to_owned()));
            return;
        }
        match self.solve(matrix, moments, hessian, work) {
            Ok(()) => self.stored += 1,
            Err(reason) => self.kept.push((matrix, reason)),
        }
    }

    fn solve(
        &mut self,
        matrix: usize,
        moments: &mut Moments,
        hessian: Option<&Hessian>,
        work: Work,
    ) -> Result<(), String> {
        let Hessian { matrix: hessian, factor } =
            hessian.ok_or("its inputs are all zero, or are not numbers")?;
        let length = self.source_bytes.len() / self.matrices;
        let bytes = &self.source_bytes[matrix * length..][..length];
        let weights =
            blocks::values(self.source.entry.format, bytes).map_err(|error| error.to_string())?;
        let target = &moments.target(&weights, factor);
        let (layout, columns) = (self.layout, factor.size);
        let problem = Problem { layout, columns, target, hessian, factor };
        let length = self.bytes.len() / self.matrices;
        let stored = &mut self.bytes[matrix * length..][..length];
        let before = solve::loss(&problem, stored, work.parallel);
        let (bytes, loss) = solve::solve(&problem, work);
        if loss >= before || loss.is_nan() || before.is_nan() {
            return Err("rounding with the importance matrix was no worse".to_owned());
        }
        stored.copy_from_slice(&bytes);
        Ok(())
    }

    /// Reports its matrices. Returns its name and bytes if any of them changed.
    pub(super) fn finish(self, report: &mut MethodReport) -> Option<(String, Vec<u8>)> {
        let entry = &self.draft.entry;
        report.chosen += u64::from(self.stored > 0);
        let mut reasons: Vec<(String, Vec<usize>)> = Vec::new();
        for (matrix, reason) in self.kept {
            match reasons.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, kept)) => kept.push(matrix),
                None => reasons.push((reason, vec![matrix])),
            }
        }
        for (reason, kept) in reasons {
            let part = (kept.len() < self.matrices).then(|| numbers(&kept, self.matrices));
            report.keep(entry, part, reason);
        }
        (self.stored > 0).then(|| (entry.name.clone(), self.bytes))
    }
}

/// `matrices 3, 7 of 64`.
fn numbers(chosen: &[usize], of: usize) -> String {
    let listed: Vec<String> = chosen.iter().take(LISTED).map(ToString::to_string).collect();
    let more = (chosen.len() > LISTED).then(|| format!(", …: {} matrices", chosen.len()));
    let more = more.unwrap_or_default();
    format!("matrices {}{more} of {of}", listed.join(", "))
}
