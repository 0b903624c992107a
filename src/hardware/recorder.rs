//! The recorder of one phase: takes readings with their times, gives the phase's usage.
//!
//! Pure: no clock, no files. The monitor's thread feeds it.

use crate::hardware::cgroup::QuotaStops;
use crate::hardware::energy::EnergyReading;
use crate::hardware::gpu::{GpuBaseline, GpuReading};
use crate::hardware::process::{MachineLoad, ProcessReading};
use crate::hardware::sensors::SensorReading;
use crate::hardware::usage::{GpuUsage, Usage};
use std::collections::BTreeMap;
use std::time::Instant;

/// A clock below this fraction of what it was under the same load has dropped. Wide vector
/// instructions alone lower it to 0.71 on some processors (Xeon Gold 6148: 3.1 to 2.2 GHz).
const CLOCK_DROP: f64 = 0.7;

/// Below this use of cores a low clock is rest, not a drop.
const BUSY_CORES: f64 = 0.5;

/// Stolen processor time above this fraction of the machine's is worth telling.
const STOLEN_SHARE: f64 = 0.02;

/// Processor time that other programs took above this fraction of the machine's is worth telling.
const OTHERS_SHARE: f64 = 0.1;

/// Processor time from which that can be told, seconds: it is counted in steps of a hundredth on each processor.
const SHORTEST_SHARED_SECONDS: f64 = 0.4;

/// Counters that only rise; a phase is the difference of two.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    /// When they were read; later than the phase began if a device was slow to answer.
    pub(super) at: Instant,
    pub(super) process: Option<ProcessReading>,
    pub(super) load: Option<MachineLoad>,
    pub(super) energy: Option<EnergyReading>,
    pub(super) heat_events: Option<u64>,
    pub(super) quota: Option<QuotaStops>,
    pub(super) gpus: Vec<GpuReading>,
}

/// What is the same for all phases of a worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    pub(super) pid: u32,
    pub(super) gpu_names: Vec<String>,
    pub(super) gpu_baselines: Vec<GpuBaseline>,
}

/// The highest clock seen in a worker's life, by how many cores it kept busy: fewer busy cores may
/// run faster, which makes more of them no case of throttling.
#[derive(Debug, Clone, Default)]
pub(super) struct ClockHistory {
    /// By the logarithm to base 2 of the number of busy cores, rounded.
    highest_mhz: BTreeMap<i32, f64>,
}

impl ClockHistory {
    /// Notes a clock and gives the highest under the same load so far, if it dropped from that.
    fn dropped_from(&mut self, busy_cores: f64, mhz: f64) -> Option<f64> {
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
        let load = busy_cores.log2().round() as i32;
        let highest = self.highest_mhz.entry(load).or_insert(mhz);
        *highest = highest.max(mhz);
        (mhz < CLOCK_DROP * *highest).then_some(*highest)
    }
}

/// Collects the readings of one phase.
#[derive(Debug)]
pub(super) struct PhaseRecorder {
    started: Instant,
    at_start: Counters,
    samples: u32,
    /// The first and the last look at which the worker was there.
    first: Option<(Instant, ProcessReading)>,
    latest: Option<(Instant, ProcessReading)>,
    max_rss_bytes: Option<u64>,
    /// Processor time of the worker at the last look at the sensors.
    sensed: Option<(Instant, f64)>,
    min_mean_mhz: Option<f64>,
    /// The deepest drop of the clock: from, to.
    clock_drop: Option<(f64, f64)>,
    max_celsius: Option<f64>,
    gpus: Vec<GpuRecord>,
    throttling: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct GpuRecord {
    utilization: Mean,
    power_watts: Mean,
    max_worker_memory_bytes: Option<u64>,
    max_memory_bytes: Option<u64>,
    max_celsius: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.count += 1;
        }
    }

    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

impl PhaseRecorder {
    /// Begins a phase.
    pub(super) fn new(started: Instant, at_start: Counters) -> Self {
        let mut recorder = Self {
            started,
            samples: 0,
            first: None,
            latest: None,
            max_rss_bytes: None,
            sensed: at_start.process.map(|process| (at_start.at, process.cpu_seconds)),
            min_mean_mhz: None,
            clock_drop: None,
            max_celsius: None,
            gpus: vec![GpuRecord::default(); at_start.gpus.len()],
            throttling: Vec::new(),
            at_start,
        };
        if let Some(process) = recorder.at_start.process {
            recorder.note_process(recorder.at_start.at, process);
        }
        recorder
    }

