//! Commands that give one worker one job.

use super::quantize::PHASE_LIMIT;
use super::version;
use crate::error::Error;
use crate::host::interrupt::Interrupt;
use crate::orchestrator::event::Listener;
use crate::orchestrator::sequence::SequenceError;
use crate::orchestrator::worker_run::{Limits, WorkerRun, run_worker};
use crate::worker::protocol::Job;
use std::time::{Duration, Instant};

/// Has a worker do a job; `listener` hears how it goes. Ctrl-C ends the worker, and its report says so.
/// Returns what came of it and how long it took.
///
/// # Errors
/// No worker can be started. That the job fails is no error: the report says why.
pub(super) fn work(job: &Job, listener: &mut dyn Listener) -> Result<(WorkerRun, Duration), Error> {
    let system = |action| move |source| Error::System { action, source };
    let interrupt = Interrupt::listen().map_err(system("listen to signals"))?;
    let mut host = version::local_host(interrupt).map_err(system("find this program"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    let limits = Limits { silence: PHASE_LIMIT, machine_bytes: None };
    let started = Instant::now();
    let report = runtime
        .block_on(run_worker(&mut host, job, limits, listener))
        .map_err(SequenceError::from)?;
    Ok((report, started.elapsed()))
}
