//! Pieces of the calibration text evaluated side by side, their sums added in the order of the text.
//!
//! Every tap is a desk that serves the pieces in their order, so that sums do not depend on which lane was faster.
//! A lane that arrives early waits; since all lanes go through the taps in the order of the graph, they
//! soon follow each other at a distance. Uses `llama::capture`; used by `scaling`.

use super::AwqError;
use super::statistics::{Moment, Statistics, Tap};
use crate::engine::ContextShape;
use crate::engine::error::EngineError;
use crate::engine::llama::capture::{CapturingContext, Flow, Sink, WeightInput};
use crate::engine::llama::context::Context;
use crate::engine::llama::model::Model;
use crate::engine::streams;
use crate::engine::{Context as _, ContextPurpose, Model as _};
use crate::experiment::settings::Settings;
use faer::Par;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

/// How the text is evaluated.
#[derive(Debug)]
pub struct Lanes<'a> {
    model: &'a Model,
    settings: Settings,
    shape: ContextShape,
    count: u32,
    /// What llama.cpp allocates for all of them, bytes.
    pub bytes: u64,
}

impl<'a> Lanes<'a> {
    /// For pieces of up to `length` tokens: a lane for each thread, as far as pieces and memory allow.
    ///
    /// # Errors
    /// When there is no memory for one.
    pub fn new(
        model: &'a Model,
        threads: u32,
        length: u32,
        pieces: usize,
    ) -> Result<Self, EngineError> {
        let shape = ContextShape { tokens: length, sequences: 1, batch: length, ubatch: length };
        let mut settings = Settings { threads: Some(1), gpu_layers: 0, ..Settings::default() };
        let buffers = Context::new(model, &settings, shape, ContextPurpose::Separate)?.memory();
        let each: u64 = buffers.iter().map(|buffer| buffer.kv_bytes + buffer.compute_bytes).sum();
        let wanted = threads.min(u32::try_from(pieces).unwrap_or(u32::MAX)).max(1);
        let count = streams::that_fit(wanted, each, model.tensor_bytes());
        settings.threads = Some((threads / count).max(1));
        Ok(Self { model, settings, shape, count, bytes: each * u64::from(count) })
    }

    /// Evaluates a text, in pieces, and sums what the taps, in the order of the graph, see. `progress` is told the
    /// fraction of pieces done.
    ///
    /// # Errors
    /// When a piece cannot be evaluated, or a tap's weight was not multiplied with vectors of its columns.
    pub fn gather(
        &self,
        pieces: &[&[i32]],
        taps: &[Tap],
        mut progress: impl FnMut(f64),
    ) -> Result<Statistics, AwqError> {
        let office = Office {
            desks: taps.iter().map(|tap| (tap.weight.clone(), Desk::new(tap))).collect(),
            last: taps.last().map(|tap| tap.weight.clone()).unwrap_or_default(),
            closed: AtomicBool::new(false),
            next: AtomicUsize::new(0),
        };
        thread::scope(|scope| {
            let (sender, done) = mpsc::channel();
            for _ in 0..self.count {
                let (sender, office) = (sender.clone(), &office);
                scope.spawn(move || {
                    // Nobody listens after another lane's error.
                    let _ = sender.send(self.lane(pieces, office, &sender).map(|()| false));
                });
            }
            // The lanes hold the other ends: the loop below ends when the last of them does.
            drop(sender);
            let mut finished = 0;
            for message in done {
                if !message? {
                    continue;
                }
                finished += 1;
                #[expect(clippy::cast_precision_loss, reason = "numbers of pieces")]
                progress(f64::from(finished) / pieces.len() as f64);
            }
            Ok::<(), EngineError>(())
        })?;
        let mut statistics = Statistics::new();
        for (weight, desk) in office.desks {
            let counter = desk.counter.into_inner().unwrap_or_else(PoisonError::into_inner);
            if counter.moments.iter().all(|moment| moment.vectors() == 0) {
                return Err(AwqError::Unseen { weight });
            }
            statistics.insert(weight, counter.moments);
        }
        Ok(statistics)
    }

    /// Evaluates pieces until none is left or another lane failed; says so after each.
    fn lane(
        &self,
        pieces: &[&[i32]],
        office: &Office,
        done: &mpsc::Sender<Result<bool, EngineError>>,
    ) -> Result<(), EngineError> {
        let closing = Closing(office);
        let mut context = CapturingContext::new(self.model, &self.settings, self.shape)?;
        let mut visitor = Visitor { office, piece: 0, parts: Vec::new() };
        loop {
            visitor.piece = office.next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(visitor.piece) else { break };
            context.evaluate(piece, &mut visitor)?;
            for desk in office.desks.values() {
                desk.serve(visitor.piece, office, |_| ());
            }
            if office.closed.load(Ordering::Relaxed) || done.send(Ok(true)).is_err() {
                break;
            }
        }
        closing.not_yet();
        Ok(())
    }
}

