//! Contexts: a model being evaluated, with its KV cache.

use super::batch::Batch;
use super::error::LlamaError;
use super::memory::BufferMemory;
use super::model::{Model, reason};
use super::{ErrorText, log, shim};
use crate::experiment::settings::{CacheType, FlashAttention, Settings};
use llama_cpp_sys_2 as sys;
use std::ffi::c_void;
use std::ptr::NonNull;

/// Sizes of a context, besides the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextShape {
    /// Tokens of KV cache in all.
    pub tokens: u32,
    /// Sequences evaluated side by side; each gets an equal share of the tokens.
    pub sequences: u32,
    /// Tokens submitted at once.
    pub batch: u32,
    /// Tokens computed at once.
    pub ubatch: u32,
}

/// A model being evaluated.
#[derive(Debug)]
pub struct Context<'model> {
    handle: NonNull<sys::llama_context>,
    model: &'model Model,
    shape: ContextShape,
}

// SAFETY: a context is used through `&mut` by one thread at a time; llama.cpp keeps no state of it in
// thread-local storage.
unsafe impl Send for Context<'_> {}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle came from llama.cpp and is freed once.
        unsafe { sys::llama_free(self.handle.as_ptr()) };
    }
}

impl<'model> Context<'model> {
    /// Makes a context; threads come from the settings, or are llama-bench's default.
    ///
    /// # Errors
    /// [`LlamaError::Context`], most often because memory is short.
    pub fn new(
        model: &'model Model,
        settings: &Settings,
        shape: ContextShape,
    ) -> Result<Self, LlamaError> {
        Self::make(model, shape, parameters(model, settings, shape))
    }

    /// As [`Self::new`], for sequences that have beginnings in common: all of them share the tokens,
    /// so that a token may belong to several, and copying a sequence costs nothing.
    ///
    /// # Errors
    /// [`LlamaError::Context`], most often because memory is short.
    pub fn shared(
        model: &'model Model,
        settings: &Settings,
        shape: ContextShape,
    ) -> Result<Self, LlamaError> {
        let mut parameters = parameters(model, settings, shape);
        parameters.kv_unified = true;
        // A cache of the window alone has room for the window of each sequence; a token that belongs to
        // several stays in it for as long as any of them.
        parameters.swa_full = true;
        Self::make(model, shape, parameters)
    }

    /// A context that yields one embedding per sequence, pooled as the model asks, or by the mean of
    /// its tokens where it asks for nothing. Texts are evaluated whole: `shape.ubatch` must hold
    /// all tokens of a batch.
    ///
    /// # Errors
    /// [`LlamaError::Context`], most often because memory is short.
    pub fn for_embeddings(
        model: &'model Model,
        settings: &Settings,
        shape: ContextShape,
    ) -> Result<Self, LlamaError> {
        let mut parameters = parameters(model, settings, shape);
        parameters.embeddings = true;
        if !model.asks_for_pooling() {
            parameters.pooling_type = sys::LLAMA_POOLING_TYPE_MEAN;
        }
        Self::make(model, shape, parameters)
    }

    /// As [`Self::new`]; `callback` is asked about every node of a graph, with `user_data`, which
    /// must outlive the context.
    pub(super) fn watched(
        model: &'model Model,
        settings: &Settings,
        shape: ContextShape,
        callback: extern "C" fn(*mut sys::ggml_tensor, bool, *mut c_void) -> bool,
        user_data: *mut c_void,
    ) -> Result<Self, LlamaError> {
        let mut parameters = parameters(model, settings, shape);
        // With weights on the CPU, all of the graph is to be there, as one piece.
        parameters.op_offload = settings.gpu_layers != 0;
        parameters.cb_eval = Some(callback);
        parameters.cb_eval_user_data = user_data;
        Self::make(model, shape, parameters)
    }

    fn make(
        model: &'model Model,
        shape: ContextShape,
        parameters: sys::llama_context_params,
    ) -> Result<Self, LlamaError> {
        log::forget_errors();
        let mut error = ErrorText::new();
        // SAFETY: the model is alive and borrowed for as long as the context; the parameters hold
        // no pointers of ours but the callback's data, which outlives the context; the error buffer
        // has the length given.
        let handle = unsafe {
            shim::quantbench_new_context(
                model.as_ptr(),
                parameters,
                error.as_mut_ptr(),
                error.len(),
            )
        };
        match NonNull::new(handle) {
            Some(handle) => Ok(Self { handle, model, shape }),
            None => Err(LlamaError::Context { context: shape.tokens, reason: reason(&error) }),
        }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_context {
        self.handle.as_ptr()
    }

    /// The model that is evaluated.
    #[must_use]
    pub fn model(&self) -> &'model Model {
        self.model
    }

