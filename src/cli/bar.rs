//! The progress of one worker that makes a file: a bar on a terminal, and the memory it will take.

use super::output;
use crate::orchestrator::event::{BenchmarkEvent, Listener, ListenerError};
use crate::orchestrator::reason;
use crate::worker::protocol::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// What is shown of a worker on standard error.
pub(super) struct Bar {
    name: String,
    quiet: bool,
    drawn: Option<ProgressBar>,
}

impl Bar {
    /// Nothing at all is shown if it has to be quiet, and no bar where there is no terminal.
    pub(super) fn new(name: &str, quiet: bool) -> Self {
        let name = name.to_owned();
        if quiet || !io::stderr().is_terminal() {
            return Self { name, quiet, drawn: None };
        }
        let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr_with_hz(4));
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:24} {pos} % · {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(name.clone());
        Self { name, quiet, drawn: Some(bar) }
    }

    /// A line that stays.
    fn tell(&self, line: &str) {
        match &self.drawn {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| output::tell(line)),
            None => output::tell(line),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.drawn {
            bar.finish_and_clear();
        }
    }
}

impl Listener for Bar {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), ListenerError> {
        let BenchmarkEvent::Worker(event) = event else { return Ok(()) };
        match (event, &self.drawn) {
            (Event::MemoryNeeded { parts }, _) => {
                let parts: Vec<(&str, u64)> =
                    parts.iter().map(|part| (part.purpose.as_str(), part.bytes)).collect();
                self.tell(&format!("{}: {}", self.name, reason::of_memory(&parts)));
            }
            (Event::Quantized { chosen, kept }, _) => {
                for line in reason::of_kept(*chosen, kept, usize::MAX) {
                    self.tell(&format!("{}: {line}", self.name));
                }
            }
            (Event::Note { text }, _) => {
                self.tell(&format!("note: {}: {}", self.name, reason::of_message(text)));
            }
            (Event::Progress { fraction, note }, Some(bar)) => {
                let note = reason::printable(note);
                let separator = if note.is_empty() { "" } else { " " };
                bar.set_message(format!("{}{separator}{note}", self.name));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "0 to 100"
                )]
                bar.set_position((fraction.clamp(0.0, 1.0) * 100.0) as u64);
            }
            _ => {}
        }
        Ok(())
    }
}
