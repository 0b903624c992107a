//! Perplexity and divergence of one variant, by llama-perplexity's protocol.
//!
//! The text is cut into chunks of `context` tokens; each chunk's first token is replaced by BOS if the
//! model wants one; the tokens after the middle of each chunk are scored. Source: llama.cpp,
//! tools/perplexity. In the same pass the distributions are compared with the reference's.
//!
//! Chunks are independent, so on a processor several streams evaluate and score them side by side, each
//! with a context and its share of the threads: no thread waits for another within a layer, and none
//! is idle while a chunk is scored. A GPU gets one stream. `streams` decides how many, `stream` evaluates,
//! `scoring` turns logits into scores; this file puts the scores in order.

pub mod job;
mod stream;
mod streams;
pub(super) mod scoring;

pub(super) use job::names;
pub use job::{QualityJob, Reference};

use super::Progress;
use super::divergence::{Scores, TokenScore};
use super::measured::{Divergence, Quality, ReferenceStore};
use super::reference::{Reader, ReferenceError, Shape, Writer};
use crate::engine::Model;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::experiment::settings::Settings;
use crate::model::architecture::ArchitectureClass;
use scoring::Sink;
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;
use stream::{Assignment, Stream};

/// Why perplexity and divergence could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
    /// A native call failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
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

/// What to measure; see [`QualityJob`] for the meaning of each part.
#[derive(Debug, Clone, Copy)]
pub struct QualityRequest<'a> {
    /// The text itself.
    pub text: &'a str,
    /// Tokens per chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// What to do about the reference.
    pub reference: &'a Reference,
    /// Stop at this relative precision of the mean KLD.
    pub precision: Option<f64>,
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
    model: &dyn Model,
    settings: &Settings,
    request: QualityRequest<'_>,
    progress: Progress<'_>,
) -> Result<QualityRun, QualityError> {
    let evaluation = Evaluation::prepare(model, request)?;
    let mut streams = streams::open(model, settings, &evaluation.assignment)?;
    let memory = streams.iter().flat_map(Stream::memory).collect();
    let start = Instant::now();
    let (scores, stopped_early) = evaluation.run(&mut streams, progress)?;
    let seconds = start.elapsed().as_secs_f64();
    let quality = evaluation.finish(&scores, stopped_early, seconds)?;
    Ok(QualityRun { quality, memory })
}

/// One text, compared with the reference again and again while the model's weights change in between.
pub struct Comparison<'model> {
    evaluation: Evaluation,
    streams: Vec<Stream<'model>>,
}

impl<'model> Comparison<'model> {
    /// Cuts the text into chunks and makes the contexts. `request` has a reference to read.
    ///
    /// # Errors
    /// See [`QualityError`].
    pub fn open(
        model: &'model dyn Model,
        settings: &Settings,
        request: QualityRequest<'_>,
    ) -> Result<Self, QualityError> {
        let evaluation = Evaluation::prepare(model, request)?;
        let streams = streams::open(model, settings, &evaluation.assignment)?;
        Ok(Self { evaluation, streams })
    }

    /// What llama.cpp allocated.
    #[must_use]
    pub fn memory(&self) -> Vec<BufferMemory> {
        self.streams.iter().flat_map(Stream::memory).collect()
    }

    /// Compares the model as it is now; `None` if the request named no reference.
    ///
    /// # Errors
    /// See [`QualityError`].
    pub fn measure(&mut self, progress: Progress<'_>) -> Result<Option<Divergence>, QualityError> {
        self.evaluation.assignment.restart();
        let (scores, stopped_early) = self.evaluation.run(&mut self.streams, progress)?;
        Ok(scores.divergence(stopped_early))
    }
}

/// A text cut into chunks, and what is to be done with their scores.
struct Evaluation {
    assignment: Assignment,
    /// Chunks that the text has.
    available: u32,
    precision: Option<f64>,
}

