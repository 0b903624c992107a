//! Batches as llama.cpp reads them.

use crate::engine::batch::Batch;
use llama_cpp_sys_2 as sys;

/// Points at the sequences of every token of a batch; kept between evaluations for its memory.
#[derive(Debug, Default)]
pub(super) struct SequencePointers(Vec<*mut sys::llama_seq_id>);

// SAFETY: the pointers are made anew for each evaluation and used only during it.
unsafe impl Send for SequencePointers {}

impl SequencePointers {
    /// The batch as llama.cpp reads it; valid until the batch is changed.
    pub(super) fn raw(&mut self, batch: &mut Batch) -> sys::llama_batch {
        self.0.clear();
        let mut rest = batch.sequences.as_mut_slice();
        for &count in &batch.sequence_counts {
            let count = usize::try_from(count).unwrap_or(0).min(rest.len());
            let (own, behind) = std::mem::take(&mut rest).split_at_mut(count);
            self.0.push(own.as_mut_ptr());
            rest = behind;
        }
        sys::llama_batch {
            n_tokens: i32::try_from(batch.tokens.len()).unwrap_or(i32::MAX),
            token: batch.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: batch.positions.as_mut_ptr(),
            n_seq_id: batch.sequence_counts.as_mut_ptr(),
            seq_id: self.0.as_mut_ptr(),
            logits: batch.outputs.as_mut_ptr(),
        }
    }
}
