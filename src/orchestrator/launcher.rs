//! Launchers: what starts a worker, listens to it and ends it.
//!
//! The sequence knows workers only through the traits of this file. The real ones start processes
//! (`process.rs`); the scripted ones (`scripted.rs`) say what a test wrote down, so that the whole
//! sequence runs in a test with exact numbers, no process and no clock.

use crate::hardware::usage::Usage;
use crate::worker::protocol::{Event, Job, Phase};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use time::OffsetDateTime;

/// Starts workers and tells the time: all that the sequence needs of the world outside.
pub trait Launcher {
    /// A started worker.
    type Worker: Worker;
    /// What watches one worker.
    type Monitor: Monitor;

    /// Starts a worker and hands it its job.
    ///
    /// # Errors
    /// The process could not be started at all.
    fn launch(&mut self, job: &Job) -> Result<Self::Worker, LaunchError>;

    /// Starts to watch what a worker uses.
    fn monitor(&mut self, worker: &Self::Worker) -> Self::Monitor;

    /// The time of day.
    fn now(&self) -> OffsetDateTime;

    /// Waits, for machines that grow hot. Returns early when the user wants to stop.
    fn pause(&mut self, length: Duration) -> impl Future<Output = ()>;

    /// Whether the user wants to stop.
    fn is_interrupted(&self) -> bool;
}

/// A started worker. Dropping it ends the process.
pub trait Worker {
    /// Waits for what comes next from the worker, at most `limit` long.
    fn next(&mut self, limit: Duration) -> impl Future<Output = WorkerMessage>;

    /// Ends the process at once and waits until it is gone.
    fn kill(&mut self) -> impl Future<Output = Exit>;
}

/// Watches what one worker uses, phase by phase.
pub trait Monitor {
    /// A phase begins; the one before it is over.
    fn begin(&mut self, phase: &Phase);

    /// Stops and returns what each phase used, in order.
    fn finish(self) -> Vec<(Phase, Usage)>;
}

/// What comes next from a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerMessage {
    /// It reported something.
    Event(Box<Event>),
    /// It wrote a line that is no event; the line, made printable and shortened.
    Unreadable(String),
    /// It wrote nothing for as long as it was allowed to be silent.
    Silence,
    /// The process ended.
    Ended(Exit),
    /// The user wants to stop; the worker still runs.
    Interrupted,
}

/// How a worker's process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last lines of its standard error, oldest first.
    pub stderr_tail: Vec<String>,
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the worker {}", program.display())]
pub struct LaunchError {
    /// The program that was to be started.
    pub program: PathBuf,
    /// What the system said.
    pub source: io::Error,
}
