//! This machine: workers as child processes of the same binary.

use super::environment::{Build, environment};
use super::interrupt::Interrupt;
use super::lines::{Line, Lines};
use super::{Exit, Host, HostError, Worker, WorkerMessage};
use crate::causes::Problem;
use crate::engine::onnxruntime::library;
use crate::hardware::monitor::{Monitor, Watched};
use crate::hardware::probe::Machine;
use crate::model::hub::SECRET_VARIABLES;
use crate::results::record::{Environment, LOCAL};
use crate::worker::hello::Hello;
use crate::worker::protocol::{Event, Job, Phase, WorkOrder};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Names another program to be started as the worker: what tests of hangs and crashes need, and
/// whoever wants to run workers under a debugger.
pub const WORKER_VARIABLE: &str = "QUANTBENCH_WORKER";

/// The subcommand that turns this binary into a worker.
pub const WORKER_SUBCOMMAND: &str = "worker";

/// How often the monitor looks at a worker.
const MONITOR_INTERVAL: Duration = Duration::from_millis(100);

/// Longest event: a quality event has two numbers per chunk of text, some megabytes for a book.
const EVENT_LIMIT: usize = 64 << 20;

/// Longest line of a worker's standard error that is kept.
const LOG_LINE_LIMIT: usize = 1 << 10;

/// Lines of a worker's standard error that are kept.
const STDERR_LINES: usize = 40;

/// How long a process that was killed, or its last words, are waited for.
const REAP_LIMIT: Duration = Duration::from_secs(5);

/// Starts workers as child processes.
#[derive(Debug)]
pub struct LocalHost {
    program: PathBuf,
    /// Another build: the version of its engine, and its program.
    other: Option<(String, PathBuf)>,
    uses_other: bool,
    build: Build,
    interrupt: Interrupt,
}

impl LocalHost {
    /// Workers run the program that `QUANTBENCH_WORKER` names, else this binary, which is `build`.
    ///
    /// # Errors
    /// The system does not tell where this binary is.
    pub fn new(build: Build, interrupt: Interrupt) -> io::Result<Self> {
        let named = std::env::var_os(WORKER_VARIABLE).filter(|program| !program.is_empty());
        let program = match named {
            Some(program) => PathBuf::from(program),
            None => own_program()?,
        };
        Ok(Self::with_program(program, build, interrupt))
    }

    /// Workers run this program.
    pub fn with_program(program: PathBuf, build: Build, interrupt: Interrupt) -> Self {
        Self { program, other: None, uses_other: false, build, interrupt }
    }

    /// With workers of another build besides, for trials whose engine has this version.
    #[must_use]
    pub fn with_other(self, version: String, program: PathBuf) -> Self {
        Self { other: Some((version, program)), ..self }
    }
}

fn own_program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    // On Linux a binary that was replaced since it started is still there under this name.
    let always = Path::new("/proc/self/exe");
    if !program.exists() && always.exists() { Ok(always.to_owned()) } else { Ok(program) }
}

impl Host for LocalHost {
    type Worker = LocalWorker;

    fn name(&self) -> &str {
        LOCAL
    }

    async fn environment(&mut self) -> Result<Environment, HostError> {
        Ok(environment(&Machine::probe(), &self.build))
    }

    fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    fn choose_build(&mut self, version: Option<&str>) {
        self.uses_other =
            self.other.as_ref().is_some_and(|(other, _)| Some(other.as_str()) == version);
    }

    async fn start(&mut self, job: &Job) -> Result<LocalWorker, HostError> {
        let other = self.other.as_ref().filter(|_| self.uses_other).map(|(_, program)| program);
        let program = other.unwrap_or(&self.program);
        let failed = |source| {
            Problem::because(format!("cannot start the worker {}", program.display()), source)
        };
        let mut command = Command::new(program);
        command
            .arg(WORKER_SUBCOMMAND)
            // Where a debugger is installed ggml has it print a backtrace on standard output, which is ours, before
            // it says on standard error why it aborts.
            .env("GGML_NO_BACKTRACE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(library) = library::chosen() {
            command.env(library::VARIABLE, library);
        }
        for name in SECRET_VARIABLES {
            command.env_remove(name);
        }
        // In a group of its own a worker does not hear the terminal's Ctrl-C: how it ends is for
        // the orchestrator to say.
        command.process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let no_pipe = || failed(io::Error::other("no pipe to the worker"));
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let stdout = child.stdout.take().ok_or_else(no_pipe)?;
        let stderr = child.stderr.take().ok_or_else(no_pipe)?;
        let mut lines = Hello::default().line();
        serde_json::to_writer(&mut lines, &WorkOrder::new(job))
            .map_err(|error| failed(error.into()))?;
        lines.push(b'\n');
        let stderr_tail = StderrTail::default();
        let monitor = child.id().map(|pid| Monitor::start(pid, MONITOR_INTERVAL));
        let mut worker = LocalWorker {
            child,
            stdout: Lines::new(stdout, EVENT_LIMIT),
            is_known: false,
            phase: Phase::Start,
            monitor,
            writing: tokio::spawn(write_and_keep_open(stdin, lines)),
            listening: tokio::spawn(listen(stderr, stderr_tail.clone())),
            stderr_tail,
            interrupt: self.interrupt.clone(),
        };
        worker.begin(Phase::Start);
        Ok(worker)
    }
}

