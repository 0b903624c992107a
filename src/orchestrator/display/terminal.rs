//! Lines that are redrawn in place, on a terminal.

use super::progress::{Lasting, Progress};
use crate::experiment::resolved::Experiment;
use crate::orchestrator::event::{BenchmarkEvent, Listener, ListenerError};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// The screen is redrawn at most this often per second: drawing takes time from the worker.
const REDRAWS_PER_SECOND: u8 = 4;

/// Redraws three lines: how far the run is, what is running, and the last figures.
#[derive(Debug)]
pub(super) struct TerminalDisplay {
    progress: Progress,
    pause: Duration,
    lines: MultiProgress,
    overall: ProgressBar,
    current: ProgressBar,
    last: ProgressBar,
    drawn: Option<Instant>,
}

impl TerminalDisplay {
    pub(super) fn new(experiment: &Experiment) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
        let lines = MultiProgress::with_draw_target(target);
        let line = |template: &str| {
            let bar = lines.add(ProgressBar::new(1));
            // A template that did not parse would only change how the line looks.
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        };
        let overall = line("{bar:24} {pos}/{len} · {elapsed} · {wide_msg}");
        let current = line("{wide_msg}");
        let last = line("{wide_msg}");
        let pause = experiment.cool_down;
        let progress = Progress::new(experiment.rounds, pause);
        Self { progress, pause, lines, overall, current, last, drawn: None }
    }

    fn draw(&mut self) {
        let (over, all) = self.progress.steps();
        self.overall.set_length(all as u64);
        self.overall.set_position(over as u64);
        self.overall.set_message(self.progress.time_left());
        self.current.set_message(self.progress.current());
        if !self.progress.last().is_empty() {
            self.last.set_message(format!("last: {}", self.progress.last()));
        }
        self.drawn = Some(Instant::now());
    }

    fn is_due(&self) -> bool {
        let interval = Duration::from_secs(1) / u32::from(REDRAWS_PER_SECOND);
        self.drawn.is_none_or(|drawn| drawn.elapsed() >= interval)
    }
}

impl Listener for TerminalDisplay {
    fn hear(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), ListenerError> {
        match self.progress.hear(event, self.pause) {
            // Figures come and go in place; what went wrong stays.
            Some(Lasting::Failed(text) | Lasting::Remark(text)) => {
                // A terminal that is gone is no reason to end a run.
                let _ = self.lines.println(text);
            }
            Some(Lasting::Over(_)) => self.draw(),
            None if self.is_due() => self.draw(),
            None => {}
        }
        if let BenchmarkEvent::RunEnded { .. } = event {
            let _ = self.lines.clear();
        }
        Ok(())
    }
}
