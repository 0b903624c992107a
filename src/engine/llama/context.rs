//! Contexts: a model being evaluated, with its KV cache.

use super::batch::SequencePointers;
use super::handle::Handle;
use super::model::Model;
use super::sampler::Sampler;
use super::{ErrorText, shim, text};
use crate::engine::Engine as _;
use crate::engine::batch::Batch;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{self, ContextPurpose, ContextShape, Model as _};
use crate::experiment::settings::{CacheType, FlashAttention, Settings};
use crate::experiment::workloads::Sampling;
use crate::model::gguf::GgmlType;
use llama_cpp_sys_2 as sys;
use std::ffi::c_void;

/// A model being evaluated.
#[derive(Debug)]
pub struct Context<'model> {
    handle: Handle<sys::llama_context>,
    model: &'model Model,
    shape: ContextShape,
    pointers: SequencePointers,
    sampler: Option<Sampler>,
}

// SAFETY: a context is used through `&mut` by one thread at a time; llama.cpp keeps no state of it in
// thread-local storage.
unsafe impl Send for Context<'_> {}

impl<'model> Context<'model> {
    /// Makes a context; threads come from the settings, or are llama-bench's default.
    ///
    /// # Errors
    /// [`EngineError::Context`], most often because memory is short.
    pub fn new(
        model: &'model Model,
        settings: &Settings,
        shape: ContextShape,
        purpose: ContextPurpose,
    ) -> Result<Self, EngineError> {
        let mut parameters = parameters(model, settings, shape);
        match purpose {
            ContextPurpose::Separate => {}
            ContextPurpose::Generation => parameters.n_outputs_max = shape.sequences,
            ContextPurpose::Shared => {
                parameters.kv_unified = true;
                // A cache of the window alone has room for the window of each sequence; a token that
                // belongs to several stays in it for as long as any of them.
                parameters.swa_full = true;
            }
            ContextPurpose::Embeddings => {
                parameters.embeddings = true;
                if !model.asks_for_pooling() {
                    parameters.pooling_type = sys::LLAMA_POOLING_TYPE_MEAN;
                }
            }
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
    ) -> Result<Self, EngineError> {
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
    ) -> Result<Self, EngineError> {
        // SAFETY: the model is alive and borrowed for as long as the context; the parameters hold
        // no pointers of ours but the callback's data, which outlives the context; the error buffer
        // has the length given.
        let (handle, error) = ErrorText::of(|text, length| unsafe {
            let made = shim::quantbench_new_context(model.as_ptr(), parameters, text, length);
            Handle::new(made, sys::llama_free)
        });
        let failed = || EngineError::Context { context: shape.tokens, reason: error.reason() };
        let handle = handle.ok_or_else(failed)?;
        let (mut adapters, mut scales) = model.adapters();
        if !adapters.is_empty() {
            // SAFETY: the context is alive; the adapters belong to its model, which outlives it; both arrays have the
            // length given, and are copied.
            let code = unsafe {
                sys::llama_set_adapters_lora(
                    handle.as_ptr(),
                    adapters.as_mut_ptr(),
                    adapters.len(),
                    scales.as_mut_ptr(),
                )
            };
            if code != 0 {
                let reason = "it does not take the adapters".to_owned();
                return Err(EngineError::Context { context: shape.tokens, reason });
            }
        }
        Ok(Self { handle, model, shape, pointers: SequencePointers::default(), sampler: None })
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_context {
        self.handle.as_ptr()
    }

    /// The model that is evaluated.
    #[must_use]
    pub fn model(&self) -> &'model Model {
        self.model
    }
}

impl engine::Context for Context<'_> {
    fn shape(&self) -> ContextShape {
        self.shape
    }

    fn decode(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        let tokens = batch.len();
        let raw = self.pointers.raw(batch);
        // SAFETY: the raw batch points into `batch`, which is borrowed for the length of the call
        // and holds as many entries in each array as it says.
        let (code, error) = ErrorText::of(|text, length| unsafe {
            shim::quantbench_decode(self.as_ptr(), raw, text, length)
        });
        decoded(tokens, code, &error)
    }

    fn encode(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        let tokens = batch.len();
        if tokens > self.shape.ubatch.min(self.shape.batch) as usize {
            return Err(EngineError::BatchFull { capacity: self.shape.ubatch as usize });
        }
        let raw = self.pointers.raw(batch);
        // SAFETY: as in `decode`.
        let (code, error) = ErrorText::of(|text, length| unsafe {
            shim::quantbench_encode(self.as_ptr(), raw, text, length)
        });
        decoded(tokens, code, &error)
    }

    fn embedding(&mut self, sequence: i32) -> Result<&[f32], EngineError> {
        // SAFETY: the context is alive; waits until everything submitted is computed.
        unsafe { sys::llama_synchronize(self.as_ptr()) };
        // SAFETY: the context is alive; llama.cpp looks the sequence up.
        let row = unsafe { sys::llama_get_embeddings_seq(self.as_ptr(), sequence) };
        if row.is_null() {
            return Err(EngineError::NoEmbedding { sequence });
        }
        // SAFETY: a pooled embedding is as long as the model's output embedding; the slice borrows
        // the context, so no later evaluation can overwrite it.
        Ok(unsafe { std::slice::from_raw_parts(row, self.model.embedding_width()) })
    }

