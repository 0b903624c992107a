//! The monitor: looks at a worker and its machine from a thread of its own, one record per phase and one over time.
//!
//! It must not disturb what it watches: every look at the worker costs two reads of open files,
//! counters are read only where phases meet, and dearer sensors are read as seldom as their cost
//! demands.

use crate::hardware::instruments::Instruments;
use crate::hardware::recorder::{ClockHistory, PhaseRecorder};
use crate::hardware::seen::Seen;
use crate::hardware::timeline::Timeline;
use crate::hardware::usage::Usage;
use serde::{Deserialize, Serialize};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often sensors and GPUs are looked at, at most.
const SENSOR_INTERVAL: Duration = Duration::from_secs(1);
const GPU_INTERVAL: Duration = Duration::from_millis(200);

/// Sensors and GPUs may each take up one part in this many of one core's time.
const SHARE_OF_ONE_CORE: u32 = 400;

/// How long `finish` waits for a device that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches one worker. `P` names its phases.
///
/// A worker that does not exist, or vanishes, is no error: what can no longer be read is `None`.
/// Dropping the monitor ends its thread.
#[derive(Debug)]
pub struct Monitor<P> {
    messages: Sender<Message<P>>,
    thread: Option<JoinHandle<()>>,
    results: Receiver<Watched<P>>,
}

/// What a monitor saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watched<P> {
    /// What each phase used, in order.
    pub phases: Vec<(P, Usage)>,
    /// What was seen over time; it begins with the first phase.
    pub timeline: Timeline,
}

impl<P> Default for Watched<P> {
    /// Nothing.
    fn default() -> Self {
        Self { phases: Vec::new(), timeline: Timeline::default() }
    }
}

#[derive(Debug)]
enum Message<P> {
    Begin(P, Instant),
    Finish(Instant),
}

impl<P: Send + 'static> Monitor<P> {
    /// Begins to watch the process `pid`, looking at it every `interval`. Nothing is recorded before
    /// the first phase begins.
    #[must_use]
    pub fn start(pid: u32, interval: Duration) -> Self {
        Self::watch(interval, move || Instruments::open(pid))
    }

    fn watch(interval: Duration, open: impl FnOnce() -> Instruments + Send + 'static) -> Self {
        let (messages, inbox) = channel();
        let (outbox, results) = channel();
        let body = move || {
            // Nobody listens if the monitor was dropped.
            let _ = outbox.send(Watch::new(open(), interval).run(&inbox));
        };
        let thread = thread::Builder::new().name("monitor".to_owned()).spawn(body);
        Self { messages, thread: thread.ok(), results }
    }

    /// Begins a phase, which ends the one before it.
    pub fn begin(&self, label: P) {
        // The thread is only gone if the system could not start it; then nothing is recorded.
        let _ = self.messages.send(Message::Begin(label, Instant::now()));
    }

    /// Ends the last phase and gives what was seen.
    ///
    /// It is lost (nothing is given) if a device has not answered for ten seconds.
    #[must_use]
    pub fn finish(mut self) -> Watched<P> {
        let _ = self.messages.send(Message::Finish(Instant::now()));
        let Ok(watched) = self.results.recv_timeout(PATIENCE) else {
            tracing::warn!("the hardware monitor does not answer; its records are lost");
            return Watched::default();
        };
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        watched
    }
}

/// The thread's state.
struct Watch<P> {
    instruments: Instruments,
    interval: Duration,
    phase: Option<(P, PhaseRecorder)>,
    finished: Vec<(P, Usage)>,
    seen: Seen,
    next_look: Instant,
    sensors: Cadence,
    gpus: Cadence,
    clocks: ClockHistory,
}

impl<P> Watch<P> {
    fn new(instruments: Instruments, interval: Duration) -> Self {
        let now = Instant::now();
        let interval = interval.max(Duration::from_millis(1));
        Self {
            seen: Seen::new(interval, &instruments.subject),
            instruments,
            interval,
            phase: None,
            finished: Vec::new(),
            next_look: now,
            sensors: Cadence::new(SENSOR_INTERVAL, now),
            gpus: Cadence::new(GPU_INTERVAL, now),
            clocks: ClockHistory::default(),
        }
    }

    fn run(mut self, inbox: &Receiver<Message<P>>) -> Watched<P> {
        loop {
            let message = if self.phase.is_some() {
                inbox.recv_timeout(self.next_look.saturating_duration_since(Instant::now()))
            } else {
                inbox.recv().map_err(RecvTimeoutError::from)
            };
            match message {
                Ok(Message::Begin(label, at)) => self.change_phase(Some(label), at),
                Ok(Message::Finish(at)) => {
                    self.change_phase(None, at);
                    return self.watched();
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return self.watched(),
            }
        }
    }

    fn watched(self) -> Watched<P> {
        Watched { phases: self.finished, timeline: self.seen.timeline(&self.instruments.subject) }
    }

    /// Ends the phase under way and begins the next; one reading of the counters serves both.
    fn change_phase(&mut self, next: Option<P>, at: Instant) {
        if self.phase.is_some() {
            self.sense();
        }
        let counters = self.instruments.counters();
        if self.phase.is_some() || next.is_some() {
            self.seen.begin(at);
            self.seen.add_process(counters.at, counters.process);
            self.seen.add_gpus(counters.at, &self.instruments.subject, &counters.gpus);
        }
        if let Some((label, recorder)) = self.phase.take() {
            let usage = recorder.finish(at, &counters, &self.instruments.subject);
            self.finished.push((label, usage));
        }
        self.phase = next.map(|label| (label, PhaseRecorder::new(at, counters)));
        self.next_look = Instant::now() + self.interval;
    }

    /// Looks at the worker, and at sensors and GPUs if it is time for them.
    fn look(&mut self) {
        let at = Instant::now();
        // Looks that were missed (a suspended machine, a slow device) are not made up for.
        self.next_look = (self.next_look + self.interval).max(at);
        let process = self.instruments.process();
        if let Some((_, recorder)) = &mut self.phase {
            recorder.add_process(at, process);
            self.seen.add_process(at, process);
        }
        if self.sensors.due(at) {
            let before = self.instruments.own_cpu_time();
            self.sense();
            self.sensors.done(at, self.instruments.own_cpu_time().saturating_sub(before));
        }
        if self.gpus.due(at) {
            let before = self.instruments.own_cpu_time();
            let readings = self.instruments.gpus();
            if let Some((_, recorder)) = &mut self.phase {
                recorder.add_gpus(&self.instruments.subject, &readings);
                self.seen.add_gpus(at, &self.instruments.subject, &readings);
            }
            self.gpus.done(at, self.instruments.own_cpu_time().saturating_sub(before));
        }
    }

    fn sense(&mut self) {
        let (reading, energy) = self.instruments.sensors();
        if let Some((_, recorder)) = &mut self.phase {
            recorder.add_sensors(&reading, &mut self.clocks);
            self.seen.add_sensors(Instant::now(), &reading, energy);
        }
    }
}

/// When something is to be read again: not before an interval has passed, and not before its cost
/// is a small enough share of the time.
#[derive(Debug, Clone, Copy)]
struct Cadence {
    interval: Duration,
    next: Instant,
}

impl Cadence {
    fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, next: now }
    }

    fn due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Sets the next time after a reading at `begun` that took `cost` of processor time.
    fn done(&mut self, begun: Instant, cost: Duration) {
        self.next = begun + self.interval.max(cost.saturating_mul(SHARE_OF_ONE_CORE));
    }
}

#[cfg(test)]
mod tests;
