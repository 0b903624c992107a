//! What the monitor saw so far, by instrument: from its readings to a timeline.

use crate::hardware::energy::EnergyReading;
use crate::hardware::gpu::GpuReading;
use crate::hardware::process::ProcessReading;
use crate::hardware::recorder::Subject;
use crate::hardware::sensors::SensorReading;
use crate::hardware::timeline::{Counted, GpuTrace, Look, Points, Rate, Timeline};
use crate::units::to_f64;
use std::time::{Duration, Instant};

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// When the first phase began; `None`: none has.
    begun: Option<Instant>,
    worker: Points,
    processor: Points,
    gpus: Vec<Gpu>,
}

#[derive(Debug, Clone)]
struct Gpu {
    points: Points,
    /// Most memory of the worker on it; `None`: it is not known.
    of_worker: Option<u64>,
}

impl Seen {
    pub(super) fn new(interval: Duration, subject: &Subject) -> Self {
        let count = subject.gpu_names.len();
        let gpu = Gpu { points: Points::new(interval, count), of_worker: None };
        Self {
            begun: None,
            worker: Points::new(interval, 1),
            processor: Points::new(interval, 1),
            gpus: vec![gpu; count],
        }
    }

    /// A phase begins or ends; time is counted from the first.
    pub(super) fn begin(&mut self, at: Instant) {
        self.begun.get_or_insert(at);
    }

    pub(super) fn add_process(&mut self, at: Instant, reading: Option<ProcessReading>) {
        let Some(reading) = reading else { return };
        let look = Look {
            counted: Some(Counted { value: reading.cpu_seconds, gaps: 0 }),
            memory_bytes: reading.rss_bytes,
            ..Look::default()
        };
        self.worker.add(at, look);
    }

    pub(super) fn add_sensors(
        &mut self,
        at: Instant,
        reading: &SensorReading,
        energy: Option<EnergyReading>,
    ) {
        let counted =
            energy.map(|it| Counted { value: to_f64(it.microjoules) / 1e6, gaps: it.gaps });
        let look =
            Look { counted, mhz: reading.mean_mhz, celsius: reading.celsius, ..Look::default() };
        self.processor.add(at, look);
    }

    pub(super) fn add_gpus(&mut self, at: Instant, subject: &Subject, readings: &[GpuReading]) {
        let known = self.gpus.iter_mut().zip(&subject.gpu_baselines).zip(readings);
        for ((gpu, baseline), reading) in known {
            let of_worker = baseline.worker_memory(reading, subject.pid);
            gpu.of_worker = gpu.of_worker.max(of_worker);
            let look = Look {
                counted: None,
                memory_bytes: reading.memory_bytes,
                utilization: reading.utilization,
                mhz: reading.mhz,
                celsius: reading.celsius,
                watts: reading.power_watts,
            };
            gpu.points.add(at, look);
        }
    }

    pub(super) fn timeline(&self, subject: &Subject) -> Timeline {
        let Some(begun) = self.begun else { return Timeline::default() };
        let used = self.gpus.iter().zip(&subject.gpu_names);
        let used = used.filter(|(gpu, _)| gpu.of_worker != Some(0));
        let gpus = used.map(|(gpu, name)| GpuTrace {
            name: name.clone(),
            trace: gpu.points.trace(begun, Rate::None),
        });
        Timeline {
            worker: self.worker.trace(begun, Rate::Cores),
            processor: self.processor.trace(begun, Rate::Watts),
            gpus: gpus.filter(|gpu| !gpu.trace.is_empty()).collect(),
        }
    }
}
