//! The summary of a run: every figure as an estimate, comparisons, verdicts, the best trade-off.

use super::metric::Metric;
use super::record::{Failure, RunRecord};
use crate::statistics::estimate::Estimate;
use std::collections::BTreeMap;

/// What a run says, computed from its record alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// One row per trial, in the order of the experiment.
    pub rows: Vec<Row>,
}

/// One trial's figures and what they come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The model's name.
    pub model: String,
    /// The trial's name in tables.
    pub label: String,
    /// Whether the others are compared with this one.
    pub is_reference: bool,
    /// Every figure that was measured.
    pub figures: BTreeMap<Metric, Estimate>,
    /// Whether the requirements are met; `None`: nothing is required, or the trial failed.
    pub verdict: Option<Verdict>,
    /// Why the trial failed.
    pub failure: Option<Failure>,
}

/// Whether a variant meets the requirements.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether all requirements are met.
    pub met: bool,
}

impl Summary {
    /// Summarizes a run, finished or not.
    #[must_use]
    pub fn of(run: &RunRecord) -> Self {
        let rows = run
            .trials
            .iter()
            .map(|trial| Row {
                model: trial.model.clone(),
                label: trial.label.clone(),
                is_reference: trial.is_reference,
                figures: BTreeMap::new(),
                verdict: None,
                failure: trial.failure.clone(),
            })
            .collect();
        Self { rows }
    }

    /// Whether requirements were stated and no trial meets them all: exit code 1.
    #[must_use]
    pub fn requirements_unmet(&self) -> bool {
        let mut verdicts = self.rows.iter().filter_map(|row| row.verdict.as_ref()).peekable();
        verdicts.peek().is_some() && verdicts.all(|verdict| !verdict.met)
    }

    /// Whether any trial failed: exit code 3.
    #[must_use]
    pub fn any_failed(&self) -> bool {
        self.rows.iter().any(|row| row.failure.is_some())
    }
}
