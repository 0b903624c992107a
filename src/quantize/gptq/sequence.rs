//! Layer after layer, and within a layer product after product: each matrix is chosen with the inputs it will
//! have in the model being made.
//!
//! Two sets of hidden states are carried along: those of the original and those of the model being made. Each
//! product's inputs are taken from both, its matrices are stored, and what comes after sees the change. Uses the lone
//! layer, the Hessian and the solver; used by the entry point.

use super::hessian::{Hessian, Moments, Original};
use super::layer::{self, Layer, Look, Replaced, Stage, whole_name};
use super::layout::Layout;
use super::report::{Matrix, Outcome, Times};
use super::solve::{self, Problem};
use super::{GptqError, Match, Parameters};
use crate::llama::backend::Backend;
use crate::llama::blocks;
use crate::llama::gguf_file::{GgufInput, InputTensor};
use crate::llama::model::Model;
use faer::Par;
use std::path::Path;
use std::time::Instant;

/// What the sequence works on.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// llama.cpp.
    pub backend: Backend,
    /// The original.
    pub source: &'a GgufInput,
    /// The model being made, as it was first stored.
    pub draft: &'a GgufInput,
    /// Tokens per text.
    pub context: usize,
    /// Length of a token embedding.
    pub width: usize,
    /// How.
    pub parameters: Parameters,
    /// Folder for lone layers.
    pub folder: &'a Path,
    /// Threads.
    pub threads: u32,
}

/// Hidden states of all tokens of the calibration, `[tokens, width]`.
#[derive(Debug)]
pub struct Hidden {
    /// In the original; empty if outputs are not matched.
    pub original: Vec<f32>,
    /// In the model being made.
    pub made: Vec<f32>,
}

/// Is told now and then which part of a step is done, from 0 to 1.
pub type Heartbeat<'a> = &'a mut dyn FnMut(f64);

#[expect(clippy::cast_precision_loss, reason = "far below 2⁵³")]
fn count(number: usize) -> f64 {
    number as f64
}

/// What became of one layer.
#[derive(Debug, Default)]
pub struct Done {
    /// The bytes of what was stored anew, by name.
    pub replaced: Replaced,
    /// Every matrix of the layer.
    pub matrices: Vec<Matrix>,
}

