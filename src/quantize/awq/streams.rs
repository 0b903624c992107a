//! Sums over the inputs of weights, from chunks that are evaluated in parallel.
//!
//! The sums of each weight are added in the order of the text, so they do not depend on which stream is faster: a
//! stream that reaches a weight early waits. All streams reach the weights in the order of the graph, so after the
//! first chunk they rarely wait. Uses `llama::capture`; used by `scaling`.

use super::statistics::{Moment, Statistics, Tap};
use crate::engine::error::EngineError;
use crate::engine::llama::capture::{CapturingContext, Flow, Sink, WeightInput};
use crate::engine::llama::model::Model;
use crate::engine::{ContextShape, Model as _, streams};
use crate::experiment::settings::Settings;
use crate::quantize::streams::{Streams, chunk_shape, context_bytes};
use crate::quantize::{MethodError, fraction};
use faer::Par;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Evaluates chunks of a text on the CPU.
#[derive(Debug)]
pub(super) struct Evaluator<'a> {
    model: &'a Model,
    settings: Settings,
    shape: ContextShape,
    streams: Streams,
    /// What llama.cpp allocates for all streams.
    pub(super) bytes: u64,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(
        model: &'a Model,
        threads: u32,
        context: u32,
        chunks: usize,
    ) -> Result<Self, EngineError> {
        let shape = chunk_shape(context, context);
        let mut settings = Settings { threads: Some(1), gpu_layers: 0, ..Settings::default() };
        let each = context_bytes(model, &settings, shape)?;
        let streams = Streams::fit(threads, chunks, each, model.tensor_bytes());
        settings.threads = Some(streams.threads);
        Ok(Self { model, settings, shape, streams, bytes: each * u64::from(streams.count) })
    }

    /// Evaluates a text and sums the inputs of `taps`, which are in the order of the graph.
    ///
    /// # Errors
    /// A chunk cannot be evaluated, or a weight was not multiplied with vectors of its columns.
    pub(super) fn gather(
        &self,
        chunks: &[&[i32]],
        taps: &[Tap],
        mut on_progress: impl FnMut(f64),
    ) -> Result<Statistics, MethodError> {
        let shared = SharedSums {
            sums: taps.iter().map(|tap| (tap.weight.clone(), OrderedSums::new(tap))).collect(),
            last: taps.last().map(|tap| tap.weight.clone()).unwrap_or_default(),
            aborted: AtomicBool::new(false),
        };
        let mut done = 0;
        streams::run(
            0..self.streams.count,
            0..chunks.len(),
            |_| CapturingContext::new(self.model, &self.settings, self.shape),
            |context, chunk| {
                let mut sink =
                    ChunkSink { shared: &shared, chunk, parts: Vec::new(), is_done: false };
                context.evaluate(chunks[chunk], &mut sink)?;
                // Weights that the evaluation did not reach.
                for sums in shared.sums.values() {
                    sums.add_in_turn(chunk, &shared.aborted, |_| ());
                }
                sink.is_done = true;
                Ok::<(), EngineError>(())
            },
            |()| {
                done += 1;
                on_progress(fraction(done, 0.0, chunks.len()));
                Ok(ControlFlow::Continue(()))
            },
        )?;
        let mut statistics = Statistics::new();
        for (weight, sums) in shared.sums {
            let (_, moments) = sums.state.into_inner().unwrap_or_else(PoisonError::into_inner);
            if moments.iter().all(|moment| moment.vectors == 0) {
                let seen = "was multiplied with nothing while the calibration text was evaluated";
                return Err(MethodError::Refused(format!("'{weight}' {seen}")));
            }
            statistics.insert(weight, moments);
        }
        Ok(statistics)
    }
}

/// The sums of all weights.
struct SharedSums {
    sums: HashMap<String, OrderedSums>,
    /// Nothing after this weight is needed.
    last: String,
    /// A stream failed; the others must not wait for its chunk.
    aborted: AtomicBool,
}

/// The sums of one weight, and the chunk whose turn it is to be added.
struct OrderedSums {
    state: Mutex<(usize, Vec<Moment>)>,
    changed: Condvar,
}

