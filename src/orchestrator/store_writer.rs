//! The store writer: writes what a run measures into the store as it happens.

use super::event::{BenchmarkEvent, Listener};
use crate::causes::Problem;
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
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), Problem> {
        match event {
            BenchmarkEvent::RunBegan { run, resumed, .. } => {
                self.run_id.clone_from(&run.id);
                if *resumed {
                    self.store.save_run(run)?;
                } else {
                    self.store.begin_run(run)?;
                }
            }
            BenchmarkEvent::TrialChanged { position, run } => {
                self.store.save_trial(&run.id, *position, &run.trials[*position])?;
                self.store.save_run(run)?;
            }
            BenchmarkEvent::DriftControlMeasured(control) => {
                self.store.save_drift_control(&self.run_id, control)?;
            }
            BenchmarkEvent::RunEnded { run } => self.store.save_run(run)?,
            _ => {}
        }
        Ok(())
    }
}
