//! Contexts of decoders: batches of tokens, evaluated sequence by sequence.

use super::cache::{Caches, Copied, InPlace, bytes_in, empty};
use super::failed;
use super::layout::Role;
use super::model::OnnxModel;
use super::sampler::Sampler;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Context, ContextPurpose, ContextShape, Model as _};
use crate::experiment::workloads::Sampling;
use ort::memory::MemoryInfo;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A decoder being evaluated.
#[derive(Debug)]
pub(super) struct DecoderContext<'model> {
    model: &'model OnnxModel,
    shape: ContextShape,
    /// Whether a cache is one buffer, past and present.
    is_in_place: bool,
    caches: Caches,
    /// Logits of the last batch, `[outputs, vocabulary]`.
    logits: Vec<f32>,
    sampler: Sampler,
}

impl<'model> DecoderContext<'model> {
    /// # Errors
    /// There is no memory for it.
    pub(super) fn new(
        model: &'model OnnxModel,
        shape: ContextShape,
        purpose: ContextPurpose,
    ) -> Result<Self, EngineError> {
        // What several sequences have in common is not in one place of a buffer.
        let is_one = shape.sequences == 1 && purpose != ContextPurpose::Shared;
        let is_in_place = is_one && model.graph.shares_caches;
        // A plan evaluates nothing: a cache that is copied is empty until then.
        let caches = if is_in_place && !model.is_plan() {
            let session = model.session();
            let made =
                session.and_then(|session| InPlace::new(&session, &model.layout.caches, shape));
            let failed = |error: ort::Error| EngineError::Context {
                context: shape.tokens,
                reason: error.to_string(),
            };
            Caches::InPlace(Box::new(made.map_err(failed)?))
        } else {
            Caches::Copied(vec![Copied::default(); shape.sequences as usize])
        };
        let (logits, sampler) = (Vec::new(), Sampler::default());
        Ok(Self { model, shape, is_in_place, caches, logits, sampler })
    }

    /// Tokens that a sequence has; `None` if there is no such sequence.
    fn length(&self, sequence: i32) -> Option<usize> {
        let sequence = usize::try_from(sequence).ok()?;
        match &self.caches {
            Caches::InPlace(cache) => (sequence == 0).then_some(cache.length),
            Caches::Copied(all) => all.get(sequence).map(|cache| cache.length),
        }
    }

