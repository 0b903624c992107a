//! The user's wish to stop, for what takes minutes before any worker runs.

use std::fmt;
use std::sync::Arc;

/// Tells whether the user wants to stop, for as long as it is kept.
pub type Heard = Box<dyn Fn() -> bool + Send + Sync>;

/// How that is heard; by default it is not.
#[derive(Clone, Default)]
pub struct Stop(Option<Arc<dyn Fn() -> Option<Heard> + Send + Sync>>);

impl Stop {
    /// `listen` begins to listen, where the system lets it.
    pub fn new(listen: impl Fn() -> Option<Heard> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listen)))
    }

    /// Listens until the answer is dropped.
    pub fn listen(&self) -> Heard {
        let heard = self.0.as_ref().and_then(|listen| listen());
        heard.unwrap_or_else(|| Box::new(|| false))
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Stop")
    }
}
