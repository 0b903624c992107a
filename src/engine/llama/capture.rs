//! Capture: what flows into the weights of a model while it evaluates tokens.
//!
//! ggml's scheduler offers every node of the graph twice: before it is computed ("do you want
//! this one?") and, if so, after. When the second answer is "stop", the scheduler leaves out the
//! rest of the current split of the graph. A model on one device is one split, so an early stop
//! saves the whole rest; with several devices each later split still computes its first node.

use super::context::Context;
use super::handle::Handle;
use super::model::Model;
use super::reading::{Reader, columns, failed, name_of, operand};
use crate::engine::Context as _;
use crate::engine::ContextShape;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::experiment::settings::Settings;
use llama_cpp_sys_2 as sys;
use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

/// Whether an evaluation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Compute nothing more of these tokens.
    Stop,
}

/// Input of the product of one weight with activations.
#[derive(Debug, Clone, Copy)]
pub struct WeightInput<'a> {
    /// The weight's name in the GGUF: `blk.0.attn_q.weight`.
    pub weight: &'a str,
    /// The layer, from the names in the graph; `None` for `output.weight`.
    pub layer: Option<u32>,
    /// The name of the node that gave the input: `attn_norm-0`. Weights that multiply the same
    /// input give the same name.
    pub input: &'a str,
    /// Columns of the weight: the length of a row of inputs.
    pub columns: usize,
    /// The inputs, `[rows, columns]`.
    pub rows: &'a [f32],
    /// How many matrices the weight is made of: 1, or the number of experts.
    pub matrices: usize,
    /// Which matrix (expert) each row was multiplied with; empty if there is one.
    pub matrix_of_row: &'a [u32],
}

impl WeightInput<'_> {
    /// The rows, each with the matrix that it was multiplied with.
    pub fn rows_with_matrix(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.rows.chunks_exact(self.columns.max(1)).enumerate().map(|(index, row)| {
            let matrix = self.matrix_of_row.get(index).copied().unwrap_or(0);
            (matrix as usize, row)
        })
    }
}

/// Output of a node that was asked for by its name.
#[derive(Debug, Clone, Copy)]
pub struct NodeOutput<'a> {
    /// llama.cpp's name of the node: `l_out-3`.
    pub name: &'a str,
    /// Length of a row.
    pub columns: usize,
    /// The values, `[rows, columns]`.
    pub rows: &'a [f32],
}

/// Receives what flows through the graph.
///
/// What is not wanted is not copied. A panic in here ends the evaluation and goes on in the caller
/// of [`CapturingContext::evaluate`].
pub trait Sink {
    /// Whether the inputs of this weight are wanted.
    fn wants_weight(&mut self, weight: &str) -> bool;

    /// Receives the inputs of a weight that was wanted; once per evaluation of at most
    /// [`ContextShape::ubatch`] tokens.
    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow;

    /// Whether the output of the node of this name is wanted.
    fn wants_node(&mut self, _name: &str) -> bool {
        false
    }

    /// Receives the output of a node that was wanted.
    fn node_output(&mut self, _output: &NodeOutput<'_>) -> Flow {
        Flow::Continue
    }
}

/// A context whose evaluations can be watched.
#[derive(Debug)]
pub struct CapturingContext<'model> {
    // Dropped first: it holds the address of the state.
    context: Context<'model>,
    state: Handle<State>,
}

/// What the callback works with.
#[derive(Debug, Default)]
struct State {
    /// The sink of the evaluation under way. Its lifetime is erased: it is there only while
    /// `evaluate`, which borrows the sink, runs.
    sink: Option<NonNull<dyn Sink>>,
    stopped: bool,
    panic: Option<Box<dyn Any + Send>>,
    error: Option<EngineError>,
    reader: Reader,
}

impl<'model> CapturingContext<'model> {
    /// Makes a context for sequences of up to `shape.tokens` tokens.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn new(
        model: &'model Model,
        settings: &Settings,
        shape: ContextShape,
    ) -> Result<Self, EngineError> {
        let state = Handle::boxed(State::default());
        let context = Context::watched(model, settings, shape, on_node, state.as_ptr().cast())?;
        Ok(Self { context, state })
    }

    /// The context itself.
    pub fn context(&mut self) -> &mut Context<'model> {
        &mut self.context
    }

    /// Evaluates tokens as one sequence from position 0, forgetting what was evaluated before, and
    /// shows `sink` what it wants. Every position has an output, so that the last layers see all
    /// rows.
    ///
    /// Returns [`Flow::Stop`] if the sink stopped it; outputs of the context are then undefined.
    ///
    /// # Errors
    /// [`EngineError::Decode`]; [`EngineError::Capture`] for activations in an unknown format.
    ///
    /// # Panics
    /// Goes on with a panic of the sink.
    pub fn evaluate(&mut self, tokens: &[i32], sink: &mut dyn Sink) -> Result<Flow, EngineError> {
        self.context.clear_memory();
        let length = self.context.shape().batch.max(1) as usize;
        for (part, position) in tokens.chunks(length).zip((0..).step_by(length)) {
            if self.decode(&mut Batch::of(part, position, true), sink)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Continue)
    }

    fn decode(&mut self, batch: &mut Batch, sink: &mut dyn Sink) -> Result<Flow, EngineError> {
        let sink: NonNull<dyn Sink + '_> = NonNull::from(sink);
        // SAFETY: only the lifetime changes; the pointer is taken out of the state again below,
        // before the borrow of the sink ends.
        let sink: NonNull<dyn Sink> =
            unsafe { std::mem::transmute::<NonNull<dyn Sink + '_>, NonNull<dyn Sink>>(sink) };
        let state = self.state.as_ptr();
        // SAFETY: the state is alive, and nothing else refers to it: no callback runs now.
        unsafe {
            (*state).sink = Some(sink);
            (*state).stopped = false;
        }
        let result = self.context.decode(batch);
        self.context.synchronize();
        // SAFETY: as above.
        let (panic, error, stopped) = unsafe {
            (*state).sink = None;
            ((*state).panic.take(), (*state).error.take(), (*state).stopped)
        };
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        if let Some(error) = error {
            return Err(error);
        }
        result?;
        Ok(if stopped { Flow::Stop } else { Flow::Continue })
    }
}

