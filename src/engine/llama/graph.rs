//! The graph that llama.cpp computes for a model: which node takes what from which.
//!
//! ggml's scheduler asks a context's callback about every node before it is computed; the nodes and
//! everything they point to are written down then, and nothing is read from them. The graph is that of a
//! few tokens on the CPU, with fused attention, in which every reader and writer of the KV cache can be
//! told apart. Used by `partial` and `quantize`.

use super::context::Context;
use super::handle::Handle;
use super::model::Model;
use super::reading::name_of;
use super::text;
use crate::engine::ContextShape;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::{Context as _, Model as _};
use crate::experiment::settings::{FlashAttention, Settings};
use llama_cpp_sys_2 as sys;
use std::collections::HashMap;
use std::ffi::c_void;

/// Tokens that the graph is built for: more than one, so that no dimension of tokens is 1.
const TOKENS: u32 = 8;

/// What a node does, as far as it matters to where a scale of channels may pass. Operands are
/// [`Node::sources`], in ggml's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Nothing: a weight, an input, or a cache.
    Leaf,
    /// A matrix (operand 0) with vectors (operand 1).
    MatrixProduct,
    /// One of several matrices (operand 0) with each vector (operand 1).
    ExpertProduct,
    /// Element by element.
    Multiply,
    /// Element by element.
    Add,
    /// Adds to each vector (operand 0) one of several vectors (operand 1).
    AddExpert,
    /// A gated unit that is linear in its second half: operand 1, or, if there is one operand, one half of it.
    Gate {
        /// With one operand: whether the linear half comes first.
        swapped: bool,
    },
    /// The larger of 0 and each element.
    Relu,
    /// Multiplies with one number.
    Scale,
    /// The same elements in another shape or order.
    Rearrange,
    /// Elements of another tensor from an offset on.
    View,
    /// The same elements, copied, maybe in another number format.
    Copy,
    /// Some vectors of operand 0.
    PickRows,
    /// Vectors of operand 0, repeated.
    Repeat,
    /// Writes vectors (operand 0) into operand 2.
    StoreRows,
    /// Fused attention: queries, keys and values are operands 0 to 2.
    Attention,
    /// Anything else.
    Other,
}

/// A node of a graph, or a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// llama.cpp's name; a weight's is that of its tensor in the GGUF.
    pub name: String,
    /// What it does.
    pub operation: Operation,
    /// ggml's name of that: `RMS_NORM`, `GELU`.
    pub description: String,
    /// Its size, the length of a vector first.
    pub dims: [usize; 4],
    /// The nodes that it takes, by index; `None` where there is no operand.
    pub sources: Vec<Option<usize>>,
    /// The tensor whose memory it shows, by index.
    pub owner: Option<usize>,
    /// Elements of `owner` before its first.
    pub offset: usize,
    /// Whether it is numbers in F32 that lie one after the other.
    pub plain: bool,
}

impl Node {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// The nodes of a graph; sources come before what takes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graph {
    /// All of them, leaves included.
    pub nodes: Vec<Node>,
    /// Those that are computed, in that order, by index.
    pub steps: Vec<usize>,
    /// Of each step, whether ggml was told to compute it.
    pub(super) wanted: Vec<bool>,
}

impl Graph {
    /// Of each node, the nodes that take it as an operand, and as which.
    #[must_use]
    pub fn consumers(&self) -> Vec<Vec<(usize, usize)>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for (role, source) in node.sources.iter().enumerate() {
                if let Some(source) = source {
                    consumers[*source].push((index, role));
                }
            }
        }
        consumers
    }
}

/// The graph of a model that was loaded with its weights.
///
/// # Errors
/// When no context can be made or evaluated.
pub fn of(model: &Model, threads: u32) -> Result<Graph, EngineError> {
    let settings = Settings {
        threads: Some(threads),
        gpu_layers: 0,
        flash_attention: FlashAttention::On,
        kv_offload: false,
        ..Settings::default()
    };
    let shape = ContextShape { tokens: 64, sequences: 1, batch: TOKENS, ubatch: TOKENS };
    let state = Handle::boxed(Recorder::default());
    let mut context = Context::watched(model, &settings, shape, on_node, state.as_ptr().cast())?;
    let tokens = [model.any_beginning_token().unwrap_or(0); TOKENS as usize];
    context.decode(&mut Batch::of(&tokens, 0, true))?;
    context.synchronize();
    drop(context);
    // SAFETY: the context that called back is gone, so nothing else refers to the state.
    Ok(std::mem::take(unsafe { &mut (*state.as_ptr()).graph }))
}

/// Writes a graph down.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) graph: Graph,
    known: HashMap<*const sys::ggml_tensor, usize>,
}

