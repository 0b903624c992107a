//! Templates rendered where time and memory are limited: in a child process of this program.
//!
//! A template is a stranger's program. Fuel ends its loops, but a single step may take any amount of
//! time or memory (`'{:9000000000}'.format(1)`), and what nests too deep ends the stack, which no
//! program survives. So each set of templates has a child that parses and renders them (`child.rs`);
//! a template that ends the child yields an error from then on, and the others get a new child.
//!
//! Both speak JSON lines over one socket, the child's standard input. Tests of the library render in
//! a thread in place of the child, for their program has no such subcommand.

mod child;

pub use child::main;

use super::environment::{environment, strict_environment};
use minijinja::Environment;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;

/// The subcommand that turns this program into the child.
pub const SUBCOMMAND: &str = "renderer";

/// How long the child is waited for: much longer than the processor time that it may take, for the
/// machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// Bytes of the child's last words that are looked at.
const STDERR_BYTES: u64 = 4096;

/// Why a template yields no text; one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// It is no template.
    #[error("{0}")]
    Syntax(String),
    /// It calls `raise_exception`.
    #[error("{0}")]
    Refused(String),
    /// It fails.
    #[error("{0}")]
    Failed(String),
    /// It was ended, and is not tried again.
    #[error("{0}")]
    Ended(String),
}

/// Whose rules templates are rendered by.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Dialect {
    /// As transformers renders chat templates; `strftime_now` tells this time.
    Chat(#[serde(with = "time::serde::rfc3339")] OffsetDateTime),
    /// As the templates of tasks are.
    Task,
}

impl Dialect {
    fn environment(self) -> Environment<'static> {
        match self {
            Self::Chat(now) => environment(now),
            Self::Task => strict_environment(),
        }
    }
}

/// What the child is asked, after one line with the dialect.
#[derive(Debug, Serialize, Deserialize)]
enum TemplateRequest {
    /// Parse a template.
    Add { name: String, source: String },
    /// Render it once with each of these values.
    Render { name: String, values: Vec<Value> },
}

/// What it says.
type TemplateReply = Result<Vec<String>, Fault>;

/// Templates by name, and the child that renders them.
#[derive(Debug)]
pub struct Sandbox {
    dialect: Dialect,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Names and sources of those that were parsed, for the next child.
    known: Vec<(String, String)>,
    /// Those that ended a child.
    ended: HashMap<String, Fault>,
    connection: Option<Connection>,
}

impl Sandbox {
    /// For chat templates; `now` is what `strftime_now` tells. Nothing is started before a template is added.
    pub fn chat(now: OffsetDateTime) -> Self {
        Self { dialect: Dialect::Chat(now), inner: Mutex::default() }
    }

    /// For the templates of tasks.
    pub fn task() -> Self {
        Self { dialect: Dialect::Task, inner: Mutex::default() }
    }

    /// Adds a template.
    ///
    /// # Errors
    /// It cannot be parsed, or no child can be started.
    pub fn add(&self, name: &str, source: &str) -> Result<(), Fault> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, source) = (name.to_owned(), source.to_owned());
        inner.known.retain(|(known, _)| *known != name);
        inner.ended.remove(&name);
        let request = TemplateRequest::Add { name: name.clone(), source: source.clone() };
        inner.ask(self.dialect, &name, &request)?;
        inner.known.push((name, source));
        Ok(())
    }

    /// Renders a template once with each of `values`.
    ///
    /// # Errors
    /// [`Fault`] of the first that fails.
    pub fn render(&self, name: &str, values: Vec<Map<String, Value>>) -> TemplateReply {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let values = values.into_iter().map(Value::Object).collect();
        inner.ask(self.dialect, name, &TemplateRequest::Render { name: name.to_owned(), values })
    }

    /// Renders a template.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn render_one(&self, name: &str, values: Map<String, Value>) -> Result<String, Fault> {
        Ok(self.render(name, vec![values])?.pop().unwrap_or_default())
    }
}

impl Inner {
    /// Has the child do something with the template called `name`.
    fn ask(&mut self, dialect: Dialect, name: &str, request: &TemplateRequest) -> TemplateReply {
        if let Some(fault) = self.ended.get(name) {
            return Err(fault.clone());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(dialect)?,
        };
        let reply = match connection.ask(request) {
            Ok(reply) => {
                self.connection = Some(connection);
                reply
            }
            Err(error) => Err(Fault::Ended(connection.post_mortem(&error))),
        };
        if let Err(fault @ Fault::Ended(_)) = &reply {
            self.ended.insert(name.to_owned(), fault.clone());
        }
        reply
    }

    /// A new child that knows the templates.
    fn connect(&self, dialect: Dialect) -> Result<Connection, Fault> {
        let failed = |error: io::Error| {
            Fault::Failed(format!("the process that renders it cannot be started: {error}"))
        };
        let mut connection = Connection::start(dialect).map_err(failed)?;
        for (name, source) in &self.known {
            let request = TemplateRequest::Add { name: name.clone(), source: source.clone() };
            // They were parsed before.
            let _ = connection.ask(&request).map_err(failed)?;
        }
        Ok(connection)
    }
}

/// The other end of a child's socket; dropping it ends the child.
#[derive(Debug)]
struct Connection {
    socket: BufReader<UnixStream>,
    child: Option<Child>,
}

