//! The profile of this machine: measured when it is asked for, kept in the cache, and what of it predictions go by.

use super::output;
use super::session::Workers;
use super::version;
use crate::causes::Problem;
use crate::decide::rating::Rater;
use crate::error::Error;
use crate::hardware::probe::Machine;
use crate::hardware::rates::ComputeRates;
use crate::host::profile::Profile;
use crate::model::cache::Cache;
use crate::orchestrator::event::Listener;
use std::time::Duration;

/// What the rates of arithmetic may take; reading memory comes on top.
const BUDGET: Duration = Duration::from_secs(17);

/// Measures this machine with so many threads and keeps it, beside what was measured with others. `None`: the user
/// stopped it, and nothing was kept.
///
/// # Errors
/// There is too little memory, nothing can be computed, or the cache cannot be written.
pub(super) fn measure(machine: &Machine, threads: u32) -> Result<Option<Profile>, Error> {
    output::tell(
        "measuring this machine for about 20 s; anything else that runs makes it look slower",
    );
    let cache = Cache::open()?;
    let build = version::build();
    let mut profile = Profile::measure(machine).ok_or_else(|| {
        Error::Problem(Problem::new(
            "there is too little free memory to tell its speed from that of the caches",
        ))
    })?;
    let caches = machine.processor.caches.known();
    let last = caches.and_then(|all| all.iter().max_by_key(|it| it.level));
    let cache_bytes = last.map_or(0, |it| it.bytes.saturating_mul(u64::from(it.instances)));
    let Workers { runtime, mut host } = Workers::start()?;
    let mut rater = Rater { host: &mut host, cache: &cache, threads, cache_bytes, budget: BUDGET };
    let mut nobody: Vec<Box<dyn Listener>> = Vec::new();
    let rates = runtime.block_on(rater.measure(&mut nobody)).map_err(Error::Problem)?;
    let Some(rates) = rates else { return Ok(None) };
    let kept = Profile::kept(&cache, &machine.processor, &machine.limits, &build);
    profile.compute_rates = kept.map(|it| it.compute_rates).unwrap_or_default();
    profile.add(rates);
    profile.keep(&cache, machine, &build).map_err(Error::Problem)?;
    Ok(Some(profile))
}

/// The profile that is kept of this machine.
pub(super) fn kept(machine: &Machine) -> Option<Profile> {
    // A cache that cannot be opened has no profile; whoever needs it is told why.
    let cache = Cache::open().ok()?;
    Profile::kept(&cache, &machine.processor, &machine.limits, &version::build())
}

/// What the machine computes with so many threads.
///
/// # Errors
/// It was not measured; the command that does, in a sentence.
pub(super) fn rates(profile: Option<&Profile>, threads: u32) -> Result<&ComputeRates, String> {
    let command = "quantbench devices --measure";
    let Some(profile) = profile.filter(|it| !it.compute_rates.is_empty()) else {
        return Err(format!("this machine was not measured yet: '{command}' takes 20 s, once"));
    };
    profile.compute(threads).ok_or_else(|| {
        let own = profile.compute_rates.iter().map(|it| it.threads.to_string());
        let own = own.collect::<Vec<_>>().join(" and ");
        format!("this machine was measured with {own} threads: '{command} --threads {threads}'")
    })
}
