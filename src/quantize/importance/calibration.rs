//! Calibration: evaluates a text chunk by chunk and can resume after any chunk.

use super::file::{PARTIAL, beside};
use super::{ImportanceError, ImportanceMatrix, Origin, Sums};
use crate::engine::llama::backend::Backend;
use crate::engine::llama::capture::{CapturingContext, Flow, NodeOutput, Sink, WeightInput};
use crate::engine::llama::gguf_file::GgufInput;
use crate::engine::llama::model::Model;
use crate::engine::{ContextShape, Engine as _, LoadExtent, Model as _, streams};
use crate::experiment::calibration::SHORTEST_CONTEXT;
use crate::experiment::settings::Settings;
use crate::model::architecture::ArchitectureClass;
use crate::model::cache::of_bytes;
use crate::model::progress::Progress;
use crate::quantize::jobs::CalibrateJob;
use crate::quantize::layer_shapes;
use crate::quantize::streams::{Streams, chunk_length, chunk_shape, chunk_tokens, context_bytes};
use crate::units::count;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Tokens per micro-batch.
const UBATCH: u32 = 512;
/// The partial matrix is saved after the first chunk and then this often.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);
/// The interval is at least this many times the duration of a save.
const SAVE_SHARE: u32 = 20;

/// A finished importance matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// Chunks in the matrix.
    pub chunks: u32,
    /// Chunks that were already in the partial matrix.
    pub resumed: u32,
    /// Weights in the matrix.
    pub weights: usize,
}

