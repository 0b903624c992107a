//! Parts of a graph: only those nodes are computed that someone asks for, and a node can be given its values
//! instead of being computed.
//!
//! So a text can be evaluated from the middle of a model on, with the hidden states that were there, whatever
//! the architecture: what is computed is llama.cpp's own graph of the whole model. ggml computes the nodes that
//! are marked so ([`sys::GGML_TENSOR_FLAG_COMPUTE`]); its scheduler asks about each node, in order, before
//! it computes it, and the mark is set then. Which nodes a part needs is the caller's to find out, from
//! [`PartialContext::graph`]. Used by `quantize::gptq`.

use super::context::Context;
use super::graph::{Graph, Recorder};
use super::handle::Handle;
use super::model::Model;
use super::reading::{Reader, columns, failed, name_of, operand};
use crate::engine::ContextShape;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::{Context as _, Model as _};
use crate::experiment::settings::Settings;
use llama_cpp_sys_2 as sys;
use std::ffi::c_void;

/// What of a step is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// The values that it computes or is given.
    Output,
    /// Of a product: the vectors that its weight is multiplied with. It need not be computed itself.
    Input,
}

/// A part of a graph. Steps are indices into [`Graph::steps`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// The step that is given its values.
    pub given: Option<usize>,
    /// Which steps are computed.
    pub computed: Vec<bool>,
    /// What is to be seen, steps ascending.
    pub shown: Vec<(usize, ProbeKind)>,
}

/// What was seen of a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shown {
    /// Length of a row.
    pub columns: usize,
    /// The values, `[rows, columns]`.
    pub rows: Vec<f32>,
    /// Which matrix (expert) of a product's weight each row is multiplied with; empty if there is one.
    pub matrix_of_row: Vec<u32>,
}

/// A context that evaluates parts of a model's graph, for texts of one length, on the CPU.
#[derive(Debug)]
pub struct PartialContext<'model> {
    // Dropped first: it holds the address of the state.
    context: Context<'model>,
    state: Handle<State>,
    tokens: usize,
}

// SAFETY: the state is reached only through the context that owns it, and by the callback while that context, borrowed
// mutably, evaluates; nothing in it belongs to a thread.
unsafe impl Send for PartialContext<'_> {}

/// What the callback works with.
#[derive(Debug, Default)]
struct State {
    recorder: Recorder,
    /// Whether llama.cpp itself wants a step to be computed; empty while the graph is written down.
    wanted: Vec<bool>,
    part: Part,
    given: Vec<f32>,
    /// Steps that were asked about.
    asked: usize,
    reader: Reader,
    shown: Vec<Shown>,
    error: Option<EngineError>,
}

impl<'model> PartialContext<'model> {
    /// For texts of exactly `tokens` tokens. Evaluates that many once, to see the graph.
    ///
    /// # Errors
    /// When there is no memory for the context, or the model cannot be evaluated.
    pub fn new(model: &'model Model, tokens: u32, threads: u32) -> Result<Self, EngineError> {
        let settings = Settings {
            threads: Some(threads),
            gpu_layers: 0,
            kv_offload: false,
            ..Settings::default()
        };
        let shape = ContextShape { tokens, sequences: 1, batch: tokens, ubatch: tokens };
        let state = Handle::boxed(State::default());
        let context = Context::watched(model, &settings, shape, on_node, state.as_ptr().cast())?;
        let tokens = tokens as usize;
        let mut own = Self { context, state, tokens };
        let first = vec![model.any_beginning_token().unwrap_or(0); tokens];
        own.decode(&first)?;
        let state = own.state();
        state.wanted = std::mem::take(&mut state.recorder.graph.wanted);
        Ok(own)
    }

    /// The graph, as it is for texts of the context's length.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        // SAFETY: the state is alive, and no callback runs while the context is borrowed.
        unsafe { &(*self.state.as_ptr()).recorder.graph }
    }

    fn state(&mut self) -> &mut State {
        // SAFETY: the state is alive, nothing else refers to it, and no callback runs meanwhile.
        unsafe { &mut *self.state.as_ptr() }
    }

    /// Evaluates a part for a text. `given` are the values of the step that is given its own, in their order
    /// in memory. Answers what is to be seen, in the order of the part.
    ///
    /// # Errors
    /// [`EngineError::Capture`] for a text of another length, or a step that cannot be given these values or
    /// cannot be read; [`EngineError::Decode`].
    pub fn evaluate(
        &mut self,
        tokens: &[i32],
        part: &Part,
        given: &[f32],
    ) -> Result<Vec<Shown>, EngineError> {
        if tokens.len() != self.tokens || part.computed.len() != self.graph().steps.len() {
            let reason = format!(
                "{} tokens and {} steps do not fit a graph of {} tokens and {} steps",
                tokens.len(),
                part.computed.len(),
                self.tokens,
                self.graph().steps.len()
            );
            return Err(failed("a part of the graph", &reason));
        }
        let state = self.state();
        state.part.clone_from(part);
        state.given.clear();
        state.given.extend_from_slice(given);
        state.asked = 0;
        state.shown.clear();
        self.context.clear_memory();
        let result = self.decode(tokens);
        let state = self.state();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        result?;
        if state.shown.len() != state.part.shown.len() {
            return Err(failed("a part of the graph", "not all of it was computed"));
        }
        Ok(std::mem::take(&mut state.shown))
    }

    fn decode(&mut self, tokens: &[i32]) -> Result<(), EngineError> {
        // Every position has an output, so that the last layers see all rows.
        self.context.decode(&mut Batch::of(tokens, 0, true))?;
        self.context.synchronize();
        Ok(())
    }
}