    /// Evaluates tokens that follow each other in the same sequences.
    fn evaluate(&mut self, group: &Group<'_>) -> Result<(), EngineError> {
        let wrong = |reason: &str| failed(group.action(), &reason);
        let (first, others) =
            group.sequences.split_first().ok_or_else(|| wrong("of no sequence"))?;
        let before = self.length(*first).ok_or_else(|| wrong("there is no such sequence"))?;
        if i32::try_from(before) != Ok(group.position)
            || others.iter().any(|it| self.length(*it) != Some(before))
        {
            return Err(wrong("the tokens before them are not in the cache"));
        }
        let own = (self.shape.tokens / self.shape.sequences.max(1)) as usize;
        if before + group.tokens.len() > own.max(1) && matches!(self.caches, Caches::InPlace(_)) {
            return Err(wrong(&format!("the context has room for {own}")));
        }
        self.run(group, before).map_err(|error| failed(group.action(), &error))?;
        if let Caches::Copied(all) = &mut self.caches {
            let own = usize::try_from(*first).ok().and_then(|it| all.get(it)).cloned();
            for &other in others {
                if let (Some(own), Ok(other)) = (&own, usize::try_from(other)) {
                    all[other] = own.clone();
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, group: &Group<'_>, before: usize) -> ort::Result<()> {
        let Self { model, caches, logits, .. } = self;
        let layout = &model.layout;
        // A graph that is told to gives the logits of the last token alone, where no other's are asked for.
        let last_only = layout.has(Role::LogitsToKeep) && group.asks_last_only();
        let inputs = inputs(model, group, before, last_only)?;
        let mut session = model.session()?;
        let rows = Rows { group, last_only, width: layout.output.width() };
        match caches {
            Caches::InPlace(cache) => {
                let binding = &mut cache.binding;
                for (name, value) in inputs {
                    binding.bind_input(name, &value)?;
                }
                binding.bind_output_to_device(layout.output.name(), &MemoryInfo::default())?;
                let outputs = session.run_binding(binding)?;
                let output = outputs.get(layout.output.name()).ok_or_else(no_logits)?;
                rows.take(output, logits)?;
                cache.length += group.tokens.len();
            }
            Caches::Copied(all) => {
                let sequence = group.sequences.first().and_then(|it| usize::try_from(*it).ok());
                let Some(cache) = sequence.and_then(|it| all.get_mut(it)) else { return Ok(()) };
                *cache = run_copied(model, &mut session, inputs, cache, &rows, logits)?;
            }
        }
        Ok(())
    }
}

/// Evaluates with a cache that comes out anew, one piece longer.
fn run_copied(
    model: &OnnxModel,
    session: &mut Session,
    inputs: Vec<(&str, DynValue)>,
    cache: &Copied,
    rows: &Rows<'_>,
    logits: &mut Vec<f32>,
) -> ort::Result<Copied> {
    let layout = &model.layout;
    let own = |(name, value): (_, DynValue)| (Cow::Borrowed(name), SessionInputValue::from(value));
    let mut all: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = inputs.into_iter().map(own).collect();
    for (place, port) in layout.caches.iter().enumerate() {
        let past = match cache.values.as_ref().and_then(|values| values.get(place)) {
            Some(value) => SessionInputValue::from(value),
            None => SessionInputValue::from(empty(port, 0)?),
        };
        all.push((Cow::Borrowed(port.past.as_str()), past));
    }
    let mut outputs = session.run(all)?;
    rows.take(outputs.get(layout.output.name()).ok_or_else(no_logits)?, logits)?;
    let mut values = Vec::with_capacity(layout.caches.len());
    for port in &layout.caches {
        let none = || ort::Error::new(format!("the graph gave no '{}'", port.present));
        values.push(outputs.remove(&port.present).ok_or_else(none)?);
    }
    let length = cache.length + rows.group.tokens.len();
    Ok(Copied { length, values: Some(Arc::new(values)) })
}

fn no_logits() -> ort::Error {
    ort::Error::new("the graph gave no logits")
}

/// What a graph is told besides its caches.
fn inputs<'m>(
    model: &'m OnnxModel,
    group: &Group<'_>,
    before: usize,
    last_only: bool,
) -> ort::Result<Vec<(&'m str, DynValue)>> {
    let count = group.tokens.len();
    let row = |length: usize| vec![1, length];
    let inputs = model.layout.inputs.iter().map(|(port, role)| {
        let numbers = |shape, numbers: &mut dyn Iterator<Item = i64>| {
            whole_numbers(port.kind, shape, numbers)
        };
        let first = i64::try_from(before).unwrap_or(i64::MAX);
        let value = match role {
            Role::Tokens => {
                numbers(row(count), &mut group.tokens.iter().map(|&token| i64::from(token)))
            }
            Role::Mask => numbers(row(before + count), &mut std::iter::repeat_n(1, before + count)),
            Role::Positions => numbers(row(count), &mut (first..).take(count)),
            Role::Segments => numbers(row(count), &mut std::iter::repeat_n(0, count)),
            Role::UseCache => {
                Tensor::from_array((vec![1_usize], vec![before > 0])).map(Tensor::into_dyn)
            }
            Role::LogitsToKeep => {
                let shape = vec![1; port.dimensions.len()];
                numbers(shape, &mut std::iter::once(i64::from(last_only)))
            }
        };
        Ok((port.name.as_str(), value?))
    });
    inputs.collect()
}

/// A tensor of whole numbers in the type that is asked for.
pub(super) fn whole_numbers(
    kind: Option<TensorElementType>,
    shape: Vec<usize>,
    numbers: &mut dyn Iterator<Item = i64>,
) -> ort::Result<DynValue> {
    if kind == Some(TensorElementType::Int32) {
        let numbers = numbers.map(|it| i32::try_from(it).unwrap_or(i32::MAX));
        return Ok(Tensor::from_array((shape, numbers.collect::<Vec<_>>()))?.into_dyn());
    }
    Ok(Tensor::from_array((shape, numbers.collect::<Vec<_>>()))?.into_dyn())
}

/// The rows of logits that were asked for.
struct Rows<'a> {
    group: &'a Group<'a>,
    /// There is one row: the last token's.
    last_only: bool,
    width: usize,
}

impl Rows<'_> {
    /// Adds them to those of the batch.
    fn take(&self, output: &DynValue, logits: &mut Vec<f32>) -> ort::Result<()> {
        let Self { group, last_only, width } = *self;
        let wanted: Vec<Range<usize>> = if last_only {
            std::iter::once(0..1).filter(|_| group.outputs.last() == Some(&1)).collect()
        } else {
            runs_of(group.outputs)
        };
        let rows = if last_only { 1 } else { group.tokens.len() };
        if *output.data_type() == TensorElementType::Float16 {
            let all = output.try_extract_tensor::<half::f16>()?.1;
            check_size(all.len(), rows * width)?;
            for run in wanted {
                logits.extend(all[run.start * width..run.end * width].iter().map(|it| it.to_f32()));
            }
        } else {
            let all = output.try_extract_tensor::<f32>()?.1;
            check_size(all.len(), rows * width)?;
            for run in wanted {
                logits.extend_from_slice(&all[run.start * width..run.end * width]);
            }
        }
        Ok(())
    }
}

