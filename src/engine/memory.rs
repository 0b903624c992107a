//! Memory as an engine counts it.

use serde::{Deserialize, Serialize};

/// Memory that an engine allocated in one kind of buffer, for one context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferMemory {
    /// ggml's name of the buffer type: `CPU`, `CPU_REPACK`, `CUDA0`, `CUDA_Host`, …
    pub buffer: String,
    /// Whether this is memory of a device of its own (a discrete GPU), not the host's.
    pub on_device: bool,
    /// Bytes of weights.
    pub weights_bytes: u64,
    /// Bytes of the KV cache (and recurrent state).
    pub kv_bytes: u64,
    /// Bytes of compute buffers.
    pub compute_bytes: u64,
    /// How many tokens of context the KV cache was made for.
    pub context: u32,
}
