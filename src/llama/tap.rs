//! Looking into an evaluation: the inputs of matrix products and the values of named nodes.
//!
//! A [`TappedContext`] is a context whose owner is asked about every node of the graph before it is computed
//! and shown those it wants afterwards. Hidden states can be fed in place of tokens, so that a file that
//! holds one layer can be evaluated alone.

use super::batch::Batch;
use super::context::{Context, ContextShape};
use super::error::LlamaError;
use super::model::{Model, reason};
use super::{ErrorText, log, shim};
use crate::experiment::settings::Settings;
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// Whoever looks at the nodes of a graph.
pub trait Tap {
    /// Whether this node is to be shown once it is computed. Few should be: each costs a wait for all threads.
    fn wants(&mut self, node: &Node<'_>) -> bool;

    /// A wanted node, computed. `false` ends the evaluation here.
    fn take(&mut self, node: &Node<'_>) -> bool;
}

/// A node of a graph.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a>(&'a sys::ggml_tensor);

impl Node<'_> {
    /// llama.cpp's name of the node, such as `l_out-3`.
    #[must_use]
    pub fn name(&self) -> &str {
        name(self.0)
    }

    /// For the product of a weight matrix with inputs: the matrix's name.
    #[must_use]
    pub fn product_of(&self) -> Option<&str> {
        if self.0.op != sys::GGML_OP_MUL_MAT {
            return None;
        }
        // SAFETY: sources of a node live as long as the graph, which outlives the callback.
        unsafe { self.0.src[0].as_ref() }.map(name)
    }

    /// A number that nodes of one evaluation share exactly if they have the same second source: for
    /// products, the same inputs.
    #[must_use]
    pub fn input_identity(&self) -> usize {
        self.0.src[1].addr()
    }

    /// Copies the second source, the inputs of a product, `[tokens, width]`. `false` if it is not plain rows
    /// of F32.
    #[must_use]
    pub fn copy_inputs(&self, out: &mut Vec<f32>) -> bool {
        // SAFETY: as in `product_of`.
        unsafe { self.0.src[1].as_ref() }.is_some_and(|inputs| copy(inputs, out))
    }

    /// Copies the node's own values, `[tokens, width]`; `false` as above.
    #[must_use]
    pub fn copy_values(&self, out: &mut Vec<f32>) -> bool {
        copy(self.0, out)
    }
}

fn name(tensor: &sys::ggml_tensor) -> &str {
    // SAFETY: ggml terminates names.
    unsafe { CStr::from_ptr(tensor.name.as_ptr()) }.to_str().unwrap_or_default()
}

/// Copies a tensor whose rows lie one after the other.
fn copy(tensor: &sys::ggml_tensor, out: &mut Vec<f32>) -> bool {
    // SAFETY: the tensor is alive; these only read its description.
    let (contiguous, count, bytes) = unsafe {
        (sys::ggml_is_contiguous(tensor), sys::ggml_nelements(tensor), sys::ggml_nbytes(tensor))
    };
    let count = usize::try_from(count).unwrap_or(0);
    if tensor.type_ != sys::GGML_TYPE_F32 || !contiguous || bytes != count * size_of::<f32>() {
        return false;
    }
    out.clear();
    out.resize(count, 0.0);
    // SAFETY: the tensor is computed and has this many bytes, as has the buffer.
    unsafe { sys::ggml_backend_tensor_get(tensor, out.as_mut_ptr().cast(), 0, bytes) };
    true
}

/// A context whose graphs are shown to a tap.
#[derive(Debug)]
pub struct TappedContext<'model, T: Tap> {
    context: Context<'model>,
    tap: NonNull<T>,
}

impl<T: Tap> Drop for TappedContext<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a leaked box and is freed once; the context, dropped after this, uses
        // it only in evaluations, of which none can follow.
        drop(unsafe { Box::from_raw(self.tap.as_ptr()) });
    }
}

