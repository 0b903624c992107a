//! A program that takes minutes: its progress is told, and its last lines explain why it failed. Everything that
//! `src/model/` starts is started here.

use crate::causes::Problem;
use crate::model::progress::{Progress, ProgressSink};
use crate::model::text::{printable, shortened, without_secrets};
use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, ErrorKind, PipeReader};
use std::process::{Command, Stdio};

/// Lines that explain a failure.
const LAST_LINES: usize = 8;

/// Columns of a line beside its bar.
const LONGEST_NOTE: usize = 60;

/// A longer line is cut, bytes.
const LONGEST_LINE: usize = 500;

/// Runs `command` to its end. `what` says what it does, such as `converting Qwen3-0.6B`.
///
/// # Errors
/// It cannot be started, or fails.
pub(super) fn run(what: &str, command: Command, progress: &ProgressSink) -> Result<(), Problem> {
    let program = command.get_program().to_string_lossy().into_owned();
    let missing = || Problem::new(format!("there is no '{program}', which {what} needs"));
    run_if_there(what, command, progress)?.ok_or_else(missing)
}

/// As [`run`]; `None`: there is no such program.
pub(super) fn run_if_there(
    what: &str,
    mut command: Command,
    progress: &ProgressSink,
) -> Result<Option<()>, Problem> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| Problem::because(format!("cannot run '{program}' for {what}"), source);
    let (reader, writer) = io::pipe().map_err(failed)?;
    // It ends when its standard input does, which is when this process does.
    command.stdin(Stdio::piped()).stderr(writer.try_clone().map_err(failed)?).stdout(writer);
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
    let last = lines(reader, tell);
    tell(1.0, "");
    let status = child.wait().map_err(failed)?;
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
    let mut last = VecDeque::new();
    let mut line = Vec::new();
    let mut fraction = 0.0;
    let mut reader = BufReader::new(reader);
    loop {
        let Ok(bytes) = reader.fill_buf() else { return last };
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
            let text = without_secrets(&printable(String::from_utf8_lossy(&line).trim()));
            line.clear();
            if let Some(percent) = percent(&text) {
                fraction = percent;
                tell(fraction, "");
            } else if !text.is_empty() {
                tell(fraction, &text);
                last.push_back(text);
                last.drain(..last.len().saturating_sub(LAST_LINES));
            }
        }
        if is_end {
            return last;
        }
        reader.consume(read);
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
        let ended = run_if_there("converting m", command, &sink);
        drop(sink);
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
    fn a_program_that_is_not_there_is_told_from_one_that_fails() {
        let (program, sink) = (|| Command::new("/no/such/program"), ProgressSink::default());
        assert!(matches!(run_if_there("x", program(), &sink), Ok(None)));
        let error = run("converting m", program(), &sink).unwrap_err().to_string();
        assert_eq!(error, "there is no '/no/such/program', which converting m needs");
    }
}
