//! Perplexity and divergence of one variant, by llama-perplexity's protocol.
//!
//! The text is cut into chunks of `context` tokens; each chunk's first token is replaced by BOS if the
//! model wants one; the tokens after the middle of each chunk are scored. Source: llama.cpp,
//! tools/perplexity. In the same pass the distributions are compared with the reference's.

use super::Progress;
use super::divergence::{Scores, TokenComparison, TokenScore};
use super::measured::{Quality, ReferenceStore};
use super::reference::{Reader, ReferenceError, Rows, Shape, Writer};
use super::softmax::{divergence, index_of_maximum, log_sum_exp};
use super::top_row::TopRow;
use crate::experiment::settings::Settings;
use crate::llama::batch::Batch;
use crate::llama::context::{Context, ContextShape};
use crate::llama::error::LlamaError;
use crate::llama::memory::BufferMemory;
use crate::llama::model::Model;
use rayon::prelude::*;
use std::path::Path;
use std::time::Instant;

/// Why perplexity and divergence could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
    /// A native call failed.
    #[error(transparent)]
    Llama(#[from] LlamaError),
    /// The reference's log-probabilities could not be written or read.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The text is too short.
    #[error(
        "the text has {tokens} tokens for this model; perplexity with a context of {context} needs \
         at least {}", 2 * u64::from(*.context)
    )]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens per chunk.
        context: u32,
    },
    /// Chunks this short leave nothing to score.
    #[error("a context of {context} tokens is too short for perplexity; use at least 8")]
    ContextTooShort {
        /// Tokens per chunk.
        context: u32,
    },
    /// The model has no next-token probabilities to score.
    #[error("perplexity needs a decoder-only model")]
    NoDecoder,
    /// The system gave no threads.
    #[error("cannot start threads for scoring: {reason}")]
    Threads {
        /// What the system said.
        reason: String,
    },
    /// The variant computes nonsense.
    #[error("the variant's probabilities are not numbers (NaN) in chunk {chunk}")]
    NotANumber {
        /// Chunk, from 1.
        chunk: u32,
    },
}

/// What to measure; see [`crate::worker::protocol::QualityJob`] for the meaning of each part.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The text itself.
    pub text: &'a str,
    /// Tokens per chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// What to do about the reference.
    pub reference: Reference<'a>,
    /// Stop at this relative precision of the mean KLD.
    pub precision: Option<f64>,
}

/// What to do about the reference's log-probabilities.
#[derive(Debug, Clone, Copy)]
pub enum Reference<'a> {
    /// Nothing.
    None,
    /// This variant is the reference: write them.
    Write {
        /// Where.
        path: &'a Path,
        /// How large the file may be.
        budget_bytes: u64,
    },
    /// Compare with them.
    Read {
        /// Where they are.
        path: &'a Path,
    },
}

/// The figures, and the memory that the context took.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityRun {
    /// The figures.
    pub quality: Quality,
    /// What llama.cpp allocated.
    pub memory: Vec<BufferMemory>,
}

/// Measures perplexity and, with a reference to read, divergence.
///
/// # Errors
/// See [`QualityError`].
pub fn run(
    model: &Model,
    settings: &Settings,
    request: Request<'_>,
    progress: Progress<'_>,
) -> Result<QualityRun, QualityError> {
    let mut evaluation = Evaluation::prepare(model, settings, request)?;
    let memory = evaluation.context.memory();
    let start = Instant::now();
    evaluation.run(progress)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(QualityRun { quality: evaluation.finish(seconds)?, memory })
}

enum Sink {
    None,
    Write(Writer),
    Read(Reader),
}

struct Evaluation<'model> {
    context: Context<'model>,
    batch: Batch,
    tokens: Vec<i32>,
    beginning: Option<i32>,
    shape: Shape,
    side_by_side: u32,
    sink: Sink,
    precision: Option<f64>,
    scores: Scores,
    threads: rayon::ThreadPool,
    stopped_early: bool,
    bytes_and_top: Option<ReferenceStore>,
}

