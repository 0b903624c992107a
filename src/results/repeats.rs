//! Which trial of an earlier run a trial measures again.

use serde::{Deserialize, Serialize};

/// Names a trial of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// The run.
    pub run: String,
    /// What the trial was called there.
    pub label: String,
}