/// A job is larger than a pipe holds, and a worker that hangs never reads it: the orchestrator does
/// not wait. The pipe stays open until the task is dropped, for a worker whose standard input ends
/// knows that the orchestrator is gone.
async fn write_and_keep_open(mut stdin: ChildStdin, lines: Vec<u8>) {
    // A worker that closed its input says why on another pipe, or by its exit.
    if stdin.write_all(&lines).await.is_ok() && stdin.flush().await.is_ok() {
        std::future::pending::<()>().await;
    }
}

async fn listen(stderr: ChildStderr, stderr_tail: StderrTail) {
    let mut lines = Lines::new(stderr, LOG_LINE_LIMIT);
    loop {
        match lines.next().await {
            Line::Whole(line) | Line::TooLong(line) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                tracing::debug!(target: "worker", "{line}");
                stderr_tail.add(line);
            }
            Line::End => return,
        }
    }
}

/// The last lines that a worker wrote to its standard error.
#[derive(Debug, Clone, Default)]
struct StderrTail(Arc<Mutex<VecDeque<String>>>);

impl StderrTail {
    fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == STDERR_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A worker that is a child process.
#[derive(Debug)]
pub struct LocalWorker {
    child: Child,
    stdout: Lines<ChildStdout>,
    /// It has said which version it is.
    is_known: bool,
    /// The phase that it is in.
    phase: Phase,
    /// `None` if it was gone before it could be watched, and once that is over.
    monitor: Option<Monitor<Phase>>,
    writing: JoinHandle<()>,
    listening: JoinHandle<()>,
    stderr_tail: StderrTail,
    interrupt: Interrupt,
}

impl Worker for LocalWorker {
    async fn next(&mut self, limit: Duration) -> WorkerMessage {
        let mut interrupt = self.interrupt.clone();
        tokio::select! {
            () = interrupt.wait() => WorkerMessage::Interrupted,
            message = self.message() => message,
            () = sleep(limit) => WorkerMessage::Silence,
        }
    }

    async fn usage(&mut self) -> Watched<Phase> {
        self.monitor.take().map(Monitor::finish).unwrap_or_default()
    }

    async fn kill(&mut self) -> Exit {
        self.start_kill();
        let exit = match timeout(REAP_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) => exit_of(status),
            Ok(Err(_)) | Err(_) => Exit::default(),
        };
        self.writing.abort();
        self.with_stderr_tail(exit).await
    }
}

impl LocalWorker {
    /// Waits for what the worker says next. Nothing is lost when the wait is given up.
    pub(super) async fn message(&mut self) -> WorkerMessage {
        loop {
            let line = match self.stdout.next().await {
                Line::Whole(line) => line,
                Line::TooLong(line) => return unreadable(&line),
                Line::End => {
                    let exit = self.child.wait().await.map(exit_of).unwrap_or_default();
                    return WorkerMessage::Ended(self.with_stderr_tail(exit).await);
                }
            };
            if self.is_known {
                let message = parse_message(&line);
                if let WorkerMessage::Event(event) = &message
                    && let Event::Phase(phase) = &**event
                    // A worker's own first phase is the one that began when it was started.
                    && *phase != self.phase
                {
                    self.begin(phase.clone());
                }
                return message;
            }
            match Hello::check(&line, "the worker") {
                Ok(()) => self.is_known = true,
                Err(Some(reason)) => return WorkerMessage::Mismatch(reason),
                Err(None) => return unreadable(&line),
            }
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase.clone();
        if let Some(monitor) = &self.monitor {
            monitor.begin(phase);
        }
    }

    /// Ends the process and, where one was started by another, its whole group.
    fn start_kill(&mut self) {
        // Once it was waited for, its number may be another's; then there is nothing to end.
        if let Some(group) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let group = rustix::process::Pid::from_raw(group);
            // It may have ended by itself already.
            let _ = group.map(|group| {
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
            });
        }
        let _ = self.child.start_kill();
    }

    /// Waits for the end of standard error, but not for ever: a grandchild may hold it open.
    async fn with_stderr_tail(&mut self, exit: Exit) -> Exit {
        if !self.listening.is_finished() {
            let _ = timeout(REAP_LIMIT, &mut self.listening).await;
        }
        Exit { stderr_tail: self.stderr_tail.get(), ..exit }
    }
}

impl Drop for LocalWorker {
    fn drop(&mut self) {
        self.start_kill();
        self.writing.abort();
        self.listening.abort();
    }
}

/// An event, or a line that is none.
pub(crate) fn parse_message(line: &[u8]) -> WorkerMessage {
    match serde_json::from_slice::<Event>(line) {
        Ok(event) => WorkerMessage::Event(Box::new(event)),
        Err(_) => unreadable(line),
    }
}

fn unreadable(line: &[u8]) -> WorkerMessage {
    let shown = &line[..line.len().min(LOG_LINE_LIMIT)];
    WorkerMessage::Unreadable(String::from_utf8_lossy(shown).into_owned())
}

fn exit_of(status: ExitStatus) -> Exit {
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Exit { code: status.code(), signal, stderr_tail: Vec::new() }
}

#[cfg(test)]
mod tests;
