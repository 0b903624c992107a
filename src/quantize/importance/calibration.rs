//! Calibration: a text through a model, chunk by chunk, so that it can be gone on with after any of them.

use super::collect::ChunkSums;
use super::file::{PARTIAL, beside};
use super::lanes::{Arrangement, Chunks};
use super::{ImportanceError, ImportanceMatrix, Origin, SHORTEST_CONTEXT, Sums};
use crate::engine::LoadExtent;
use crate::engine::Model as _;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::model::Model;
use crate::experiment::settings::Settings;
use crate::model::cache::of_bytes;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What was done is kept after the first chunk and then this often, unless writing it takes a twentieth of that
/// time.
const KEEP_INTERVAL: Duration = Duration::from_secs(2);
/// Part of the time that keeping may take: one in so many.
const KEEP_SHARE: u32 = 20;

/// What to calibrate with what.
#[derive(Debug, Clone, Copy)]
pub struct Calibration<'a> {
    /// The model (first part, if split).
    pub model: &'a Path,
    /// SHA-256 of the model, hex: says whether what was begun belongs to it.
    pub model_checksum: &'a str,
    /// The text.
    pub text: &'a str,
    /// The text's name, for the file.
    pub dataset: &'a str,
    /// Tokens of a chunk.
    pub context: u32,
    /// At most this many chunks.
    pub chunks: Option<u32>,
    /// Also of `output.weight`, as llama-imatrix's `--process-output`.
    pub output_weight: bool,
    /// Threads; `None`: llama-bench's default.
    pub threads: Option<u32>,
    /// The file to write. What is done so far lies beside it, with `.partial` at its end.
    pub output: &'a Path,
}

/// What happens during a calibration.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Memory that will be taken, before it is: what for, and bytes.
    Memory(Vec<(String, u64)>),
    /// Chunks that are done.
    Chunk {
        /// So many.
        done: u32,
        /// Of so many.
        all: u32,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Chunks that the matrix is made from.
    pub chunks: u32,
    /// Those of them that were there already.
    pub resumed: u32,
    /// Weights in the matrix.
    pub weights: usize,
}

/// Writes the importance matrix of a model.
///
/// The sums of a chunk are made in f64 and added to an f32 total in the order of the text, so that the file
/// is the same bit for bit whatever the number of threads (while memory allows a lane per thread) and
/// wherever it was interrupted. `told` can stop it with [`ControlFlow::Break`]; the next call with the
/// same model, text and context goes on from there.
///
/// # Errors
/// See [`ImportanceError`].
pub fn calibrate(
    backend: Backend,
    request: &Calibration<'_>,
    told: &mut dyn FnMut(Told) -> ControlFlow<()>,
) -> Result<Report, ImportanceError> {
    let context = request.context;
    if context < SHORTEST_CONTEXT {
        return Err(ImportanceError::ContextTooShort { context });
    }
    let settings = Settings { threads: request.threads, ..Settings::default() };
    let (tokens, beginning) = tokenize(backend, request, &settings)?;
    let available = u32::try_from(tokens.len() / context as usize).unwrap_or(u32::MAX);
    if available == 0 {
        return Err(ImportanceError::TextTooShort { tokens: tokens.len(), context });
    }
    let all = request.chunks.map_or(available, |limit| limit.clamp(1, available));
    let arrangement =
        Arrangement::find(backend, request.model, &settings, context, request.output_weight, all)?;
    if told(Told::Memory(memory(&arrangement))).is_break() {
        return Err(ImportanceError::Stopped);
    }
    let mut kept = Kept::open(backend, request, all);
    let resumed = kept.matrix.chunks;
    if resumed < all {
        let model = Model::load(backend, request.model, &settings, LoadExtent::Everything)?;
        let chunks = Chunks { tokens: &tokens, beginning };
        let range = resumed as usize..all as usize;
        let result = arrangement.run(&model, &settings, chunks, range, &mut |sums| {
            add(&mut kept.matrix, sums)?;
            kept.keep_now_and_then()?;
            let done = kept.matrix.chunks;
            let stopped = done < all && told(Told::Chunk { done, all }).is_break();
            if stopped { Err(ImportanceError::Stopped) } else { Ok(()) }
        });
        if let Err(error) = result {
            kept.keep()?;
            return Err(error);
        }
    }
    if kept.matrix.weights.is_empty() {
        return Err(ImportanceError::NoWeights);
    }
    let report = Report { chunks: all, resumed, weights: kept.matrix.weights.len() };
    kept.finish(request.output)?;
    Ok(report)
}

