//! Statistics of perplexity and divergence over scored tokens, gathered chunk by chunk.
//!
//! Tokens of one chunk share a text, so their values are correlated; standard errors of
//! divergence come from the spread of chunk means, which needs no independence within a chunk. The
//! error of the perplexity is the exception: it is computed over tokens, as llama-perplexity does, so
//! that it can be laid beside that tool's.

use super::measured::{Divergence, MeanWithError, Quality};
use crate::statistics::interval::mean_estimate;
use crate::statistics::sample::{Sample, to_f64};

/// Fewer chunks than this say too little about their own spread to stop early.
const FEWEST_CHUNKS_TO_STOP: usize = 10;

/// A mean KLD that is known to this, in nats, is known well enough, however small it is.
const FLOOR: f64 = 1e-4;

/// The fewest chunks after which evaluation may stop. A text of several domains is not judged by the first chunks of
/// each.
#[must_use]
pub fn fewest_chunks(domains: usize) -> usize {
    FEWEST_CHUNKS_TO_STOP.max(2 * domains)
}

/// How wide the 95 % interval of the mean of these KLDs is, as a multiple of what is asked: `precision` of the mean,
/// or a divergence that nobody has to tell from none. `None` if they are too few to tell, or no numbers.
///
/// Student's t instead of 1.96, since chunks may be few.
fn width(chunk_kld: impl Iterator<Item = f64>, precision: f64) -> Option<f64> {
    let kld = mean_estimate(&Sample::new(chunk_kld)?);
    Some(kld.half_width()? / (precision * kld.value).max(FLOOR))
}

/// How many chunks the mean KLD will take to be this precise, to go by the first ones.
#[must_use]
pub fn chunks_needed(chunk_kld: &[f64], precision: f64) -> Option<f64> {
    let width = width(chunk_kld.iter().copied(), precision)?;
    Some(to_f64(chunk_kld.len()) * width * width)
}

/// What was found at one scored position.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenScore {
    /// Negative log-likelihood of the text's token, nats.
    pub nll: f64,
    /// Comparison with the reference, if there is one.
    pub comparison: Option<TokenComparison>,
}

/// How one position differs from the reference.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenComparison {
    /// Negative log-likelihood of the text's token under the reference, nats.
    pub reference_nll: f64,
    /// KL(reference ‖ variant), nats.
    pub kld: f64,
    /// Upper bound of the error in it, nats.
    pub kld_error_bound: f64,
    /// Whether both find the same token most probable.
    pub same_top: bool,
}

/// Sums over all chunks so far.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    tokens: usize,
    nll_sum: f64,
    nll_square_sum: f64,
    chunk_nll: Vec<f64>,
    chunks: Vec<ChunkMeans>,
    kld: Vec<f32>,
    error_bound_sum: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct ChunkMeans {
    kld: f64,
    same_top: f64,
    delta_p: f64,
    delta_p_square: f64,
    log_ratio: f64,
}

impl Scores {
    /// Adds the scores of one chunk.
    pub fn add_chunk(&mut self, scores: &[TokenScore]) {
        if scores.is_empty() {
            return;
        }
        let count = to_f64(scores.len());
        let nll: f64 = scores.iter().map(|score| score.nll).sum();
        self.tokens += scores.len();
        self.nll_sum += nll;
        self.nll_square_sum += scores.iter().map(|score| score.nll * score.nll).sum::<f64>();
        self.chunk_nll.push(nll / count);
        let mut means = ChunkMeans::default();
        let mut compared = false;
        for score in scores {
            let Some(comparison) = score.comparison else { continue };
            compared = true;
            let delta_p = (-score.nll).exp() - (-comparison.reference_nll).exp();
            means.kld += comparison.kld / count;
            means.same_top += f64::from(u8::from(comparison.same_top)) / count;
            means.delta_p += delta_p / count;
            means.delta_p_square += delta_p * delta_p / count;
            means.log_ratio += (score.nll - comparison.reference_nll) / count;
            #[expect(clippy::cast_possible_truncation, reason = "quantiles need no more than f32")]
            self.kld.push(comparison.kld as f32);
            self.error_bound_sum += comparison.kld_error_bound;
        }
        if compared {
            self.chunks.push(means);
        }
    }

    /// All figures of a text of which so many chunks were available; of a context and a reference that are still to be
    /// told.
    #[must_use]
    pub fn quality(&self, available: usize, stopped_early: bool, seconds: f64) -> Quality {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Quality {
            perplexity: self.perplexity(),
            context: 0,
            chunks: count(self.chunk_nll.len()),
            chunks_available: count(available),
            scored_tokens: self.tokens as u64,
            chunk_nll: self.chunk_nll.clone(),
            domains: Vec::new(),
            seconds,
            divergence: self.divergence(stopped_early),
            reference_store: None,
            answers: 0,
            worst_answers: Vec::new(),
        }
    }

    /// Perplexity with llama-perplexity's error estimate.
    ///
    /// Source: llama.cpp, tools/perplexity: the standard error of the mean negative log-likelihood
    /// over tokens, times the perplexity.
    #[must_use]
    pub fn perplexity(&self) -> MeanWithError {
        let count = to_f64(self.tokens);
        let mean = self.nll_sum / count;
        let variance = self.nll_square_sum / count - mean * mean;
        let perplexity = mean.exp();
        let error =
            if variance > 0.0 && count > 1.0 { (variance / (count - 1.0)).sqrt() } else { 0.0 };
        MeanWithError { mean: perplexity, standard_error: error * perplexity }
    }

    /// Mean KLD so far, with its error over chunks.
    #[must_use]
    pub fn kld(&self) -> MeanWithError {
        self.over_chunks(|chunk| chunk.kld)
    }

