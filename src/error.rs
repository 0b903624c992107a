//! Errors of the program as a whole, and the exit codes that its callers can rely on.

use crate::causes::{self, Problem};
use crate::experiment::ExperimentError;
use crate::model::cache::CacheError;
use crate::model::text::without_secrets;
use crate::orchestrator::event::SequenceError;
use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How a command ended: what the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 0: everything was done.
    Done,
    /// 1: no variant meets the requirements, or fits, or something got worse by more than it may.
    RequirementsUnmet,
    /// 2: the input or the machine does not allow it; a message says what would.
    Refused,
    /// 3: some trials failed; what the others measured is stored.
    TrialsFailed,
    /// 130: the user stopped it; what was measured is stored.
    Interrupted,
}

impl Outcome {
    /// The number that the program exits with.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::RequirementsUnmet => 1,
            Self::Refused => 2,
            Self::TrialsFailed => 3,
            Self::Interrupted => crate::host::interrupt::INTERRUPTED_EXIT_CODE,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The experiment.
    #[error(transparent)]
    Experiment(Box<ExperimentError>),
    /// A source, the plan, the store or the report.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The benchmark sequence.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// What only one subcommand can meet; its type lives beside the subcommand.
    #[error(transparent)]
    Command(Box<dyn StdError + Send + Sync>),
    /// The result could not be written.
    #[error("cannot write the result to {}", .path.as_ref().map_or("standard output".into(), |path| path.display().to_string()))]
    Output {
        /// The file; `None`: standard output.
        path: Option<PathBuf>,
        /// What the system said.
        source: io::Error,
    },
    /// The result would replace an input.
    #[error("cannot write the result to {}, which is an input{}; name another file", .path.display(), named_otherwise(.path, .input))]
    OutputIsInput {
        /// The file to write.
        path: PathBuf,
        /// The name that it was read by.
        input: PathBuf,
    },
    /// The system does not let the program run workers.
    #[error("cannot {action}")]
    System {
        /// What was tried: a verb.
        action: String,
        /// What the system said.
        source: io::Error,
    },
}

fn named_otherwise(path: &Path, input: &Path) -> String {
    let same = std::path::absolute(path).is_ok_and(|path| path == input);
    if same { String::new() } else { format!(" ({})", input.display()) }
}

impl From<ExperimentError> for Error {
    /// In a box: it is several times larger than what else can go wrong.
    fn from(error: ExperimentError) -> Self {
        Self::Experiment(Box::new(error))
    }
}

impl Error {
    /// An error of one subcommand.
    pub fn command(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::Command(Box::new(error))
    }

    /// How a command that met this error ended. A reader that closed the pipe (`| head`) has what it
    /// wanted: that is no error.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.is_closed_pipe() { Outcome::Done } else { Outcome::Refused }
    }

    fn is_closed_pipe(&self) -> bool {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return error.kind() == io::ErrorKind::BrokenPipe;
            }
            cause = error.source();
        }
        false
    }

    /// The message for the user, with all causes; `None` for a closed pipe.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        // Names inside a hostile file may hold anything, and this goes to a terminal.
        let harmless = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
        // An address that the user wrote may have a password in it, and terminals are recorded.
        let shown = || without_secrets(&causes::in_words(self));
        let text = || shown().chars().map(harmless).collect::<String>();
        (self.outcome() != Outcome::Done).then(|| format!("error: {}", text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(kind: io::ErrorKind) -> Error {
        Error::Output { path: None, source: kind.into() }
    }

    #[test]
    fn exit_codes_are_those_that_are_documented() {
        let codes: Vec<u8> = [
            Outcome::Done,
            Outcome::RequirementsUnmet,
            Outcome::Refused,
            Outcome::TrialsFailed,
            Outcome::Interrupted,
        ]
        .into_iter()
        .map(Outcome::code)
        .collect();
        assert_eq!(codes, [0, 1, 2, 3, 130]);
    }

    #[test]
    fn a_message_cannot_command_the_terminal() {
        let path = Some(PathBuf::from("a\u{1b}[2Jb"));
        let error = Error::Output { path, source: io::ErrorKind::NotFound.into() };
        let message = error.message().unwrap();
        assert!(message.contains("a\u{fffd}[2Jb"), "{message}");
    }

    #[test]
    fn a_message_keeps_passwords_to_itself() {
        let path = Some(PathBuf::from("https://me:hunter2@host/x"));
        let error = Error::Output { path, source: io::ErrorKind::NotFound.into() };
        let message = error.message().unwrap();
        assert!(message.contains("https://…@host/x"), "{message}");
    }

    #[test]
    fn a_reader_that_closes_the_pipe_is_no_error_and_a_full_disk_is() {
        assert_eq!(output(io::ErrorKind::BrokenPipe).outcome(), Outcome::Done);
        assert_eq!(output(io::ErrorKind::BrokenPipe).message(), None);
        let full = output(io::ErrorKind::StorageFull);
        assert_eq!(full.outcome(), Outcome::Refused);
        assert_eq!(
            full.message().unwrap(),
            "error: cannot write the result to standard output: no storage space"
        );
    }
}