    /// The sizes the context was made with.
    #[must_use]
    pub fn shape(&self) -> ContextShape {
        self.shape
    }

    /// Evaluates a batch. Back ends may still be computing when this returns; see
    /// [`Self::synchronize`].
    ///
    /// # Errors
    /// [`LlamaError::Decode`].
    pub fn decode(&mut self, batch: &mut Batch) -> Result<(), LlamaError> {
        let tokens = batch.len();
        let mut error = ErrorText::new();
        // SAFETY: the raw batch points into `batch`, which is borrowed for the length of the call
        // and holds as many entries in each array as it says.
        let code = unsafe {
            shim::quantbench_decode(self.as_ptr(), batch.as_raw(), error.as_mut_ptr(), error.len())
        };
        if code == 0 {
            return Ok(());
        }
        Err(LlamaError::Decode { tokens, code, reason: reason(&error) })
    }

    /// Runs a batch through the encoder, all of it at once. In a model with a decoder, what follows
    /// through [`Self::decode`] attends to it; in a model without, [`Self::embedding`] has the result.
    ///
    /// # Errors
    /// [`LlamaError::Decode`]; [`LlamaError::BatchFull`] for more tokens than are computed at once,
    /// at which llama.cpp would abort.
    pub fn encode(&mut self, batch: &mut Batch) -> Result<(), LlamaError> {
        let tokens = batch.len();
        if tokens > self.shape.ubatch.min(self.shape.batch) as usize {
            return Err(LlamaError::BatchFull { capacity: self.shape.ubatch as usize });
        }
        let mut error = ErrorText::new();
        // SAFETY: as in `decode`.
        let code = unsafe {
            shim::quantbench_encode(self.as_ptr(), batch.as_raw(), error.as_mut_ptr(), error.len())
        };
        if code == 0 {
            return Ok(());
        }
        Err(LlamaError::Decode { tokens, code, reason: reason(&error) })
    }

    /// The embedding of a sequence of the last batch, of a context made by
    /// [`Self::for_embeddings`]. Not normalised.
    ///
    /// # Errors
    /// [`LlamaError::NoEmbedding`] if the last batch had no such sequence.
    pub fn embedding(&mut self, sequence: i32) -> Result<&[f32], LlamaError> {
        // SAFETY: the context is alive; waits until everything submitted is computed.
        unsafe { sys::llama_synchronize(self.as_ptr()) };
        // SAFETY: the context is alive; llama.cpp looks the sequence up.
        let row = unsafe { sys::llama_get_embeddings_seq(self.as_ptr(), sequence) };
        if row.is_null() {
            return Err(LlamaError::NoEmbedding { sequence });
        }
        // SAFETY: a pooled embedding is as long as the model's output embedding; the slice borrows
        // the context, so no later evaluation can overwrite it.
        Ok(unsafe { std::slice::from_raw_parts(row, self.model.embedding_width()) })
    }

    /// Waits until everything submitted is computed.
    pub fn synchronize(&mut self) {
        // SAFETY: the context is alive.
        unsafe { sys::llama_synchronize(self.as_ptr()) };
    }

    /// Logits of `outputs` outputs of the last batch, in order, `[outputs, vocabulary]`.
    ///
    /// # Errors
    /// [`LlamaError::NoLogits`] if the last batch asked for fewer.
    pub fn all_logits(&mut self, outputs: usize) -> Result<&[f32], LlamaError> {
        let last = i32::try_from(outputs).unwrap_or(i32::MAX) - 1;
        // llama_get_logits does not say how many rows there are; asking for the last one from the
        // end of the outputs fails if there are fewer.
        // SAFETY: the context is alive; llama.cpp checks the index.
        let row = unsafe { sys::llama_get_logits_ith(self.as_ptr(), -1 - last) };
        if row.is_null() {
            return Err(LlamaError::NoLogits { index: last });
        }
        let length = outputs * self.model.vocabulary_size();
        // SAFETY: outputs are stored one after the other; the row `outputs` places from the end is
        // the first of them. The slice borrows the context, so no later evaluation can overwrite it.
        Ok(unsafe { std::slice::from_raw_parts(row, length) })
    }

    /// Empties the KV cache of all sequences.
    pub fn clear_memory(&mut self) {
        // SAFETY: the context is alive and owns its memory object.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.as_ptr()), false) };
    }

    /// Gives the sequence `to` everything that the sequence `from` has.
    pub fn copy_sequence(&mut self, from: i32, to: i32) {
        // SAFETY: the context is alive and owns its memory object; -1 is the whole of it.
        unsafe { sys::llama_memory_seq_cp(sys::llama_get_memory(self.as_ptr()), from, to, -1, -1) };
    }

