//! Requirements: what the user needs of a variant, and the verdict over one.

use serde::{Deserialize, Serialize};

/// What the user needs. A field that is `None` asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Requirements {
    /// Peak resident memory plus device memory, bytes.
    pub max_memory_bytes: Option<u64>,
    /// Tokens per second of the first generation test.
    pub min_generation_tokens_per_second: Option<f64>,
    /// 90th percentile of the time to first token over the test prompts, milliseconds.
    pub max_ttft_ms: Option<f64>,
    /// Mean Kullback–Leibler divergence from the reference, nats.
    pub max_kld: Option<f64>,
    /// Perplexity over the reference's, as a fraction: 0.05 is 5 % worse.
    pub max_perplexity_increase: Option<f64>,
}

impl Requirements {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
