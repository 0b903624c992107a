//! One worker, listened to from its start to its end.
//!
//! What it reports is collected, whatever it does is survived: silence, nonsense, a crash or the
//! user's request to stop all end the worker's run, never the program.

use super::event::{BenchmarkEvent, Listener, SequenceError};
use super::reason::{self, MemoryAtEnd};
use crate::causes;
use crate::engine::Device;
use crate::hardware::monitor::Watched;
use crate::host::{Exit, Host, HostError, Worker, WorkerMessage};
use crate::quantize::jobs::PlannedVariant;
use crate::results::record::{Failure, PhaseUsage, VisitRecord};
use crate::worker::protocol::{Event, Job, Made, Phase};
use crate::workload::Measurement;
use crate::workload::measured::{BufferMemory, ModelFacts, PredictedMemory};
use std::time::Duration;
use time::OffsetDateTime;

/// Everything that one worker reported, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerRun {
    /// What every visit has: when it began, loads, memory, usage.
    pub visit: VisitRecord,
    /// What was loaded.
    pub facts: Option<ModelFacts>,
    /// What workloads measured, in order.
    pub measured: Vec<Measurement>,
    /// Workloads that failed, while others were measured.
    pub failed_workloads: Vec<Failure>,
    /// Predicted memory.
    pub predicted: Vec<Result<PredictedMemory, String>>,
    /// What an engine can compute on.
    pub devices: Vec<Device>,
    /// Variants that are not made yet.
    pub planned: Vec<PlannedVariant>,
    /// What came of a job that makes a file.
    pub made: Option<Made>,
    /// How it ended.
    pub ending: Ending,
}

/// How a worker's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The worker said that its job is done.
    Done,
    /// It did not; the phase it was in, and why.
    Failed(Failure),
    /// The user wants to stop.
    Interrupted,
    /// Its time was over in a phase; what it had measured stays.
    Cut(Phase),
}

/// Limits of one worker's run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a worker may be silent.
    pub silence: Duration,
    /// When it is ended, however far it is.
    pub until: Option<OffsetDateTime>,
    /// Memory of the machine, bytes, to explain why a worker was killed.
    pub machine_bytes: Option<u64>,
}

impl Limits {
    /// How long a worker is waited for from `now` on; `None`: its time is over.
    fn patience(&self, now: OffsetDateTime) -> Option<Duration> {
        let Some(until) = self.until else { return Some(self.silence) };
        let left = until - now;
        let left = Duration::try_from(left).ok().filter(|left| !left.is_zero())?;
        Some(left.min(self.silence))
    }
}

/// Starts a worker for a job, watches it, and listens until it ends.
///
/// # Errors
/// Nothing more comes of a worker, whatever it did: other visits would go the same way. That the worker fails is no error.
pub async fn run_worker<H: Host>(
    host: &mut H,
    job: &Job,
    limits: Limits,
    listener: &mut dyn Listener,
) -> Result<WorkerRun, SequenceError> {
    let started = host.now();
    let mut run = WorkerRun::new(started);
    let mut phase = Phase::Start;
    let mut worker = match host.start(job).await {
        Ok(worker) => worker,
        Err(_) if host.is_interrupted() => return Ok(run),
        Err(error @ HostError::Lost { .. }) => {
            return Err(SequenceError::HostLost(causes::in_words(&error)));
        }
        Err(error) => {
            run.ending = Ending::Failed(Failure { phase, reason: causes::in_words(&error) });
            return Ok(run);
        }
    };
    // Seconds since the start at which phases began.
    let mut begun_at = vec![(host.now() - started).as_seconds_f64()];
    let last = loop {
        let Some(patience) = limits.patience(host.now()) else {
            worker.kill().await;
            break Last::Cut;
        };
        match worker.next(patience).await {
            WorkerMessage::Silence if patience < limits.silence => {}
            WorkerMessage::Event(event) => {
                // A worker's own first phase is the one that began when it was started.
                if let Event::Phase(begun) = &*event
                    && *begun != phase
                {
                    phase = begun.clone();
                    begun_at.push((host.now() - started).as_seconds_f64());
                }
                listener.on_event(&BenchmarkEvent::Worker(&event))?;
                if let Some(last) = run.take(*event) {
                    break last;
                }
            }
            WorkerMessage::Ended(exit) => break Last::Exit(exit),
            WorkerMessage::Silence => {
                worker.kill().await;
                break Last::Reason(reason::of_silence(limits.silence));
            }
            WorkerMessage::Unreadable(line) => {
                worker.kill().await;
                break Last::Reason(reason::of_nonsense(&line));
            }
            WorkerMessage::Mismatch(reason) => break Last::Reason(reason::of_message(&reason)),
            WorkerMessage::Lost(reason) => return Err(SequenceError::HostLost(reason)),
            WorkerMessage::Interrupted => {
                worker.kill().await;
                break Last::Interrupted;
            }
        }
    };
    begun_at.push((host.now() - started).as_seconds_f64());
    let Watched { phases, timeline } = worker.usage().await;
    let watched = phases.iter().filter_map(|(_, usage)| usage.max_rss_bytes).max();
    run.visit.peak_rss_bytes = run.visit.peak_rss_bytes.max(watched);
    // A phase ends when the next one begins. There is one time more than phases, or no usage at all.
    let times = begun_at.windows(2);
    let used = phases.into_iter().zip(times).map(|((phase, usage), times)| PhaseUsage {
        phase,
        begin_seconds: Some(times[0]),
        end_seconds: Some(times[1]),
        usage,
    });
    run.visit.usage = used.collect();
    run.visit.timeline = timeline;
    let memory = MemoryAtEnd {
        peak_rss_bytes: run.visit.peak_rss_bytes,
        machine_bytes: limits.machine_bytes,
    };
    run.ending = last.ending(phase, memory);
    // A worker that has said its last word has nothing left to do; it is not waited for as long as
    // a phase may last, for a hang while it tears down native code would look like a long phase.
    worker.kill().await;
    Ok(run)
}