    /// Removes a sequence; what it has in common with others stays theirs.
    pub fn remove_sequence(&mut self, sequence: i32) {
        // SAFETY: the context is alive and owns its memory object; a whole sequence can always be
        // removed, so the answer says nothing.
        unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.as_ptr()), sequence, -1, -1) };
    }

    /// Saves the state of one sequence.
    ///
    /// # Errors
    /// [`LlamaError::State`].
    pub fn save_sequence(&mut self, sequence: i32) -> Result<Vec<u8>, LlamaError> {
        // SAFETY: the context is alive.
        let size = unsafe { sys::llama_state_seq_get_size(self.as_ptr(), sequence) };
        let mut state = vec![0; size];
        // SAFETY: the buffer has the size given.
        let written = unsafe {
            sys::llama_state_seq_get_data(self.as_ptr(), state.as_mut_ptr(), size, sequence)
        };
        if written == 0 {
            return Err(LlamaError::State("save"));
        }
        state.truncate(written);
        Ok(state)
    }

    /// Restores the state of one sequence.
    ///
    /// # Errors
    /// [`LlamaError::State`].
    pub fn restore_sequence(&mut self, sequence: i32, state: &[u8]) -> Result<(), LlamaError> {
        // SAFETY: the buffer has the size given; llama.cpp validates the content.
        let read = unsafe {
            sys::llama_state_seq_set_data(self.as_ptr(), state.as_ptr(), state.len(), sequence)
        };
        if read == 0 { Err(LlamaError::State("restore")) } else { Ok(()) }
    }

    /// What llama.cpp allocated for weights, KV cache and computation, per buffer type.
    #[must_use]
    pub fn memory(&self) -> Vec<BufferMemory> {
        const CAPACITY: usize = 64;
        let empty = shim::quantbench_buffer_memory {
            name: [0; 64],
            is_host: true,
            weights: 0,
            kv: 0,
            compute: 0,
        };
        let mut entries = [empty; CAPACITY];
        let capacity = i32::try_from(CAPACITY).unwrap_or(0);
        // SAFETY: the context is alive; the array has the capacity given.
        let count = unsafe {
            shim::quantbench_memory_breakdown(self.as_ptr(), entries.as_mut_ptr(), capacity)
        };
        entries
            .iter()
            .take(usize::try_from(count).unwrap_or(0))
            .map(|entry| BufferMemory {
                buffer: super::devices::text(entry.name.as_ptr()),
                on_device: !entry.is_host,
                weights_bytes: entry.weights,
                kv_bytes: entry.kv,
                compute_bytes: entry.compute,
                context: self.shape.tokens,
            })
            .collect()
    }
}

fn parameters(
    model: &Model,
    settings: &Settings,
    shape: ContextShape,
) -> sys::llama_context_params {
    // SAFETY: returns a plain struct.
    let mut parameters = unsafe { sys::llama_context_default_params() };
    let threads = settings.threads.unwrap_or_else(|| model.backend().default_threads());
    let threads = i32::try_from(threads).unwrap_or(1);
    parameters.n_ctx = shape.tokens;
    parameters.n_batch = shape.batch;
    parameters.n_ubatch = shape.ubatch.min(shape.batch);
    parameters.n_seq_max = shape.sequences;
    parameters.n_threads = threads;
    parameters.n_threads_batch = threads;
    parameters.flash_attn_type = match settings.flash_attention {
        FlashAttention::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
        FlashAttention::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
        FlashAttention::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
    };
    parameters.type_k = cache_type(settings.cache_type_k);
    parameters.type_v = cache_type(settings.cache_type_v);
    parameters.offload_kqv = settings.kv_offload;
    parameters.swa_full = settings.swa_full;
    parameters.no_perf = true;
    parameters
}

fn cache_type(cache_type: CacheType) -> sys::ggml_type {
    match cache_type {
        CacheType::F32 => sys::GGML_TYPE_F32,
        CacheType::F16 => sys::GGML_TYPE_F16,
        CacheType::Bf16 => sys::GGML_TYPE_BF16,
        CacheType::Q8_0 => sys::GGML_TYPE_Q8_0,
        CacheType::Q4_0 => sys::GGML_TYPE_Q4_0,
        CacheType::Q4_1 => sys::GGML_TYPE_Q4_1,
        CacheType::Iq4Nl => sys::GGML_TYPE_IQ4_NL,
        CacheType::Q5_0 => sys::GGML_TYPE_Q5_0,
        CacheType::Q5_1 => sys::GGML_TYPE_Q5_1,
    }
}