/// Writes a node down when ggml asks about it, and never wants to see its data.
extern "C" fn on_node(tensor: *mut sys::ggml_tensor, ask: bool, state: *mut c_void) -> bool {
    // SAFETY: `state` is what `of` gave to the context, which holds no reference to it meanwhile.
    if let Some(state) = unsafe { state.cast::<Recorder>().as_mut() }
        && ask
    {
        state.add_step(tensor);
    }
    false
}

impl Recorder {
    /// Writes down a node that is about to be computed.
    pub(super) fn add_step(&mut self, tensor: *mut sys::ggml_tensor) {
        // SAFETY: ggml hands over live nodes.
        let flags = unsafe { tensor.as_ref() }.map_or(0, |node| node.flags);
        if let Some(index) = self.add(tensor) {
            self.graph.steps.push(index);
            let mark = sys::GGML_TENSOR_FLAG_COMPUTE.cast_signed();
            self.graph.wanted.push(flags & mark != 0);
        }
    }

    /// The index of a tensor, which is written down if it is new.
    fn add(&mut self, tensor: *mut sys::ggml_tensor) -> Option<usize> {
        // SAFETY: ggml hands over live nodes; sources and owners of a live node are alive, or null.
        let node = unsafe { tensor.as_ref() }?;
        if let Some(&index) = self.known.get(&tensor.cast_const()) {
            return Some(index);
        }
        let mut sources: Vec<_> = node
            .src
            .iter()
            // A cast names itself as its second operand.
            .map(|&source| if source == tensor { None } else { self.add(source) })
            .collect();
        while sources.last() == Some(&None) {
            sources.pop();
        }
        let owner = self.add(node.view_src);
        // SAFETY: looks a number up.
        let element = unsafe { sys::ggml_type_size(node.type_) }.max(1);
        let index = self.graph.nodes.len();
        self.graph.nodes.push(Node {
            name: name_of(node),
            operation: operation(node),
            // SAFETY: the node is alive; the text is a constant.
            description: text(unsafe { sys::ggml_op_desc(tensor) }),
            dims: node.ne.map(|size| usize::try_from(size).unwrap_or(0)),
            sources,
            owner,
            offset: node.view_offs / element,
            // SAFETY: the node is alive.
            plain: node.type_ == sys::GGML_TYPE_F32 && unsafe { sys::ggml_is_contiguous(tensor) },
        });
        self.known.insert(tensor, index);
        Some(index)
    }
}

fn operation(node: &sys::ggml_tensor) -> Operation {
    match node.op {
        sys::GGML_OP_NONE => Operation::Leaf,
        sys::GGML_OP_MUL_MAT => Operation::MatrixProduct,
        sys::GGML_OP_MUL_MAT_ID => Operation::ExpertProduct,
        sys::GGML_OP_MUL => Operation::Multiply,
        sys::GGML_OP_ADD => Operation::Add,
        sys::GGML_OP_ADD_ID => Operation::AddExpert,
        sys::GGML_OP_GLU => gate(node),
        sys::GGML_OP_UNARY if is_relu(node) => Operation::Relu,
        // The second parameter is added; as bits, 0 is 0.0.
        sys::GGML_OP_SCALE if node.op_params[1] == 0 => Operation::Scale,
        sys::GGML_OP_RESHAPE | sys::GGML_OP_PERMUTE | sys::GGML_OP_TRANSPOSE => {
            Operation::Rearrange
        }
        sys::GGML_OP_VIEW => Operation::View,
        sys::GGML_OP_CPY | sys::GGML_OP_CONT | sys::GGML_OP_DUP if node.view_src.is_null() => {
            Operation::Copy
        }
        sys::GGML_OP_GET_ROWS => Operation::PickRows,
        sys::GGML_OP_REPEAT => Operation::Repeat,
        sys::GGML_OP_SET_ROWS => Operation::StoreRows,
        sys::GGML_OP_FLASH_ATTN_EXT => Operation::Attention,
        _ => Operation::Other,
    }
}

fn is_relu(node: &sys::ggml_tensor) -> bool {
    // SAFETY: the node is alive and unary.
    let kind = unsafe { sys::ggml_get_unary_op(node) };
    kind == sys::GGML_UNARY_OP_RELU
}

/// A gated unit, unless it does more to its linear half than multiply with it.
fn gate(node: &sys::ggml_tensor) -> Operation {
    // SAFETY: the node is alive and a gated unit.
    let kind = unsafe { sys::ggml_get_glu_op(node) };
    match kind {
        sys::GGML_GLU_OP_REGLU
        | sys::GGML_GLU_OP_GEGLU
        | sys::GGML_GLU_OP_SWIGLU
        | sys::GGML_GLU_OP_GEGLU_ERF
        | sys::GGML_GLU_OP_GEGLU_QUICK => Operation::Gate { swapped: node.op_params[1] != 0 },
        _ => Operation::Other,
    }
}
