//! Displays: what a run is doing, shown on standard error while it works.
//!
//! On a terminal a few lines are redrawn in place (`terminal.rs`); anywhere else plain lines are
//! written at a modest rate (`plain.rs`). Both read the same `progress.rs`. They hear events and
//! change nothing; the cost of drawing is bounded, since a worker is measuring meanwhile.

mod estimate;
mod figures;
mod plain;
mod progress;
mod terminal;
#[cfg(test)]
mod tests;

use super::event::Listener;
use crate::experiment::resolved::Experiment;
use std::io::{self, IsTerminal};

/// How much is shown while a run works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing.
    Quiet,
    /// Redrawn lines on a terminal, plain lines elsewhere.
    Live,
}

/// The display that fits standard error.
#[must_use]
pub fn for_standard_error(
    experiment: &Experiment,
    verbosity: Verbosity,
) -> Option<Box<dyn Listener>> {
    if verbosity == Verbosity::Quiet {
        return None;
    }
    let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    if io::stderr().is_terminal() && !dumb {
        Some(Box::new(terminal::TerminalDisplay::new(experiment)))
    } else {
        Some(Box::new(plain::PlainDisplay::new(experiment, io::stderr())))
    }
}
