//! Displays: what a run or one piece of work is doing, shown on standard error.
//!
//! `screen` is the one renderer, on a terminal and in a log. `progress` says in words where a run is, `work` what one
//! worker or download is doing. They hear events and change nothing; the cost of drawing is bounded, since a worker is
//! measuring meanwhile.

mod estimate;
mod figures;
mod progress;
mod run;
mod screen;
#[cfg(test)]
mod tests;
mod work;

pub use estimate::roughly;
pub use work::{WorkDisplay, of_files};

use super::event::Listener;
use crate::experiment::resolved::Experiment;
use run::RunDisplay;
use screen::Screen;

/// The display of a run that fits standard error.
pub fn for_standard_error(experiment: &Experiment) -> Box<dyn Listener> {
    Box::new(RunDisplay::new(experiment, Screen::on_standard_error()))
}
