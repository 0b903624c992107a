//! Perplexity and divergence of one variant, by llama-perplexity's protocol.
//!
//! The text is cut into chunks of `context` tokens; each chunk's first token is replaced by BOS if the
//! model wants one; the tokens after the middle of each chunk are scored. Source: llama.cpp,
//! tools/perplexity. In the same pass the distributions are compared with the reference's. An answer of the
//! reference to a prompt is a chunk, too; all of its tokens are scored, and none of the prompt's.
//!
//! Chunks are independent, so on a processor several streams evaluate and score them side by side, each
//! with a context and its share of the threads: no thread waits for another within a layer, and none
//! is idle while a chunk is scored. A GPU gets one stream. `stream` evaluates, `scoring` turns logits into scores.

pub mod answers;
mod chunks;
pub mod job;
mod kept;
pub(super) mod scoring;
mod stream;

pub(super) use job::names;
pub use job::{ALONG_ANSWERS, NO_TEMPLATE, QualityJob, QualityPart, ReferenceUse};

use super::Progress;
use super::divergence::Scores;
use super::measured::{
    COMPARED_BY_TOKENS, Divergence, DomainChunks, LeftOut, Quality, ReferenceStore,
};
use super::reference::{Reader, ReferenceError, ReferenceShape, Writer};
use super::tasks::TaskError;
use crate::engine::error::EngineError;
use crate::engine::memory::BufferMemory;
use crate::engine::{Model, streams};
use crate::experiment::settings::Settings;
use crate::experiment::workloads::TextDomain;
use crate::model::architecture::ArchitectureClass;
use crate::units::count;
use answers::Along;
use chunks::{Chunk, Chunked};
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
    /// Prompts could not be answered.
    #[error(transparent)]
    Answers(#[from] TaskError),
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
    /// The reference's answers, which are evaluated besides the text; to be written by the reference.
    pub answers: Option<Along<'a>>,
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
    /// What is not as it was asked for.
    pub left_out: Option<LeftOut>,
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
    let answers = matches!(request.reference, Reference::Write { .. }) && request.answers.is_some();
    // Writing answers takes about as long as evaluating them.
    let begin = if answers { 0.5 } else { 0.0 };
    let mut answering = |done: f64, note: &str| progress(begin * done, note);
    let mut evaluation = Evaluation::prepare(model, settings, request, &mut answering)?;
    let mut streams = evaluation.open(model, settings)?;
    let memory = streams.iter().flat_map(Stream::memory).collect();
    let mut kept = match request.part {
        Some(Part { from, scores, .. }) if from > 0 => Kept::read(scores, from)?,
        _ => Kept::default(),
    };
    let start = Instant::now();
    let mut evaluating = |done: f64, note: &str| progress(begin + (1.0 - begin) * done, note);
    let (scores, stopped_early) = evaluation.run(&mut streams, &mut kept, &mut evaluating)?;
    kept.seconds += start.elapsed().as_secs_f64();
    if let Some(part) = request.part {
        kept.write(part.scores)?;
    }
    drop(streams);
    let mut quality = evaluation.finish(&scores, stopped_early, kept.seconds)?;
    if let (Some(along), Some(divergence)) = (request.answers, &quality.divergence) {
        let (chunks, klds) = (&evaluation.chunks, &divergence.chunk_kld);
        quality.worst_answers = answers::worst(model, settings, along, chunks, klds)?;
    }
    Ok(QualityRun { quality, memory, left_out: evaluation.left_out })
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
        let evaluation = Evaluation::prepare(model, settings, request, &mut |_, _| {})?;
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

/// What is evaluated in chunks, and what is to be done with their scores.
struct Evaluation {
    chunks: Vec<Chunk>,
    /// The chunks of each domain.
    domains: Vec<DomainChunks>,
    vocabulary: usize,
    /// Tokens of a chunk of a text.
    context: u32,
    /// The chunks that are evaluated now.
    part: Range<u32>,
    sink: Sink,
    /// What is not as it was asked for.
    left_out: Option<LeftOut>,
    /// Chunks that there are, whether they were asked for or not.
    available: usize,
    precision: Option<f64>,
}

impl Evaluation {
    fn prepare(
        model: &dyn Model,
        settings: &Settings,
        request: QualityRequest<'_>,
        progress: Progress<'_>,
    ) -> Result<Self, QualityError> {
        if model.class() != ArchitectureClass::DecoderOnly {
            return Err(QualityError::NoDecoder);
        }
        let context = request.context;
        if context < 8 {
            return Err(QualityError::ContextTooShort(context));
        }
        let mut chunked = Chunked::new(model, request)?;
        // Of the whole text, however little of it is evaluated.
        let tokens_checksum = checksum(&chunked.chunks);
        let available = chunked.chunks.len();
        if available < 2 {
            return Err(QualityError::TextTooShort { tokens: chunked.text_tokens, context });
        }
        let asked = Quality::chunks_wanted(request.chunks, to_u32(available));
        let part = request.part.map_or(0..asked, |part| part.from..part.until.min(asked));
        chunked.chunks.truncate(asked as usize);
        let rows = chunked.place_rows();
        let Chunked { mut chunks, domains, .. } = chunked;
        if let (Some(along), Reference::Write { .. }) = (request.answers, request.reference) {
            let now = part.start.min(part.end) as usize..part.end as usize;
            answers::write(model, settings, along, &mut chunks[now], progress)?;
        }
        let vocabulary = model.vocabulary_size();
        let shape = ReferenceShape { vocabulary: to_u32(vocabulary), rows, tokens_checksum };
        let mut left_out = None;
        let sink = match request.reference {
            Reference::None => Sink::None,
            Reference::Write { path, .. } if part.start > 0 => {
                Sink::Write(Writer::reopen(path, shape)?)
            }
            Reference::Write { path, budget_bytes } => {
                Sink::Write(Writer::create(path, shape, budget_bytes)?)
            }
            Reference::Read { path } => match Reader::open(path, shape) {
                Ok(reader) => {
                    left_out = filled_up(vocabulary, reader.vocabulary());
                    Sink::Read(reader)
                }
                // What it makes of the text by itself is worth knowing.
                Err(ReferenceError::OtherTokens(reason)) => {
                    left_out = Some(LeftOut { what: COMPARED_BY_TOKENS.to_owned(), reason });
                    Sink::None
                }
                Err(error) => return Err(error.into()),
            },
        };
        let precision = request.precision;
        Ok(Self {
            chunks,
            domains,
            vocabulary,
            context,
            part,
            sink,
            left_out,
            available,
            precision,
        })
    }

    /// The most that any chunk has of something.
    fn most(&self, of: impl Fn(&Chunk) -> usize) -> u32 {
        to_u32(self.chunks.iter().map(of).max().unwrap_or(0))
    }

    fn count(&self) -> u32 {
        to_u32(self.chunks.len())
    }

    /// The number of a chunk, from 1.
    fn number_of(&self, chunk: &Chunk) -> usize {
        self.chunks.iter().take_while(|other| other.first_row < chunk.first_row).count() + 1
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
        let longest = self.most(|chunk| chunk.scored_from + chunk.room);
        let chunks = self.chunks_now();
        let threads = settings.threads.unwrap_or_else(|| model.engine().default_threads()).max(1);
        if !model.engine().divides_threads(settings) {
            let side_by_side = (settings.batch / longest.max(1)).clamp(1, chunks.max(1));
            return Ok(vec![Stream::open(model, settings, longest, side_by_side, threads)?]);
        }
        // Logits lie in the engine's buffer and in the stream's, beside the reference's rows.
        let row_bytes = self.vocabulary as u64 * size_of::<f32>() as u64;
        let rows = self.most(|chunk| chunk.room);
        let logits = 3 * u64::from(rows) * row_bytes;
        let open = |threads| Stream::open(model, settings, longest, 1, threads);
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
                        stopped_early = self.part.start + done < self.count();
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
        &mut self,
        scores: &Scores,
        stopped_early: bool,
        seconds: f64,
    ) -> Result<Quality, QualityError> {
        let mut quality = scores.quality(self.available, stopped_early, seconds);
        let evaluated = &self.chunks[..quality.chunks as usize];
        quality.answers = to_u32(evaluated.iter().filter(|chunk| chunk.answer.is_some()).count());
        quality.context = self.context;
        quality.domains = chunks::evaluated(std::mem::take(&mut self.domains), quality.chunks);
        if let Sink::Write(writer) = std::mem::replace(&mut self.sink, Sink::None) {
            let rows = evaluated.last().map_or(0, |last| last.first_row + last.room as u64);
            // The error is known only per variant; see `Divergence::kld_error_bound`.
            let (bytes, top_k) = (writer.bytes(rows), writer.top());
            quality.reference_store = Some(ReferenceStore { bytes, top_k, kld_error_bound: 0.0 });
            writer.finish()?;
        }
        Ok(quality)
    }
}

/// Says that logits which only fill a vocabulary up are not compared.
fn filled_up(own: usize, reference: usize) -> Option<LeftOut> {
    let reason =
        || format!("the vocabulary of one is filled up: {own} tokens, the reference {reference}");
    (own != reference).then(|| LeftOut {
        what: format!("{} in the comparison", count(own.abs_diff(reference), "token")),
        reason: reason(),
    })
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// FNV-1a over what is given and how much of each chunk may be scored: tells texts and tokenizers apart, nothing more.
fn checksum(chunks: &[Chunk]) -> u64 {
    let room = |chunk: &Chunk| i32::try_from(chunk.room).unwrap_or(i32::MAX);
    let numbers =
        chunks.iter().flat_map(|chunk| chunk.given().iter().copied().chain([room(chunk)]));
    numbers.flat_map(i32::to_le_bytes).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
