//! Perplexity and divergence of one variant, by llama-perplexity's protocol.
//!
//! The text is cut into chunks of `context` tokens; each chunk's first token is replaced by BOS if the
//! model wants one; the tokens after the middle of each chunk are scored. Source: llama.cpp,
//! tools/perplexity. In the same pass the distributions are compared with the reference's.
//!
//! Chunks are independent, so on a processor several streams evaluate and score them side by side, each
//! with a context and its share of the threads: no thread waits for another within a layer, and none
//! is idle while a chunk is scored. A GPU gets one stream. `stream` evaluates, `scoring` turns logits into scores.

mod chunks;
pub mod job;
mod kept;
pub(super) mod scoring;
mod stream;

pub(super) use job::names;
pub use job::{QualityJob, QualityPart, ReferenceUse};

use super::Progress;
use super::divergence::Scores;
use super::measured::{Divergence, DomainChunks, Quality, ReferenceStore};
use super::reference::{Reader, ReferenceError, ReferenceShape, Writer};
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Model, streams};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::TextDomain;
use crate::model::architecture::ArchitectureClass;
use crate::units::count;
use chunks::Chunked;
use kept::Kept;
use scoring::Sink;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::Instant;
use stream::Stream;

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
        "the text has {} for this model; perplexity with a context of {context} needs at least {}",
        count(*tokens, "token"), 2 * u64::from(*.context)
    )]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens per chunk.
        context: u32,
    },
    /// A job whose domains are longer than its text, or cut a character.
    #[error("the lengths of the domains do not fit the text")]
    WrongDomains,
    /// Chunks this short leave nothing to score.
    #[error("a context of {} is too short for perplexity; use at least 8", count(*.0, "token"))]
    ContextTooShort(u32),
    /// The model has no next-token probabilities to score.
    #[error("perplexity needs a decoder-only model")]
    NoDecoder,
    /// The system gave no threads.
    #[error("cannot start threads for scoring")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A text for encoders has so few lines that are not empty.
    #[error("the text has {} to compare variants on; at least 2 are needed", count(*.0, "line"))]
    TooFewPieces(usize),
    /// The variant computes nonsense.
    #[error("the variant's figures are not numbers (NaN) in {part} {number}")]
    NotANumber {
        /// `chunk` or `piece`.
        part: &'static str,
        /// From 1.
        number: usize,
    },
}

/// What to measure; see [`QualityJob`] for the meaning of each part.
#[derive(Debug, Clone, Copy)]
pub struct QualityRequest<'a> {
    /// The text itself.
    pub text: &'a str,
    /// Its parts, each cut into chunks for itself; none: the text is one.
    pub domains: &'a [TextDomain],
    /// Tokens per chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// What to do about the reference.
    pub reference: Reference<'a>,
    /// Stop at this relative precision of the mean KLD.
    pub precision: Option<f64>,
    /// The chunks that are evaluated now; `None`: all.
    pub part: Option<Part<'a>>,
}

/// Chunks that are evaluated in one visit, of a text that takes several.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The first. Those before it are scored already, and a reference's are written already.
    pub from: u32,
    /// The one to stop before.
    pub until: u32,
    /// Where the scores of those before are, and where they are kept for the next visit.
    pub scores: &'a Path,
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
    /// What the engine allocated.
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
    let mut streams = evaluation.open(model, settings)?;
    let memory = streams.iter().flat_map(Stream::memory).collect();
    let mut kept = match request.part {
        Some(Part { from, scores, .. }) if from > 0 => Kept::read(scores, from)?,
        _ => Kept::default(),
    };
    let start = Instant::now();
    let (scores, stopped_early) = evaluation.run(&mut streams, &mut kept, progress)?;
    kept.seconds += start.elapsed().as_secs_f64();
    if let Some(part) = request.part {
        kept.write(part.scores)?;
    }
    let quality = evaluation.finish(&scores, stopped_early, kept.seconds)?;
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
        let streams = evaluation.open(model, settings)?;
        Ok(Self { evaluation, streams })
    }

    /// Compares the model as it is now; `None` if the request named no reference.
    ///
    /// # Errors
    /// See [`QualityError`].
    pub fn measure(&mut self, progress: Progress<'_>) -> Result<Option<Divergence>, QualityError> {
        let kept = &mut Kept::default();
        let (scores, stopped_early) = self.evaluation.run(&mut self.streams, kept, progress)?;
        Ok(scores.divergence(stopped_early))
    }
}