/// All desks.
struct Office {
    desks: HashMap<String, Desk>,
    /// Nothing behind this weight is needed.
    last: String,
    /// A lane failed: nobody waits any more.
    closed: AtomicBool,
    /// The next piece that no lane has taken.
    next: AtomicUsize,
}

/// Closes the office when a lane ends without its work being done, by an error or a panic: its piece would be
/// waited for forever.
struct Closing<'a>(&'a Office);

impl Closing<'_> {
    fn not_yet(self) {
        std::mem::forget(self);
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
        for desk in self.0.desks.values() {
            // Taken so that who is about to wait either sees the mark or is woken.
            drop(desk.counter.lock().unwrap_or_else(PoisonError::into_inner));
            desk.changed.notify_all();
        }
    }
}

/// The sums of one tap.
struct Desk {
    counter: Mutex<Counter>,
    changed: Condvar,
}

struct Counter {
    /// The piece that is served next.
    turn: usize,
    moments: Vec<Moment>,
}

impl Desk {
    fn new(tap: &Tap) -> Self {
        let moments = vec![Moment::new(tap.columns); tap.matrices];
        Self { counter: Mutex::new(Counter { turn: 0, moments }), changed: Condvar::new() }
    }

    /// Adds what a piece has, once all pieces before it were served; nothing if it was served already.
    fn serve(&self, piece: usize, office: &Office, add: impl FnOnce(&mut [Moment])) {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        while counter.turn < piece && !office.closed.load(Ordering::Relaxed) {
            counter = self.changed.wait(counter).unwrap_or_else(PoisonError::into_inner);
        }
        if counter.turn == piece {
            add(&mut counter.moments);
            counter.turn += 1;
            self.changed.notify_all();
        }
    }
}

/// A lane on its way through the taps with one piece.
struct Visitor<'a> {
    office: &'a Office,
    piece: usize,
    /// Vectors of each expert.
    parts: Vec<Vec<f32>>,
}

impl Sink for Visitor<'_> {
    fn wants_weight(&mut self, weight: &str) -> bool {
        self.office.desks.contains_key(weight)
    }

    fn weight_input(&mut self, input: &WeightInput<'_>) -> Flow {
        if let Some(desk) = self.office.desks.get(input.weight) {
            let parts = &mut self.parts;
            desk.serve(self.piece, self.office, |moments| add(moments, input, parts));
        }
        let over = input.weight == self.office.last || self.office.closed.load(Ordering::Relaxed);
        if over { Flow::Stop } else { Flow::Continue }
    }
}

/// Adds vectors to the sums of the matrix that each is multiplied with.
fn add(moments: &mut [Moment], input: &WeightInput<'_>, parts: &mut Vec<Vec<f32>>) {
    if moments.first().is_none_or(|moment| moment.sizes().len() != input.columns) {
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
    fn sums_do_not_depend_on_the_number_of_lanes() {
        let model = experts();
        let tokens: Vec<i32> = (0..176).map(|token| 5 + token * 7 % 400).collect();
        let pieces: Vec<&[i32]> = tokens.chunks(16).collect();
        let sums = |threads| {
            let lanes = Lanes::new(&model, threads, 16, pieces.len()).unwrap();
            assert_eq!((lanes.count, lanes.settings.threads), (threads, Some(1)));
            let mut told = Vec::new();
            let sums = lanes.gather(&pieces, &taps(), |part| told.push(part)).unwrap();
            assert_eq!((told.len(), told.last()), (11, Some(&1.0)));
            sums
        };
        let (alone, together) = (sums(1), sums(3));
        for tap in taps() {
            let vectors: usize = alone[&tap.weight].iter().map(Moment::vectors).sum();
            assert_eq!(vectors, if tap.matrices == 1 { 176 } else { 2 * 176 }, "{}", tap.weight);
            for (one, other) in alone[&tap.weight].iter().zip(&together[&tap.weight]) {
                assert_eq!((one.vectors(), one.sizes()), (other.vectors(), other.sizes()));
                assert_eq!(one.second(), other.second());
            }
        }
    }

    #[test]
    fn a_lane_that_fails_keeps_nobody_waiting() {
        let model = experts();
        let tokens = [[5; 16], [i32::MAX; 16], [6; 16], [7; 16], [8; 16]];
        let pieces: Vec<&[i32]> = tokens.iter().map(<[i32; 16]>::as_slice).collect();
        let lanes = Lanes::new(&model, 3, 16, pieces.len()).unwrap();
        let result = lanes.gather(&pieces, &taps(), |_| ());
        assert!(matches!(result, Err(AwqError::Llama(_))), "{:?}", result.map(|sums| sums.len()));
    }
}