    /// Takes a look at the worker; `None` if it is gone.
    pub(super) fn add_process(&mut self, at: Instant, reading: Option<ProcessReading>) {
        self.samples = self.samples.saturating_add(1);
        if let Some(reading) = reading {
            self.note_process(at, reading);
        }
    }

    fn note_process(&mut self, at: Instant, reading: ProcessReading) {
        self.max_rss_bytes = self.max_rss_bytes.max(reading.rss_bytes);
        self.first.get_or_insert((at, reading));
        self.latest = Some((at, reading));
    }

    /// Takes a look at the processor's sensors.
    pub(super) fn add_sensors(&mut self, reading: &SensorReading, clocks: &mut ClockHistory) {
        self.min_mean_mhz = least(self.min_mean_mhz, reading.mean_mhz);
        self.max_celsius = greatest(self.max_celsius, reading.celsius);
        let cores = self.cores_since_last_sensing().filter(|&cores| cores > BUSY_CORES);
        if let Some((cores, mhz)) = cores.zip(reading.fastest_mhz)
            && let Some(highest) = clocks.dropped_from(cores, mhz)
            && self.clock_drop.is_none_or(|(_, lowest)| mhz < lowest)
        {
            self.clock_drop = Some((highest, mhz));
        }
        for sign in &reading.throttling {
            self.note(sign);
        }
    }

    fn cores_since_last_sensing(&mut self) -> Option<f64> {
        let (at, process) = self.latest?;
        let before = self.sensed.replace((at, process.cpu_seconds))?;
        let seconds = at.saturating_duration_since(before.0).as_secs_f64();
        (seconds > 0.0).then(|| (process.cpu_seconds - before.1) / seconds)
    }

    /// Takes a look at the GPUs.
    pub(super) fn add_gpus(&mut self, subject: &Subject, readings: &[GpuReading]) {
        for (index, reading) in readings.iter().enumerate() {
            let Some(record) = self.gpus.get_mut(index) else { break };
            record.utilization.add(reading.utilization);
            record.power_watts.add(reading.power_watts);
            record.max_memory_bytes = record.max_memory_bytes.max(reading.memory_bytes);
            record.max_celsius = greatest(record.max_celsius, reading.celsius);
            let baseline = subject.gpu_baselines.get(index);
            let worker = baseline.and_then(|baseline| baseline.worker_memory(reading, subject.pid));
            record.max_worker_memory_bytes = record.max_worker_memory_bytes.max(worker);
        }
        for (index, reading) in readings.iter().enumerate() {
            for sign in &reading.throttling {
                self.note(&format!("GPU {index} {sign}"));
            }
        }
    }

    fn note(&mut self, sign: &str) {
        if !self.throttling.iter().any(|known| known == sign) {
            self.throttling.push(sign.to_owned());
        }
    }

    /// Ends the phase.
    pub(super) fn finish(mut self, ended: Instant, at_end: &Counters, subject: &Subject) -> Usage {
        self.add_process(at_end.at, at_end.process);
        self.add_gpus(subject, &at_end.gpus);
        self.note_counted_signs(at_end);
        if let Some((from, to)) = self.clock_drop {
            self.note(&format!("the clock fell from {from:.0} to {to:.0} MHz under load"));
        }
        let seconds = ended.saturating_duration_since(self.started).as_secs_f64();
        let load = self.at_start.load.zip(at_end.load);
        let energy = self.at_start.energy.zip(at_end.energy);
        Usage {
            seconds,
            samples: self.samples,
            cpu_cores_used: self.cores_used(),
            max_rss_bytes: self.peak_rss_bytes(),
            machine_cpu: load.and_then(|(start, end)| share(start, end, |load| load.busy)),
            min_cpu_mhz: self.min_mean_mhz,
            max_cpu_celsius: self.max_celsius,
            cpu_energy_joules: energy.and_then(|(start, end)| end.joules_since(start)),
            gpus: self.gpu_usage(seconds, at_end, subject),
            throttling: self.throttling,
        }
    }

    /// Cores used between the first and the last look at which the worker was there.
    fn cores_used(&self) -> Option<f64> {
        let ((begun, first), (ended, latest)) = self.first.zip(self.latest)?;
        let used = latest.cpu_seconds - first.cpu_seconds;
        let seconds = ended.saturating_duration_since(begun).as_secs_f64();
        (seconds > 0.0 && used >= 0.0).then(|| used / seconds)
    }

