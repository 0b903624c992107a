//! The progress of one worker that makes a file: a bar on a terminal, and the memory it will take.

use super::output;
use crate::orchestrator::event::{BenchmarkEvent, Listener, ListenerError};
use crate::units::format_bytes;
use crate::worker::protocol::{Event, MemoryPart};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// What is shown of a worker on standard error.
pub(super) struct Bar {
    name: String,
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Nothing at all is shown if it has to be quiet, and no bar where there is no terminal.
    pub(super) fn new(name: &str, quiet: bool) -> Self {
        let name = name.to_owned();
        if quiet || !io::stderr().is_terminal() {
            return Self { name, quiet, bar: None };
        }
        let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr_with_hz(4));
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:24} {pos} % · {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(name.clone());
        Self { name, quiet, bar: Some(bar) }
    }

    /// A line that stays.
    fn tell(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| output::tell(line)),
            None => output::tell(line),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Listener for Bar {
    fn hear(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), ListenerError> {
        let BenchmarkEvent::Worker(event) = event else { return Ok(()) };
        match (event, &self.bar) {
            (Event::MemoryNeeded { parts }, _) => {
                self.tell(&format!("{}: {}", self.name, memory(parts)));
            }
            (Event::Progress { fraction, note }, Some(bar)) => {
                let note = crate::orchestrator::reason::printable(note);
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

/// `needs 58.1 MiB of memory: 12.2 MiB weights, 45.9 MiB for …`.
fn memory(parts: &[MemoryPart]) -> String {
    let all = format_bytes(parts.iter().map(|part| part.bytes).sum());
    let parts: Vec<String> = parts
        .iter()
        .map(|part| format!("{} for {}", format_bytes(part.bytes), part.purpose))
        .collect();
    format!("needs {all} of memory: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_with_what_it_is_for() {
        let part = |purpose: &str, bytes| MemoryPart { purpose: purpose.to_owned(), bytes };
        assert_eq!(
            memory(&[part("weights", 1 << 30), part("a chunk", 1 << 29)]),
            "needs 1.50 GiB of memory: 1.00 GiB for weights, 512 MiB for a chunk"
        );
    }
}
