//! What workloads yield: plain data, with units in the names.
//!
//! These values travel from worker to orchestrator, into the store and into reports unchanged.

use crate::dataset::standard::DOMAINS;
pub use crate::engine::CacheUse;
pub use crate::engine::memory::BufferMemory;
use crate::experiment::inputs::{ANSWERS, STANDARD};
use crate::experiment::workloads::{RateUnit, SpeedTest};
use crate::model::architecture::{ArchitectureClass, Experts};
use crate::model::stored_types::StoredTypes;
use crate::units::{count, format_seconds, significant};
use serde::{Deserialize, Serialize};

/// What a loaded model is, as its engine sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The engine's description, such as `llama 7B Q4_K - Medium`.
    pub description: String,
    /// How it turns tokens into what it is used for.
    #[serde(default)]
    pub class: ArchitectureClass,
    /// Number of weights.
    pub parameters: u64,
    /// Weights that compute a token: fewer than all in a mixture of experts. `None` in runs stored
    /// before this was told.
    #[serde(default)]
    pub active_parameters: Option<u64>,
    /// The experts of a mixture of experts.
    #[serde(default)]
    pub experts: Option<Experts>,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Bytes of weights that are read for every generated token. `None` in runs stored before this was told.
    #[serde(default)]
    pub bytes_per_token: Option<u64>,
    /// The types that they are stored in. `None` in runs stored before this was told.
    #[serde(default)]
    pub types: Option<StoredTypes>,
    /// Context length the model was trained with, tokens.
    pub context_length: u32,
    /// Positions that it has embeddings for, where they are learnt; it can compute no further one.
    #[serde(default)]
    pub positions: Option<u32>,
    /// Number of layers.
    pub layers: u32,
    /// Number of tokens in the vocabulary.
    pub vocabulary: u32,
    /// Threads that the settings came to.
    pub threads: u32,
    /// Whether the file was memory-mapped.
    pub mmap: bool,
    /// What becomes of its cache when a token is added, where the engine tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheUse>,
    /// Back ends in use, such as `CPU` or `CUDA`.
    pub backends: Vec<String>,
    /// Names of the devices that hold layers.
    pub devices: Vec<String>,
}

impl ModelFacts {
    /// Bits per weight over all tensors.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    pub fn bits_per_weight(&self) -> f64 {
        if self.parameters == 0 {
            return f64::NAN;
        }
        self.tensor_bytes as f64 * 8.0 / self.parameters as f64
    }
}

/// A figure that is shown while it is measured; the table has the statistics.
#[derive(Debug, Clone)]
pub struct LiveFigure {
    /// What it is of; the next of this name takes its place.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// How the value is shown.
    pub show: fn(f64) -> String,
    /// Whether the median of all values is shown instead of the latest.
    pub is_median: bool,
}

impl LiveFigure {
    /// One of which the latest value is shown.
    pub(super) fn latest(name: impl Into<String>, value: f64, show: fn(f64) -> String) -> Self {
        Self { name: name.into(), value, show, is_median: false }
    }
}

/// Something that was to be measured of a model and cannot be; the rest is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// What: `prompt 'long'`, `pp512`.
    pub what: String,
    /// Why, as half a sentence.
    pub reason: String,
}

/// What is left out of a variant that reads texts as other tokens than the reference: the same perplexity is of another
/// amount of text there.
pub const COMPARED_BY_TOKENS: &str = "divergence and perplexity";

/// One load of a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadSample {
    /// Whether the file was dropped from the page cache before.
    pub cold: bool,
    /// Seconds from the call until weights and vocabulary were ready for a context.
    pub seconds: f64,
}

/// Predicted memory at one context length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictedMemory {
    /// Context length, tokens.
    pub context: u32,
    /// One entry per buffer type.
    pub buffers: Vec<BufferMemory>,
    /// Resident memory of the process that predicted, bytes: program, vocabulary and graph, and no buffer. `None`
    /// where the system does not tell.
    pub process_bytes: Option<u64>,
    /// Its memory on GPUs, bytes, which is the driver's own of a process that computes there. `None`: it is on no GPU, or
    /// the driver does not tell.
    #[serde(default)]
    pub gpu_process_bytes: Option<u64>,
}

/// One timed repetition of a throughput test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpeedSample {
    /// Time of the whole repetition, nanoseconds.
    pub nanoseconds: u64,
    /// Tokens processed or generated in it.
    pub tokens: u32,
}

impl SpeedSample {
    /// Tokens per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 for 100 days")]
    pub fn tokens_per_second(self) -> f64 {
        f64::from(self.tokens) * 1e9 / self.nanoseconds as f64
    }

