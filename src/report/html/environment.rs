//! What was measured on, machine by machine.

use crate::report::text::sanitize;
use crate::results::record::{HostRecord, RunRecord};
use crate::units::{format_bytes, significant};
use serde::Serialize;

/// A machine in one of its states.
#[derive(Serialize)]
pub(super) struct Host {
    name: String,
    facts: Vec<(&'static str, String)>,
}

pub(super) fn hosts(run: &RunRecord) -> Vec<Host> {
    run.hosts.iter().map(host).collect()
}

fn host(host: &HostRecord) -> Host {
    let it = &host.environment;
    let rate = it.read_rates.iter().map(|rate| rate.bytes_per_second).reduce(f64::max);
    let facts = [
        ("processor", it.cpu.clone()),
        ("cores", number(it.physical_cores)),
        ("logical processors", number(it.logical_cpus)),
        ("usable processors", it.usable_cpus.map(number).unwrap_or_default()),
        (
            "limit of processor time",
            it.cpu_quota_cores
                .map(|it| format!("{} cores", significant(it, 3)))
                .unwrap_or_default(),
        ),
        ("governor", it.governor.clone().unwrap_or_default()),
        ("memory", if it.memory_bytes > 0 { format_bytes(it.memory_bytes) } else { String::new() }),
        (
            "memory is read at",
            rate.map(|it| format!("{} GB/s", significant(it / 1e9, 3))).unwrap_or_default(),
        ),
        ("GPUs", it.gpus.join("; ")),
        ("operating system", it.operating_system.clone()),
        ("engines", it.engines_in_words()),
        ("quantbench", it.quantbench.clone()),
        ("build", it.build.clone()),
    ];
    let facts = facts.into_iter().map(|(name, value)| (name, sanitize(&value)));
    Host {
        name: sanitize(&host.id.name),
        facts: facts.filter(|(_, value)| !value.is_empty()).collect(),
    }
}

fn number(count: u32) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}
