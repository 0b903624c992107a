//! The worker's side of the pipe: events as lines of JSON.

use super::protocol::Event;
use crate::model::progress::Progress;
use crate::workload::{Measurement, Observer};
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Progress is told at most this often: the display needs no more, and writing wakes the
/// orchestrator on a core that the worker is measured on.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Sends events to the orchestrator.
#[derive(Clone)]
pub(super) struct Reporter {
    output: Arc<Mutex<dyn Write + Send>>,
    last_progress: Arc<Mutex<Option<Instant>>>,
}

impl fmt::Debug for Reporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reporter").finish_non_exhaustive()
    }
}

impl Observer for Reporter {
    fn measured(&self, measurement: Measurement) {
        self.send(&Event::Measured(measurement));
    }

    fn progress(&self, fraction: f64, note: &str) {
        self.fraction(fraction, note);
    }
}

impl Reporter {
    pub(super) fn to(output: impl Write + Send + 'static) -> Self {
        Self { output: Arc::new(Mutex::new(output)), last_progress: Arc::default() }
    }

    /// Sends one event, at once. An orchestrator that no longer reads has ended or will end us.
    pub(super) fn send(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).unwrap_or_else(|error| {
            // Reading it back fails on the other side, which then ends the trial with this text.
            format!("worker cannot write an event: {error}").into_bytes()
        });
        line.push(b'\n');
        self.send_line(&line);
    }

    /// Sends a line, with its end.
    pub(super) fn send_line(&self, line: &[u8]) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = output.write_all(line).and_then(|()| output.flush());
    }

    /// Sends what part of the phase is done.
    pub(super) fn fraction(&self, fraction: f64, note: &str) {
        self.progress(Progress::Fraction(fraction, note.to_owned()));
    }

    /// Sends progress: what there is to know at once, a fraction unless one was sent a moment ago.
    pub(super) fn progress(&self, progress: Progress) {
        if matches!(progress, Progress::Fraction(..))
            && let Ok(mut last) = self.last_progress.lock()
        {
            if last.is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL) {
                return;
            }
            *last = Some(Instant::now());
        }
        self.send(&Event::Progress(progress));
    }
}
