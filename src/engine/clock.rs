//! Clocks: what workloads take times from.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Tells the time since some fixed moment.
pub trait Clock: Debug + Send + Sync {
    /// The time now; never less than before.
    fn now(&self) -> Duration;

    /// How long it is since `start`, a time of this clock.
    fn since(&self, start: Duration) -> Duration {
        self.now().saturating_sub(start)
    }
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct MonotonicClock(Instant);

impl Default for MonotonicClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
