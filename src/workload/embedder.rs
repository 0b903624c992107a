//! Embeddings of many texts, several in a batch.

use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose, ContextShape, Model};
use crate::experiment::settings::Settings;

/// Texts in a batch: attention is computed between all tokens of a batch, also where it is masked, so
/// that large batches of an encoder cost more than they save.
const MOST_TEXTS: u32 = 8;

/// Tokens in a batch, if no text is longer.
const MOST_TOKENS: u32 = 1024;

/// An embedding model with a context for texts up to a given length.
#[derive(Debug)]
pub struct Embedder<'model> {
    context: Box<dyn Context + 'model>,
    batch: Batch,
}

impl<'model> Embedder<'model> {
    /// An embedder of texts of up to `longest` tokens.
    ///
    /// # Errors
    /// When the context cannot be made.
    pub fn new(
        model: &'model dyn Model,
        settings: &Settings,
        longest: u32,
    ) -> Result<Self, EngineError> {
        let tokens = longest.max(MOST_TOKENS);
        let shape = ContextShape { tokens, sequences: MOST_TEXTS, batch: tokens, ubatch: tokens };
        Ok(Self {
            context: model.context(settings, shape, ContextPurpose::Embeddings)?,
            batch: Batch::with_capacity(tokens as usize),
        })
    }

    /// What the engine allocated.
    #[must_use]
    pub fn memory(&self) -> Vec<BufferMemory> {
        self.context.memory()
    }

    /// The embedding of every text, of length 1 (L2), in order; `embedded` is told after every batch
    /// how many are done.
    ///
    /// # Errors
    /// When a text is longer than the embedder was made for, or evaluation fails.
    pub fn embed(
        &mut self,
        texts: &[Vec<i32>],
        embedded: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut embeddings = Vec::with_capacity(texts.len());
        while embeddings.len() < texts.len() {
            let rest = &texts[embeddings.len()..];
            let count = self.fill(rest)?;
            self.context.clear_memory();
            self.context.encode(&mut self.batch)?;
            for sequence in 0..count {
                let sequence = i32::try_from(sequence).unwrap_or(i32::MAX);
                embeddings.push(unit(self.context.embedding(sequence)?));
            }
            embedded(embeddings.len());
        }
        Ok(embeddings)
    }

    /// Puts as many of `texts` as fit into the batch, at least one; returns how many.
    fn fill(&mut self, texts: &[Vec<i32>]) -> Result<usize, EngineError> {
        let capacity = self.context.shape().ubatch as usize;
        self.batch.clear();
        let mut count = 0;
        for (sequence, text) in (0..).zip(texts.iter().take(MOST_TEXTS as usize)) {
            if count > 0 && self.batch.len() + text.len() > capacity {
                break;
            }
            for (position, &token) in (0..).zip(text) {
                self.batch.add(token, position, sequence, true)?;
            }
            count += 1;
        }
        Ok(count)
    }
}

/// The vector in its direction that is 1 long; a vector of zeros stays as it is.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 1.0 };
    #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
    let scaled = vector.iter().map(|&x| (f64::from(x) * scale) as f32).collect();
    scaled
}

/// The cosine of the angle between two vectors; 0 where one of them has no direction.
#[must_use]
pub fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    let lengths = (dot(one, one) * dot(other, other)).sqrt();
    if lengths > 0.0 { (dot(one, other) / lengths).clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_directions_have_a_cosine_of_one_and_right_angles_of_zero() {
        assert!((cosine(&[3.0, 4.0], &[6.0, 8.0]) - 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 2.0]).abs() < 1e-12);
        assert!((cosine(&[1.0, 0.0], &[-2.0, 0.0]) + 1.0).abs() < 1e-12);
        assert!(cosine(&[0.0, 0.0], &[1.0, 2.0]).abs() < 1e-12);
    }

    #[test]
    fn a_unit_vector_is_one_long_and_nothing_stays_nothing() {
        assert_eq!(unit(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(unit(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