impl Connection {
    fn start(dialect: Dialect) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.set_write_timeout(Some(PATIENCE))?;
        let child = open(theirs)?;
        let mut connection = Self { socket: BufReader::new(ours), child };
        connection.send(&dialect)?;
        Ok(connection)
    }

    fn send(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.socket.get_mut().write_all(&line)
    }

    fn ask(&mut self, request: &TemplateRequest) -> io::Result<TemplateReply> {
        self.send(request)?;
        let mut line = Vec::new();
        if self.socket.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }

    /// Why the child no longer answers.
    fn post_mortem(mut self, error: &io::Error) -> String {
        let patience = PATIENCE.as_secs();
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            return format!("no end of it after {patience} s");
        }
        let Some(child) = &mut self.child else { return error.to_string() };
        let mut words = Vec::new();
        if let Some(stderr) = &mut child.stderr {
            // What cannot be read says nothing.
            let _ = stderr.take(STDERR_BYTES).read_to_end(&mut words);
        }
        match child.wait() {
            Ok(status) => cause(status, &String::from_utf8_lossy(&words)),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself; either way it is not left behind as a zombie.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Why a child ended, told from its status and its last words.
fn cause(status: ExitStatus, words: &str) -> String {
    use rustix::process::Signal;
    use std::os::unix::process::ExitStatusExt as _;
    let signal = status.signal();
    let is = |wanted: Signal| signal == Some(wanted.as_raw());
    let memory = child::MEMORY >> 20;
    if is(Signal::XCPU) {
        format!("it takes more than {} s of processor time", child::SECONDS)
    } else if words.contains("overflowed its stack") || is(Signal::SEGV) {
        "it nests too deep, or refers to itself".to_owned()
    } else if words.contains("memory allocation of") || words.contains("capacity overflow") {
        format!("it takes more memory than the {memory} MiB that it may")
    } else {
        format!("the process that renders it ended ({status})")
    }
}

/// Starts the child with its end of the socket.
#[cfg(not(test))]
fn open(theirs: UnixStream) -> io::Result<Option<Child>> {
    use crate::model::hub::SECRET_VARIABLES;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::process::{Command, Stdio};
    // On Linux a program that was replaced since it started is still there under this name.
    let always = Path::new("/proc/self/exe");
    let program = if always.exists() { always.to_owned() } else { std::env::current_exe()? };
    let mut command = Command::new(program);
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    command
        .arg(SUBCOMMAND)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map(Some)
}

/// The same in a thread.
#[cfg(test)]
#[expect(clippy::unnecessary_wraps, reason = "as the other one")]
fn open(theirs: UnixStream) -> io::Result<Option<Child>> {
    std::thread::spawn(move || child::serve(&theirs, &theirs, || ()));
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("{value}") };
        map
    }

    #[test]
    fn templates_are_rendered_once_with_each_of_the_values() {
        let sandbox = Sandbox::task();
        sandbox.add("a", "{{ x }}\n").unwrap();
        let each = vec![values(json!({ "x": "1\n\"ü\"" })), values(json!({ "x": 2 }))];
        assert_eq!(sandbox.render("a", each).unwrap(), ["1\n\"ü\"\n", "2\n"]);
        assert_eq!(sandbox.render("a", Vec::new()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn faults_are_told_apart() {
        let sandbox = Sandbox::chat(OffsetDateTime::UNIX_EPOCH);
        assert!(matches!(sandbox.add("a", "{% if"), Err(Fault::Syntax(_))));
        sandbox.add("b", "{{ raise_exception('no') }}").unwrap();
        sandbox.add("c", "{{ 1 / 0 }}").unwrap();
        let fault = |name: &str| sandbox.render_one(name, Map::new()).unwrap_err();
        assert_eq!(fault("b"), Fault::Refused("no".to_owned()));
        assert!(matches!(fault("c"), Fault::Failed(_)));
        assert!(matches!(fault("d"), Fault::Failed(_)));
    }

    #[test]
    fn a_template_that_was_ended_is_not_tried_again_and_others_go_on() {
        let sandbox = Sandbox::task();
        sandbox.add("good", "{{ 1 }}").unwrap();
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        sandbox.add("endless", endless).unwrap();
        let fault = || sandbox.render_one("endless", Map::new()).unwrap_err();
        assert!(matches!(fault(), Fault::Ended(_)));
        assert_eq!(sandbox.inner.lock().unwrap().ended.len(), 1);
        assert_eq!(sandbox.render_one("good", Map::new()).unwrap(), "1");
        // The next child knows what the one before knew.
        sandbox.inner.lock().unwrap().connection = None;
        assert_eq!(sandbox.render_one("good", Map::new()).unwrap(), "1");
        assert!(matches!(fault(), Fault::Ended(_)));
    }

    #[test]
    fn what_a_rendering_yields_is_limited() {
        let sandbox = Sandbox::chat(OffsetDateTime::UNIX_EPOCH);
        sandbox.add("long", "{% for i in range(9000) %}{{ 'x' * 1000 }}{% endfor %}").unwrap();
        let fault = sandbox.render_one("long", Map::new()).unwrap_err();
        assert!(matches!(&fault, Fault::Failed(reason) if reason.contains("MiB")), "{fault}");
        sandbox.add("shout", "{{ raise_exception('x' * 100000) }}").unwrap();
        let fault = sandbox.render_one("shout", Map::new()).unwrap_err();
        assert!(fault.to_string().len() < 2000);
    }
}