    /// The kernel's own high-water mark is exact, but covers the worker's whole life: it is the
    /// phase's if it rose during the phase. Otherwise the highest sample is.
    fn peak_rss_bytes(&self) -> Option<u64> {
        let before = self.first.and_then(|(_, process)| process.peak_rss_bytes);
        let after = self.latest.and_then(|(_, process)| process.peak_rss_bytes);
        let risen = before.zip(after).filter(|(before, after)| after > before);
        self.max_rss_bytes.max(risen.map(|(_, after)| after))
    }

    fn note_counted_signs(&mut self, at_end: &Counters) {
        let events = self.at_start.heat_events.zip(at_end.heat_events);
        if let Some(events @ 1..) = events.and_then(|(start, end)| end.checked_sub(start)) {
            self.note(&format!(
                "the processor slowed itself down {events} times because it was hot"
            ));
        }
        if let Some((start, end)) = self.at_start.quota.zip(at_end.quota)
            && let Some(times @ 1..) = end.times.checked_sub(start.times)
        {
            let seconds = (end.seconds - start.seconds).max(0.0);
            self.note(&format!(
                "the container's processor quota stopped the worker {times} times, for {seconds:.1} s"
            ));
        }
        // In a phase of a few ticks one of them is a large share.
        let long_enough = |(start, end): &(MachineLoad, MachineLoad)| {
            MachineLoad::seconds(end.total.saturating_sub(start.total)) >= SHORTEST_SHARED_SECONDS
        };
        let stolen = self.at_start.load.zip(at_end.load).filter(long_enough);
        let stolen = stolen.and_then(|(start, end)| share(start, end, |load| load.stolen));
        if let Some(stolen) = stolen.filter(|&stolen| stolen > STOLEN_SHARE) {
            let percent = stolen * 100.0;
            self.note(&format!("the hypervisor withheld {percent:.0} % of the processor time"));
        }
        if let Some(others) = self.others_share(at_end).filter(|&others| others > OTHERS_SHARE) {
            let percent = others * 100.0;
            self.note(&format!("other programs took {percent:.0} % of the processor time"));
        }
    }

    /// The share of the machine's processor time in which others than the worker computed.
    fn others_share(&self, at_end: &Counters) -> Option<f64> {
        let (start, end) = self.at_start.load.zip(at_end.load)?;
        let (before, after) = self.at_start.process.zip(at_end.process)?;
        let seconds = |part: fn(MachineLoad) -> u64| {
            Some(MachineLoad::seconds(part(end).checked_sub(part(start))?))
        };
        let all = seconds(|load| load.total).filter(|&all| all >= SHORTEST_SHARED_SECONDS)?;
        let own = after.cpu_seconds - before.cpu_seconds;
        Some((seconds(|load| load.busy)? - own) / all)
    }

    fn gpu_usage(&self, seconds: f64, at_end: &Counters, subject: &Subject) -> Vec<GpuUsage> {
        let records = self.gpus.iter().enumerate();
        let usage = records.map(|(index, record)| {
            let counter = |counters: &Counters| counters.gpus.get(index)?.energy_joules;
            let counted = counter(&self.at_start).zip(counter(at_end));
            // A counter that went backwards was reset: the driver was loaded anew.
            let counted = counted.map(|(start, end)| end - start).filter(|&joules| joules >= 0.0);
            let mean_power_watts = record.power_watts.value();
            GpuUsage {
                name: subject.gpu_names.get(index).cloned().unwrap_or_else(|| index.to_string()),
                utilization: record.utilization.value(),
                max_worker_memory_bytes: record.max_worker_memory_bytes,
                max_memory_bytes: record.max_memory_bytes,
                mean_power_watts,
                energy_joules: counted.or_else(|| mean_power_watts.map(|watts| watts * seconds)),
                max_celsius: record.max_celsius,
            }
        });
        usage.collect()
    }
}

/// The share of `part` in the machine's time between two readings.
fn share(start: MachineLoad, end: MachineLoad, part: fn(MachineLoad) -> u64) -> Option<f64> {
    let part = part(end).checked_sub(part(start))?;
    let total = end.total.checked_sub(start.total).filter(|&total| total > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "a share, shown with two digits")]
    Some((part as f64 / total as f64).min(1.0))
}

fn least(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    left.into_iter().chain(right).reduce(f64::min)
}

fn greatest(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    left.into_iter().chain(right).reduce(f64::max)
}

#[cfg(test)]
mod tests;
