//! Batches: the tokens of one evaluation, with position, sequence and whether output is wanted.

use super::error::EngineError;

/// Tokens to evaluate together. Owns its memory; reused between evaluations.
#[derive(Debug)]
pub struct Batch {
    pub(super) tokens: Vec<i32>,
    pub(super) positions: Vec<i32>,
    /// Sequences that each token belongs to, at least one.
    pub(super) sequence_counts: Vec<i32>,
    /// The sequences of all tokens, one after the other.
    pub(super) sequences: Vec<i32>,
    pub(super) outputs: Vec<i8>,
    capacity: usize,
}

impl Batch {
    /// An empty batch for up to `capacity` tokens.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(capacity),
            positions: Vec::with_capacity(capacity),
            sequence_counts: Vec::with_capacity(capacity),
            sequences: Vec::with_capacity(capacity),
            outputs: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// A batch of these tokens of sequence 0, from `position` on.
    pub(super) fn of(tokens: &[i32], position: i32, output: bool) -> Self {
        let count = tokens.len();
        Self {
            tokens: tokens.to_vec(),
            positions: (position..).take(count).collect(),
            sequence_counts: vec![1; count],
            sequences: vec![0; count],
            outputs: vec![i8::from(output); count],
            capacity: count,
        }
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequence_counts.clear();
        self.sequences.clear();
        self.outputs.clear();
    }

    /// Adds one token at `position` of `sequence`; `output` asks for its logits.
    ///
    /// # Errors
    /// [`EngineError::BatchFull`].
    pub fn add(
        &mut self,
        token: i32,
        position: i32,
        sequence: i32,
        output: bool,
    ) -> Result<(), EngineError> {
        self.add_shared(token, position, &[sequence], output)
    }

    /// Adds one token that several sequences have at the same position, with the same tokens before
    /// it: it is evaluated once for all of them. At least one sequence; only for contexts made with
    /// [`ContextPurpose::Shared`](super::ContextPurpose::Shared).
    ///
    /// # Errors
    /// [`EngineError::BatchFull`].
    pub fn add_shared(
        &mut self,
        token: i32,
        position: i32,
        sequences: &[i32],
        output: bool,
    ) -> Result<(), EngineError> {
        if self.tokens.len() == self.capacity {
            return Err(EngineError::BatchFull { capacity: self.capacity });
        }
        self.tokens.push(token);
        self.positions.push(position);
        self.sequences.extend_from_slice(sequences);
        self.sequence_counts.push(i32::try_from(sequences.len()).unwrap_or(i32::MAX));
        self.outputs.push(i8::from(output));
        Ok(())
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}