    /// Whether the mean KLD is known to `precision` of itself, after enough chunks of a text of so many domains.
    #[must_use]
    pub fn is_precise(&self, precision: f64, domains: usize) -> bool {
        self.chunks.len() >= fewest_chunks(domains)
            && width(self.chunks.iter().map(|chunk| chunk.kld), precision)
                .is_some_and(|width| width <= 1.0)
    }

    /// All statistics of the divergence; `None` if nothing was compared.
    #[must_use]
    pub fn divergence(&self, stopped_early: bool) -> Option<Divergence> {
        let sample = Sample::new(self.kld.iter().map(|&value| f64::from(value)))?;
        let quantile = |fraction| sample.quantile(fraction);
        let square = self.over_chunks(|chunk| chunk.delta_p_square);
        let rms = square.mean.sqrt();
        Some(Divergence {
            kld: self.kld(),
            kld_median: quantile(0.5),
            kld_90: quantile(0.9),
            kld_95: quantile(0.95),
            kld_99: quantile(0.99),
            kld_999: quantile(0.999),
            kld_max: sample.maximum(),
            top_token_agreement: self.over_chunks(|chunk| chunk.same_top),
            delta_p_mean: self.over_chunks(|chunk| chunk.delta_p),
            // The error of a square root: half the error of the square over the root.
            delta_p_rms: MeanWithError {
                mean: rms,
                standard_error: if rms > 0.0 { square.standard_error / (2.0 * rms) } else { 0.0 },
            },
            log_perplexity_ratio: self.over_chunks(|chunk| chunk.log_ratio),
            chunk_kld: self.chunks.iter().map(|chunk| chunk.kld).collect(),
            chunk_top_token_agreement: self.chunks.iter().map(|chunk| chunk.same_top).collect(),
            stopped_early,
            kld_error_bound: self.error_bound_sum / to_f64(self.kld.len()),
        })
    }

    fn over_chunks(&self, value: impl Fn(&ChunkMeans) -> f64) -> MeanWithError {
        let count = to_f64(self.chunks.len());
        let mean = self.chunks.iter().map(&value).sum::<f64>() / count;
        let squares = self.chunks.iter().map(|chunk| (value(chunk) - mean).powi(2)).sum::<f64>();
        // One chunk says nothing about the spread of chunks; infinity keeps it from looking exact.
        let standard_error =
            if self.chunks.len() < 2 { f64::MAX } else { (squares / (count - 1.0) / count).sqrt() };
        MeanWithError { mean, standard_error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(nll: f64, reference_nll: f64, kld: f64, same_top: bool) -> TokenScore {
        TokenScore {
            nll,
            comparison: Some(TokenComparison {
                reference_nll,
                kld,
                kld_error_bound: 0.0,
                same_top,
            }),
        }
    }

    #[test]
    fn perplexity_is_the_exponential_of_the_mean() {
        let mut scores = Scores::default();
        let token = |nll| TokenScore { nll, comparison: None };
        scores.add_chunk(&[token(1.0), token(3.0)]);
        let perplexity = scores.perplexity();
        assert!((perplexity.mean - 2.0_f64.exp()).abs() < 1e-12);
        // Variance 1 over 2 tokens, divided by n − 1 = 1.
        assert!((perplexity.standard_error - 2.0_f64.exp()).abs() < 1e-12);
        assert_eq!(scores.divergence(false), None);
    }

    #[test]
    fn equal_variants_have_no_divergence_and_no_error() {
        let mut scores = Scores::default();
        for _ in 0..3 {
            scores.add_chunk(&[score(1.5, 1.5, 0.0, true), score(0.5, 0.5, 0.0, true)]);
        }
        let divergence = scores.divergence(false).unwrap();
        assert_eq!(divergence.kld, MeanWithError { mean: 0.0, standard_error: 0.0 });
        assert_eq!(divergence.delta_p_rms.standard_error.to_bits(), 0);
        assert!((divergence.top_token_agreement.mean - 1.0).abs() < 1e-12);
    }

    #[test]
    fn errors_come_from_the_spread_of_chunks() {
        let mut scores = Scores::default();
        scores.add_chunk(&[score(1.0, 1.0, 0.1, true), score(1.0, 1.0, 0.3, false)]);
        scores.add_chunk(&[score(1.0, 1.0, 0.4, true), score(1.0, 1.0, 0.4, true)]);
        let divergence = scores.divergence(false).unwrap();
        assert!((divergence.kld.mean - 0.3).abs() < 1e-12);
        // Chunk means 0.2 and 0.4: standard deviation 0.1414…, over √2.
        assert!((divergence.kld.standard_error - 0.1).abs() < 1e-12);
        assert!((divergence.top_token_agreement.mean - 0.75).abs() < 1e-12);
        assert_eq!(divergence.chunk_top_token_agreement, [0.5, 1.0]);
    }

    #[test]
    fn evaluation_stops_only_once_chunks_agree() {
        let mut scores = Scores::default();
        for chunk in 0..FEWEST_CHUNKS_TO_STOP {
            assert!(!scores.is_precise(0.05, 0), "after {chunk} chunks");
            scores.add_chunk(&[score(1.0, 1.0, if chunk % 2 == 0 { 0.1 } else { 0.3 }, true)]);
        }
        assert!(!scores.is_precise(0.05, 0));
        assert!(scores.is_precise(0.5, 0));
        assert!(!scores.is_precise(0.5, FEWEST_CHUNKS_TO_STOP), "two chunks of each domain");
        let mut small = Scores::default();
        for chunk in 0..FEWEST_CHUNKS_TO_STOP {
            small.add_chunk(&[score(1.0, 1.0, if chunk % 2 == 0 { 1e-5 } else { 9e-5 }, true)]);
        }
        assert!(small.is_precise(0.05, 0), "within the floor");
    }
}