/// Called by ggml's scheduler for every node, before and (if wanted) after it is computed.
extern "C" fn on_node(tensor: *mut sys::ggml_tensor, ask: bool, state: *mut c_void) -> bool {
    // SAFETY: `state` is what `new` gave to the context; while an evaluation runs nothing else refers to it.
    let Some(state) = (unsafe { state.cast::<State>().as_mut() }) else { return false };
    if state.wanted.is_empty() {
        if ask {
            state.recorder.add_step(tensor);
        }
        return false;
    }
    if ask {
        // SAFETY: ggml hands over a live node of the graph, and computes nothing while it asks.
        return unsafe { tensor.as_mut() }.is_some_and(|node| state.ask(node));
    }
    // SAFETY: as above.
    if let Some(node) = unsafe { tensor.as_ref() }
        && let Err(error) = state.show(node)
    {
        state.error = Some(error);
    }
    true
}

impl State {
    /// Marks a node to be computed or not; whether its values are to be shown or given.
    fn ask(&mut self, node: &mut sys::ggml_tensor) -> bool {
        let step = self.asked;
        self.asked += 1;
        let expected = self.recorder.graph.steps.get(step);
        let expected = expected.and_then(|&index| self.recorder.graph.nodes.get(index));
        if expected.is_none_or(|expected| *expected.name != *name_of(node)) {
            self.error = Some(failed(&name_of(node), "the graph is not what it was before"));
        }
        let failed = self.error.is_some();
        let wanted = self.wanted.get(step).is_some_and(|wanted| *wanted);
        let computed = self.part.computed.get(step).is_some_and(|computed| *computed);
        let mark = sys::GGML_TENSOR_FLAG_COMPUTE.cast_signed();
        // The graph may be that of the evaluation before, with its marks.
        if wanted && computed && !failed {
            node.flags |= mark;
        } else {
            node.flags &= !mark;
        }
        let is_shown = self.part.shown.iter().any(|(shown, _)| *shown == step);
        !failed && (is_shown || self.part.given == Some(step))
    }

    /// Gives a node its values, and shows it.
    fn show(&mut self, node: &sys::ggml_tensor) -> Result<(), EngineError> {
        let step = self.asked.saturating_sub(1);
        if self.part.given == Some(step) {
            self.give(node)?;
        }
        for at in 0..self.part.shown.len() {
            let (shown, kind) = self.part.shown[at];
            if shown == step {
                self.read(node, kind)?;
            }
        }
        Ok(())
    }

    fn give(&self, node: &sys::ggml_tensor) -> Result<(), EngineError> {
        // SAFETY: the node is alive.
        let (size, contiguous) = unsafe { (sys::ggml_nbytes(node), sys::ggml_is_contiguous(node)) };
        let given = self.given.len() * size_of::<f32>();
        if node.type_ != sys::GGML_TYPE_F32 || !contiguous || size != given || node.data.is_null() {
            let reason = format!("{given} bytes of values cannot be put in place of its {size}");
            return Err(failed(&name_of(node), &reason));
        }
        // SAFETY: the node is allocated and takes as many bytes as are written; what reads it is computed later.
        unsafe {
            sys::ggml_backend_tensor_set(
                std::ptr::from_ref(node).cast_mut(),
                self.given.as_ptr().cast(),
                0,
                size,
            );
        }
        Ok(())
    }

    fn read(&mut self, node: &sys::ggml_tensor, kind: ProbeKind) -> Result<(), EngineError> {
        let name = name_of(node);
        let reader = &mut self.reader;
        reader.experts.clear();
        let width = match (kind, operand(node, 0), operand(node, 1)) {
            (ProbeKind::Output, ..) => {
                reader.read(node, &name)?;
                columns(node)
            }
            (ProbeKind::Input, Some(weight), Some(input)) if is_product(node) => {
                reader.read_input(node, weight, input, &name)?;
                columns(input)
            }
            (ProbeKind::Input, ..) => return Err(failed(&name, "it is no product")),
        };
        self.shown.push(Shown {
            columns: width,
            rows: reader.rows.clone(),
            matrix_of_row: reader.experts.clone(),
        });
        Ok(())
    }
}

fn is_product(node: &sys::ggml_tensor) -> bool {
    node.op == sys::GGML_OP_MUL_MAT || node.op == sys::GGML_OP_MUL_MAT_ID
}

#[cfg(test)]
mod tests;
