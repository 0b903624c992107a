//! The worker's side of the pipe: events as lines of JSON.

use super::protocol::Event;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Progress is told at most this often: the display needs no more, and writing wakes the
/// orchestrator on a core that the worker is measured on.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Sends events to the orchestrator.
#[derive(Debug, Clone, Default)]
pub(super) struct Reporter {
    last_progress: Arc<Mutex<Option<Instant>>>,
}

impl Reporter {
    /// Sends one event, at once. An orchestrator that no longer reads has ended or will end us.
    #[expect(clippy::unused_self, reason = "events are sent through a reporter, not from anywhere")]
    pub(super) fn send(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).unwrap_or_else(|error| {
            // Reading it back fails on the other side, which then ends the trial with this text.
            format!("worker cannot write an event: {error}").into_bytes()
        });
        line.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    }

    /// Sends progress, unless some was sent a moment ago.
    pub(super) fn progress(&self, fraction: f64, note: &str) {
        if let Ok(mut last) = self.last_progress.lock() {
            if last.is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL) {
                return;
            }
            *last = Some(Instant::now());
        }
        self.send(&Event::Progress { fraction, note: note.to_owned() });
    }
}
