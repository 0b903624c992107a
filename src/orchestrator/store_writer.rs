//! The store as a listener: it keeps each trial in one transaction, as soon as it has something new.

use super::event::{BenchmarkEvent, Listener};
use crate::causes::Problem;
use crate::results::store::Store;

impl Listener for Store {
    fn on_event(&mut self, event: &BenchmarkEvent<'_>) -> Result<(), Problem> {
        match event {
            BenchmarkEvent::RunBegan { run, resumed: false, .. } => self.begin_run(run),
            BenchmarkEvent::RunBegan { run, .. } | BenchmarkEvent::RunEnded { run } => {
                self.save_run(run)
            }
            BenchmarkEvent::TrialChanged { position, run } => {
                self.save_trial(&run.id, *position, &run.trials[*position])?;
                self.save_run(run)
            }
            BenchmarkEvent::DriftControlMeasured { run, control } => {
                self.save_drift_control(&run.id, control)
            }
            _ => Ok(()),
        }
    }
}
