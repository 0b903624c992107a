//! Hosts: where a worker runs. What is above this folder does not know on which machine that is.
//!
//! `local` starts workers as child processes; `agent` has the same done by this program on another machine, at the
//! other end of a pair of pipes; `profile` keeps what this machine was once measured to do. Uses `worker`, `hardware`
//! and `results`; the orchestrator knows hosts by the traits of this file.

pub mod agent;
pub mod environment;
pub mod interrupt;
mod lines;
pub mod local;
pub mod profile;

use crate::causes::Problem;
use crate::hardware::monitor::Watched;
use crate::results::record::Environment;
use crate::worker::protocol::{Event, Job, Phase};
use interrupt::Interrupt;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use time::OffsetDateTime;

/// A machine that does jobs, and the clock of whoever orders them.
pub trait Host {
    /// A started worker.
    type Worker: Worker;

    /// Its name, as runs are stored with it.
    fn name(&self) -> &str;

    /// What it is and runs.
    ///
    /// # Errors
    /// It does not answer.
    fn environment(&mut self) -> impl Future<Output = Result<Environment, HostError>>;

    /// Starts a worker, hands it its job, and begins to watch what it uses.
    ///
    /// # Errors
    /// The host cannot start it at all.
    fn start(&mut self, job: &Job) -> impl Future<Output = Result<Self::Worker, HostError>>;

    /// Says what computes the next job, where there are workers of several builds; `None`: this build.
    fn choose_build(&mut self, _version: Option<&str>) {}

    /// The user's wish to stop.
    fn interrupt(&self) -> &Interrupt;

    /// Whether the user wants to stop.
    fn is_interrupted(&self) -> bool {
        self.interrupt().is_raised()
    }

    /// The time of day where jobs are ordered.
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    /// Waits, for machines that grow hot. Returns early when the user wants to stop.
    fn pause(&mut self, length: Duration) -> impl Future<Output = ()> {
        let mut interrupt = self.interrupt().clone();
        async move {
            tokio::select! {
                () = interrupt.wait() => {}
                () = tokio::time::sleep(length) => {}
            }
        }
    }
}

/// A started worker. Dropping it ends the process.
pub trait Worker {
    /// Waits for what comes next from the worker, at most `limit` long.
    fn next(&mut self, limit: Duration) -> impl Future<Output = WorkerMessage>;

    /// Stops watching and returns what was seen.
    fn usage(&mut self) -> impl Future<Output = Watched<Phase>>;

    /// Ends the process at once and waits until it is gone.
    fn kill(&mut self) -> impl Future<Output = Exit>;
}

/// What comes next from a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerMessage {
    /// It reported something.
    Event(Box<Event>),
    /// It wrote a line that is no event; the beginning of the line.
    Unreadable(String),
    /// It wrote nothing for as long as it was allowed to be silent.
    Silence,
    /// The process ended.
    Ended(Exit),
    /// It is of another version, or no worker at all; why, in a sentence.
    Mismatch(String),
    /// Its host does not answer any more; why, in a sentence.
    Lost(String),
    /// The user wants to stop; the worker still runs.
    Interrupted,
}

/// How a worker's process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last lines of its standard error, oldest first.
    pub stderr_tail: Vec<String>,
}

/// Why a host does not do what it is asked to.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It, or this machine, cannot do what is asked.
    #[error(transparent)]
    Failed(#[from] Problem),
    /// Nothing more is heard of the host.
    #[error("the connection to host '{host}' is lost: {reason}; start its agent again")]
    Lost {
        /// The host's name.
        host: String,
        /// How it was noticed.
        reason: String,
    },
}