impl<'model, T: Tap> TappedContext<'model, T> {
    /// Makes a context whose graphs are shown to `tap`.
    ///
    /// # Errors
    /// [`LlamaError::Context`].
    pub fn new(
        model: &'model Model,
        settings: &Settings,
        shape: ContextShape,
        tap: T,
    ) -> Result<Self, LlamaError> {
        let tap = NonNull::from(Box::leak(Box::new(tap)));
        let data = tap.as_ptr().cast();
        match Context::with_callback(model, settings, shape, Some(on_node::<T>), data) {
            Ok(context) => Ok(Self { context, tap }),
            Err(error) => {
                // SAFETY: from a box just above, and no context has it.
                drop(unsafe { Box::from_raw(tap.as_ptr()) });
                Err(error)
            }
        }
    }

    /// The tap.
    pub fn tap(&mut self) -> &mut T {
        // SAFETY: llama.cpp uses the pointer only within evaluations, which borrow `self`.
        unsafe { self.tap.as_mut() }
    }

    /// Evaluates tokens as a text of their own.
    ///
    /// # Errors
    /// [`LlamaError::Decode`].
    pub fn evaluate_tokens(&mut self, tokens: &[i32]) -> Result<(), LlamaError> {
        let mut batch = Batch::with_capacity(tokens.len());
        for (position, &token) in tokens.iter().enumerate() {
            batch.add(token, i32::try_from(position).unwrap_or(i32::MAX), 0, true)?;
        }
        self.context.clear_memory();
        self.context.decode(&mut batch)?;
        self.context.synchronize();
        Ok(())
    }

    /// Evaluates hidden states, `[tokens, width]`, in place of a text's token embeddings.
    ///
    /// # Errors
    /// [`LlamaError::Decode`], also if these are no rows of the model's width.
    pub fn evaluate_hidden(&mut self, hidden: &[f32]) -> Result<(), LlamaError> {
        let width = self.context.model().width();
        let count = hidden.len().checked_div(width).unwrap_or(0);
        let failed = |code, reason| LlamaError::Decode { tokens: count, code, reason };
        if count * width != hidden.len() || count == 0 {
            return Err(failed(-1, format!("hidden states are rows of {width}")));
        }
        self.context.clear_memory();
        let mut hidden = hidden.to_vec();
        let mut positions: Vec<sys::llama_pos> =
            (0..count).map(|position| i32::try_from(position).unwrap_or(i32::MAX)).collect();
        let mut counts = vec![1_i32; count];
        let mut sequence: sys::llama_seq_id = 0;
        let mut sequences = vec![&raw mut sequence; count];
        let mut outputs = vec![1_i8; count];
        let batch = sys::llama_batch {
            n_tokens: i32::try_from(count).unwrap_or(i32::MAX),
            token: std::ptr::null_mut(),
            embd: hidden.as_mut_ptr(),
            pos: positions.as_mut_ptr(),
            n_seq_id: counts.as_mut_ptr(),
            seq_id: sequences.as_mut_ptr(),
            logits: outputs.as_mut_ptr(),
        };
        let mut error = ErrorText::new();
        log::forget_errors();
        // SAFETY: every array has `count` entries, the embeddings that many rows of the model's width, and
        // all outlive the call.
        let code = unsafe {
            shim::quantbench_decode(self.context.as_ptr(), batch, error.as_mut_ptr(), error.len())
        };
        self.context.synchronize();
        if code == 0 { Ok(()) } else { Err(failed(code, reason(&error))) }
    }
}

/// What llama.cpp calls for every node: first to ask, then with the node computed.
unsafe extern "C" fn on_node<T: Tap>(
    tensor: *mut sys::ggml_tensor,
    ask: bool,
    data: *mut c_void,
) -> bool {
    // A panic must not cross into C; after one the evaluation ends.
    std::panic::catch_unwind(|| {
        // SAFETY: llama.cpp hands over a live node and the pointer that the context was made with; nothing
        // else uses the tap during an evaluation.
        let (Some(tensor), Some(tap)) =
            (unsafe { tensor.as_ref() }, unsafe { data.cast::<T>().as_mut() })
        else {
            return false;
        };
        let node = Node(tensor);
        if ask { tap.wants(&node) } else { tap.take(&node) }
    })
    .unwrap_or(false)
}
