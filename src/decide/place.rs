//! Places: memory that a model may take, on this machine or on one that is only described.

use crate::engine::Device;
use crate::experiment::reader::nearest;
use crate::hardware::cgroup::Limits;
use crate::hardware::memory::Memory;
use crate::units::{format_bytes, parse_bytes, to_f64};
use crate::workload::measured::PredictedMemory;
use serde::{Deserialize, Serialize};

const THIS_MACHINE: &str = "this machine";

/// The memory of this machine's processors.
pub const HOST: &str = "host";

/// What this machine is called among targets.
pub const HERE: &str = "here";

/// The targets that have names.
const TARGETS: &str = include_str!("targets.toml");

/// Where a model may run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// `this machine`, or the target as it was named.
    pub name: String,
    /// Its memories, the host's first.
    pub pools: Vec<Pool>,
    /// Bytes per second that its memory gives at most, where that is known.
    #[serde(rename = "bandwidth_bytes_per_second")]
    pub bandwidth: Option<f64>,
}

/// One memory of a place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pool {
    /// `host`, `gpu0`, …
    pub name: String,
    /// The engine's name of the device that it belongs to; `None`: the processors.
    pub device: Option<String>,
    /// Bytes that a model may take; `None`: not known.
    #[serde(rename = "there_bytes")]
    pub there: Option<u64>,
    /// Where that number comes from, in words.
    pub origin: String,
}

/// A budget for one device: its name and bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// `host`, `gpu0`, or the engine's name of a device.
    pub device: String,
    /// Bytes that may be taken of it.
    pub bytes: u64,
}

/// Reads `host=6GiB`.
///
/// # Errors
/// A sentence that shows the form.
pub fn parse_budget(text: &str) -> Result<Budget, String> {
    let (device, size) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' names no size; write it like {HOST}=6GiB or gpu0=8GiB"))?;
    let (device, bytes) = (device.trim().to_owned(), parse_bytes(size.trim())?);
    Ok(Budget { device, bytes })
}

impl Place {
    /// This machine with the devices that an engine finds on it. A budget takes the place of what was found.
    ///
    /// # Errors
    /// A budget is for a device that is not there, or for one twice; a sentence.
    pub fn here(
        memory: &Memory,
        limits: &Limits,
        devices: &[Device],
        budgets: &[Budget],
    ) -> Result<Self, String> {
        let mut pools = vec![host(memory, limits)];
        // An integrated GPU has no memory of its own: what it takes is the host's.
        let gpus = devices.iter().filter(|device| device.kind == "GPU").enumerate();
        pools.extend(gpus.map(|(at, device)| Pool {
            name: format!("gpu{at}"),
            device: Some(device.name.clone()),
            there: Some(device.free_bytes),
            origin: format!(
                "free of {} on {} ({})",
                format_bytes(device.total_bytes),
                device.name,
                device.description
            ),
        }));
        for (at, Budget { device, bytes }) in budgets.iter().enumerate() {
            if budgets[..at].iter().any(|it| it.device.eq_ignore_ascii_case(device)) {
                return Err(format!("{device} has two budgets"));
            }
            let names: Vec<String> = pools.iter().map(|pool| pool.name.clone()).collect();
            let is_meant = |pool: &&mut Pool| {
                let own = [Some(&pool.name), pool.device.as_ref()];
                own.into_iter().flatten().any(|name| name.eq_ignore_ascii_case(device))
            };
            let pool = pools.iter_mut().find(is_meant).ok_or_else(|| {
                format!("this machine has no {device}; it has {}", names.join(", "))
            })?;
            (pool.there, pool.origin) = (Some(*bytes), "budget".to_owned());
        }
        Ok(Self { name: THIS_MACHINE.to_owned(), pools, bandwidth: None })
    }

