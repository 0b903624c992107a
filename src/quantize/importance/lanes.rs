//! Lanes: chunks evaluated side by side, their sums gathered in the order of the text.
//!
//! A lane has one thread while memory allows a lane for each: llama.cpp's own threads would let the last
//! bits of a sum depend on how many there are.

use super::ImportanceError;
use super::collect::{ChunkSums, Collector};
use crate::engine::ContextShape;
use crate::engine::LoadExtent;
use crate::engine::error::EngineError;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::capture::CapturingContext;
use crate::engine::llama::context::Context;
use crate::engine::llama::gguf_file::GgufInput;
use crate::engine::llama::model::Model;
use crate::engine::streams;
use crate::engine::{Context as _, ContextPurpose, Engine as _, Model as _};
use crate::experiment::settings::Settings;
use crate::model::architecture::ArchitectureClass;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Tokens that a lane computes at once.
const UBATCH: u32 = 512;

/// How chunks are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrangement {
    /// Lanes side by side.
    pub(super) lanes: u32,
    /// Threads of each.
    pub(super) threads: u32,
    /// Tokens of a chunk.
    pub(super) context: u32,
    /// Whether `output.weight` counts too.
    pub(super) output_weight: bool,
    /// What llama.cpp allocates for one lane, bytes.
    pub(super) lane_bytes: u64,
    /// Bytes of the sums of one chunk.
    pub(super) sums_bytes: u64,
    /// Bytes of the weights.
    pub(super) weights_bytes: u64,
}

/// The sums of one chunk: a number in f64 for each column of each matrix of the layers.
fn sums_bytes(model: &GgufInput) -> u64 {
    let of_layers = model.tensors().iter().map(|tensor| &tensor.entry);
    let matrices =
        of_layers.filter(|entry| entry.name.starts_with("blk.") && entry.dimensions.len() > 1);
    let columns = matrices.map(|entry| {
        let experts: u64 = entry.dimensions.iter().skip(2).product();
        entry.dimensions[0] * experts
    });
    columns.sum::<u64>() * size_of::<f64>() as u64
}

/// Chunks of tokens of equal length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks<'a> {
    /// All tokens.
    pub(super) tokens: &'a [i32],
    /// Replaces the first token of each chunk, if the model wants it.
    pub(super) beginning: Option<i32>,
}

impl Arrangement {
    /// Finds what fits, from metadata alone: the lanes together may take half as much memory as the
    /// weights.
    pub(super) fn find(
        backend: Backend,
        model: &Path,
        settings: &Settings,
        context: u32,
        output_weight: bool,
        chunks: u32,
    ) -> Result<Self, ImportanceError> {
        let planned = Model::load(backend, model, settings, LoadExtent::MemoryPlan)?;
        if planned.class() != ArchitectureClass::DecoderOnly {
            return Err(ImportanceError::NoDecoder);
        }
        let buffers =
            Context::new(&planned, settings, shape(context), ContextPurpose::Separate)?.memory();
        let lane_bytes = buffers.iter().map(|buffer| buffer.kv_bytes + buffer.compute_bytes).sum();
        let weights_bytes = planned.tensor_bytes();
        let sums_bytes = sums_bytes(&GgufInput::open(backend, model)?);
        let threads = settings.threads.unwrap_or_else(|| backend.default_threads()).max(1);
        let lanes = if backend.uses_gpu(settings) {
            1
        } else {
            // A lane makes the sums of a chunk while those of the one before wait to be added.
            streams::that_fit(threads.min(chunks), lane_bytes + 2 * sums_bytes, weights_bytes)
        };
        Ok(Self {
            lanes,
            threads: threads / lanes,
            context,
            output_weight,
            lane_bytes,
            sums_bytes,
            weights_bytes,
        })
    }

    /// Evaluates the chunks in `range`; `keep` is given the sums of each, in order, and says whether to
    /// go on.
    pub(super) fn run(
        &self,
        model: &Model,
        settings: &Settings,
        chunks: Chunks<'_>,
        range: Range<usize>,
        keep: &mut dyn FnMut(ChunkSums) -> Result<(), ImportanceError>,
    ) -> Result<(), ImportanceError> {
        let next = AtomicUsize::new(range.start);
        let settings = Settings { threads: Some(self.threads), ..settings.clone() };
        thread::scope(|scope| {
            // Room for one finished chunk per lane: sums of large models are large.
            let (sender, summed) = mpsc::sync_channel(self.lanes as usize);
            for _ in 0..self.lanes {
                let (sender, next, range, settings) = (sender.clone(), &next, &range, &settings);
                scope.spawn(move || {
                    let work = Work { chunks, next, end: range.end };
                    if let Err(error) = work.run(self, model, settings, &sender) {
                        // Nobody listens after another lane's error.
                        let _ = sender.send(Err(error));
                    }
                });
            }
            // The lanes hold the other ends: the loop below ends when the last of them does.
            drop(sender);
            let result = gather(&summed, range.start, keep);
            next.store(range.end, Ordering::Relaxed);
            // A lane that waits for room in the channel would never see that it is over.
            drop(summed);
            result
        })
    }
}

type Summed = Result<(usize, ChunkSums), EngineError>;

/// Hands sums on in the order of the text, whichever lane was faster.
fn gather(
    summed: &mpsc::Receiver<Summed>,
    first: usize,
    keep: &mut dyn FnMut(ChunkSums) -> Result<(), ImportanceError>,
) -> Result<(), ImportanceError> {
    let mut early: BTreeMap<usize, ChunkSums> = BTreeMap::new();
    let mut next = first;
    for chunk in summed {
        let (chunk, sums) = chunk?;
        early.insert(chunk, sums);
        while let Some(sums) = early.remove(&next) {
            next += 1;
            keep(sums)?;
        }
    }
    Ok(())
}

/// What one lane does.
struct Work<'a> {
    chunks: Chunks<'a>,
    next: &'a AtomicUsize,
    end: usize,
}

impl Work<'_> {
    /// Evaluates chunks until none is left or nobody listens.
    fn run(
        &self,
        arrangement: &Arrangement,
        model: &Model,
        settings: &Settings,
        sender: &mpsc::SyncSender<Summed>,
    ) -> Result<(), EngineError> {
        let length = arrangement.context as usize;
        let mut context = CapturingContext::new(model, settings, shape(arrangement.context))?;
        let mut collector = Collector::new(arrangement.output_weight);
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= self.end {
                return Ok(());
            }
            let mut tokens = self.chunks.tokens[chunk * length..][..length].to_vec();
            if let Some(beginning) = self.chunks.beginning {
                tokens[0] = beginning;
            }
            context.evaluate(&tokens, &mut collector)?;
            if sender.send(Ok((chunk, collector.take()))).is_err() {
                return Ok(());
            }
        }
    }
}

fn shape(context: u32) -> ContextShape {
    ContextShape { tokens: context, sequences: 1, batch: context, ubatch: UBATCH.min(context) }
}
