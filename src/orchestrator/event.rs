//! Events: what happens during a run, told to whoever shows or keeps it.
//!
//! The sequence and its audience meet only here. A listener that cannot keep what it was told (the
//! store, on a full disk) ends the run; one that only shows it never does.

use super::schedule::PlannedVisit;
use crate::causes::Problem;
use crate::model::artifact::Artifact;
use crate::model::cache::CacheError;
use crate::results::record::{DriftControl, RunRecord, TrialRecord};
use crate::worker::protocol::Event;
use crate::workload::jobs::InputError;
use std::time::Duration;

/// One thing that happened during a run.
#[derive(Debug, Clone, Copy)]
pub enum BenchmarkEvent<'a> {
    /// The run begins, or goes on after an interruption; trials may hold what was measured before.
    RunBegan {
        /// The run so far.
        run: &'a RunRecord,
        /// Whether it goes on with a run that is stored already.
        resumed: bool,
        /// The visits that are still to be made, in order.
        visits: &'a [PlannedVisit],
        /// How many variants are to be made or found first.
        variants: usize,
    },
    /// A variant is being made.
    VariantBegan {
        /// Name of model and variant.
        name: &'a str,
    },
    /// A variant's file is there.
    VariantReady {
        /// Name of model and variant.
        name: &'a str,
        /// The file.
        artifact: &'a Artifact,
        /// Whether it was made just now.
        made: bool,
    },
    /// A pause before a visit, for machines that grow hot.
    Paused(Duration),
    /// A worker was started for a visit.
    VisitBegan {
        /// The visit.
        visit: PlannedVisit,
        /// Its trial.
        trial: &'a TrialRecord,
        /// What remains, this visit first.
        rest: Rest<'a>,
    },
    /// The worker of the current visit, or the one that makes the current variant, reported.
    Worker(&'a Event),
    /// The worker of a visit is gone, whether it succeeded or not.
    VisitEnded {
        /// The visit.
        visit: PlannedVisit,
        /// What remains.
        rest: Rest<'a>,
    },
    /// A trial has something new: a file, figures, or the reason why it failed.
    TrialChanged {
        /// Its position in the run.
        position: usize,
        /// What the run now holds.
        run: &'a RunRecord,
    },
    /// The drift control was measured.
    DriftControlMeasured {
        /// The run.
        run: &'a RunRecord,
        /// What was measured.
        control: DriftControl,
    },
    /// The run is over; `finished` is `None` if the user stopped it.
    RunEnded {
        /// Everything it measured.
        run: &'a RunRecord,
    },
}

/// What is left of a run.
#[derive(Debug, Clone, Copy)]
pub struct Rest<'a> {
    /// The visits, in order.
    pub visits: &'a [PlannedVisit],
    /// How long they and what follows from them will take; `None`: nothing tells yet.
    pub time: Option<TimeLeft>,
}

/// How long something will take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeLeft {
    /// Seconds.
    pub seconds: f64,
    /// Visits of a kind that was not seen yet are taken to be as long as the others.
    pub is_guess: bool,
}

/// Someone who is told what happens.
pub trait Listener {
    /// Takes note of one event.
    ///
    /// # Errors
    /// What was measured could not be kept; the run ends.
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), Problem>;
}

/// Why a run ends early: nothing more can be measured or made. What was measured until then is kept.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// A listener could not keep it.
    #[error("cannot keep what was measured")]
    NotKept(#[from] Problem),
    /// The host does not answer any more; why, in a sentence.
    #[error("{0}")]
    HostLost(String),
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// What is to be evaluated cannot be written.
    #[error(transparent)]
    Input(#[from] InputError),
}

impl Listener for Vec<Box<dyn Listener>> {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), Problem> {
        self.iter_mut().try_for_each(|listener| listener.on_event(event))
    }
}
