//! The quality workload: a text.

use crate::experiment::diagnostic::Problem;
use crate::experiment::expand::{Expansion, lacks_demo, readable};
use crate::experiment::inputs;
use crate::experiment::keys::Kind::{Bytes, Flag, Number, Text, Whole};
use crate::experiment::keys::{CHUNKS, Key, Table};
use crate::experiment::reader::Located;
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

#[rustfmt::skip]
pub(super) static KEYS: Table = Table::new(
    "workloads.quality",
    "Perplexity and divergence from the reference, by llama-perplexity's protocol.",
    &[
        Key::new("enabled", Flag, "whether it is measured").default("true"),
        Key::new("text", Text, "\"demo\" or a text file").default("\"demo\""),
        Key::new("context", Whole(8, 1_048_576),
            "tokens per chunk; the second half of each chunk is scored").default("512"),
        Key::new("chunks", CHUNKS, "at most this many chunks; left out: all of the text").shown("40"),
        Key::new("divergence", Flag, "compare with the reference, not only perplexity").default("true"),
        Key::new("precision", Number(0.001, 1.0),
            "0.05 stops once the KLD's 95 % interval is within ±5 %; left out: never").example("0.05"),
        Key::new("memory_budget", Bytes,
            "disk for the reference's probabilities; above it the likeliest are kept").default("\"2GiB\""),
    ],
);

/// `[workloads.quality]`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct QualityFile {
    pub enabled: Located<bool>,
    pub text: Located<String>,
    pub context: Located<u32>,
    pub chunks: Option<Located<u32>>,
    pub divergence: Located<bool>,
    pub precision: Option<Located<f64>>,
    /// Bytes.
    pub memory_budget: Located<u64>,
}

/// Turns what was written into what it means.
pub(super) fn expand(file: &QualityFile, expansion: &mut Expansion<'_>) -> Option<QualityPlan> {
    if !*file.enabled || lacks_demo(expansion, &file.text) {
        return None;
    }
    let Expansion { origin, problems } = expansion;
    let text = inputs::text(&file.text, origin.base);
    if let Ok(text) = &text {
        check_length(text, file, problems);
    }
    if let (Some(precision), false) = (&file.precision, *file.divergence) {
        problems.push(
            precision
                .problem("asks for a precise divergence, but divergence is off")
                .help("remove it, or set divergence = true"),
        );
    }
    Some(QualityPlan {
        text: readable(text, &file.text, problems),
        source: file.text.value.clone(),
        context: *file.context,
        chunks: file.chunks.as_deref().copied(),
        divergence: *file.divergence,
        precision: file.precision.as_deref().copied(),
        reference_budget_bytes: *file.memory_budget,
    })
}

/// A token is at least one byte, so a text of fewer bytes than two chunks have tokens cannot fill
/// them; the worker counts exactly, but only after a model was loaded.
fn check_length(text: &str, file: &QualityFile, problems: &mut Vec<Problem>) {
    let context = *file.context;
    let bytes = text.len() as u64;
    let needed = 2 * u64::from(context);
    if bytes >= needed {
        return;
    }
    let span = if file.text.is_written() { &file.text.span } else { &file.context.span };
    problems.push(
        Problem::new(
            span.clone(),
            format!(
                "'workloads.quality.text' has {bytes} bytes, too few for 2 chunks of {context} tokens"
            ),
        )
        .help(format!(
            "use a text of at least {needed} tokens (about {} bytes), or a smaller context",
            4 * needed
        )),
    );
}