impl OrderedSums {
    fn new(tap: &Tap) -> Self {
        let moments = vec![Moment::new(tap.columns); tap.matrices];
        Self { state: Mutex::new((0, moments)), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, (usize, Vec<Moment>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all earlier chunks, then adds this one; does nothing if it was added already.
    fn add_in_turn(&self, chunk: usize, aborted: &AtomicBool, add: impl FnOnce(&mut [Moment])) {
        let is_early = |state: &mut (usize, _)| state.0 < chunk && !aborted.load(Ordering::Relaxed);
        let state = self.changed.wait_while(self.lock(), is_early);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let (turn, moments) = &mut *state;
        if *turn == chunk {
            add(moments);
            *turn += 1;
            self.changed.notify_all();
        }
    }
}

/// Takes the inputs of one chunk. Aborts all streams if it is dropped before the chunk is done.
struct ChunkSink<'a> {
    shared: &'a SharedSums,
    chunk: usize,
    /// Vectors of each expert; kept for their allocation.
    parts: Vec<Vec<f32>>,
    is_done: bool,
}

impl Drop for ChunkSink<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        self.shared.aborted.store(true, Ordering::Relaxed);
        for sums in self.shared.sums.values() {
            // Locked so that a stream about to wait either sees the flag or is woken.
            drop(sums.lock());
            sums.changed.notify_all();
        }
    }
}

impl Sink for ChunkSink<'_> {
    fn wants_weight(&mut self, weight: &str) -> bool {
        self.shared.sums.contains_key(weight)
    }

    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow {
        let SharedSums { sums, last, aborted } = self.shared;
        if let Some(sums) = sums.get(input.weight) {
            let parts = &mut self.parts;
            sums.add_in_turn(self.chunk, aborted, |moments| add(moments, input, parts));
        }
        let is_over = input.weight == last || aborted.load(Ordering::Relaxed);
        if is_over { Flow::Stop } else { Flow::Continue }
    }
}

/// Adds vectors to the sums of the matrix that each is multiplied with.
fn add(moments: &mut [Moment], input: &WeightInput<'_>, parts: &mut Vec<Vec<f32>>) {
    if moments.first().is_none_or(|moment| moment.sizes.len() != input.columns) {
        return;
    }
    if let [moment] = moments {
        return moment.add(input.rows, Par::Seq);
    }
    parts.iter_mut().for_each(Vec::clear);
    parts.resize(moments.len(), Vec::new());
    for (matrix, row) in input.rows_with_matrix() {
        if let Some(part) = parts.get_mut(matrix) {
            part.extend_from_slice(row);
        }
    }
    for (moment, part) in moments.iter_mut().zip(parts) {
        moment.add(part, Par::Seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LoadExtent;
    use crate::engine::llama::backend::Backend;
    use std::path::Path;

    fn experts() -> Model {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = demo.join("demo/model/quantbench-demo-experts-F16.gguf");
        let settings = Settings::default();
        Model::load(Backend::initialise(), &path, &settings, LoadExtent::Everything).unwrap()
    }

    fn taps() -> [Tap; 2] {
        let tap =
            |weight: &str, columns, matrices| Tap { weight: weight.into(), columns, matrices };
        [tap("blk.0.attn_q.weight", 256, 1), tap("blk.0.ffn_up_exps.weight", 256, 4)]
    }

    #[test]
    fn sums_do_not_depend_on_the_number_of_streams() {
        let model = experts();
        let tokens: Vec<i32> = (0..176).map(|token| 5 + token * 7 % 400).collect();
        let chunks: Vec<&[i32]> = tokens.chunks(16).collect();
        let sums = |threads| {
            let evaluator = Evaluator::new(&model, threads, 16, chunks.len()).unwrap();
            assert_eq!(evaluator.streams, Streams { count: threads, threads: 1 });
            let mut fractions = Vec::new();
            let sums = evaluator.gather(&chunks, &taps(), |part| fractions.push(part)).unwrap();
            assert_eq!((fractions.len(), fractions.last()), (11, Some(&1.0)));
            sums
        };
        let (alone, together) = (sums(1), sums(3));
        for tap in taps() {
            let vectors: usize = alone[&tap.weight].iter().map(|moment| moment.vectors).sum();
            assert_eq!(vectors, if tap.matrices == 1 { 176 } else { 2 * 176 }, "{}", tap.weight);
            for (one, other) in alone[&tap.weight].iter().zip(&together[&tap.weight]) {
                assert_eq!((one.vectors, &one.sizes), (other.vectors, &other.sizes));
                assert_eq!(one.second(), other.second());
            }
        }
    }

    #[test]
    fn no_stream_waits_for_one_that_failed() {
        let model = experts();
        let tokens = [[5; 16], [i32::MAX; 16], [6; 16], [7; 16], [8; 16]];
        let chunks: Vec<&[i32]> = tokens.iter().map(<[i32; 16]>::as_slice).collect();
        let evaluator = Evaluator::new(&model, 3, 16, chunks.len()).unwrap();
        let result = evaluator.gather(&chunks, &taps(), |_| ());
        assert!(
            matches!(result, Err(MethodError::Llama(_))),
            "{:?}",
            result.map(|sums| sums.len())
        );
    }
}