    /// A target by its name, or by its figures: `4GiB@17GB/s`.
    ///
    /// # Errors
    /// It is neither; a sentence with what is near.
    pub fn target(text: &str) -> Result<Self, String> {
        if let Some((size, bandwidth)) = text.split_once('@') {
            let there = parse_bytes(size.trim())?;
            let bandwidth = parse_bandwidth(bandwidth.trim())?;
            return Ok(Self::described(text, there, bandwidth, "as you say".to_owned()));
        }
        let targets = targets()?;
        let found = targets.iter().find(|target| target.name.eq_ignore_ascii_case(text));
        let target = found.ok_or_else(|| {
            let names = targets.iter().map(|target| target.name.as_str());
            let near = match nearest(text, names.clone()) {
                Some(name) => format!("did you mean {name}?"),
                None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
            };
            format!("'{text}' is no target; {near} Or write one like 4GiB@17GB/s")
        })?;
        let Target { name, title, memory, usable, bandwidth, source } = target;
        let origin = format!("usable of {memory} on {title}; memory and bandwidth: {source}");
        Ok(Self::described(name, parse_bytes(usable)?, parse_bandwidth(bandwidth)?, origin))
    }

    fn described(name: &str, there: u64, bandwidth: f64, origin: String) -> Self {
        let pool = Pool { name: HOST.to_owned(), device: None, there: Some(there), origin };
        Self { name: name.to_owned(), pools: vec![pool], bandwidth: Some(bandwidth) }
    }

    /// Bytes that a prediction takes of each memory.
    pub fn shares(&self, predicted: &PredictedMemory) -> Vec<u64> {
        let mut shares = vec![0_u64; self.pools.len()];
        let mut add = |at: usize, bytes: u64| {
            if let Some(share) = shares.get_mut(at) {
                *share = share.saturating_add(bytes);
            }
        };
        add(0, predicted.process_bytes.unwrap_or(0));
        for buffer in &predicted.buffers {
            // ggml's names of a device's buffers begin with its own.
            let is_its = |pool: &Pool| {
                pool.device
                    .as_ref()
                    .is_some_and(|device| buffer.buffer.starts_with(device.as_str()))
            };
            let own = self.pools.iter().position(|pool| buffer.on_device && is_its(pool));
            let bytes = [buffer.weights_bytes, buffer.kv_bytes, buffer.compute_bytes];
            add(own.unwrap_or(0), bytes.into_iter().fold(0, u64::saturating_add));
        }
        // The driver tells of all GPUs together.
        let gpus = u64::try_from(self.pools.len().saturating_sub(1)).unwrap_or(0);
        if let Some(each) = predicted.gpu_process_bytes.and_then(|all| all.checked_div(gpus)) {
            (1..self.pools.len()).for_each(|at| add(at, each));
        }
        shares
    }

    /// Whether it is this machine.
    pub fn is_here(&self) -> bool {
        self.name == THIS_MACHINE
    }

    /// Whether it has a GPU with a memory of its own.
    pub fn has_gpu(&self) -> bool {
        self.pools.len() > 1
    }
}

/// What is free of the host's memory, without swap, and no more than its control group allows.
fn host(memory: &Memory, limits: &Limits) -> Pool {
    let total = memory.total_bytes.known().map(|&bytes| format!(" of {}", format_bytes(bytes)));
    let total = total.unwrap_or_default();
    let available = memory.available_bytes.known().copied();
    let limit = limits.memory_bytes.known().copied();
    let (there, origin) = match (available, limit) {
        (Some(available), Some(limit)) if limit < available => {
            (Some(limit), "limit of the control group".to_owned())
        }
        (Some(available), _) => (Some(available), format!("available{total}, swap not counted")),
        (None, limit) => {
            let reason = memory.available_bytes.reason().unwrap_or("not known");
            (
                limit,
                limit.map_or_else(|| reason.to_owned(), |_| "limit of the control group".into()),
            )
        }
    };
    Pool { name: HOST.to_owned(), device: None, there, origin }
}

/// A row of `targets.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) memory: String,
    pub(super) usable: String,
    pub(super) bandwidth: String,
    pub(super) source: String,
}

#[derive(Deserialize)]
struct Targets {
    target: Vec<Target>,
}

pub(super) fn targets() -> Result<Vec<Target>, String> {
    let targets: Result<Targets, _> = toml::from_str(TARGETS);
    targets.map(|it| it.target).map_err(|error| format!("the list of targets is damaged: {error}"))
}

/// Reads `17GB/s`: bytes per second.
fn parse_bandwidth(text: &str) -> Result<f64, String> {
    let size = text.strip_suffix("/s").and_then(|size| parse_bytes(size.trim()).ok());
    let size = size.filter(|&bytes| bytes > 0);
    size.map(to_f64).ok_or_else(|| format!("'{text}' is no bandwidth; write it like 17GB/s"))
}