    /// What `test` counts, per second: tokens, or embedded texts.
    #[must_use]
    pub fn rate(self, test: SpeedTest) -> f64 {
        let per_text = if test.embeds { f64::from(test.prompt_tokens.max(1)) } else { 1.0 };
        self.tokens_per_second() / per_text
    }

    /// `tg128 185 t/s`.
    pub(super) fn live(self, test: SpeedTest) -> LiveFigure {
        let show = match test.unit() {
            RateUnit::Tokens => |rate| format!("{} t/s", significant(rate, 3)),
            RateUnit::Embeddings => |rate| format!("{} emb/s", significant(rate, 3)),
        };
        LiveFigure::latest(test.to_string(), self.rate(test), show)
    }
}

/// One prompt answered, with the time of every token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Which prompt.
    pub prompt_id: String,
    /// Tokens of the prompt, BOS included.
    pub prompt_tokens: u32,
    /// What the model wrote.
    pub text: String,
    /// Nanoseconds from the request (before tokenization) to each generated token, in order.
    pub token_nanoseconds: Vec<u64>,
    /// Why generation ended: `stop` (end-of-generation token) or `length`.
    pub finish_reason: String,
}

impl Response {
    /// Time to first token, seconds: from the request to the first generated token.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 for 100 days")]
    pub fn ttft_seconds(&self) -> Option<f64> {
        self.token_nanoseconds.first().map(|&first| first as f64 / 1e9)
    }

    /// Inter-token latencies, seconds; the first token has none.
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 for 100 days")]
    pub fn itl_seconds(&self) -> impl Iterator<Item = f64> + '_ {
        self.token_nanoseconds.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 / 1e9)
    }

    /// `TTFT p50 12.1 ms`.
    pub(super) fn live(&self) -> Option<LiveFigure> {
        let ttft = self.ttft_seconds()?;
        Some(LiveFigure { is_median: true, ..LiveFigure::latest("TTFT p50", ttft, format_seconds) })
    }
}

/// A mean with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanWithError {
    /// The mean.
    pub mean: f64,
    /// Its standard error; the 95 % interval is about ±1.96 of it.
    pub standard_error: f64,
}

/// Perplexity of a variant and, if it was compared, its divergence from the reference.
///
/// Of an encoder-decoder it is about the reference's own answers to the pieces of the text, which
/// every variant is made to repeat; a chunk is one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// exp(mean negative log-likelihood) over the scored tokens, with llama-perplexity's error
    /// estimate.
    pub perplexity: MeanWithError,
    /// Tokens of a chunk of a text; 0 of an encoder-decoder, and in runs stored before this was told.
    #[serde(default)]
    pub context: u32,
    /// Chunks evaluated.
    pub chunks: u32,
    /// Chunks that the text has, whether they were asked for or not.
    pub chunks_available: u32,
    /// Tokens whose probability was scored.
    pub scored_tokens: u64,
    /// Mean negative log-likelihood of each chunk, nats per token, in order: what paired
    /// comparisons between variants use.
    pub chunk_nll: Vec<f64>,
    /// Which chunks are of which domain of the text; empty where the text has no parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainChunks>,
    /// Seconds from the first to the last chunk, tokenization excluded.
    pub seconds: f64,
    /// How this variant differs from the reference; `None` if it is the reference or none was given.
    pub divergence: Option<Divergence>,
    /// For the reference: how its log-probabilities were kept.
    pub reference_store: Option<ReferenceStore>,
    /// How many of the chunks are answers of the reference to prompts.
    #[serde(default, skip_serializing_if = "is_none")]
    pub answers: u32,
    /// The answers that diverge most from the reference's, the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst_answers: Vec<ComparedAnswer>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_none(count: &u32) -> bool {
    *count == 0
}

/// What a variant answers to a prompt, beside the reference's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedAnswer {
    /// The domain of the prompt.
    pub domain: String,
    /// The prompt.
    pub prompt: String,
    /// Mean KLD along the reference's answer, nats.
    pub kld: f64,
    /// The reference's answer.
    pub reference: String,
    /// The variant's own.
    pub variant: String,
}

impl Quality {
    /// Chunks of a text of so many that are evaluated if no more than `limit` are asked for. One alone would say
    /// nothing about the error of its figures.
    #[must_use]
    pub fn chunks_wanted(limit: Option<u32>, available: u32) -> u32 {
        limit.map_or(available, |limit| limit.clamp(2, available.max(2)))
    }