fn tokenize(
    backend: Backend,
    request: &Calibration<'_>,
    settings: &Settings,
) -> Result<(Vec<i32>, Option<i32>), ImportanceError> {
    let vocabulary = Model::load(backend, request.model, settings, LoadExtent::Vocabulary)?;
    Ok((vocabulary.tokenize(request.text, true, false)?, vocabulary.beginning_token()))
}

/// What the memory is for.
fn memory(arrangement: &Arrangement) -> Vec<(String, u64)> {
    let Arrangement { lanes, context, lane_bytes, sums_bytes, weights_bytes, .. } = *arrangement;
    let evaluated = match lanes {
        1 => format!("a chunk of {context} tokens"),
        _ => format!("{lanes} chunks of {context} tokens side by side"),
    };
    vec![
        ("weights".to_owned(), weights_bytes),
        (evaluated, lane_bytes.saturating_mul(lanes.into())),
        // Two of each lane, and their total.
        ("sums over inputs".to_owned(), sums_bytes.saturating_mul(2 * u64::from(lanes) + 1)),
    ]
}

/// Adds the sums of the next chunk.
fn add(matrix: &mut ImportanceMatrix, sums: ChunkSums) -> Result<(), ImportanceError> {
    let chunk = matrix.chunks + 1;
    for (weight, more) in sums {
        if more.squares.iter().any(|sum| !sum.is_finite()) {
            return Err(ImportanceError::NotFinite { weight, chunk });
        }
        let total = matrix.weights.entry(weight).or_insert_with(|| Sums {
            columns: more.columns,
            squares: vec![0.0; more.squares.len()],
            counts: vec![0; more.counts.len()],
        });
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

/// The matrix so far, and the file beside the output that it is kept in.
struct Kept {
    matrix: ImportanceMatrix,
    path: PathBuf,
    last: Instant,
    interval: Duration,
}

impl Kept {
    /// What was done before, if it was the same that is to be done now; otherwise nothing.
    fn open(backend: Backend, request: &Calibration<'_>, all: u32) -> Self {
        let path = beside(request.output, PARTIAL);
        let text_checksum = of_bytes(request.text.as_bytes());
        let fresh = ImportanceMatrix {
            datasets: vec![request.dataset.to_owned()],
            chunk_size: request.context,
            origin: Some(Origin {
                model_checksum: request.model_checksum.to_owned(),
                text_checksum,
                output_weight: request.output_weight,
            }),
            ..ImportanceMatrix::default()
        };
        // A file that cannot be read is begun anew: it costs time, nothing else.
        let before = ImportanceMatrix::read(backend, &path).ok().filter(|before| {
            before.origin == fresh.origin
                && before.chunk_size == fresh.chunk_size
                && before.chunks <= all
        });
        let matrix = match before {
            Some(before) => ImportanceMatrix { datasets: fresh.datasets, ..before },
            None => fresh,
        };
        Self { matrix, path, last: Instant::now(), interval: Duration::ZERO }
    }

    fn keep_now_and_then(&mut self) -> Result<(), ImportanceError> {
        if self.last.elapsed() < self.interval {
            return Ok(());
        }
        let began = Instant::now();
        self.keep()?;
        self.interval = KEEP_INTERVAL.max(began.elapsed() * KEEP_SHARE);
        self.last = Instant::now();
        Ok(())
    }

    fn keep(&self) -> Result<(), ImportanceError> {
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