/// The last thing heard of a worker.
enum Last {
    Done,
    Reason(String),
    Exit(Exit),
    Interrupted,
    Cut,
}

impl Last {
    fn ending(self, phase: Phase, memory: MemoryAtEnd) -> Ending {
        match self {
            Self::Done => Ending::Done,
            Self::Interrupted => Ending::Interrupted,
            Self::Cut => Ending::Cut(phase),
            Self::Reason(reason) => Ending::Failed(Failure { phase, reason }),
            Self::Exit(exit) => {
                Ending::Failed(Failure { phase, reason: reason::of_exit(&exit, memory) })
            }
        }
    }
}

impl WorkerRun {
    fn new(started: OffsetDateTime) -> Self {
        Self {
            visit: VisitRecord::new(started),
            facts: None,
            measured: Vec::new(),
            failed_workloads: Vec::new(),
            predicted: Vec::new(),
            devices: Vec::new(),
            planned: Vec::new(),
            made: None,
            ending: Ending::Interrupted,
        }
    }

    /// Keeps what an event tells; returns the last word if it was one.
    fn take(&mut self, event: Event) -> Option<Last> {
        match event {
            Event::Phase(_) | Event::Progress(_) => {}
            Event::Made(made) => self.made = Some(made),
            Event::Loaded { sample, facts } => {
                self.visit.loads.push(sample);
                self.facts = Some(facts);
            }
            Event::Memory { buffers } => {
                if largest_context(&buffers) >= largest_context(&self.visit.memory) {
                    self.visit.memory = buffers;
                }
            }
            Event::Measured(measurement) => self.measured.push(measurement),
            Event::WorkloadFailed { phase, reason } => {
                let reason = reason::of_message(&reason);
                self.failed_workloads.push(Failure { phase, reason });
            }
            Event::PredictedMemory { predictions } => self.predicted = predictions,
            Event::PlannedTypes { variants } => self.planned = variants,
            Event::Devices { devices } => self.devices = devices,
            Event::Done { peak_rss_bytes, pss_bytes } => {
                self.visit.peak_rss_bytes = peak_rss_bytes;
                self.visit.pss_bytes = pss_bytes;
                return Some(Last::Done);
            }
            Event::Failed { message } => return Some(Last::Reason(reason::of_message(&message))),
        }
        None
    }

    /// Whether anything was measured.
    pub fn is_empty(&self) -> bool {
        self.visit.loads.is_empty() && self.measured.is_empty()
    }
}

fn largest_context(buffers: &[BufferMemory]) -> u32 {
    buffers.iter().map(|buffer| buffer.context).max().unwrap_or(0)
}