    /// Whether nothing is left to evaluate: all that was asked for was, or the divergence is precise. Answers are
    /// not evaluated in parts.
    #[must_use]
    pub fn is_over(&self, limit: Option<u32>) -> bool {
        self.context == 0
            || self.divergence.as_ref().is_some_and(|divergence| divergence.stopped_early)
            || self.chunks >= Self::chunks_wanted(limit, self.chunks_available)
    }

    /// `PPL 24.1, KLD 0.0123`.
    pub(super) fn live(&self) -> Vec<LiveFigure> {
        let perplexity = self.perplexity.mean;
        let mut live = vec![LiveFigure::latest("PPL", perplexity, |value| significant(value, 4))];
        let kld = self.divergence.as_ref().map(|divergence| divergence.kld.mean);
        live.extend(kld.map(|kld| LiveFigure::latest("KLD", kld, |value| significant(value, 3))));
        live
    }
}

/// The chunks of one domain of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainChunks {
    /// The domain's name.
    pub name: String,
    /// Positions in the lists of chunks, from 0.
    pub chunks: Vec<u32>,
}

/// What the names of domains of the reference's answers end with.
pub const OF_ANSWERS: &str = " answers";

/// The text that a domain is of, as it stands in an experiment: `answers`, `standard`, or the file itself.
pub fn text_of(domain: &str) -> &str {
    if domain.ends_with(OF_ANSWERS) {
        return ANSWERS;
    }
    if DOMAINS.iter().any(|it| it.name == domain) { STANDARD } else { domain }
}

/// How an encoder's embeddings of a text's pieces compare with the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingQuality {
    /// Pieces of the text that were embedded.
    pub pieces: u32,
    /// Tokens in them.
    pub tokens: u64,
    /// Seconds from the first to the last piece, tokenization excluded.
    pub seconds: f64,
    /// `None` if it is the reference or none was given.
    pub similarity: Option<EmbeddingSimilarity>,
}

impl EmbeddingQuality {
    /// `cosine 0.99912`, or `embedded 40 pieces` where there is nothing to compare with.
    pub(super) fn live(&self) -> LiveFigure {
        match &self.similarity {
            None => {
                let pieces = f64::from(self.pieces);
                LiveFigure::latest("embedded", pieces, |pieces| count(pieces, "piece"))
            }
            Some(it) => LiveFigure::latest("cosine", it.cosine.mean, |mean| significant(mean, 5)),
        }
    }
}

/// How alike two models' embeddings of the same pieces are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingSimilarity {
    /// Mean cosine of the angle between a piece's embedding and the reference's; 1: the same
    /// direction.
    pub cosine: MeanWithError,
    /// The smallest.
    pub cosine_minimum: f64,
    /// Fraction of pieces whose nearest other piece is the reference's.
    pub same_nearest: f64,
    /// The cosine of each piece, in order.
    pub piece_cosines: Vec<f64>,
}

/// How the reference's log-probabilities were kept for the comparisons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReferenceStore {
    /// Bytes of the file.
    pub bytes: u64,
    /// `None`: every token's log-probability in f32. `Some(k)`: the k most probable tokens of each
    /// position and the mass of the rest.
    pub top_k: Option<u32>,
    /// Upper bound of the error this causes in the mean KLD, nats; 0 when everything was kept.
    pub kld_error_bound: f64,
}

/// Divergence of a variant's token distributions from the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Mean Kullback–Leibler divergence KL(reference ‖ variant), nats.
    pub kld: MeanWithError,
    /// Quantiles of the divergence over scored tokens, nats.
    pub kld_median: f64,
    /// 90th percentile.
    pub kld_90: f64,
    /// 95th percentile.
    pub kld_95: f64,
    /// 99th percentile.
    pub kld_99: f64,
    /// 99.9th percentile.
    pub kld_999: f64,
    /// Largest.
    pub kld_max: f64,
    /// Fraction of positions whose most probable token is the reference's.
    pub top_token_agreement: MeanWithError,
    /// Mean change of the probability of the text's own token, as a fraction (−0.01: one
    /// percentage point less).
    pub delta_p_mean: MeanWithError,
    /// Root mean square of that change.
    pub delta_p_rms: MeanWithError,
    /// Mean ln(PPL(variant) / PPL(reference)) with its error, from the same tokens.
    pub log_perplexity_ratio: MeanWithError,
    /// Mean KLD of each chunk, nats, in order.
    pub chunk_kld: Vec<f64>,
    /// Fraction of each chunk's positions whose most probable token is the reference's, in order; empty in runs stored
    /// before this was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunk_top_token_agreement: Vec<f64>,
    /// Whether evaluation ended early because the asked precision was reached.
    pub stopped_early: bool,
    /// Upper bound of the error in the mean KLD from a reference that was not kept whole, nats.
    pub kld_error_bound: f64,
}
