//! A program that takes minutes: its progress is told, and its last lines explain why it failed. Everything that
//! `src/model/` starts is started here.

use crate::causes::Problem;
use crate::model::progress::{Progress, ProgressSink};
use crate::model::stop::Stop;
use crate::model::text::{printable, shortened, without_secrets};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, ErrorKind, PipeReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Lines that explain a failure.
const LAST_LINES: usize = 8;

/// How Python begins to tell where an exception was raised, and how it goes on to the next one.
const TRACEBACK: &str = "Traceback (most recent call last)";
const CHAINS: [&str; 2] = ["During handling of the above", "The above exception was"];

/// How often a program is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Columns of a line beside its bar.
const LONGEST_NOTE: usize = 60;

/// A longer line is cut, bytes.
const LONGEST_LINE: usize = 500;

/// Who hears of a program, and who may end it.
#[derive(Debug, Clone, Default)]
pub(super) struct Listeners {
    pub(super) progress: ProgressSink,
    pub(super) stop: Stop,
}

/// Runs `command` to its end. `what` says what it does, such as `converting Qwen3-0.6B`.
///
/// # Errors
/// It cannot be started, or fails.
pub(super) fn run(what: &str, command: Command, listeners: &Listeners) -> Result<(), Problem> {
    let program = command.get_program().to_string_lossy().into_owned();
    let missing = || Problem::new(format!("there is no '{program}', which {what} needs"));
    run_if_there(what, command, listeners)?.ok_or_else(missing)
}

/// As [`run`]; `None`: there is no such program.
pub(super) fn run_if_there(
    what: &str,
    mut command: Command,
    Listeners { progress, stop }: &Listeners,
) -> Result<Option<()>, Problem> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| Problem::because(format!("cannot run '{program}' for {what}"), source);
    let (reader, writer) = io::pipe().map_err(failed)?;
    // It ends when its standard input does, which is when this process does. What it starts itself ends with it, so
    // it has a group of its own.
    command.stdin(Stdio::piped()).process_group(0);
    command.stderr(writer.try_clone().map_err(failed)?).stdout(writer);
    let wants_to_stop = stop.listen();
    let mut child = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        started => started.map_err(failed)?,
    };
    // The command has the other end of the pipe.
    drop(command);
    // Not every program says that it has begun.
    progress.say(what, &Progress::Note(what.to_owned()));
    let tell = |fraction, note: &str| {
        progress.say(what, &Progress::Fraction(fraction, shortened(note, LONGEST_NOTE)));
    };
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (has_ended, was_stopped) = (AtomicBool::new(false), AtomicBool::new(false));
    let (last, status) = thread::scope(|scope| {
        scope.spawn(|| {
            while !has_ended.load(Ordering::Acquire) {
                if let (true, Some(group)) = (wants_to_stop(), group) {
                    was_stopped.store(true, Ordering::Release);
                    // Until it has been waited for, its number is nobody else's.
                    let _ = kill_process_group(group, Signal::KILL);
                    return;
                }
                thread::park_timeout(POLL);
            }
        });
        let last = lines(reader, tell);
        // Who closes its output may run on, and is still to be ended.
        let status = loop {
            match child.try_wait() {
                Ok(None) => thread::sleep(POLL),
                Ok(Some(status)) => break Ok(status),
                Err(error) => break Err(error),
            }
        };
        has_ended.store(true, Ordering::Release);
        (last, status)
    });
    tell(1.0, "");
    if was_stopped.load(Ordering::Acquire) {
        return Err(Problem::new(format!("{what} was interrupted; nothing of it is left")));
    }
    let status = status.map_err(failed)?;
    if status.success() {
        return Ok(Some(()));
    }
    let said = match Vec::from(last).join("\n  ") {
        last if last.is_empty() => ", without a word".to_owned(),
        last => format!(":\n  {last}"),
    };
    Err(Problem::new(format!("{what} failed ({status}){said}")))
}

