//! What this machine was measured to do, kept in the cache for a processor and a build.

use super::environment::Build;
use crate::causes::Problem;
use crate::hardware::bandwidth::{ReadRate, read_rates};
use crate::hardware::cgroup::Limits;
use crate::hardware::probe::Machine;
use crate::hardware::processor::Processor;
use crate::hardware::rates::ComputeRates;
use crate::model::cache::{Cache, CacheError};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use time::OffsetDateTime;

/// A profile of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// When it was measured.
    #[serde(with = "time::serde::rfc3339")]
    pub measured: OffsetDateTime,
    /// How fast memory is read, by the number of threads, ascending.
    pub read_rates: Vec<ReadRate>,
    /// What it computes, by the number of threads; empty in profiles of earlier versions.
    #[serde(default)]
    pub compute_rates: Vec<ComputeRates>,
}

impl Profile {
    /// Measures how memory is read: a few seconds in which nothing else should run. `None` where too little memory is
    /// free.
    pub fn measure(machine: &Machine) -> Option<Self> {
        let free = machine.memory.available_bytes.known().copied();
        let free = free.into_iter().chain(machine.limits.memory_bytes.known().copied()).min();
        let threads = usable_cpus(&machine.processor, &machine.limits);
        let read_rates = read_rates(free.unwrap_or(u64::MAX), threads)?;
        Some(Self { measured: OffsetDateTime::now_utc(), read_rates, compute_rates: Vec::new() })
    }

    /// What it computes with so many threads, if that was measured.
    pub fn compute(&self, threads: u32) -> Option<&ComputeRates> {
        self.compute_rates.iter().find(|rates| rates.threads == threads)
    }

    /// Adds what was measured. Of what was measured before with as many threads the faster of both stays: whatever else
    /// runs makes it slower, and nothing makes it faster.
    pub fn add(&mut self, mut rates: ComputeRates) {
        if let Some(earlier) = self.compute(rates.threads) {
            rates.or_faster(earlier);
        }
        self.compute_rates.retain(|it| it.threads != rates.threads);
        self.compute_rates.push(rates);
        self.compute_rates.sort_by_key(|it| it.threads);
    }

    /// The one that is kept; `None` if there is none that can be read.
    pub fn kept(
        cache: &Cache,
        processor: &Processor,
        limits: &Limits,
        build: &Build,
    ) -> Option<Self> {
        let text = fs::read(place(cache, processor, limits, build).ok()?).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn keep(&self, cache: &Cache, machine: &Machine, build: &Build) -> Result<(), Problem> {
        let place = place(cache, &machine.processor, &machine.limits, build)?;
        let kept = crate::files::named(cache.root()).and_then(|mut file| {
            serde_json::to_writer(file.as_file_mut(), self)?;
            file.as_file_mut().flush()?;
            file.persist(&place).map_err(|error| error.error).map(|_| ())
        });
        kept.map_err(|error| {
            Problem::because(format!("cannot write the profile {}", place.display()), error)
        })
    }
}

/// Logical processors that this process may use.
pub fn usable_cpus(processor: &Processor, limits: &Limits) -> u32 {
    limits.usable_cpus.known().copied().unwrap_or(processor.logical_cpus)
}

fn place(
    cache: &Cache,
    processor: &Processor,
    limits: &Limits,
    build: &Build,
) -> Result<PathBuf, CacheError> {
    let name = processor.name.known().map_or("", String::as_str);
    let engines: Vec<String> = build.engines.iter().map(ToString::to_string).collect();
    let threads = usable_cpus(processor, limits).to_string();
    cache.measurements(&["machine", name, &threads, &engines.join(",")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::rates::TypeRate;

    #[test]
    fn of_what_is_measured_again_the_faster_stays_and_the_rest_too() {
        let rates = |threads, types: &[(&str, f64)]| {
            let rate = |value: f64| {
                let spread = crate::hardware::rates::Rate { value, low: value, high: value };
                TypeRate { generation: spread, prompt: spread }
            };
            let types = types.iter().map(|&(name, value)| (name.to_owned(), rate(value))).collect();
            ComputeRates { threads, types, ..ComputeRates::default() }
        };
        let mut profile = Profile {
            measured: OffsetDateTime::UNIX_EPOCH,
            read_rates: Vec::new(),
            compute_rates: vec![rates(2, &[("F16", 1.0), ("Q8_0", 2.0)])],
        };
        profile.add(rates(2, &[("F16", 3.0), ("Q8_0", 1.0)]));
        profile.add(rates(1, &[("F16", 4.0)]));
        let of = |threads, name: &str| {
            profile.compute(threads).and_then(|it| Some(it.types.get(name)?.prompt.value))
        };
        assert_eq!((of(2, "F16"), of(2, "Q8_0"), of(1, "F16")), (Some(3.0), Some(2.0), Some(4.0)));
        assert_eq!((of(1, "Q8_0"), of(3, "F16")), (None, None));
    }
}
