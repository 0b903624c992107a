//! The end that asks: a host whose workers an agent starts.

use super::{CHUNK, LINE_LIMIT, Message, Reply, Request};
use crate::causes::{Problem, in_words};
use crate::files;
use crate::hardware::monitor::Watched;
use crate::host::interrupt::Interrupt;
use crate::host::lines::{Line, Lines};
use crate::host::{Exit, Host, HostError, Worker, WorkerMessage};
use crate::model::artifact::{ArtifactRef, RefKind};
use crate::results::record::Environment;
use crate::worker::hello::Hello;
use crate::worker::protocol::{Event, Job, Phase};
use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A machine that an agent speaks for.
#[derive(Debug)]
pub struct AgentHost {
    name: String,
    interrupt: Interrupt,
    connection: Arc<Mutex<Connection>>,
}

/// A worker on such a machine. It is gone at the latest when the next one starts, or the connection ends.
#[derive(Debug)]
pub struct AgentWorker {
    interrupt: Interrupt,
    connection: Arc<Mutex<Connection>>,
    /// What its job makes and the agent has to send.
    outputs: Vec<ArtifactRef>,
}

struct Connection {
    host: String,
    lines: Lines<Box<dyn AsyncRead + Unpin + Send>>,
    output: Box<dyn AsyncWrite + Unpin + Send>,
    /// Why nothing is sent any more.
    lost: Option<String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("host", &self.host).finish_non_exhaustive()
    }
}

impl AgentHost {
    /// Greets the agent at the other end of a pair of pipes. `name` is what the host is called.
    ///
    /// # Errors
    /// Nobody answers, or the other end is of another version.
    pub async fn connect(
        name: &str,
        input: impl AsyncRead + Unpin + Send + 'static,
        output: impl AsyncWrite + Unpin + Send + 'static,
        interrupt: Interrupt,
    ) -> Result<Self, HostError> {
        let mut connection = Connection {
            host: name.to_owned(),
            lines: Lines::new(Box::new(input), LINE_LIMIT),
            output: Box::new(output),
            lost: None,
        };
        // An agent of another version may be gone before it has read this; what it said is there all the same.
        let _ = connection.write(&Hello::default().line()).await;
        let line = timeout(PATIENCE, connection.lines.next()).await;
        let Ok(Line::Whole(line) | Line::TooLong(line)) = line else {
            return Err(connection.lost("no agent answers"));
        };
        Hello::check(&line, "the agent").map_err(|reason| {
            let reason = reason.unwrap_or_else(|| {
                let line = String::from_utf8_lossy(&line[..line.len().min(200)]);
                let line = crate::model::text::printable(&line);
                format!("it is no agent of quantbench: it says '{line}'")
            });
            Problem::new(format!("host '{name}': {reason}"))
        })?;
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { name: name.to_owned(), interrupt, connection })
    }

    /// Has a file on the host.
    async fn have(&self, file: &ArtifactRef) -> Result<(), HostError> {
        let mut connection = self.connection.lock().await;
        if let Reply::Has(true) = connection.ask(&Request::Have(file.clone())).await? {
            return Ok(());
        }
        connection.ask(&Request::Put(file.clone())).await?;
        for (name, path) in file.files() {
            connection.ask(&Request::File(name)).await?;
            let unreadable = |source| {
                let (path, host) = (path.display(), &self.name);
                Problem::because(format!("cannot read {path} to send it to host '{host}'"), source)
            };
            let mut opened = files::open(&path).map_err(unreadable)?;
            let mut chunk = vec![0; CHUNK];
            loop {
                let bytes = opened.read(&mut chunk).map_err(unreadable)?;
                if bytes == 0 {
                    break;
                }
                if self.interrupt.is_raised() {
                    return Err(connection.lost("the user wants to stop"));
                }
                connection.ask_with(&Request::Chunk(bytes), &chunk[..bytes]).await?;
            }
        }
        connection.ask(&Request::Stored).await.map(|_| ())
    }
}

impl Host for AgentHost {
    type Worker = AgentWorker;

    fn name(&self) -> &str {
        &self.name
    }

    async fn environment(&mut self) -> Result<Environment, HostError> {
        let mut connection = self.connection.lock().await;
        match connection.ask(&Request::Probe).await? {
            Reply::Environment(environment) => Ok(*environment),
            _ => Err(connection.lost("it answered something else than it was asked")),
        }
    }

    async fn start(&mut self, job: &Job) -> Result<AgentWorker, HostError> {
        let files = job.files();
        for file in files.iter().filter(|file| file.kind.is_input()) {
            self.have(file).await?;
        }
        self.connection.lock().await.ask(&Request::Start(Box::new(job.clone()))).await?;
        Ok(AgentWorker {
            interrupt: self.interrupt.clone(),
            connection: Arc::clone(&self.connection),
            outputs: files.into_iter().filter(|file| file.kind == RefKind::Output).collect(),
        })
    }

    fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }
}

impl Worker for AgentWorker {
    async fn next(&mut self, limit: Duration) -> WorkerMessage {
        let mut connection = self.connection.lock().await;
        let heard = tokio::select! {
            () = self.interrupt.wait() => return WorkerMessage::Interrupted,
            heard = connection.hear() => heard,
            () = sleep(limit) => return WorkerMessage::Silence,
        };
        let said = match heard {
            Ok(Message::Worker(said)) => said,
            Ok(Message::Reply(_)) => {
                return WorkerMessage::Lost("the agent answered unasked".to_owned());
            }
            Err(error) => return WorkerMessage::Lost(in_words(&error)),
        };
        if matches!(&said, WorkerMessage::Event(event) if matches!(**event, Event::Done { .. })) {
            for output in &self.outputs {
                match connection.get(output, &self.interrupt).await {
                    Ok(()) => {}
                    Err(_) if self.interrupt.is_raised() => return WorkerMessage::Interrupted,
                    Err(error) => return WorkerMessage::Lost(in_words(&error)),
                }
            }
        }
        said
    }

    async fn usage(&mut self) -> Watched<Phase> {
        match self.connection.lock().await.ask(&Request::Usage).await {
            Ok(Reply::Usage(watched)) => *watched,
            _ => Watched::default(),
        }
    }

    async fn kill(&mut self) -> Exit {
        match self.connection.lock().await.ask(&Request::Kill).await {
            Ok(Reply::Exit(exit)) => exit,
            _ => Exit::default(),
        }
    }
}

impl Connection {
    /// Nothing more can be asked: an answer that comes late would be taken for the next one's.
    fn lost(&mut self, reason: &str) -> HostError {
        let reason = self.lost.get_or_insert_with(|| reason.to_owned()).clone();
        HostError::Lost { host: self.host.clone(), reason }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.output.write_all(bytes).await?;
        self.output.flush().await
    }

    async fn ask(&mut self, request: &Request) -> Result<Reply, HostError> {
        self.ask_with(request, &[]).await
    }

    /// Sends a request and what comes behind it, and waits for the answer. What a worker says meanwhile is of one that
    /// nobody listens to any more.
    async fn ask_with(&mut self, request: &Request, behind: &[u8]) -> Result<Reply, HostError> {
        if self.lost.is_some() {
            return Err(self.lost(""));
        }
        let mut line =
            serde_json::to_vec(request).map_err(|error| self.lost(&error.to_string()))?;
        line.push(b'\n');
        line.extend_from_slice(behind);
        let answered = timeout(PATIENCE, async {
            if let Err(error) = self.write(&line).await {
                return Err(self.lost(&error.to_string()));
            }
            loop {
                match self.hear().await? {
                    Message::Reply(reply) => return Ok(reply),
                    Message::Worker(_) => {}
                }
            }
        });
        match answered.await {
            Ok(Ok(Reply::Refused(reason))) => {
                Err(Problem::new(format!("host '{}' refused: {reason}", self.host)).into())
            }
            Ok(answer) => answer,
            Err(_) => Err(self.lost("it does not answer")),
        }
    }

    /// Waits for the next message. Nothing is lost when the wait is given up.
    async fn hear(&mut self) -> Result<Message, HostError> {
        match self.lines.next().await {
            Line::Whole(line) => serde_json::from_slice(&line)
                .map_err(|error| self.lost(&format!("it says what is no message ({error})"))),
            Line::TooLong(_) => Err(self.lost("it sends a line without end")),
            Line::End => Err(self.lost("it was closed at the other end")),
        }
    }

    /// Fetches a file that a job made to where it was ordered.
    async fn get(&mut self, file: &ArtifactRef, interrupt: &Interrupt) -> Result<(), HostError> {
        let host = self.host.clone();
        let failed = |source| {
            let path = file.path.display();
            Problem::because(format!("cannot write what host '{host}' made to {path}"), source)
        };
        let mut written = create(&file.path).map_err(failed)?;
        self.ask(&Request::Get(file.clone())).await?;
        while !interrupt.is_raised() {
            match self.ask(&Request::More).await? {
                Reply::Chunk(0) => return Ok(written.flush().map_err(failed)?),
                Reply::Chunk(bytes) if bytes <= CHUNK => {
                    let chunk = timeout(PATIENCE, self.lines.bytes(bytes)).await;
                    let Ok(Some(chunk)) = chunk else {
                        return Err(self.lost("it does not send what it announced"));
                    };
                    written.write_all(&chunk).map_err(failed)?;
                }
                _ => return Err(self.lost("it answered something else than it was asked")),
            }
        }
        Err(self.lost("the user wants to stop"))
    }
}

fn create(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::create_dir_all(files::folder_of(path))?;
    std::fs::File::create(path)
}
