//! The quality workload: a text.

use serde::{Deserialize, Serialize};

/// The text that perplexity and divergence are measured on, and how much of it.
///
/// Protocol of llama-perplexity: the text is cut into chunks of `context` tokens, each chunk's first
/// token is replaced by BOS if the model wants one, and the second half of each chunk is scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityPlan {
    /// The text itself.
    pub text: String,
    /// Where the text came from, as the user wrote it.
    pub source: String,
    /// Tokens per chunk (`n_ctx` of llama-perplexity).
    pub context: u32,
    /// At most this many chunks; `None`: all of the text.
    pub chunks: Option<u32>,
    /// Compare with the reference too (KLD and the like), not only perplexity.
    pub divergence: bool,
    /// Stop once the 95 % interval of the mean KLD is within this fraction of the mean; `None`:
    /// use all chunks.
    pub precision: Option<f64>,
    /// Bytes that the reference's log-probabilities may take on disk. Above it, the top K per
    /// position and the mass of the rest are kept.
    pub reference_budget_bytes: u64,
}