/// A text cut into chunks, and what is to be done with their scores.
struct Evaluation {
    tokens: Vec<i32>,
    /// The chunks of each domain.
    domains: Vec<DomainChunks>,
    /// Replaces the first token of each chunk.
    beginning: Option<i32>,
    shape: ReferenceShape,
    /// The chunks that are evaluated now.
    part: Range<u32>,
    sink: Sink,
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
            return Err(QualityError::ContextTooShort(context));
        }
        let Chunked { mut tokens, domains } = Chunked::new(model, request)?;
        let available = u32::try_from(tokens.len() / context as usize).unwrap_or(u32::MAX);
        if available < 2 {
            return Err(QualityError::TextTooShort { tokens: tokens.len(), context });
        }
        let chunks = Quality::chunks_wanted(request.chunks, available);
        let part = request.part.map_or(0..chunks, |part| part.from..part.until.min(chunks));
        tokens.truncate(chunks as usize * context as usize);
        let shape = ReferenceShape {
            vocabulary: u32::try_from(model.vocabulary_size()).unwrap_or(u32::MAX),
            context,
            chunks,
            rows: context - 1 - context / 2,
            tokens_checksum: checksum(&tokens),
        };
        let sink = match request.reference {
            Reference::None => Sink::None,
            Reference::Write { path, .. } if part.start > 0 => {
                Sink::Write(Writer::reopen(path, shape)?)
            }
            Reference::Write { path, budget_bytes } => {
                Sink::Write(Writer::create(path, shape, budget_bytes)?)
            }
            Reference::Read { path } => Sink::Read(Reader::open(path, shape)?),
        };
        let (beginning, precision) = (model.beginning_token(), request.precision);
        Ok(Self { tokens, domains, beginning, shape, part, sink, available, precision })
    }

    /// Opens the streams.
    ///
    /// On a processor as many as threads, as far as chunks and memory allow, one chunk at a time each; where layers are on a
    /// GPU one stream, with as many chunks in a batch as there is room for. Streams of one thread also make figures the same
    /// whatever the number of threads, which llama.cpp alone does not promise: rounded activations carry the last bit of a
    /// sum into the fourth digit.
    fn open<'model>(
        &self,
        model: &'model dyn Model,
        settings: &Settings,
    ) -> Result<Vec<Stream<'model>>, QualityError> {
        let (shape, chunks) = (self.shape, self.chunks_now());
        let threads = settings.threads.unwrap_or_else(|| model.engine().default_threads()).max(1);
        if model.engine().uses_gpu(settings) {
            let side_by_side = (settings.batch / shape.context).clamp(1, chunks.max(1));
            return Ok(vec![Stream::open(model, settings, shape, side_by_side, threads)?]);
        }
        // Logits lie in the engine's buffer and in the stream's, beside the reference's rows.
        let row_bytes = u64::from(shape.vocabulary) * size_of::<f32>() as u64;
        let logits = 3 * u64::from(shape.rows) * row_bytes;
        let open = |threads| Stream::open(model, settings, shape, 1, threads);
        let bytes = |first: &Stream<'_>| first.context.own_bytes() + logits;
        streams::open(threads, chunks, model.tensor_bytes(), open, bytes)
    }

    fn chunks_now(&self) -> u32 {
        self.part.end.saturating_sub(self.part.start)
    }

    /// Lets the streams work until all chunks are scored or the precision is reached, and adds them to those that were
    /// kept; returns whether it was reached before the last chunk of the text.
    fn run(
        &self,
        streams: &mut [Stream<'_>],
        kept: &mut Kept,
        progress: Progress<'_>,
    ) -> Result<(Scores, bool), QualityError> {
        let chunks = self.chunks_now();
        let side_by_side = streams.first().map_or(1, |stream| stream.side_by_side);
        let first = |batch: usize| {
            let before = u32::try_from(batch).unwrap_or(u32::MAX).saturating_mul(side_by_side);
            self.part.start.saturating_add(before).min(self.part.end)
        };
        let (mut scores, mut done) = (Scores::default(), 0);
        kept.chunks.iter().for_each(|chunk| scores.add_chunk(chunk));
        let mut stopped_early = false;
        streams::run(
            streams,
            0..chunks.div_ceil(side_by_side) as usize,
            Ok,
            |stream, batch| stream.scores(self, first(batch)..first(batch + 1)),
            |found| {
                for chunk in found {
                    scores.add_chunk(&chunk);
                    kept.chunks.push(chunk);
                    done += 1;
                    if self.is_precise(&scores) {
                        stopped_early = self.part.start + done < self.shape.chunks;
                        return Ok(ControlFlow::Break(()));
                    }
                }
                progress(f64::from(done) / f64::from(chunks), &self.note(&scores));
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok((scores, stopped_early))
    }

    fn is_precise(&self, scores: &Scores) -> bool {
        let precise = |precision| scores.is_precise(precision, self.domains.len());
        self.precision.is_some_and(precise)
    }

    fn note(&self, scores: &Scores) -> String {
        let perplexity = scores.perplexity().mean;
        if matches!(self.sink, Sink::Read(_)) {
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
        let mut quality = scores.quality(self.available as usize, stopped_early, seconds);
        quality.context = self.shape.context;
        quality.domains = chunks::evaluated(self.domains, quality.chunks);
        if let Sink::Write(writer) = self.sink {
            // The error is known only per variant; see `Divergence::kld_error_bound`.
            let (bytes, top_k) = (writer.bytes(quality.chunks), writer.top());
            quality.reference_store = Some(ReferenceStore { bytes, top_k, kld_error_bound: 0.0 });
            writer.finish()?;
        }
        Ok(quality)
    }
}

/// FNV-1a over the tokens: tells texts and tokenizers apart, nothing more.
fn checksum(tokens: &[i32]) -> u64 {
    tokens.iter().flat_map(|token| token.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
