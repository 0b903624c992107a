//! The recorder of one phase: takes readings with their times, gives the phase's usage.
//!
//! Pure: no clock, no files. The monitor's thread feeds it.

use crate::hardware::cgroup::QuotaStops;
use crate::hardware::energy::EnergyReading;
use crate::hardware::gpu::{GpuBaseline, GpuReading};
use crate::hardware::process::{MachineLoad, ProcessReading};
use crate::hardware::sensors::SensorReading;
use crate::hardware::usage::{GpuUsage, OTHERS_TOOK, Usage};
use crate::units::to_f64;
use std::collections::BTreeMap;
use std::time::Instant;

/// A clock below this fraction of what it was under the same load has dropped. Wide vector
/// instructions alone lower it to 0.71 on some processors (Xeon Gold 6148: 3.1 to 2.2 GHz).
/// Of a shorter time no share of the processor is told, seconds.
const SHORTEST_SHARE: f64 = 0.1;

const CLOCK_DROP: f64 = 0.7;

/// Below this use of cores a low clock is rest, not a drop.
const BUSY_CORES: f64 = 0.5;

/// Stolen processor time above this fraction of the machine's is worth telling.
const STOLEN_SHARE: f64 = 0.02;

/// Processor time that other programs took above this fraction of the machine's is worth telling.
const OTHERS_SHARE: f64 = 0.1;

/// Least processor time for such a share, seconds: the kernel counts in steps of 10 ms per processor.
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
    /// What is noted look by look; the rest is filled in at the end.
    usage: Usage,
    /// The first and the last look at which the worker was there.
    first: Option<(Instant, ProcessReading)>,
    latest: Option<(Instant, ProcessReading)>,
    /// Processor time of the worker at the last look at the sensors.
    sensed: Option<(Instant, f64)>,
    /// The deepest drop of the clock: from, to.
    clock_drop: Option<(f64, f64)>,
    gpus: Vec<GpuRecord>,
}