impl<'model> Evaluation<'model> {
    fn prepare(
        model: &'model Model,
        settings: &Settings,
        request: Request<'_>,
    ) -> Result<Self, QualityError> {
        if !model.is_decoder_only() {
            return Err(QualityError::NoDecoder);
        }
        let context_tokens = request.context;
        if context_tokens < 8 {
            return Err(QualityError::ContextTooShort { context: context_tokens });
        }
        let tokens = model.tokenize(request.text, true, false)?;
        let available = u32::try_from(tokens.len() / context_tokens as usize).unwrap_or(u32::MAX);
        if available < 2 {
            return Err(QualityError::TextTooShort {
                tokens: tokens.len(),
                context: context_tokens,
            });
        }
        // One chunk alone would say nothing about the error of its figures.
        let chunks = request.chunks.map_or(available, |limit| limit.clamp(2, available));
        let side_by_side = (settings.batch / context_tokens).clamp(1, chunks.max(1));
        let evaluated = &tokens[..chunks as usize * context_tokens as usize];
        let shape = Shape {
            vocabulary: u32::try_from(model.vocabulary_size()).unwrap_or(u32::MAX),
            context: context_tokens,
            chunks,
            rows: context_tokens - 1 - context_tokens / 2,
            tokens_checksum: checksum(evaluated),
        };
        let sink = match request.reference {
            Reference::None => Sink::None,
            Reference::Write { path, budget_bytes } => {
                Sink::Write(Writer::create(path, shape, budget_bytes)?)
            }
            Reference::Read { path } => Sink::Read(Reader::open(path, shape)?),
        };
        let context_shape = ContextShape {
            tokens: context_tokens * side_by_side,
            sequences: side_by_side,
            batch: settings.batch.max(context_tokens.min(settings.batch)),
            ubatch: settings.ubatch,
        };
        let threads = settings.threads.unwrap_or_else(|| model.backend().default_threads());
        Ok(Self {
            context: Context::new(model, settings, context_shape)?,
            // As many threads score as evaluate; while they score, llama.cpp's are idle.
            threads: rayon::ThreadPoolBuilder::new()
                .num_threads(threads as usize)
                .build()
                .map_err(|error| QualityError::Threads { reason: error.to_string() })?,
            batch: Batch::with_capacity(settings.batch as usize),
            tokens,
            beginning: model.beginning_token(),
            shape,
            side_by_side,
            sink,
            precision: request.precision,
            scores: Scores::default(),
            stopped_early: false,
            bytes_and_top: None,
        })
    }

    fn run(&mut self, progress: Progress<'_>) -> Result<(), QualityError> {
        let mut first = 0;
        while first < self.shape.chunks && !self.stopped_early {
            let count = self.side_by_side.min(self.shape.chunks - first);
            let logits = self.evaluate(first, count)?;
            let row_length = self.shape.vocabulary as usize * self.shape.rows as usize;
            for (offset, chunk_logits) in logits.chunks(row_length).enumerate() {
                let chunk = first + u32::try_from(offset).unwrap_or(0);
                self.score(chunk, chunk_logits)?;
                if self.precision.is_some_and(|precision| self.scores.is_precise(precision)) {
                    self.stopped_early = chunk + 1 < self.shape.chunks;
                    break;
                }
            }
            first += count;
            let done = f64::from(first) / f64::from(self.shape.chunks);
            progress(done.min(1.0), &self.note());
        }
        Ok(())
    }

    fn note(&self) -> String {
        let perplexity = self.scores.perplexity().mean;
        match self.sink {
            Sink::Read(_) => format!("PPL {perplexity:.3} KLD {:.5}", self.scores.kld().mean),
            Sink::None | Sink::Write(_) => format!("PPL {perplexity:.3}"),
        }
    }

    /// Evaluates `count` chunks from `first` side by side; logits are `[count · rows, vocabulary]`.
    fn evaluate(&mut self, first: u32, count: u32) -> Result<Vec<f32>, QualityError> {
        let length = self.shape.context as usize;
        let scored_from = length / 2;
        let batch_size = self.context.shape().batch as usize;
        let vocabulary = self.shape.vocabulary as usize;
        let rows = self.shape.rows as usize;
        let mut logits = vec![0.0; count as usize * rows * vocabulary];
        self.context.clear_memory();
        // A chunk longer than a batch is evaluated alone, in parts.
        let part_length = length.min(batch_size);
        let mut done_rows = 0;
        for part_start in (0..length).step_by(part_length) {
            let part_end = (part_start + part_length).min(length);
            self.batch.clear();
            let mut outputs = 0;
            for sequence in 0..count as usize {
                let chunk_start = (first as usize + sequence) * length;
                for position in part_start..part_end {
                    let token = match self.beginning {
                        Some(beginning) if position == 0 => beginning,
                        _ => self.tokens[chunk_start + position],
                    };
                    // The last position predicts a token of the next chunk, which is not scored.
                    let output = position >= scored_from && position + 1 < length;
                    outputs += usize::from(output);
                    self.batch.add(token, signed(position), signed(sequence), output)?;
                }
            }
            self.context.decode(&mut self.batch)?;
            self.context.synchronize();
            if outputs > 0 {
                let from = done_rows * vocabulary;
                let found = self.context.all_logits(outputs)?;
                logits[from..from + found.len()].copy_from_slice(found);
                done_rows += outputs;
            }
        }
        Ok(logits)
    }

