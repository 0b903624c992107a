//! What all questions of a task begin with: evaluated once per context, then copied.

use super::TaskError;
use super::prefix::common;
use crate::workload::batched::BatchedContext;

/// Shorter beginnings are not worth a sequence of their own.
const SHORTEST: usize = 8;

/// Tokens that every text begins with; in a context they are sequence 0.
#[derive(Debug, Clone, Default)]
pub(super) struct Beginning {
    tokens: Vec<i32>,
}

/// The sequence of the `nth` text of a group: after that of the beginning.
pub(super) fn sequence(nth: usize) -> i32 {
    i32::try_from(nth + 1).unwrap_or(i32::MAX)
}

impl Beginning {
    /// What `texts` have in common, `most` tokens at most.
    pub(super) fn of<'t>(texts: impl Iterator<Item = &'t [i32]> + Clone, most: usize) -> Self {
        let length = common(texts.clone(), most);
        let length = if length < SHORTEST { 0 } else { length };
        let tokens = texts.take(1).flat_map(|text| &text[..length]).copied().collect();
        Self { tokens }
    }

    /// Tokens of it.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Evaluates it, once per context.
    pub(super) fn prepare(&self, batched: &mut BatchedContext<'_>) -> Result<(), TaskError> {
        batched.read(&self.tokens, 0, false)?;
        Ok(())
    }

    /// Gives it to the first sequences, and nothing else.
    pub(super) fn begin(&self, batched: &mut BatchedContext<'_>, sequences: usize) {
        if self.tokens.is_empty() {
            batched.context.clear_memory();
            return;
        }
        for nth in 0..sequences {
            batched.context.copy_sequence(0, sequence(nth));
        }
    }

    /// Leaves nothing but it.
    pub(super) fn end(&self, batched: &mut BatchedContext<'_>, sequences: usize) {
        if !self.tokens.is_empty() {
            for nth in 0..sequences {
                batched.context.remove_sequence(sequence(nth));
            }
        }
    }
}
