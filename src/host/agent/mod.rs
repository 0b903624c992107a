//! Agents: this program on another machine, at the other end of a pair of pipes (`ssh board quantbench agent`).
//!
//! Both ends say first which version they are. Then `client` asks, one line of JSON at a time, and `server` answers
//! each request once, in order; what its worker says comes in between. An agent has one worker at a time. Files go as
//! raw bytes behind the line that announces them. When an agent's standard input ends, its worker dies with it.

mod client;
mod files;
mod server;
#[cfg(test)]
mod tests;

pub use client::AgentHost;
pub use server::main;

use super::{Exit, WorkerMessage};
use crate::hardware::monitor::Watched;
use crate::model::artifact::ArtifactRef;
use crate::results::record::Environment;
use crate::worker::protocol::{Job, Phase};
use serde::{Deserialize, Serialize};

/// The subcommand that turns this binary into an agent.
pub const AGENT_SUBCOMMAND: &str = "agent";

/// Longest line, bytes: a worker's longest event, and what it is put into.
const LINE_LIMIT: usize = 65 << 20;

/// Bytes of a file that go behind one line.
const CHUNK: usize = 1 << 20;

/// What an agent is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// What the machine is and runs.
    Probe,
    /// Whether this file is there.
    Have(ArtifactRef),
    /// A file, or a folder of files, comes.
    Put(ArtifactRef),
    /// The next of its files.
    File(String),
    /// So many bytes of that file, behind this line.
    Chunk(usize),
    /// All of it was sent.
    Stored,
    /// Do this job.
    Start(Box<Job>),
    /// Stop watching the worker, and tell what it used.
    Usage,
    /// End the worker.
    Kill,
    /// A file that the last job made is wanted.
    Get(ArtifactRef),
    /// Send the next bytes of it.
    More,
}

/// What an agent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Done,
    Environment(Box<Environment>),
    Has(bool),
    Usage(Box<Watched<Phase>>),
    Exit(Exit),
    /// So many bytes of the file, behind this line; 0: it ends.
    Chunk(usize),
    /// In a sentence.
    Refused(String),
}

/// A line of an agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Reply(Reply),
    Worker(WorkerMessage),
}