impl Sequence<'_> {
    fn parallel(&self) -> Par {
        Par::rayon(usize::try_from(self.threads).unwrap_or(1))
    }

    /// Token embeddings of `tokens`: the hidden states before layer 0.
    ///
    /// # Errors
    /// When a model has no readable token embeddings or a token is not in them.
    pub fn embed(&self, model: &GgufInput, tokens: &[i32]) -> Result<Vec<f32>, GptqError> {
        let tensor = model.find("token_embd.weight").ok_or(GptqError::NoEmbedding)?;
        let bytes = model.bytes(tensor);
        let rows = usize::try_from(tensor.entry.weights).unwrap_or(0) / self.width.max(1);
        let row_bytes = bytes.len().checked_div(rows).unwrap_or(0);
        let mut hidden = Vec::with_capacity(tokens.len() * self.width);
        for &token in tokens {
            let row = usize::try_from(token).ok().filter(|&row| row < rows);
            let row = row.ok_or(GptqError::NoEmbedding)?;
            let bytes = &bytes[row * row_bytes..][..row_bytes];
            blocks::dequantize(tensor.entry.format, bytes, &mut hidden)?;
        }
        Ok(hidden)
    }

    /// Stores the matrices of one layer and moves the hidden states behind it.
    ///
    /// # Errors
    /// When a lone layer cannot be written or evaluated.
    pub fn layer(
        &self,
        index: u64,
        hidden: &mut Hidden,
        times: &mut Times,
        heartbeat: Heartbeat<'_>,
    ) -> Result<Done, GptqError> {
        let mut done = Done::default();
        let matched = self.parameters.matching != Match::Nothing;
        let source_path = self.folder.join("original-layer.gguf");
        let draft_path = self.folder.join("layer.gguf");
        let original = if matched {
            layer::write(self.source, index, &Replaced::new(), &source_path)?;
            Some(layer::load(self.backend, &source_path)?)
        } else {
            None
        };
        layer::write(self.draft, index, &done.replaced, &draft_path)?;
        let mut made = layer::load(self.backend, &draft_path)?;
        let first = &hidden.made[..self.chunk().min(hidden.made.len())];
        let stages = self.lone(&made)?.stages(first)?;
        // The layer is evaluated once for each stage and once to its end.
        let steps = count(stages.len() + 1);
        for (step, stage) in stages.iter().enumerate() {
            let mut heartbeat = |part: f64| heartbeat((count(step) + part) / steps);
            let mut reference = original.as_ref().map(|model| self.lone(model)).transpose()?;
            let mut moments = self.moments(
                (&made, reference.as_mut()),
                (index, stage),
                hidden,
                times,
                &mut heartbeat,
            )?;
            if self.store(index, stage, &mut moments, &mut done, times)
                && self.parameters.within_layer
            {
                layer::write(self.draft, index, &done.replaced, &draft_path)?;
                made = layer::load(self.backend, &draft_path)?;
            }
        }
        if !self.parameters.within_layer {
            layer::write(self.draft, index, &done.replaced, &draft_path)?;
            made = layer::load(self.backend, &draft_path)?;
        }
        let began = Instant::now();
        let mut heartbeat = |part: f64| heartbeat((steps - 1.0 + part) / steps);
        self.advance(&made, &mut hidden.made, &mut heartbeat)?;
        if let Some(original) = &original {
            self.advance(original, &mut hidden.original, &mut heartbeat)?;
        }
        times.forward += began.elapsed();
        Ok(done)
    }

    fn chunk(&self) -> usize {
        self.context * self.width
    }

    fn lone<'m>(&self, model: &'m Model) -> Result<Layer<'m>, GptqError> {
        Layer::new(model, u32::try_from(self.context).unwrap_or(u32::MAX), self.threads)
    }

    /// Replaces a layer's inputs by its outputs.
    fn advance(
        &self,
        model: &Model,
        hidden: &mut [f32],
        heartbeat: Heartbeat<'_>,
    ) -> Result<(), GptqError> {
        let mut layer = self.lone(model)?;
        let texts = count(hidden.len().div_ceil(self.chunk()));
        for (at, text) in hidden.chunks_mut(self.chunk()).enumerate() {
            heartbeat(count(at) / texts);
            let seen = layer.look(text, Look { output: true, ..Look::default() })?;
            text.copy_from_slice(&seen.output);
        }
        Ok(())
    }

    /// Sums over the inputs of one stage, in the layer being made and in the original's.
    fn moments(
        &self,
        (made, mut reference): (&Model, Option<&mut Layer<'_>>),
        (index, stage): (u64, &Stage),
        hidden: &Hidden,
        times: &mut Times,
        heartbeat: Heartbeat<'_>,
    ) -> Result<Moments, GptqError> {
        let first = &stage.weights[0];
        let residual = self.residual(stage);
        let outputs = residual.is_some().then_some(self.width);
        let name = whole_name(first, index);
        let tensor = self.source.find(&name).ok_or(GptqError::NoEmbedding)?;
        let width = tensor.entry.dimensions.first().copied().unwrap_or(0);
        let width = usize::try_from(width).unwrap_or(0);
        let mut moments = Moments::new(width, reference.is_some(), outputs, self.parallel());
        let mut layer = self.lone(made)?;
        let look = || Look {
            inputs_of: Some(first.clone()),
            middle: residual == Some(Stream::Middle),
            ..Look::default()
        };
        let mut stream = Vec::new();
        let texts = count(hidden.made.len().div_ceil(self.chunk()));
        for (at, text) in hidden.made.chunks(self.chunk()).enumerate() {
            heartbeat(count(at) / texts);
            let began = Instant::now();
            let here = layer.look(text, look())?;
            let Some(reference) = reference.as_mut() else {
                times.forward += began.elapsed();
                let began = Instant::now();
                moments.add(&here.inputs, None);
                times.moments += began.elapsed();
                continue;
            };
            let original = &hidden.original[at * self.chunk()..][..text.len()];
            let there = reference.look(original, look())?;
            times.forward += began.elapsed();
            let began = Instant::now();
            let (new, old) = match residual {
                Some(Stream::Middle) => (&there.middle[..], &here.middle[..]),
                _ => (original, text),
            };
            stream.clear();
            stream.extend(new.iter().zip(old).map(|(new, old)| new - old));
            let residual = residual.map(|_| stream.as_slice());
            moments.add(&here.inputs, Some(Original { inputs: &there.inputs, residual }));
            times.moments += began.elapsed();
        }
        Ok(moments)
    }

    /// The residual stream that a stage's product is added to, if it is to be corrected.
    fn residual(&self, stage: &Stage) -> Option<Stream> {
        if self.parameters.matching != Match::Stream {
            return None;
        }
        match stage.weights.as_slice() {
            [one] if one == "blk.0.attn_output.weight" => Some(Stream::Input),
            [one] if one == "blk.0.ffn_down.weight" => Some(Stream::Middle),
            _ => None,
        }
    }

    /// Stores the matrices of one stage; `true` if any changed.
    fn store(
        &self,
        index: u64,
        stage: &Stage,
        moments: &mut Moments,
        done: &mut Done,
        times: &mut Times,
    ) -> bool {
        let began = Instant::now();
        let hessian = moments.hessian(self.parameters.damping);
        times.factors += began.elapsed();
        let mut changed = false;
        for lone in &stage.weights {
            let name = whole_name(lone, index);
            let (Some(source), Some(draft)) = (self.source.find(&name), self.draft.find(&name))
            else {
                continue;
            };
            let residual = self.residual(stage).is_some();
            let outcome = match self.prepare(source, draft, hessian.as_ref()) {
                Err(reason) => Outcome::Kept { reason },
                Ok((layout, hessian, weights)) => {
                    let began = Instant::now();
                    let target = moments.target(&weights, hessian, residual);
                    times.factors += began.elapsed();
                    let began = Instant::now();
                    let (outcome, bytes) = self.solve(layout, hessian, &target, draft);
                    times.rows += began.elapsed();
                    if let Some(bytes) = bytes {
                        done.replaced.insert(name.clone(), bytes);
                        changed = true;
                    }
                    outcome
                }
            };
            let weights = draft.entry.weights;
            done.matrices.push(Matrix { name, format: draft.entry.format, weights, outcome });
        }
        changed
    }

    /// What is needed to store a matrix, or why it cannot be done.
    fn prepare<'h>(
        &self,
        source: &InputTensor,
        draft: &InputTensor,
        hessian: Option<&'h Hessian>,
    ) -> Result<(&'static Layout, &'h Hessian, Vec<f32>), String> {
        let format = draft.entry.format;
        let layout = Layout::named(format.name())
            .ok_or_else(|| format!("GPTQ does not write the format {format}"))?;
        if draft.entry.dimensions.len() != 2 {
            return Err("it is no matrix".to_owned());
        }
        let hessian = hessian.ok_or("its inputs are all zero, or are not numbers")?;
        let mut weights = Vec::new();
        blocks::dequantize(source.entry.format, self.source.bytes(source), &mut weights)
            .map_err(|error| error.to_string())?;
        Ok((layout, hessian, weights))
    }

    fn solve(
        &self,
        layout: &'static Layout,
        hessian: &Hessian,
        target: &[f32],
        draft: &InputTensor,
    ) -> (Outcome, Option<Vec<u8>>) {
        let factor = &hessian.factor;
        let problem =
            Problem { layout, columns: factor.size, target, hessian: &hessian.matrix, factor };
        let before = solve::loss(&problem, self.draft.bytes(draft), self.parallel());
        let solution = solve::solve(&problem, self.parameters.work, self.parallel());
        if solution.loss >= before || solution.loss.is_nan() || before.is_nan() {
            let reason = "rounding with the importance matrix was no worse".to_owned();
            return (Outcome::Kept { reason }, None);
        }
        let outcome = Outcome::Stored {
            before,
            passed: solution.passed_loss,
            after: solution.loss,
            damping: hessian.damping,
        };
        (outcome, Some(solution.bytes))
    }
}

/// A residual stream that a product is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// The layer's input.
    Input,
    /// Behind attention.
    Middle,
}