fn check_size(found: usize, expected: usize) -> ort::Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(ort::Error::new(format!("the graph gave {found} logits, not {expected}")))
}

/// Tokens with outputs, as ranges without gaps.
fn runs_of(outputs: &[i8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (place, _) in outputs.iter().enumerate().filter(|(_, output)| **output != 0) {
        match runs.last_mut() {
            Some(last) if last.end == place => last.end += 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}

/// Tokens of a batch that follow each other in the same sequences.
#[derive(Debug, PartialEq, Eq)]
struct Group<'b> {
    tokens: &'b [i32],
    outputs: &'b [i8],
    sequences: &'b [i32],
    /// Of the first.
    position: i32,
}

impl<'b> Group<'b> {
    /// The groups of a batch, of up to `most` tokens each.
    fn all(batch: &'b Batch, most: usize) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let (mut start, mut rest) = (0, batch.sequences.as_slice());
        for index in 0..batch.len() {
            let count = usize::try_from(batch.sequence_counts[index]).unwrap_or(0);
            let (sequences, after) = rest.split_at(count.min(rest.len()));
            rest = after;
            let position = batch.positions[index];
            if let Some(last) = groups.last_mut() {
                let length = last.tokens.len();
                let follows = last.sequences == sequences
                    && i32::try_from(length).ok().and_then(|it| last.position.checked_add(it))
                        == Some(position);
                if follows && length < most {
                    last.tokens = &batch.tokens[start..=index];
                    last.outputs = &batch.outputs[start..=index];
                    continue;
                }
            }
            start = index;
            let (tokens, outputs) = (&batch.tokens[index..=index], &batch.outputs[index..=index]);
            groups.push(Self { tokens, outputs, sequences, position });
        }
        groups
    }

    fn asks_last_only(&self) -> bool {
        self.outputs.split_last().is_some_and(|(_, before)| before.iter().all(|it| *it == 0))
    }

    fn action(&self) -> String {
        format!("evaluate {} tokens from position {} on", self.tokens.len(), self.position)
    }
}

impl Context for DecoderContext<'_> {
    fn shape(&self) -> ContextShape {
        self.shape
    }

    fn decode(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        self.logits.clear();
        let most = self.shape.ubatch.max(1) as usize;
        Group::all(batch, most).iter().try_for_each(|group| self.evaluate(group))
    }

    fn encode(&mut self, _batch: &mut Batch) -> Result<(), EngineError> {
        Err(EngineError::Unsupported("encode texts with a decoder"))
    }

    fn synchronize(&mut self) {}

    fn all_logits(&mut self, outputs: usize) -> Result<&[f32], EngineError> {
        let width = self.model.vocabulary_size();
        let missing = EngineError::NoLogits { index: i32::try_from(outputs).unwrap_or(i32::MAX) };
        let start = self.logits.len().checked_sub(outputs * width).ok_or(missing)?;
        Ok(&self.logits[start..])
    }

    fn embedding(&mut self, sequence: i32) -> Result<&[f32], EngineError> {
        Err(EngineError::NoEmbedding { sequence })
    }

    fn begin_sampling(&mut self, sampling: Sampling) -> Result<(), EngineError> {
        self.sampler = Sampler::new(sampling);
        Ok(())
    }

    fn sample(&mut self) -> Result<i32, EngineError> {
        let mut sampler = std::mem::take(&mut self.sampler);
        let token = self.all_logits(1).map(|row| sampler.sample(row));
        self.sampler = sampler;
        token
    }

    fn clear_memory(&mut self) {
        match &mut self.caches {
            Caches::InPlace(cache) => cache.length = 0,
            Caches::Copied(all) => all.fill(Copied::default()),
        }
    }

    fn copy_sequence(&mut self, from: i32, to: i32) {
        if let (Caches::Copied(all), Ok(from), Ok(to)) =
            (&mut self.caches, usize::try_from(from), usize::try_from(to))
            && let Some(copied) = all.get(from).cloned()
            && let Some(place) = all.get_mut(to)
        {
            *place = copied;
        }
    }

    fn remove_sequence(&mut self, sequence: i32) {
        match (&mut self.caches, usize::try_from(sequence)) {
            (Caches::InPlace(cache), Ok(0)) => cache.length = 0,
            (Caches::Copied(all), Ok(sequence)) => {
                if let Some(cache) = all.get_mut(sequence) {
                    *cache = Copied::default();
                }
            }
            _ => {}
        }
    }

    fn save_sequence(&mut self, sequence: i32) -> Result<Vec<u8>, EngineError> {
        let length = self.length(sequence).ok_or(EngineError::State("save"))?;
        let ports = &self.model.layout.caches;
        // As large as it will be: a cache takes memory that its context was to take.
        let bytes = bytes_in(ports, length).ok_or(EngineError::State("save"))?;
        let mut state = Vec::with_capacity(bytes.saturating_add(size_of::<u64>()));
        state.extend_from_slice(&(length as u64).to_le_bytes());
        let saved = match &self.caches {
            Caches::InPlace(cache) => cache.save(ports, &mut state),
            Caches::Copied(all) => {
                let own = usize::try_from(sequence).ok().and_then(|it| all.get(it));
                own.ok_or(EngineError::State("save"))?.save(ports, &mut state)
            }
        };
        saved.map_err(|error| failed("save the state of a context", &error))?;
        Ok(state)
    }

    fn restore_sequence(&mut self, sequence: i32, state: &[u8]) -> Result<(), EngineError> {
        let wrong = || EngineError::State("restore");
        let (length, state) = state.split_first_chunk::<8>().ok_or_else(wrong)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| wrong())?;
        let ports = &self.model.layout.caches;
        let restored = match (&mut self.caches, usize::try_from(sequence)) {
            (Caches::InPlace(cache), Ok(0)) => cache.restore(ports, length, state),
            (Caches::Copied(all), Ok(sequence)) => {
                let place = all.get_mut(sequence).ok_or_else(wrong)?;
                let restored = Copied::restored(ports, length, state);
                restored.map(|restored| restored.map(|restored| *place = restored))
            }
            _ => return Err(wrong()),
        };
        let restored =
            restored.map_err(|error| failed("restore the state of a context", &error))?;
        restored.ok_or_else(wrong)
    }

    /// Weights, the cache when it is full, and an estimate of what is computed with: ONNX Runtime does not tell.
    fn memory(&self) -> Vec<BufferMemory> {
        let ContextShape { tokens, sequences, ubatch, .. } = self.shape;
        vec![BufferMemory {
            buffer: "CPU".to_owned(),
            on_device: false,
            weights_bytes: self.model.tensor_bytes(),
            kv_bytes: self.model.layout.held_bytes(self.is_in_place, tokens, sequences),
            compute_bytes: self.model.compute_bytes(ubatch.min(tokens), tokens / sequences.max(1)),
            context: tokens,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_follow_each_other_are_evaluated_together() {
        let mut batch = Batch::with_capacity(16);
        for position in 0..5 {
            batch.add(10 + position, position, 0, position == 4).unwrap();
        }
        batch.add(20, 0, 1, true).unwrap();
        batch.add_shared(30, 5, &[0, 1], false).unwrap();
        let groups = Group::all(&batch, 4);
        let found: Vec<_> =
            groups.iter().map(|it| (it.tokens, it.sequences, it.position)).collect();
        let expected: [(&[i32], &[i32], i32); 4] =
            [(&[10, 11, 12, 13], &[0], 0), (&[14], &[0], 4), (&[20], &[1], 0), (&[30], &[0, 1], 5)];
        assert_eq!(found, expected);
        assert!(groups[1].asks_last_only());
    }

    #[test]
    fn outputs_are_taken_in_runs() {
        assert_eq!(runs_of(&[0, 1, 1, 0, 1]), [1..3, 4..5]);
        assert!(runs_of(&[0, 0]).is_empty());
    }
}
