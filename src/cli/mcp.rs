//! `quantbench mcp`: what assistants may ask quantbench, over standard input and output (Model Context Protocol).
//!
//! A tool is a command of this program, run as a child with its JSON, so that standard output has nothing but the
//! protocol, a crash ends one answer, and what is said is what a person would be told. `tools` has the list with what
//! each takes, `stored` answers from the store what no command does.

mod stored;
mod tools;

use super::output;
use super::session::runtime;
use crate::causes::{Problem, in_words};
use crate::error::{Error, Outcome};
use clap::Args;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::{ErrorData, ServerHandler, ServiceExt as _};
use serde_json::{Value, json};
use std::io::{self, IsTerminal as _};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::process::{Child, Command};
use tools::Call;

/// Longest time that a command may take which only reads.
const PATIENCE: Duration = Duration::from_mins(10);

/// How long a run may take to begin before its start is told without its name: files are fetched first.
const START: Duration = Duration::from_secs(20);

/// Longest text of an answer, letters; the structured content has all.
const LONGEST_TEXT: usize = 60_000;

/// Flags of `quantbench mcp`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Let the assistant start runs, which take this machine's time and may fetch models; without it nothing is measured
    #[arg(long)]
    pub allow_run: bool,
}

/// Serves until the client closes standard input.
///
/// # Errors
/// If the client does not speak the protocol.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    if io::stdin().is_terminal() {
        output::tell(
            "quantbench mcp waits for an assistant that speaks the Model Context Protocol; name it as the command of a \
             server there, such as {\"command\": \"quantbench\", \"args\": [\"mcp\"]}. Ctrl-D ends it.",
        );
    }
    let server = Server { allow_run: arguments.allow_run, run: Mutex::new(None) };
    runtime()?.block_on(async {
        let failed = |error: Problem| Error::from(error);
        let begun = server.serve((tokio::io::stdin(), tokio::io::stdout())).await;
        let service = begun.map_err(|source| {
            failed(Problem::because("the client did not begin as the protocol asks", source))
        })?;
        service.waiting().await.map_err(|source| {
            failed(Problem::because("the server of the protocol broke off", source))
        })?;
        Ok(Outcome::Done)
    })
}

struct Server {
    allow_run: bool,
    /// The run that was started last; dropped with the server, which ends it.
    run: Mutex<Option<Child>>,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let about = Implementation::new("quantbench", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(about)
            .with_instructions(
                "quantbench measures quantizations of language models on this machine. 'plan' says what fits before \
                 anything is measured; 'list', 'show', 'query' and 'trend' read what was measured; 'recommend' chooses \
                 among measured variants. Figures have 95 % intervals: differences within them are none.",
            )
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::list(self.allow_run)))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let call = tools::call(&request.name, arguments, self.allow_run)
            .map_err(|message| ErrorData::invalid_params(message, None))?;
        let answer = tokio::select! {
            answer = self.answer(call) => answer,
            // Dropping the answer ends its child.
            () = context.ct.cancelled() => Err("cancelled".to_owned()),
        };
        Ok(match answer {
            Ok(Answer { text, structured }) => {
                let mut result = CallToolResult::structured(structured);
                result.content = vec![ContentBlock::text(cut(text))];
                result
            }
            Err(message) => CallToolResult::error(vec![ContentBlock::text(cut(message))]),
        }
        .into())
    }
}

/// What a tool answers: to be read, and to be computed with.
struct Answer {
    text: String,
    structured: Value,
}

