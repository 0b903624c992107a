//! What stands above a comparison: which run, when, on what.

use super::text::{NO_BREAK_SPACE, sanitize};
use crate::results::record::RunRecord;
use crate::units::{count, format_bytes, format_seconds};
use time::OffsetDateTime;
use time::macros::format_description;

/// The run in one line, the machine in another.
pub(super) fn header(run: &RunRecord) -> Vec<String> {
    let mut of_run = vec![sanitize(&run.name), sanitize(&run.id), moment(run.started)];
    if let Some(finished) = run.finished {
        let whole = (finished - run.started).as_seconds_f64();
        // Time between an interruption and its resumption is no part of what a run takes.
        of_run.push(format_seconds(run.active_seconds.unwrap_or(whole)));
    }
    let environment = &run.environment;
    let mut of_machine = vec![sanitize(&environment.cpu)];
    if environment.physical_cores > 0 {
        of_machine.push(count(environment.physical_cores, "core"));
    }
    if environment.memory_bytes > 0 {
        of_machine.push(format!("{} memory", format_bytes(environment.memory_bytes)));
    }
    of_machine.extend(environment.gpus.iter().map(|gpu| sanitize(gpu)));
    of_machine.push(sanitize(&environment.operating_system));
    // The version alone; package and commit are in the other formats.
    let version = environment.llama_cpp.split(" (").next().unwrap_or_default();
    of_machine.push(format!("llama.cpp {}", sanitize(version)));
    [of_run, of_machine]
        .into_iter()
        .map(|mut parts| {
            parts.retain(|part| !part.is_empty());
            let parts: Vec<String> =
                parts.iter().map(|part| part.replace(' ', NO_BREAK_SPACE)).collect();
            parts.join(" · ")
        })
        .collect()
}

/// A moment as people write it, in UTC: `2026-11-23 10:43 UTC`.
pub(crate) fn moment(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    at.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_else(|_| at.to_string())
}
