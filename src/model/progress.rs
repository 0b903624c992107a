//! Progress of work that may take minutes: one kind of event for downloads, calibrations, methods and mixes.

use crate::units::{format_bytes, to_f64};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What is told of some work while it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "told", content = "of")]
pub enum Progress {
    /// Fraction done, from 0 to 1, and what is being done or the latest figure, in a few words.
    Fraction(f64, String),
    /// Memory that will be allocated: purpose and bytes of each part.
    Memory(Vec<(String, u64)>),
    /// What the user should know, in a sentence.
    Note(String),
}

impl Progress {
    /// As progress of a whole in which this stage goes from fraction `start` to `end`.
    #[must_use]
    pub fn scaled(self, start: f64, end: f64) -> Self {
        match self {
            Self::Fraction(fraction, note) => {
                Self::Fraction(start + (end - start) * fraction, note)
            }
            other @ (Self::Memory(_) | Self::Note(_)) => other,
        }
    }

    /// So many bytes of `total` are read, or here.
    pub fn of_bytes(done: u64, total: u64) -> Self {
        let note = format!("{} of {}", format_bytes(done), format_bytes(total));
        Self::Fraction(if done < total { to_f64(done) / to_f64(total) } else { 1.0 }, note)
    }
}

/// What is called with every step: what is done, such as `fetching m.gguf`, and how far it is.
type Listener = dyn Fn(&str, &Progress) + Send + Sync;

/// Told about progress; by default nobody listens.
#[derive(Clone, Default)]
pub struct ProgressSink(Option<Arc<Listener>>);

impl fmt::Debug for ProgressSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ProgressSink")
    }
}

impl ProgressSink {
    /// A sink that calls `listener`, often: it has to be quick.
    pub fn new(listener: impl Fn(&str, &Progress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    /// Tells the listener, if there is one: `action` is `fetching` or `checking`.
    pub fn tell(&self, action: &str, file: &str, done: u64, total: u64) {
        if self.0.is_some() {
            self.say(&format!("{action} {file}"), &Progress::of_bytes(done, total));
        }
    }

    /// Tells the listener of progress that is not one of bytes.
    pub fn say(&self, what: &str, progress: &Progress) {
        if let Some(listener) = &self.0 {
            listener(what, progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_as_a_fraction_and_in_words() {
        let told = Progress::of_bytes(1 << 30, 4 << 30);
        assert_eq!(told, Progress::Fraction(0.25, "1.00 GiB of 4.00 GiB".to_owned()));
        assert!(matches!(Progress::of_bytes(0, 0), Progress::Fraction(1.0, _)));
    }
}
