//! Causes: an error told from what was tried down to what the system said, each cause once.
//!
//! That holds because no message contains its source's; `tests/architecture.rs` checks it.

use crate::files;
use std::error::Error;
use std::io;

/// An error with all its causes, on one line.
#[must_use]
pub fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        // SQLite's message is the cause already; what stands behind it repeats it with a number.
        if error.is::<rusqlite::Error>() {
            break;
        }
        let system = error.downcast_ref::<io::Error>();
        if system.is_some_and(|error| error.kind() == io::ErrorKind::FileTooLarge)
            && let Some(limit) = files::in_words_of_size_limit()
        {
            text = format!("{text}: {limit}");
        }
        cause = error.source();
    }
    text
}

/// What went wrong, in a sentence, and its cause: an error that no caller tells apart from others.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// One that needs no cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// One with what the system or something else said.
    pub fn because(
        message: impl Into<String>,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { message: message.into(), source: Some(cause.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write {name}")]
    struct Failed {
        name: &'static str,
        source: io::Error,
    }

    #[test]
    fn every_cause_is_told_once() {
        let source = io::Error::other("the disk is full");
        let error = io::Error::other(Failed { name: "a", source });
        assert_eq!(in_words(&error), "cannot write a: the disk is full");
    }
}
