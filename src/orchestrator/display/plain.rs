//! Plain lines, for logs and pipes: one per thing that is over, and a sign of life now and then.

use super::progress::{Lasting, Progress};
use crate::experiment::resolved::Experiment;
use crate::orchestrator::event::{BenchmarkEvent, Listener, ListenerError};
use std::io::Write;
use std::time::{Duration, Instant};

/// Longest silence while a worker reports progress.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Writes plain lines.
#[derive(Debug)]
pub(super) struct PlainDisplay<W> {
    progress: Progress,
    pause: Duration,
    output: W,
    written: Instant,
}

impl<W: Write> PlainDisplay<W> {
    pub(super) fn new(experiment: &Experiment, output: W) -> Self {
        let pause = experiment.cool_down;
        let progress = Progress::new(experiment.rounds, pause);
        Self { progress, pause, output, written: Instant::now() }
    }

    fn write(&mut self, line: &str) {
        // Nobody may be reading; a run does not end for that.
        let _ = writeln!(self.output, "{line}");
        self.written = Instant::now();
    }
}

impl<W: Write> Listener for PlainDisplay<W> {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), ListenerError> {
        match self.progress.on_event(event, self.pause) {
            Some(Lasting::Over(text)) => {
                let (over, all) = self.progress.visits();
                self.write(&format!("[{over}/{all}] {text} ({})", self.progress.time_left()));
            }
            Some(Lasting::Failed(text) | Lasting::Remark(text)) => self.write(&text),
            None if self.written.elapsed() > SIGN_OF_LIFE => {
                let (over, all) = self.progress.visits();
                self.write(&format!("[{over}/{all}] {}", self.progress.current()));
            }
            None => {}
        }
        Ok(())
    }
}
