//! The agent's own end: it does what the client asks, beside the workers.

use super::files::Files;
use super::{CHUNK, LINE_LIMIT, Message, Reply, Request};
use crate::causes::in_words;
use crate::host::environment::Build;
use crate::host::interrupt::Interrupt;
use crate::host::lines::{Line, Lines};
use crate::host::local::{LocalHost, LocalWorker};
use crate::host::{Exit, Host as _, HostError, Worker as _, WorkerMessage};
use crate::model::cache::Cache;
use crate::worker::hello::Hello;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

/// Serves a pair of pipes until the input ends, as the client's goodbye.
///
/// # Errors
/// In a sentence: the client is of another version or makes no sense, or this machine cannot serve.
pub fn main(
    build: Build,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| in_words(&error))?;
    let (interrupt, _raise) = Interrupt::new();
    let host = LocalHost::new(build, interrupt).map_err(|error| in_words(&error))?;
    let cache = Cache::open().map_err(|error| in_words(&error))?;
    let files = Files::new(&cache)?;
    let served = runtime.block_on(serve(input, output, host, files));
    // The thread that reads standard input ends only with that.
    runtime.shutdown_background();
    served
}

struct Agent<W> {
    output: W,
    host: LocalHost,
    files: Files,
    worker: Option<LocalWorker>,
    /// The worker may have more to say.
    is_listening: bool,
}

pub(super) async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    input: R,
    mut output: W,
    host: LocalHost,
    files: Files,
) -> Result<(), String> {
    let io = |error: std::io::Error| in_words(&error);
    output.write_all(&Hello::default().line()).await.map_err(io)?;
    output.flush().await.map_err(io)?;
    let mut lines = Lines::new(input, LINE_LIMIT);
    let Line::Whole(line) = lines.next().await else { return Ok(()) };
    Hello::check(&line, "the client").map_err(|reason| {
        reason.unwrap_or_else(|| {
            "an agent is started by another quantbench, at the other end of a pipe".to_owned()
        })
    })?;
    let mut agent = Agent { output, host, files, worker: None, is_listening: false };
    loop {
        let said = async {
            match &mut agent.worker {
                Some(worker) if agent.is_listening => worker.message().await,
                _ => std::future::pending().await,
            }
        };
        let line = tokio::select! {
            line = lines.next() => line,
            said = said => {
                agent.is_listening = !matches!(
                    said,
                    WorkerMessage::Ended(_) | WorkerMessage::Mismatch(_) | WorkerMessage::Lost(_)
                );
                agent.send(&Message::Worker(said)).await?;
                continue;
            }
        };
        let request = match line {
            Line::End => return Ok(()),
            Line::TooLong(_) => return Err("the client sends a line without end".to_owned()),
            Line::Whole(line) => serde_json::from_slice(&line)
                .map_err(|error| format!("the client says what is no request: {error}"))?,
        };
        match request {
            Request::More => match agent.files.more() {
                Ok(bytes) => {
                    let reply = Message::Reply(Reply::Chunk(bytes.len()));
                    agent.send_with(&reply, &bytes).await?;
                }
                Err(reason) => agent.send(&Message::Reply(Reply::Refused(reason))).await?,
            },
            Request::Chunk(bytes) if bytes > CHUNK => {
                return Err(format!("the client sends {bytes} bytes at once; {CHUNK} are allowed"));
            }
            Request::Chunk(bytes) => {
                let Some(bytes) = lines.bytes(bytes).await else { return Ok(()) };
                let reply = reply_of(agent.files.chunk(&bytes));
                agent.send(&Message::Reply(reply)).await?;
            }
            request => {
                let reply = agent.answer(request).await.unwrap_or_else(Reply::Refused);
                agent.send(&Message::Reply(reply)).await?;
            }
        }
    }
}

fn reply_of(result: Result<(), String>) -> Reply {
    result.map_or_else(Reply::Refused, |()| Reply::Done)
}

impl<W: AsyncWrite + Unpin> Agent<W> {
    async fn answer(&mut self, request: Request) -> Result<Reply, String> {
        let refused = |error: HostError| in_words(&error);
        Ok(match request {
            Request::Probe => {
                Reply::Environment(Box::new(self.host.environment().await.map_err(refused)?))
            }
            Request::Have(file) => Reply::Has(self.files.has(&file)),
            Request::Put(file) => reply_of(self.files.begin(file)),
            Request::File(name) => reply_of(self.files.next_file(&name)),
            Request::Stored => reply_of(self.files.finish()),
            Request::Get(file) => reply_of(self.files.open(&file)),
            Request::Start(mut job) => {
                // One at a time: whoever ordered the one before has given it up.
                self.worker = None;
                for file in job.files_mut() {
                    self.files.place(file)?;
                }
                self.worker = Some(self.host.start(&job).await.map_err(refused)?);
                self.is_listening = true;
                Reply::Done
            }
            Request::Usage => Reply::Usage(match &mut self.worker {
                Some(worker) => worker.usage().await.into(),
                None => Box::default(),
            }),
            Request::Kill => Reply::Exit(match &mut self.worker.take() {
                Some(worker) => worker.kill().await,
                None => Exit::default(),
            }),
            Request::More | Request::Chunk(_) => Reply::Done,
        })
    }

    async fn send(&mut self, message: &Message) -> Result<(), String> {
        self.send_with(message, &[]).await
    }

    async fn send_with(&mut self, message: &Message, behind: &[u8]) -> Result<(), String> {
        let mut line = serde_json::to_vec(message).map_err(|error| in_words(&error))?;
        line.push(b'\n');
        line.extend_from_slice(behind);
        let sent = self.output.write_all(&line).await;
        sent.map_err(|error| in_words(&error))?;
        self.output.flush().await.map_err(|error| in_words(&error))
    }
}