    fn synchronize(&mut self) {
        // SAFETY: the context is alive.
        unsafe { sys::llama_synchronize(self.as_ptr()) };
    }

    fn all_logits(&mut self, outputs: usize) -> Result<&[f32], EngineError> {
        let last = i32::try_from(outputs).unwrap_or(i32::MAX) - 1;
        // llama_get_logits does not say how many rows there are; asking for the last one from the
        // end of the outputs fails if there are fewer.
        // SAFETY: the context is alive; llama.cpp checks the index.
        let row = unsafe { sys::llama_get_logits_ith(self.as_ptr(), -1 - last) };
        if row.is_null() {
            return Err(EngineError::NoLogits { index: last });
        }
        let length = outputs * self.model.vocabulary_size();
        // SAFETY: outputs are stored one after the other; the row `outputs` places from the end is
        // the first of them. The slice borrows the context, so no later evaluation can overwrite it.
        Ok(unsafe { std::slice::from_raw_parts(row, length) })
    }

    fn clear_memory(&mut self) {
        // SAFETY: the context is alive and owns its memory object.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.as_ptr()), false) };
    }

    fn copy_sequence(&mut self, from: i32, to: i32) {
        // SAFETY: the context is alive and owns its memory object; -1 is the whole of it.
        unsafe { sys::llama_memory_seq_cp(sys::llama_get_memory(self.as_ptr()), from, to, -1, -1) };
    }

    fn remove_sequence(&mut self, sequence: i32) {
        // SAFETY: the context is alive and owns its memory object; a whole sequence can always be
        // removed, so the answer says nothing.
        unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.as_ptr()), sequence, -1, -1) };
    }

    fn save_sequence(&mut self, sequence: i32) -> Result<Vec<u8>, EngineError> {
        // SAFETY: the context is alive.
        let size = unsafe { sys::llama_state_seq_get_size(self.as_ptr(), sequence) };
        let mut state = vec![0; size];
        // SAFETY: the buffer has the size given.
        let written = unsafe {
            sys::llama_state_seq_get_data(self.as_ptr(), state.as_mut_ptr(), size, sequence)
        };
        if written == 0 {
            return Err(EngineError::State("save"));
        }
        state.truncate(written);
        Ok(state)
    }

    fn restore_sequence(&mut self, sequence: i32, state: &[u8]) -> Result<(), EngineError> {
        // SAFETY: the buffer has the size given; llama.cpp validates the content.
        let read = unsafe {
            sys::llama_state_seq_set_data(self.as_ptr(), state.as_ptr(), state.len(), sequence)
        };
        if read == 0 { Err(EngineError::State("restore")) } else { Ok(()) }
    }

    fn memory(&self) -> Vec<BufferMemory> {
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
                buffer: text(entry.name.as_ptr()),
                on_device: !entry.is_host,
                weights_bytes: entry.weights,
                kv_bytes: entry.kv,
                compute_bytes: entry.compute,
                context: self.shape.tokens,
            })
            .collect()
    }

    fn begin_sampling(&mut self, sampling: Sampling) -> Result<(), EngineError> {
        self.sampler = Some(Sampler::new(sampling)?);
        Ok(())
    }

    fn sample(&mut self) -> Result<i32, EngineError> {
        if self.sampler.is_none() {
            self.begin_sampling(Sampling::default())?;
        }
        // Sampling without an output would abort.
        self.all_logits(1)?;
        let context = self.as_ptr();
        self.sampler
            .as_mut()
            .map_or(Err(EngineError::NoSampler), |sampler| Ok(sampler.sample(context)))
    }

    #[cfg(feature = "multimodal")]
    fn read_picture(
        &mut self,
        picture: &mut engine::picture::EncodedPicture,
        position: i32,
    ) -> Result<i32, EngineError> {
        super::projector::read(self, picture, position)
    }
}

fn decoded(tokens: usize, code: i32, error: &ErrorText) -> Result<(), EngineError> {
    if code == 0 {
        Ok(())
    } else {
        Err(EngineError::Decode { tokens, code, reason: error.reason() })
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
    let for_batches = settings.threads_batch.map(|threads| i32::try_from(threads).unwrap_or(1));
    parameters.n_threads_batch = for_batches.unwrap_or(threads);
    parameters.flash_attn_type = flash_attention(settings.flash_attention);
    parameters.type_k = cache_type(settings.cache_type_k);
    parameters.type_v = cache_type(settings.cache_type_v);
    parameters.offload_kqv = settings.kv_offload;
    parameters.swa_full = settings.swa_full;
    parameters.op_offload = settings.op_offload;
    parameters.no_perf = true;
    parameters
}

pub(super) fn flash_attention(choice: FlashAttention) -> sys::llama_flash_attn_type {
    match choice {
        FlashAttention::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
        FlashAttention::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
        FlashAttention::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }
}

/// Every cache type is a ggml type of the same name; a test of `quantbench inspect` holds that.
fn cache_type(cache_type: CacheType) -> sys::ggml_type {
    GgmlType::from_name(cache_type.into()).map_or(sys::GGML_TYPE_F16, GgmlType::number)
}
