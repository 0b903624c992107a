//! Usage: what a worker and its machine consumed during one phase.

use serde::{Deserialize, Serialize};

/// Consumption during one phase of a worker. What this machine cannot tell is `None`, never 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Length of the phase, seconds.
    pub seconds: f64,
    /// How often the monitor looked.
    pub samples: u32,
    /// Processor time of the worker over the length of the phase: 1.0 is one core fully used.
    pub cpu_cores_used: Option<f64>,
    /// Highest resident memory of the worker seen, bytes.
    pub max_rss_bytes: Option<u64>,
    /// Processor use of the whole machine, 0 to 1, mean.
    pub machine_cpu: Option<f64>,
    /// Mean clock of the processor's cores, MHz, lowest seen.
    pub min_cpu_mhz: Option<f64>,
    /// Highest processor temperature seen, °C.
    pub max_cpu_celsius: Option<f64>,
    /// Energy of processor package and memory (RAPL), joules.
    pub cpu_energy_joules: Option<f64>,
    /// One entry per GPU that could be read.
    pub gpus: Vec<GpuUsage>,
    /// Signs of throttling, in words.
    pub throttling: Vec<String>,
}

/// What a sign begins with that says that the machine was not alone.
pub const OTHERS_TOOK: &str = "other programs took";

/// One GPU during one phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuUsage {
    /// Position and name: `0: NVIDIA H200`.
    pub name: String,
    /// Use of its compute units, 0 to 1, mean.
    pub utilization: Option<f64>,
    /// Highest memory of the worker on it, bytes.
    pub max_worker_memory_bytes: Option<u64>,
    /// Highest memory in use on it by anyone, bytes.
    pub max_memory_bytes: Option<u64>,
    /// Mean power, watts.
    pub mean_power_watts: Option<f64>,
    /// Energy, joules: the device's own counter, or mean power times length.
    pub energy_joules: Option<f64>,
    /// Highest temperature, °C.
    pub max_celsius: Option<f64>,
}

impl Usage {
    /// Energy of processor, memory and GPUs, as far as it could be read, joules. A GPU on which the
    /// worker is known to have had no memory is left out: it idled for reasons of its own.
    pub fn energy_joules(&self) -> Option<f64> {
        let used = self.gpus.iter().filter(|gpu| gpu.max_worker_memory_bytes != Some(0));
        let parts =
            self.cpu_energy_joules.into_iter().chain(used.filter_map(|gpu| gpu.energy_joules));
        parts.fold(None, |sum, part| Some(sum.unwrap_or(0.0) + part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(max_worker_memory_bytes: Option<u64>, energy_joules: Option<f64>) -> GpuUsage {
        GpuUsage { max_worker_memory_bytes, energy_joules, ..GpuUsage::default() }
    }

    #[test]
    fn energy_leaves_out_gpus_that_the_worker_did_not_use() {
        let mut usage = Usage {
            cpu_energy_joules: Some(10.0),
            gpus: vec![gpu(Some(1), Some(5.0)), gpu(None, Some(2.0)), gpu(Some(0), Some(90.0))],
            ..Usage::default()
        };
        assert_eq!(usage.energy_joules(), Some(17.0));
        usage.cpu_energy_joules = None;
        assert_eq!(usage.energy_joules(), Some(7.0));
    }

    #[test]
    fn energy_that_nobody_tells_is_unknown_and_not_zero() {
        assert_eq!(Usage::default().energy_joules(), None);
        let usage = Usage { gpus: vec![gpu(Some(1), None)], ..Usage::default() };
        assert_eq!(usage.energy_joules(), None);
    }
}