impl Evaluation {
    fn prepare(model: &dyn Model, request: QualityRequest<'_>) -> Result<Self, QualityError> {
        if model.class() != ArchitectureClass::DecoderOnly {
            return Err(QualityError::NoDecoder);
        }
        let context = request.context;
        if context < 8 {
            return Err(QualityError::ContextTooShort { context });
        }
        let mut tokens = model.tokenize(request.text, true, false)?;
        let available = u32::try_from(tokens.len() / context as usize).unwrap_or(u32::MAX);
        if available < 2 {
            return Err(QualityError::TextTooShort { tokens: tokens.len(), context });
        }
        // One chunk alone would say nothing about the error of its figures.
        let chunks = request.chunks.map_or(available, |limit| limit.clamp(2, available));
        tokens.truncate(chunks as usize * context as usize);
        let shape = Shape {
            vocabulary: u32::try_from(model.vocabulary_size()).unwrap_or(u32::MAX),
            context,
            chunks,
            rows: context - 1 - context / 2,
            tokens_checksum: checksum(&tokens),
        };
        let sink = match request.reference {
            Reference::None => Sink::None,
            Reference::Write { file, budget_bytes } => {
                Sink::Write(Writer::create(&file.path, shape, *budget_bytes)?)
            }
            Reference::Read { file } => Sink::Read(Reader::open(&file.path, shape)?),
        };
        let beginning = model.beginning_token();
        let assignment = Assignment::new(tokens, beginning, shape, sink);
        Ok(Self { assignment, available, precision: request.precision })
    }

    /// Lets the streams work until all chunks are scored or the precision is reached.
    fn run(
        &self,
        streams: &mut [Stream<'_>],
        progress: Progress<'_>,
    ) -> Result<(Scores, bool), QualityError> {
        let assignment = &self.assignment;
        let (sender, scored) = mpsc::channel();
        thread::scope(|scope| {
            for stream in streams {
                let sender = sender.clone();
                scope.spawn(move || stream.work(assignment, &sender));
            }
            // The streams hold the other ends: the loop below ends when the last of them does.
            drop(sender);
            let result = self.gather(&scored, progress);
            assignment.stop();
            result
        })
    }

    /// Puts scores in the order of the text, so that sums, and the place where evaluation stops, do
    /// not depend on which stream was faster.
    fn gather(
        &self,
        scored: &mpsc::Receiver<stream::Scored>,
        progress: Progress<'_>,
    ) -> Result<(Scores, bool), QualityError> {
        let chunks = self.assignment.shape().chunks;
        let mut scores = Scores::default();
        let mut early: BTreeMap<u32, Vec<TokenScore>> = BTreeMap::new();
        let mut next = 0;
        for (chunk, found) in scored {
            early.insert(chunk, found?);
            while let Some(found) = early.remove(&next) {
                scores.add_chunk(&found);
                next += 1;
                if self.precision.is_some_and(|precision| scores.is_precise(precision)) {
                    return Ok((scores, next < chunks));
                }
            }
            progress(f64::from(next) / f64::from(chunks), &self.note(&scores));
        }
        Ok((scores, false))
    }

    fn note(&self, scores: &Scores) -> String {
        if scores.tokens() == 0 {
            return String::new();
        }
        let perplexity = scores.perplexity().mean;
        if self.assignment.compares() {
            format!("PPL {perplexity:.3} KLD {:.5}", scores.kld().mean)
        } else {
            format!("PPL {perplexity:.3}")
        }
    }

    fn finish(
        self,
        scores: &Scores,
        stopped_early: bool,
        seconds: f64,
    ) -> Result<Quality, QualityError> {
        let available = self.available;
        let context = self.assignment.shape().context;
        let mut reference_store = None;
        if let Sink::Write(writer) = self.assignment.into_sink() {
            reference_store = Some(ReferenceStore {
                bytes: writer.bytes(),
                top_k: writer.top(),
                // Known only per variant; see `Divergence::kld_error_bound`.
                kld_error_bound: 0.0,
            });
            writer.finish()?;
        }
        Ok(Quality {
            perplexity: scores.perplexity(),
            context,
            chunks: u32::try_from(scores.chunk_nll().len()).unwrap_or(u32::MAX),
            chunks_available: available,
            scored_tokens: scores.tokens(),
            chunk_nll: scores.chunk_nll().to_vec(),
            seconds,
            divergence: scores.divergence(stopped_early),
            reference_store,
        })
    }
}

/// FNV-1a over the tokens: tells texts and tokenizers apart, nothing more.
fn checksum(tokens: &[i32]) -> u64 {
    tokens.iter().flat_map(|token| token.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
