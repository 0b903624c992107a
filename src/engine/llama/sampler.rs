//! Samplers: the choice of the next token.

use super::handle::Handle;
use crate::engine::error::EngineError;
use crate::experiment::workloads::Sampling;
use llama_cpp_sys_2 as sys;

/// A chain of llama.cpp's samplers.
#[derive(Debug)]
pub(super) struct Sampler(Handle<sys::llama_sampler>);

impl Sampler {
    /// # Errors
    /// [`EngineError::NoSampler`] if llama.cpp is out of memory.
    pub(super) fn new(sampling: Sampling) -> Result<Self, EngineError> {
        // SAFETY: takes a plain struct, returns an owned chain, which owns its members.
        let chain = unsafe {
            let made = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
            Handle::new(made, sys::llama_sampler_free)
        };
        let chain = Self(chain.ok_or(EngineError::NoSampler)?);
        let add = |member: *mut sys::llama_sampler| {
            // SAFETY: the chain is alive and takes ownership of the member.
            unsafe { sys::llama_sampler_chain_add(chain.0.as_ptr(), member) };
        };
        if sampling.temperature <= 0.0 {
            // SAFETY: returns an owned sampler.
            add(unsafe { sys::llama_sampler_init_greedy() });
            return Ok(chain);
        }
        if sampling.top_k > 0 {
            // SAFETY: returns an owned sampler.
            add(unsafe { sys::llama_sampler_init_top_k(sampling.top_k) });
        }
        if sampling.top_p < 1.0 {
            // SAFETY: returns an owned sampler.
            add(unsafe { sys::llama_sampler_init_top_p(sampling.top_p, 1) });
        }
        // SAFETY: returns an owned sampler.
        add(unsafe { sys::llama_sampler_init_temp(sampling.temperature) });
        // SAFETY: returns an owned sampler.
        add(unsafe { sys::llama_sampler_init_dist(sampling.seed) });
        Ok(chain)
    }

    /// Chooses a token from the last output of the context, and remembers it.
    pub(super) fn sample(&mut self, context: *mut sys::llama_context) -> i32 {
        // SAFETY: chain and context are alive; the last batch asked for an output.
        unsafe { sys::llama_sampler_sample(self.0.as_ptr(), context, -1) }
    }
}
