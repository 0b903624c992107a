//! All instruments of a monitor together: the worker's files, the machine's counters and sensors,
//! and the GPUs.

use crate::hardware::cgroup::Groups;
use crate::hardware::energy::{EnergyMeter, EnergyReading};
use crate::hardware::gpu::{GpuBaseline, GpuReading, GpuSource};
use crate::hardware::nvml::NvmlSource;
use crate::hardware::process::{ProcessFiles, ProcessReading, machine_load};
use crate::hardware::recorder::{Counters, Subject};
use crate::hardware::root::SystemRoot;
use crate::hardware::sensors::{SensorReading, Sensors};
use std::time::{Duration, Instant};

/// What the monitor's thread reads.
pub(super) struct Instruments {
    root: SystemRoot,
    process: ProcessFiles,
    groups: Groups,
    energy: Option<EnergyMeter>,
    sensors: Sensors,
    gpus: Option<Box<dyn GpuSource>>,
    /// What stays the same while the worker lives.
    pub(super) subject: Subject,
    opened: Instant,
}

impl Instruments {
    /// Opens everything there is on this machine.
    pub(super) fn open(pid: u32) -> Self {
        let gpus = NvmlSource::open().map(|source| Box::new(source) as Box<dyn GpuSource>);
        Self::open_below(&SystemRoot::default(), pid, gpus)
    }

    /// Opens everything there is below `root`, with these GPUs.
    pub(super) fn open_below(
        root: &SystemRoot,
        pid: u32,
        mut gpus: Option<Box<dyn GpuSource>>,
    ) -> Self {
        let names = gpus.as_ref().map(|gpus| gpus.names()).unwrap_or_default();
        let readings = gpus.as_mut().map(|gpus| gpus.read()).unwrap_or_default();
        let subject = Subject {
            pid,
            gpu_names: names,
            gpu_baselines: readings.iter().map(GpuBaseline::of).collect(),
        };
        Self {
            process: ProcessFiles::open(root, pid),
            groups: Groups::of_process(root, &pid.to_string()),
            energy: EnergyMeter::open(root),
            sensors: Sensors::open(root),
            root: root.clone(),
            gpus,
            subject,
            opened: Instant::now(),
        }
    }

    /// Looks at the worker.
    pub(super) fn process(&mut self) -> Option<ProcessReading> {
        self.process.read()
    }

    /// Reads everything that only rises. Dear on machines with many processors, so only done where
    /// phases meet.
    pub(super) fn counters(&mut self) -> Counters {
        Counters {
            at: Instant::now(),
            process: self.process.read(),
            load: machine_load(&self.root),
            energy: self.energy.as_mut().map(EnergyMeter::read),
            heat_events: self.sensors.heat_events(),
            quota: self.groups.stops(&self.root),
            gpus: self.gpus(),
        }
    }

    /// Looks at the processor's sensors, and at the energy counters before they start again.
    pub(super) fn sensors(&mut self) -> (SensorReading, Option<EnergyReading>) {
        let energy = self.energy.as_mut().map(EnergyMeter::read);
        (self.sensors.read(), energy)
    }

    /// Looks at the GPUs; none if there are none.
    pub(super) fn gpus(&mut self) -> Vec<GpuReading> {
        self.gpus.as_mut().map(|gpus| gpus.read()).unwrap_or_default()
    }

    /// Processor time that the calling thread has used, to learn what a reading costs; on systems
    /// that do not tell, the time that has passed, which is never less.
    pub(super) fn own_cpu_time(&self) -> Duration {
        // The first field of schedstat is nanoseconds on a processor. Source: proc.rst of Linux.
        let text = self.root.text("/proc/thread-self/schedstat").ok();
        let nanoseconds = text.and_then(|text| text.split(' ').next()?.parse().ok());
        nanoseconds.map_or_else(|| self.opened.elapsed(), Duration::from_nanos)
    }
}