/// The last lines, oldest first. `tell` hears of every line, and how far the program is where it says so.
fn lines(reader: PipeReader, tell: impl Fn(f64, &str)) -> VecDeque<String> {
    let mut last = LastLines::default();
    let mut line = Vec::new();
    let mut fraction = 0.0;
    let mut reader = BufReader::new(reader);
    loop {
        let Ok(bytes) = reader.fill_buf() else { return last.lines };
        let is_end = bytes.is_empty();
        let read = bytes.len();
        // Bars are drawn over themselves, line after line.
        for &byte in bytes.iter().chain(is_end.then_some(&b'\n')) {
            if !matches!(byte, b'\r' | b'\n') {
                if line.len() < LONGEST_LINE {
                    line.push(byte);
                }
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            let is_indented = text.starts_with([' ', '\t']);
            let text = without_secrets(&printable(text.trim()));
            line.clear();
            if let Some(percent) = percent(&text) {
                fraction = percent;
                tell(fraction, "");
            } else if !text.is_empty() && last.takes(&text, is_indented) {
                tell(fraction, &text);
            }
        }
        if is_end {
            return last.lines;
        }
        reader.consume(read);
    }
}

/// What explains a failure: the last lines, and of Python's tracebacks the exceptions.
#[derive(Default)]
struct LastLines {
    lines: VecDeque<String>,
    is_in_traceback: bool,
    is_chained: bool,
}

impl LastLines {
    /// Whether a line says more than where in a program it was written.
    fn takes(&mut self, text: &str, is_indented: bool) -> bool {
        if CHAINS.iter().any(|chain| text.starts_with(chain)) {
            self.is_chained = true;
            return false;
        }
        if text.starts_with(TRACEBACK) {
            // What was said before it was no failure, unless it led to this one.
            if !self.is_chained {
                self.lines.clear();
            }
            (self.is_in_traceback, self.is_chained) = (true, false);
            return false;
        }
        if self.is_in_traceback && is_indented {
            return false;
        }
        self.is_in_traceback = false;
        self.lines.push_back(text.to_owned());
        self.lines.drain(..self.lines.len().saturating_sub(LAST_LINES));
        true
    }
}

/// How far a bar is, from 0 to below 1: `Writing:  45%|███ …`.
fn percent(line: &str) -> Option<f64> {
    let (before, _) = line.split_once("%|")?;
    let percent: f64 = before.rsplit([' ', ':']).next()?.parse().ok()?;
    Some((percent / 100.0).clamp(0.0, 0.99))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn shell(script: &str) -> (Result<Option<()>, Problem>, Vec<Progress>) {
        let told: Arc<Mutex<Vec<Progress>>> = Arc::default();
        let sink = {
            let told = Arc::clone(&told);
            ProgressSink::new(move |_, progress| told.lock().unwrap().push(progress.clone()))
        };
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let listeners = Listeners { progress: sink, stop: Stop::default() };
        let ended = run_if_there("converting m", command, &listeners);
        drop(listeners);
        (ended, Arc::into_inner(told).unwrap().into_inner().unwrap())
    }

    #[test]
    fn a_bar_is_progress_and_a_line_is_its_words() {
        let (ended, told) =
            shell("printf 'loading\\nWriting:   0%%|\\rWriting:  45%%|###| 1/2\\r'");
        assert!(matches!(ended, Ok(Some(()))));
        let at = |fraction, note: &str| Progress::Fraction(fraction, note.to_owned());
        let begun = Progress::Note("converting m".to_owned());
        assert_eq!(told, [begun, at(0.0, "loading"), at(0.0, ""), at(0.45, ""), at(1.0, "")]);
    }

    #[test]
    fn the_last_lines_tell_why_it_failed() {
        let (ended, _) = shell("seq 20; echo Writing: 3%\\| >&2; echo out of luck >&2; exit 3");
        let error = ended.unwrap_err().to_string();
        assert!(error.starts_with("converting m failed (exit status: 3):\n  14\n"), "{error}");
        assert!(error.ends_with("\n  20\n  out of luck"), "{error}");
        let (ended, _) = shell("exit 1");
        assert!(ended.unwrap_err().to_string().ends_with("(exit status: 1), without a word"));
    }

    #[test]
    fn of_a_traceback_the_exceptions_are_told() {
        let traceback = "cat << 'E' >&2
INFO:hf-to-gguf:Loading model: tiny
Traceback (most recent call last):
  File \"a.py\", line 3, in load
    raise OSError(\"x\")
    ^^^^^^^^^^^^^^^^^^
OSError: no vocabulary

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"b.py\", line 7, in <module>
    main()
FileNotFoundError: File not found: tokenizer.model
look again
E
exit 1";
        let (ended, _) = shell(traceback);
        let error = ended.unwrap_err().to_string();
        let said = "OSError: no vocabulary\n  FileNotFoundError: File not found: tokenizer.model\n  look again";
        assert_eq!(error, format!("converting m failed (exit status: 1):\n  {said}"));
    }

    #[test]
    fn a_user_who_wants_to_stop_ends_the_program_and_what_it_started() {
        let stop = Stop::new(|| Some(Box::new(|| true)));
        let mut command = Command::new("sh");
        // The second has the same output, whose end would be waited for.
        command.args(["-c", "sleep 600 & sleep 600"]);
        let ended = run("converting m", command, &Listeners { stop, ..Listeners::default() });
        assert!(ended.unwrap_err().to_string().starts_with("converting m was interrupted"));
    }

    #[test]
    fn a_program_that_is_not_there_is_told_from_one_that_fails() {
        let (program, sink) = (|| Command::new("/no/such/program"), Listeners::default());
        assert!(matches!(run_if_there("x", program(), &sink), Ok(None)));
        let error = run("converting m", program(), &sink).unwrap_err().to_string();
        assert_eq!(error, "there is no '/no/such/program', which converting m needs");
    }
}
