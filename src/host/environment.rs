//! The environment of a host: what it is and was built from, as it is stored with its figures.

use super::profile::Profile;
use crate::hardware::probe::Machine;
use crate::model::cache::Cache;
use crate::model::engine_name::EngineIdentity;
use crate::results::record::Environment;

/// What a build of quantbench is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// quantbench's version and commit.
    pub quantbench: String,
    /// Its engines.
    pub engines: Vec<EngineIdentity>,
    /// Compiler, flags and features.
    pub flags: String,
}

/// The environment of this build on this machine.
pub fn environment(machine: &Machine, build: &Build) -> Environment {
    let profile = profile(machine, build);
    let (read_rates, compute_rates) =
        profile.map(|it| (it.read_rates, it.compute_rates)).unwrap_or_default();
    let processor = &machine.processor;
    Environment {
        quantbench: build.quantbench.clone(),
        engines: build.engines.clone(),
        build: build.flags.clone(),
        operating_system: machine.operating_system.clone(),
        cpu: processor.name.known().cloned().unwrap_or_else(|| processor.architecture.clone()),
        physical_cores: processor.physical_cores.known().copied().unwrap_or_default(),
        logical_cpus: processor.logical_cpus,
        usable_cpus: machine.limits.usable_cpus.known().copied(),
        cpu_quota_cores: machine.limits.cpu_quota_cores.known().copied(),
        governor: processor.governor.known().cloned(),
        memory_bytes: memory_bytes(machine).unwrap_or_default(),
        read_rates,
        compute_rates,
        gpus: machine.gpus.descriptions(),
    }
}

/// What `quantbench devices --measure` kept; `None` where it was never asked, or there is no cache.
fn profile(machine: &Machine, build: &Build) -> Option<Profile> {
    let cache = Cache::open().ok()?;
    Profile::kept(&cache, &machine.processor, &machine.limits, build)
}

/// Memory that a worker can have, bytes: the machine's, or its container's if that is less.
fn memory_bytes(machine: &Machine) -> Option<u64> {
    let total = machine.memory.total_bytes.known().copied();
    let limit = machine.limits.memory_bytes.known().copied();
    match (total, limit) {
        (Some(total), Some(limit)) => Some(total.min(limit)),
        (total, limit) => total.or(limit),
    }
}
