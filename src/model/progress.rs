//! Progress of work on files that may take minutes: fetching and checking.

use std::fmt;
use std::sync::Arc;

/// How far the work on one file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileProgress<'a> {
    /// What is done: `fetching` or `checking`.
    pub action: &'static str,
    /// The file's name.
    pub file: &'a str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What is called with every step.
type Listener = dyn Fn(FileProgress<'_>) + Send + Sync;

/// Told about progress; by default nobody listens.
#[derive(Clone, Default)]
pub struct ProgressSink(Option<Arc<Listener>>);

impl ProgressSink {
    /// A sink that calls `listener`, often: it has to be quick.
    pub fn new(listener: impl Fn(FileProgress<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    /// Tells the listener, if there is one.
    pub fn tell(&self, progress: FileProgress<'_>) {
        if let Some(listener) = &self.0 {
            listener(progress);
        }
    }
}

impl fmt::Debug for ProgressSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "ProgressSink(…)" } else { "ProgressSink" })
    }
}