/// Called by ggml's scheduler for every node, before and (if wanted) after it is computed.
extern "C" fn on_node(tensor: *mut sys::ggml_tensor, ask: bool, state: *mut c_void) -> bool {
    // SAFETY: `state` is what `new` gave to the context; ggml calls back from the thread that
    // evaluates, which holds no reference to the state meanwhile.
    let Some(state) = (unsafe { state.cast::<State>().as_mut() }) else { return false };
    // SAFETY: ggml hands over a live node of the graph.
    let Some(node) = (unsafe { tensor.as_ref() }) else { return false };
    let Some(mut sink) = state.sink else { return false };
    if state.stopped {
        // "Wanted" makes the scheduler stop after this one node.
        return ask;
    }
    // SAFETY: the sink outlives the evaluation, and only this callback uses it meanwhile.
    let sink = unsafe { sink.as_mut() };
    // A panic must not cross into C.
    let result = catch_unwind(AssertUnwindSafe(|| {
        if ask { Ok(wants(node, sink)) } else { state.show(node, sink) }
    }));
    match result {
        Ok(Ok(answer)) => {
            state.stopped = !ask && !answer;
            answer
        }
        Ok(Err(error)) => state.stop(ask, |state| state.error = Some(error)),
        Err(panic) => state.stop(ask, |state| state.panic = Some(panic)),
    }
}

fn wants(node: &sys::ggml_tensor, sink: &mut dyn Sink) -> bool {
    weight_of(node).is_some_and(|(_, name)| sink.wants_weight(&name))
        || sink.wants_node(&name_of(node))
}

impl State {
    fn stop(&mut self, ask: bool, keep: impl FnOnce(&mut Self)) -> bool {
        keep(self);
        self.stopped = true;
        ask
    }

    /// Shows a computed node; returns whether to go on.
    fn show(&mut self, node: &sys::ggml_tensor, sink: &mut dyn Sink) -> Result<bool, EngineError> {
        let mut flow = Flow::Continue;
        if let Some((weight, name)) = weight_of(node)
            && sink.wants_weight(&name)
        {
            let input = operand(node, 1).ok_or_else(|| failed(&name, "it has no input"))?;
            self.reader.read_input(node, weight, input, &name)?;
            let matrices = usize::try_from(weight.ne[2].max(1)).unwrap_or(1);
            flow = sink.weight_input(&WeightInput {
                weight: &name,
                layer: layer_of(&name).or_else(|| layer_in_node(&name_of(node))),
                input: &name_of(input),
                columns: columns(input),
                rows: &self.reader.rows,
                matrices,
                matrix_of_row: if matrices > 1 { &self.reader.experts } else { &[] },
            });
        }
        let name = name_of(node);
        if flow == Flow::Continue && sink.wants_node(&name) {
            self.reader.read(node, &name)?;
            let output =
                NodeOutput { name: &name, columns: columns(node), rows: &self.reader.rows };
            flow = sink.node_output(&output);
        }
        Ok(flow == Flow::Continue)
    }
}

/// The weight that a matrix product multiplies with, and its name; `None` for other nodes and for
/// products of activations, such as K with Q.
fn weight_of(node: &sys::ggml_tensor) -> Option<(&sys::ggml_tensor, String)> {
    if node.op != sys::GGML_OP_MUL_MAT && node.op != sys::GGML_OP_MUL_MAT_ID {
        return None;
    }
    let weight = operand(node, 0)?;
    let name = weight_name(&name_of(weight)).to_owned();
    (weight.op == sys::GGML_OP_NONE && name.ends_with(".weight")).then_some((weight, name))
}

/// The scheduler names its copy of a weight on another device `CUDA0#blk.0.attn_q.weight#0`.
fn weight_name(name: &str) -> &str {
    name.split('#').nth(1).unwrap_or(name)
}

/// 3 for `blk.3.attn_q.weight`.
fn layer_of(weight: &str) -> Option<u32> {
    weight.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// 3 for `Qcur-3`.
fn layer_in_node(name: &str) -> Option<u32> {
    name.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests;
