//! Samplers: the choice of the next token.

use super::context::Context;
use crate::experiment::workloads::Sampling;
use llama_cpp_sys_2 as sys;
use std::ptr::NonNull;

/// A chain of llama.cpp's samplers.
#[derive(Debug)]
pub struct Sampler(NonNull<sys::llama_sampler>);

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: the chain came from llama.cpp, owns its members and is freed once.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) };
    }
}

impl Sampler {
    /// A chain for `sampling`; `None` if llama.cpp is out of memory.
    #[must_use]
    pub fn new(sampling: Sampling) -> Option<Self> {
        // SAFETY: takes a plain struct, returns an owned chain.
        let chain =
            unsafe { sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()) };
        let chain = Self(NonNull::new(chain)?);
        let add = |member: *mut sys::llama_sampler| {
            // SAFETY: the chain is alive and takes ownership of the member.
            unsafe { sys::llama_sampler_chain_add(chain.0.as_ptr(), member) };
        };
        if sampling.temperature <= 0.0 {
            // SAFETY: returns an owned sampler.
            add(unsafe { sys::llama_sampler_init_greedy() });
            return Some(chain);
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
        Some(chain)
    }

    /// Chooses a token from the last output of the context, and remembers it.
    pub fn sample(&mut self, context: &mut Context<'_>) -> i32 {
        // SAFETY: chain and context are alive; the last batch asked for an output.
        unsafe { sys::llama_sampler_sample(self.0.as_ptr(), context.as_ptr(), -1) }
    }
}