    /// Scores one chunk's logits, `[rows, vocabulary]`.
    fn score(&mut self, chunk: u32, logits: &[f32]) -> Result<(), QualityError> {
        let vocabulary = self.shape.vocabulary as usize;
        let length = self.shape.context as usize;
        let from = chunk as usize * length + length / 2 + 1;
        let following = &self.tokens[from..from + self.shape.rows as usize];
        let sink = &mut self.sink;
        let scores = self.threads.install(|| score_rows(logits, following, vocabulary, sink))?;
        if scores.iter().any(|score| score.nll.is_nan()) {
            return Err(QualityError::NotANumber { chunk: chunk + 1 });
        }
        self.scores.add_chunk(&scores);
        Ok(())
    }

    fn finish(mut self, seconds: f64) -> Result<Quality, QualityError> {
        if let Sink::Write(writer) = std::mem::replace(&mut self.sink, Sink::None) {
            self.bytes_and_top = Some(ReferenceStore {
                bytes: writer.bytes(),
                top_k: writer.top(),
                // Known only per variant; see `Divergence::kld_error_bound`.
                kld_error_bound: 0.0,
            });
            writer.finish()?;
        }
        Ok(Quality {
            perplexity: self.scores.perplexity(),
            chunks: u32::try_from(self.scores.chunk_nll().len()).unwrap_or(u32::MAX),
            chunks_available: self.shape.chunks,
            scored_tokens: self.scores.tokens(),
            chunk_nll: self.scores.chunk_nll().to_vec(),
            seconds,
            divergence: self.scores.divergence(self.stopped_early),
            reference_store: self.bytes_and_top,
        })
    }
}

/// Scores rows of `logits` and does with them what the sink asks for.
fn score_rows(
    logits: &[f32],
    following: &[i32],
    vocabulary: usize,
    sink: &mut Sink,
) -> Result<Vec<TokenScore>, ReferenceError> {
    let rows = logits.par_chunks(vocabulary).zip(following);
    Ok(match sink {
        Sink::None => rows.map(|(row, &token)| score_alone(row, token)).collect(),
        Sink::Write(writer) => {
            writer.add(logits, following)?;
            rows.map(|(row, &token)| score_alone(row, token)).collect()
        }
        Sink::Read(reader) => match reader.next_chunk()? {
            Rows::Whole(reference) => rows
                .zip(reference.par_chunks(vocabulary))
                .map(|((row, &token), reference)| score_against(row, token, reference))
                .collect(),
            Rows::Top(reference) => rows
                .zip(&reference)
                .map(|((row, &token), reference)| score_against_top(row, token, reference))
                .collect(),
        },
    })
}

/// Negative log-likelihood of `token`, with the log of the sum of exponentials.
fn nll(row: &[f32], token: i32) -> (f64, f32) {
    let normaliser = log_sum_exp(row);
    let logit = usize::try_from(token).ok().and_then(|token| row.get(token).copied());
    (f64::from(normaliser - logit.unwrap_or(f32::NAN)), normaliser)
}

fn score_alone(row: &[f32], token: i32) -> TokenScore {
    TokenScore { nll: nll(row, token).0, comparison: None }
}

fn score_against(row: &[f32], token: i32, reference: &[f32]) -> TokenScore {
    let (nll, normaliser) = nll(row, token);
    let log_p = usize::try_from(token).ok().and_then(|token| reference.get(token).copied());
    TokenScore {
        nll,
        comparison: Some(TokenComparison {
            reference_nll: -f64::from(log_p.unwrap_or(f32::NAN)),
            kld: divergence(reference, row, normaliser),
            kld_error_bound: 0.0,
            same_top: index_of_maximum(row) == index_of_maximum(reference),
        }),
    }
}

fn score_against_top(row: &[f32], token: i32, reference: &TopRow) -> TokenScore {
    let (nll, normaliser) = nll(row, token);
    let bounded = reference.divergence(row, normaliser);
    TokenScore {
        nll,
        comparison: Some(TokenComparison {
            reference_nll: -f64::from(reference.following),
            kld: bounded.value,
            kld_error_bound: bounded.error_bound,
            same_top: index_of_maximum(row) == reference.most_probable(),
        }),
    }
}

/// FNV-1a over the tokens: tells texts and tokenizers apart, nothing more.
fn checksum(tokens: &[i32]) -> u64 {
    tokens.iter().flat_map(|token| token.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn signed(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