/// Writes the importance matrix of a model.
///
/// The sums of a chunk are made in f64 and added to an f32 total in the order of the text, so the file is bit-identical
/// for any number of threads (if memory allows a stream per thread) and wherever it was interrupted. `on_progress` can
/// stop it with [`ControlFlow::Break`]; the next call with the same model, text and context resumes there.
///
/// # Errors
/// See [`ImportanceError`].
pub fn calibrate(
    backend: Backend,
    job: &CalibrateJob,
    on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<CalibrationReport, ImportanceError> {
    let refused = |reason: String| Err(ImportanceError::Refused(reason));
    let context = job.plan.context;
    if context < SHORTEST_CONTEXT {
        let least = format!("use at least {SHORTEST_CONTEXT}");
        return refused(format!(
            "a context of {} is too short for calibration; {least}",
            count(context, "token")
        ));
    }
    let tokens = chunk_tokens(&job.plan, backend, &job.model.path)?;
    let length = chunk_length(&job.plan);
    let all = u32::try_from(tokens.len() / length).unwrap_or(u32::MAX);
    let plan = MemoryPlan::new(backend, job, all)?;
    if on_progress(Progress::Memory(plan.memory(context))).is_break() {
        return Err(ImportanceError::Stopped);
    }
    let mut partial = PartialMatrix::open(backend, job, all);
    let resumed = partial.matrix.chunks;
    if resumed < all {
        let model = Model::load(backend, &job.model.path, &plan.settings, LoadExtent::Everything)?;
        let result = streams::run(
            0..plan.streams.count,
            resumed as usize..all as usize,
            |_| {
                let context = CapturingContext::new(&model, &plan.settings, shape(context))?;
                Ok((
                    context,
                    Collector { sums: ChunkSums::new(), output_weight: job.output_weight },
                ))
            },
            |(context, collector), chunk| {
                context.evaluate(&tokens[chunk * length..][..length], collector)?;
                Ok(std::mem::take(&mut collector.sums))
            },
            |sums| {
                add(&mut partial.matrix, sums)?;
                partial.save_periodically()?;
                let done = partial.matrix.chunks;
                let fraction = f64::from(done) / f64::from(all);
                let event = || Progress::Fraction(fraction, format!("chunk {done} of {all}"));
                if done < all && on_progress(event()).is_break() {
                    return Err(ImportanceError::Stopped);
                }
                Ok(ControlFlow::Continue(()))
            },
        );
        if let Err(error) = result {
            partial.save()?;
            return Err(error);
        }
    }
    if partial.matrix.weights.is_empty() {
        return refused("no weight of a layer was used while the text was evaluated".to_owned());
    }
    let weights = partial.matrix.weights.len();
    partial.finish(&job.output.path)?;
    Ok(CalibrationReport { chunks: all, resumed, weights })
}

fn shape(context: u32) -> ContextShape {
    chunk_shape(context, UBATCH.min(context))
}

/// How chunks are evaluated, and the memory that takes, from the model's metadata alone.
struct MemoryPlan {
    streams: Streams,
    settings: Settings,
    stream_bytes: u64,
    /// Bytes of the sums of one chunk.
    sums_bytes: u64,
    weight_bytes: u64,
}

impl MemoryPlan {
    fn new(backend: Backend, job: &CalibrateJob, chunks: u32) -> Result<Self, ImportanceError> {
        let settings = Settings { threads: job.threads, ..Settings::default() };
        let planned = Model::load(backend, &job.model.path, &settings, LoadExtent::MEMORY_PLAN)?;
        if planned.class() != ArchitectureClass::DecoderOnly {
            let reason = "calibration needs a decoder-only model";
            return Err(ImportanceError::Refused(reason.to_owned()));
        }
        let stream_bytes = context_bytes(&planned, &settings, shape(job.plan.context))?;
        let weight_bytes = planned.tensor_bytes();
        // An f64 for each column of each matrix of the layers.
        let input = GgufInput::open(backend, &job.model.path)?;
        let columns = layer_shapes(&input).map(|[columns, _, matrices]| columns * matrices);
        let sums_bytes = (columns.sum::<usize>() * size_of::<f64>()) as u64;
        let threads = settings.threads.unwrap_or_else(|| backend.default_threads());
        let most = if backend.uses_gpu(&settings) { 1 } else { chunks as usize };
        // A stream makes the sums of a chunk while those of the one before wait to be added.
        let streams = Streams::fit(threads, most, stream_bytes + 2 * sums_bytes, weight_bytes);
        let settings = Settings { threads: Some(streams.threads), ..settings };
        Ok(Self { streams, settings, stream_bytes, sums_bytes, weight_bytes })
    }

    fn memory(&self, context: u32) -> Vec<(String, u64)> {
        let count = u64::from(self.streams.count);
        let evaluated = match count {
            1 => format!("a chunk of {context} tokens"),
            _ => format!("{count} chunks of {context} tokens side by side"),
        };
        vec![
            ("weights".to_owned(), self.weight_bytes),
            (evaluated, self.stream_bytes.saturating_mul(count)),
            // Two of each stream, and the total.
            ("sums over inputs".to_owned(), self.sums_bytes.saturating_mul(2 * count + 1)),
        ]
    }
}

/// Adds the sums of the next chunk.
fn add(matrix: &mut ImportanceMatrix, sums: ChunkSums) -> Result<(), ImportanceError> {
    let chunk = matrix.chunks + 1;
    for (weight, more) in sums {
        if more.squares.iter().any(|sum| !sum.is_finite()) {
            return Err(ImportanceError::Refused(format!(
                "the inputs of '{weight}' are not finite in chunk {chunk}: the model computes nonsense there"
            )));
        }
        let entry = matrix.weights.entry(weight);
        let total = entry.or_insert_with(|| Sums::zeros(more.columns, more.counts.len()));
        for (total, more) in total.squares.iter_mut().zip(&more.squares) {
            #[expect(clippy::cast_possible_truncation, reason = "the format has sums in F32")]
            let sum = (f64::from(*total) + more) as f32;
            *total = sum;
        }
        for (total, more) in total.counts.iter_mut().zip(&more.counts) {
            *total += more;
        }
    }
    matrix.chunks = chunk;
    Ok(())
}

/// The matrix so far, saved beside the output.
struct PartialMatrix {
    matrix: ImportanceMatrix,
    path: PathBuf,
    last_saved: Instant,
    interval: Duration,
}

impl PartialMatrix {
    /// Resumes a partial matrix of the same model, text and context; otherwise begins a new one.
    fn open(backend: Backend, job: &CalibrateJob, all: u32) -> Self {
        let path = beside(&job.output.path, PARTIAL);
        let fresh = ImportanceMatrix {
            datasets: vec![job.plan.source.clone()],
            chunk_size: job.plan.context,
            origin: Some(Origin {
                model_checksum: job.model.key.clone(),
                text_checksum: of_bytes(job.plan.text.as_bytes()),
                output_weight: job.output_weight,
            }),
            ..ImportanceMatrix::default()
        };
        // An unreadable file is not an error: it only costs the time to begin again.
        let before = ImportanceMatrix::read(backend, &path).ok().filter(|before| {
            before.origin == fresh.origin
                && before.chunk_size == fresh.chunk_size
                && before.chunks <= all
        });
        let matrix = match before {
            Some(before) => ImportanceMatrix { datasets: fresh.datasets, ..before },
            None => fresh,
        };
        Self { matrix, path, last_saved: Instant::now(), interval: Duration::ZERO }
    }

    fn save_periodically(&mut self) -> Result<(), ImportanceError> {
        if self.last_saved.elapsed() < self.interval {
            return Ok(());
        }
        let began = Instant::now();
        self.save()?;
        self.interval = SAVE_INTERVAL.max(began.elapsed() * SAVE_SHARE);
        self.last_saved = Instant::now();
        Ok(())
    }

    fn save(&self) -> Result<(), ImportanceError> {
        if self.matrix.chunks == 0 { Ok(()) } else { self.matrix.write(&self.path) }
    }

    fn finish(self, output: &Path) -> Result<(), ImportanceError> {
        self.matrix.write(output)?;
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(ImportanceError::Write { path: self.path, source })
            }
            _ => Ok(()),
        }
    }
}

/// Sums of one chunk, by the name of the weight.
type ChunkSums = BTreeMap<String, Sums<f64>>;

/// llama.cpp's name of the node after the last layer. Only the output matrix follows.
const AFTER_LAYERS: &str = "result_norm";

/// Sums the squares of the inputs of weights.
struct Collector {
    sums: ChunkSums,
    output_weight: bool,
}

impl Sink for Collector {
    fn wants_weight(&mut self, weight: &str) -> bool {
        weight.starts_with("blk.") || (self.output_weight && weight == "output.weight")
    }

    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow {
        // A weight may be used by several products, and a chunk be evaluated in several batches.
        let entry = self.sums.entry(input.weight.to_owned());
        let sums = entry.or_insert_with(|| Sums::zeros(input.columns, input.matrices));
        for (matrix, row) in input.rows_with_matrix() {
            let squares = sums.squares.chunks_exact_mut(input.columns.max(1)).nth(matrix);
            let (Some(squares), Some(count)) = (squares, sums.counts.get_mut(matrix)) else {
                continue;
            };
            *count += 1;
            for (sum, value) in squares.iter_mut().zip(row) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
        Flow::Continue
    }

    fn wants_node(&mut self, name: &str) -> bool {
        !self.output_weight && name == AFTER_LAYERS
    }

    fn node_output(&mut self, _output: &NodeOutput<'_>) -> Flow {
        Flow::Stop
    }
}
