//! Contexts of encoders: one vector for each text.

use super::context::whole_numbers;
use super::failed;
use super::files::Pooling;
use super::layout::{Output, Role};
use super::model::OnnxModel;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextShape, Model as _};
use crate::experiment::workloads::Sampling;
use ort::value::{DynValue, TensorElementType};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// An encoder being evaluated, text by text.
#[derive(Debug)]
pub(super) struct EncoderContext<'model> {
    model: &'model OnnxModel,
    shape: ContextShape,
    pooling: Pooling,
    embeddings: BTreeMap<i32, Vec<f32>>,
}

impl<'model> EncoderContext<'model> {
    /// # Errors
    /// The model asks for a pooling that is not known.
    pub(super) fn new(model: &'model OnnxModel, shape: ContextShape) -> Result<Self, EngineError> {
        let pooling = model.beside.pooling().map_err(|reason| failed("embed texts", &reason))?;
        Ok(Self { model, shape, pooling, embeddings: BTreeMap::new() })
    }

    fn run(&self, tokens: &[i64]) -> ort::Result<Vec<f32>> {
        let layout = &self.model.layout;
        let count = tokens.len();
        let inputs = layout.inputs.iter().map(|(port, role)| {
            let mut numbers: Box<dyn Iterator<Item = i64>> = match role {
                Role::Tokens => Box::new(tokens.iter().copied()),
                Role::Mask => Box::new(std::iter::repeat_n(1, count)),
                Role::Positions => Box::new((0..).take(count)),
                Role::Segments | Role::UseCache | Role::LogitsToKeep => {
                    Box::new(std::iter::repeat_n(0, count))
                }
            };
            let value = whole_numbers(port.kind, vec![1, count], &mut numbers)?;
            Ok((Cow::Borrowed(port.name.as_str()), value))
        });
        let inputs: Vec<(Cow<'_, str>, DynValue)> = inputs.collect::<ort::Result<_>>()?;
        let mut session = self.model.session()?;
        let outputs = session.run(inputs)?;
        let none = || ort::Error::new("the graph gave no vectors");
        let vectors = floats(outputs.get(layout.output.name()).ok_or_else(none)?)?;
        let rows = if matches!(layout.output, Output::Hidden { .. }) { count } else { 1 };
        let width = layout.output.width();
        if vectors.len() != rows * width {
            return Err(ort::Error::new(format!(
                "the graph gave {} numbers, not {rows} × {width}",
                vectors.len()
            )));
        }
        Ok(pooled(&vectors, width, self.pooling))
    }
}

fn floats(value: &DynValue) -> ort::Result<Cow<'_, [f32]>> {
    if *value.data_type() == TensorElementType::Float16 {
        let all = value.try_extract_tensor::<half::f16>()?.1;
        return Ok(Cow::Owned(all.iter().map(|it| it.to_f32()).collect()));
    }
    Ok(Cow::Borrowed(value.try_extract_tensor::<f32>()?.1))
}

/// One vector of those of all tokens, `[tokens, width]`.
fn pooled(vectors: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    match pooling {
        Pooling::First => vectors.iter().take(width).copied().collect(),
        Pooling::Mean => {
            let mut sums = vec![0.0_f64; width];
            for row in vectors.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
            #[expect(clippy::cast_precision_loss, reason = "tokens of a text")]
            let rows = (vectors.len() / width).max(1) as f64;
            #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
            sums.into_iter().map(|sum| (sum / rows) as f32).collect()
        }
    }
}

impl Context for EncoderContext<'_> {
    fn shape(&self) -> ContextShape {
        self.shape
    }

    fn decode(&mut self, _batch: &mut Batch) -> Result<(), EngineError> {
        Err(EngineError::Unsupported("generate with an encoder"))
    }

    fn encode(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        if batch.len() > self.shape.ubatch as usize {
            return Err(EngineError::BatchFull { capacity: self.shape.ubatch as usize });
        }
        self.embeddings.clear();
        let mut texts: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for (&token, &sequence) in batch.tokens.iter().zip(&batch.sequences) {
            texts.entry(sequence).or_default().push(i64::from(token));
        }
        for (sequence, tokens) in texts {
            let action = || format!("encode a text of {} tokens", tokens.len());
            let embedding = self.run(&tokens).map_err(|error| failed(action(), &error))?;
            self.embeddings.insert(sequence, embedding);
        }
        Ok(())
    }

    fn synchronize(&mut self) {}

    fn all_logits(&mut self, outputs: usize) -> Result<&[f32], EngineError> {
        Err(EngineError::NoLogits { index: i32::try_from(outputs).unwrap_or(i32::MAX) })
    }

    fn embedding(&mut self, sequence: i32) -> Result<&[f32], EngineError> {
        let found = self.embeddings.get(&sequence);
        found.map(Vec::as_slice).ok_or(EngineError::NoEmbedding { sequence })
    }

    fn begin_sampling(&mut self, _sampling: Sampling) -> Result<(), EngineError> {
        Ok(())
    }

    fn sample(&mut self) -> Result<i32, EngineError> {
        Err(EngineError::NoLogits { index: 0 })
    }

    fn clear_memory(&mut self) {
        self.embeddings.clear();
    }

    fn copy_sequence(&mut self, _from: i32, _to: i32) {}

    fn remove_sequence(&mut self, sequence: i32) {
        self.embeddings.remove(&sequence);
    }

    fn save_sequence(&mut self, _sequence: i32) -> Result<Vec<u8>, EngineError> {
        Err(EngineError::State("save"))
    }

    fn restore_sequence(&mut self, _sequence: i32, _state: &[u8]) -> Result<(), EngineError> {
        Err(EngineError::State("restore"))
    }

    fn memory(&self) -> Vec<BufferMemory> {
        vec![BufferMemory {
            buffer: "CPU".to_owned(),
            on_device: false,
            weights_bytes: self.model.tensor_bytes(),
            kv_bytes: 0,
            compute_bytes: self.model.compute_bytes(self.shape.ubatch, self.shape.ubatch),
            context: self.shape.tokens,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_tokens_become_one() {
        let vectors = [1.0, 2.0, 3.0, 6.0];
        assert_eq!(pooled(&vectors, 2, Pooling::Mean), [2.0, 4.0]);
        assert_eq!(pooled(&vectors, 2, Pooling::First), [1.0, 2.0]);
    }
}