impl Server {
    async fn answer(&self, call: Call) -> Result<Answer, String> {
        match call {
            Call::Command { words, reduce } => {
                // What people read first: where that fails there is no more to say.
                let text = command(&words, &[]).await?;
                let json = command(&words, &["--format=json"]).await?;
                let structured = serde_json::from_str(&json).map_err(|error| error.to_string())?;
                Ok(Answer { text, structured: reduce(structured) })
            }
            Call::Recommend(asked) => stored::recommend(&asked).map_err(|error| in_words(&error)),
            Call::Status(run) => {
                let mut answer = stored::status(&run).map_err(|error| in_words(&error))?;
                if let Some(ended) = self.ended()? {
                    answer.text.extend(["\nthe run that was started here ", ended.as_str()]);
                }
                Ok(answer)
            }
            Call::Start(words) => self.start(words).await,
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the run ended that was started last, in words; `None`: it is under way, or there is none.
    fn ended(&self) -> Result<Option<String>, String> {
        let mut child = self.child();
        let Some(child) = child.as_mut() else { return Ok(None) };
        let status = child.try_wait().map_err(|error| error.to_string())?;
        Ok(status.map(|status| match status.code() {
            Some(0) => "is done".to_owned(),
            Some(code) => format!("ended with exit code {code}"),
            None => "was killed".to_owned(),
        }))
    }

    async fn start(&self, words: Vec<String>) -> Result<Answer, String> {
        if self.child().is_some() && self.ended()?.is_none() {
            return Err(
                "a run that was started here is still under way; run_status tells how far it is"
                    .to_owned(),
            );
        }
        let before = stored::newest().map_err(|error| in_words(&error))?;
        let mut child = child(&words, Stdio::null())?;
        let said = child.stderr.take();
        *self.child() = Some(child);
        // Read all along, or the child would wait for room in the pipe.
        let said = tokio::spawn(async move {
            let mut text = Vec::new();
            if let Some(mut said) = said {
                let _ = tokio::io::AsyncReadExt::read_to_end(&mut said, &mut text).await;
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        let deadline = tokio::time::Instant::now() + START;
        loop {
            let newest = stored::newest().map_err(|error| in_words(&error))?;
            if let Some(run) = newest.filter(|newest| Some(newest) != before.as_ref()) {
                let text = format!(
                    "run {run} is under way; run_status tells how far it is, show what it measured"
                );
                return Ok(Answer {
                    text,
                    structured: json!({ "run": run, "state": "under way" }),
                });
            }
            if let Some(ended) = self.ended()? {
                let said = said.await.unwrap_or_default();
                return Err(format!("the run {ended}\n{}", said.trim()));
            }
            if tokio::time::Instant::now() > deadline {
                let text = "the run is being prepared: files are fetched or made; run_status tells when it has begun";
                return Ok(Answer {
                    text: text.to_owned(),
                    structured: json!({ "run": null, "state": "preparing" }),
                });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// This program with these arguments, as a child that ends with what waits for it.
fn child(words: &[String], stdout: Stdio) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(words).env("NO_COLOR", "1").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    command.spawn().map_err(|error| format!("quantbench could not be started: {error}"))
}

/// What a command prints; where it is refused, what it says instead.
async fn command(words: &[String], more: &[&str]) -> Result<String, String> {
    // Flags stand before the first name.
    let (name, rest) = words.split_first().ok_or("no command")?;
    let more = more.iter().map(|&word| word.to_owned());
    let words: Vec<String> =
        std::iter::once(name.clone()).chain(more).chain(rest.to_vec()).collect();
    let child = child(&words, Stdio::piped())?;
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let ended = ended
        .map_err(|_| format!("stopped after {} minutes", PATIENCE.as_secs() / 60))?
        .map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match ended.status.code() {
        // Where there is nothing to show, why.
        Some(0) if ended.stdout.is_empty() => Ok(text(&ended.stderr).trim().to_owned()),
        // 1 and 3 are answers, too: nothing fits, something failed.
        Some(0 | 1 | 3) if !ended.stdout.is_empty() => Ok(text(&ended.stdout)),
        _ => Err(text(&ended.stderr).trim().to_owned()),
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!(
            "{}\n… the structured content has the rest; \"is_cut\" in it says whether there were more rows",
            &text[..end]
        ),
        None => text,
    }
}
