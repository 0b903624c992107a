//! What a trial took besides its visits.

use serde::{Deserialize, Serialize};

/// How long something took that is no visit of the trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OtherTime {
    /// What.
    pub work: OtherWork,
    /// Seconds, over the whole run.
    pub seconds: f64,
}

/// What is done for a trial besides visiting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherWork {
    /// Its file is found, fetched or made. The first trial of several of one variant has it.
    File,
    /// Visits as the drift control.
    DriftControl,
}
