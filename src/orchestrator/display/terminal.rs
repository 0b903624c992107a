//! Lines that are redrawn in place, on a terminal.

use super::progress::{Lasting, Progress};
use crate::experiment::resolved::Experiment;
use crate::orchestrator::event::{BenchmarkEvent, Listener, ListenerError};
use console::{Term, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// The screen is redrawn at most this often per second: drawing takes time from the worker.
const REDRAWS_PER_SECOND: u8 = 4;

/// How often it is redrawn when nothing happens, so that the time shown goes on.
const TICK: Duration = Duration::from_millis(500);

/// How wide a terminal is taken to be that does not say.
const USUAL_WIDTH: usize = 80;

/// Redraws three lines: how far the run is, what is running, and the last figures.
#[derive(Debug)]
pub(super) struct TerminalDisplay {
    progress: Progress,
    pause: Duration,
    bar: ProgressBar,
    terminal: Term,
    drawn: Option<Instant>,
}

impl TerminalDisplay {
    pub(super) fn new(experiment: &Experiment) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(Some(1), target);
        let template = "{bar:24} {pos}/{len} · {elapsed} · {prefix}\n{msg}";
        // A template that did not parse would only change how the lines look.
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(TICK);
        let pause = experiment.cool_down;
        let progress = Progress::new(experiment.rounds, pause);
        Self { progress, pause, bar, terminal: Term::stderr(), drawn: None }
    }

    fn draw(&mut self) {
        let (over, all) = self.progress.visits();
        self.bar.update(|state| {
            state.set_pos(over as u64);
            state.set_len(all as u64);
        });
        self.bar.set_prefix(self.progress.time_left());
        let mut lines = vec![self.progress.current()];
        if !self.progress.last().is_empty() {
            lines.push(format!("last: {}", self.progress.last()));
        }
        let width = self.terminal.size_checked().map_or(USUAL_WIDTH, |(_, width)| width.into());
        let cut = |line: &String| truncate_str(line, width.saturating_sub(1), "…").into_owned();
        self.bar.set_message(lines.iter().map(cut).collect::<Vec<_>>().join("\n"));
        self.drawn = Some(Instant::now());
    }

    fn is_due(&self) -> bool {
        let interval = Duration::from_secs(1) / u32::from(REDRAWS_PER_SECOND);
        self.drawn.is_none_or(|drawn| drawn.elapsed() >= interval)
    }
}

impl Drop for TerminalDisplay {
    fn drop(&mut self) {
        // A run that ends with an error leaves the screen to its message.
        self.bar.finish_and_clear();
    }
}

impl Listener for TerminalDisplay {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), ListenerError> {
        let begins = matches!(
            event,
            BenchmarkEvent::VisitBegan { .. } | BenchmarkEvent::VariantBegan { .. }
        );
        match self.progress.on_event(event, self.pause) {
            // Figures come and go in place; what went wrong stays.
            Some(Lasting::Failed(text) | Lasting::Remark(text)) => self.bar.println(text),
            Some(Lasting::Over(_)) => self.draw(),
            None if begins || self.is_due() => self.draw(),
            None => {}
        }
        Ok(())
    }
}
