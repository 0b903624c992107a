//! The store writer: writes what a run measures into the store as it happens.

use super::event::{BenchmarkEvent, Listener, ListenerError};
use crate::results::store::Store;

/// Keeps a run in the store: each trial in one transaction, as soon as it has something new.
#[derive(Debug)]
pub struct StoreWriter {
    store: Store,
    run_id: String,
}

impl StoreWriter {
    /// Keeps into this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, run_id: String::new() }
    }
}

impl Listener for StoreWriter {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), ListenerError> {
        match event {
            BenchmarkEvent::RunBegan { run, resumed, .. } => {
                self.run_id.clone_from(&run.id);
                if *resumed {
                    self.store.save_hosts(run)?;
                } else {
                    self.store.begin_run(run)?;
                }
            }
            BenchmarkEvent::TrialChanged { position, trial, active_seconds } => {
                self.store.save_trial(&self.run_id, *position, trial)?;
                self.store.save_active(&self.run_id, *active_seconds)?;
            }
            BenchmarkEvent::DriftControlMeasured(control) => {
                self.store.save_drift_control(&self.run_id, control)?;
            }
            BenchmarkEvent::RunEnded { run } => {
                self.store.save_active(&self.run_id, run.active_seconds)?;
                if let Some(finished) = run.finished {
                    self.store.finish_run(&self.run_id, finished)?;
                }
            }
            BenchmarkEvent::VariantBegan { .. }
            | BenchmarkEvent::VariantReady { .. }
            | BenchmarkEvent::Paused(_)
            | BenchmarkEvent::VisitBegan { .. }
            | BenchmarkEvent::Worker(_)
            | BenchmarkEvent::VisitEnded { .. } => {}
        }
        Ok(())
    }
}
