//! The child: parses and renders what it is sent, within limits that it sets itself before it reads
//! anything.

use super::{Dialect, Fault, TemplateReply, TemplateRequest};
use crate::prompt::environment::{in_words, raised};
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

/// Bytes of memory that templates may take beyond what the program has when it starts.
pub(super) const MEMORY: u64 = 512 << 20;

/// Seconds of processor time that one request may take, give or take half a second: the system counts
/// whole ones.
pub(super) const SECONDS: u64 = 1;

/// Bytes that one rendering may yield, besides eight for each byte that it was given.
const YIELD: usize = 1 << 20;

/// Characters of an error message that are kept.
const ERROR: usize = 500;

/// Renders until the other side closes the socket.
pub fn main() -> ExitCode {
    limit_memory();
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let socket = File::from(socket);
    match serve(&socket, &socket, limit_time) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Answers requests; `begin` is called before each.
pub(super) fn serve(input: impl Read, mut output: impl Write, begin: impl Fn()) -> io::Result<()> {
    let mut lines = BufReader::new(input).lines();
    let Some(dialect) = lines.next() else { return Ok(()) };
    let mut environment = serde_json::from_str::<Dialect>(&dialect?)?.environment();
    for line in lines {
        let line = line?;
        begin();
        let most = YIELD.saturating_add(line.len().saturating_mul(8));
        let request = serde_json::from_str(&line)?;
        drop(line);
        let mut reply = serde_json::to_vec(&answer(&mut environment, request, most))?;
        reply.push(b'\n');
        output.write_all(&reply)?;
    }
    Ok(())
}

fn answer(
    environment: &mut Environment<'static>,
    request: TemplateRequest,
    most: usize,
) -> TemplateReply {
    match request {
        TemplateRequest::Add { name, source } => environment
            .add_template_owned(name, source)
            .map(|()| Vec::new())
            .map_err(|error| Fault::Syntax(short(&in_words(&error)))),
        TemplateRequest::Render { name, values } => {
            let template = environment.get_template(&name).map_err(|error| fault(&error))?;
            let mut left = most;
            let mut render = |value: serde_json::Value| {
                let mut sink = Sink { text: Vec::new(), most: left };
                let rendered = template.render_captured_to(Value::from(Serde(&value)), &mut sink);
                match rendered {
                    Err(error) if error.kind() == ErrorKind::WriteFailure => {
                        let reason = format!("it yields more than {} MiB", most.div_ceil(1 << 20));
                        Err(Fault::Failed(reason))
                    }
                    Err(error) => Err(fault(&error)),
                    Ok(_) => {
                        left = left.saturating_sub(sink.text.len());
                        Ok(String::from_utf8_lossy(&sink.text).into_owned())
                    }
                }
            };
            values.into_iter().map(&mut render).collect()
        }
    }
}

/// What a template yields, up to a limit.
struct Sink {
    text: Vec<u8>,
    most: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fault(error: &Error) -> Fault {
    match raised(error) {
        Some(message) => Fault::Refused(short(&message)),
        None if error.kind() == ErrorKind::OutOfFuel => {
            Fault::Ended("it takes too many steps".to_owned())
        }
        None => Fault::Failed(short(&in_words(error))),
    }
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().take(ERROR).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Where the system tells how much there is (Linux), and keeps to the limit.
fn limit_memory() {
    let now = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = now.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    if let Some(pages) = pages {
        lower(Resource::As, pages * rustix::param::page_size() as u64 + MEMORY);
    }
    // What ends here is a template, and leaves no file behind.
    lower(Resource::Core, 0);
}

/// Processor time from now on; the system ends the process when it is used up.
fn limit_time() {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let rounded = used.tv_sec + i64::from(used.tv_nsec >= 500_000_000);
    lower(Resource::Cpu, u64::try_from(rounded).unwrap_or(0) + SECONDS);
}

fn lower(resource: Resource, limit: u64) {
    let maximum = getrlimit(resource).maximum;
    let current = Some(maximum.map_or(limit, |maximum| limit.min(maximum)));
    // A limit that cannot be set leaves the others, and the other side's patience.
    let _ = setrlimit(resource, Rlimit { current, maximum });
}