#[derive(Debug, Clone, Default)]
struct GpuRecord {
    utilization: Mean,
    power_watts: Mean,
    /// What is highest of all looks.
    usage: GpuUsage,
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
            usage: Usage::default(),
            first: None,
            latest: None,
            sensed: at_start.process.map(|process| (at_start.at, process.cpu_seconds)),
            clock_drop: None,
            gpus: vec![GpuRecord::default(); at_start.gpus.len()],
            at_start,
        };
        if let Some(process) = recorder.at_start.process {
            recorder.note_process(recorder.at_start.at, process);
        }
        recorder
    }

    /// Takes a look at the worker; `None` if it is gone.
    pub(super) fn add_process(&mut self, at: Instant, reading: Option<ProcessReading>) {
        self.usage.samples = self.usage.samples.saturating_add(1);
        if let Some(reading) = reading {
            self.note_process(at, reading);
        }
    }

    fn note_process(&mut self, at: Instant, reading: ProcessReading) {
        self.usage.max_rss_bytes = self.usage.max_rss_bytes.max(reading.rss_bytes);
        self.first.get_or_insert((at, reading));
        self.latest = Some((at, reading));
    }

    /// Takes a look at the processor's sensors.
    pub(super) fn add_sensors(&mut self, reading: &SensorReading, clocks: &mut ClockHistory) {
        let usage = &mut self.usage;
        usage.min_cpu_mhz = least(usage.min_cpu_mhz, reading.mean_mhz);
        usage.max_cpu_celsius = greatest(usage.max_cpu_celsius, reading.celsius);
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
            for sign in &reading.throttling {
                self.note(&format!("GPU {index} {sign}"));
            }
            let Some(record) = self.gpus.get_mut(index) else { continue };
            record.utilization.add(reading.utilization);
            record.power_watts.add(reading.power_watts);
            let usage = &mut record.usage;
            usage.max_memory_bytes = usage.max_memory_bytes.max(reading.memory_bytes);
            usage.max_celsius = greatest(usage.max_celsius, reading.celsius);
            let baseline = subject.gpu_baselines.get(index);
            let worker = baseline.and_then(|baseline| baseline.worker_memory(reading, subject.pid));
            usage.max_worker_memory_bytes = usage.max_worker_memory_bytes.max(worker);
        }
    }

    fn note(&mut self, sign: &str) {
        if !self.usage.throttling.iter().any(|known| known == sign) {
            self.usage.throttling.push(sign.to_owned());
        }
    }

    /// Ends the phase.
    pub(super) fn finish(mut self, ended: Instant, at_end: &Counters, subject: &Subject) -> Usage {
        self.add_process(at_end.at, at_end.process);
        self.add_gpus(subject, &at_end.gpus);
        let load = self.at_start.load.zip(at_end.load);
        let load = load.and_then(|(start, end)| end.since(start));
        self.note_counted_signs(at_end);
        self.note_others(at_end, load);
        if let Some((from, to)) = self.clock_drop {
            self.note(&format!("the clock fell from {from:.0} to {to:.0} MHz under load"));
        }
        let seconds = ended.saturating_duration_since(self.started).as_secs_f64();
        let energy = self.at_start.energy.zip(at_end.energy);
        Usage {
            seconds,
            cpu_cores_used: self.cores_used(),
            max_rss_bytes: self.peak_rss_bytes(),
            machine_cpu: load.map(|load| share(load.busy, load.total)),
            cpu_energy_joules: energy.and_then(|(start, end)| end.joules_since(start)),
            gpus: self.gpu_usage(seconds, at_end, subject),
            ..self.usage
        }
    }

    /// Cores used between the first and the last look at which the worker was there.
    fn cores_used(&self) -> Option<f64> {
        let ((begun, first), (ended, latest)) = self.first.zip(self.latest)?;
        let used = latest.cpu_seconds - first.cpu_seconds;
        let seconds = ended.saturating_duration_since(begun).as_secs_f64();
        // The kernel counts in ticks of 10 ms: of a few of them no share can be told.
        (seconds >= SHORTEST_SHARE && used >= 0.0).then(|| used / seconds)
    }

    /// The kernel's own high-water mark is exact, but covers the worker's whole life: it is the
    /// phase's if it rose during the phase. Otherwise the highest sample is.
    fn peak_rss_bytes(&self) -> Option<u64> {
        let before = self.first.and_then(|(_, process)| process.peak_rss_bytes);
        let after = self.latest.and_then(|(_, process)| process.peak_rss_bytes);
        let risen = before.zip(after).filter(|(before, after)| after > before);
        self.usage.max_rss_bytes.max(risen.map(|(_, after)| after))
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
    }

    /// Notes what others took of the machine's processor time: the hypervisor, and other programs.
    fn note_others(&mut self, at_end: &Counters, load: Option<MachineLoad>) {
        let Some(MachineLoad { busy, stolen, total }) = load else { return };
        let all = MachineLoad::seconds(total);
        if all < SHORTEST_SHARED_SECONDS {
            return;
        }
        let stolen = share(stolen, total);
        if stolen > STOLEN_SHARE {
            let percent = stolen * 100.0;
            self.note(&format!("the hypervisor withheld {percent:.0} % of the processor time"));
        }
        let Some((before, after)) = self.at_start.process.zip(at_end.process) else { return };
        let own = after.cpu_seconds - before.cpu_seconds;
        let others = (MachineLoad::seconds(busy) - own) / all;
        if others > OTHERS_SHARE {
            let percent = others * 100.0;
            self.note(&format!("{OTHERS_TOOK} {percent:.0} % of the processor time"));
        }
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
                mean_power_watts,
                energy_joules: counted.or_else(|| mean_power_watts.map(|watts| watts * seconds)),
                ..record.usage.clone()
            }
        });
        usage.collect()
    }
}

fn share(part: u64, total: u64) -> f64 {
    (to_f64(part) / to_f64(total)).min(1.0)
}

fn least(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    left.into_iter().chain(right).reduce(f64::min)
}

fn greatest(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    left.into_iter().chain(right).reduce(f64::max)
}

#[cfg(test)]
mod tests;
