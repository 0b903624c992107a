//! What stands above a comparison: which run, when, on what.

use super::text::{NO_BREAK_SPACE, sanitize};
use crate::model::engine_name::EngineIdentity;
use crate::results::annotations::Annotations;
use crate::results::each_once;
use crate::results::record::{HostRecord, LOCAL, RunRecord};
use crate::units::{count, format_bytes, format_seconds};
use time::OffsetDateTime;
use time::macros::format_description;

/// The run in one line, each machine in another.
pub(super) fn header(run: &RunRecord) -> Vec<String> {
    let mut of_run = vec![sanitize(&run.name), sanitize(&run.id), moment(run.started)];
    if let Some(finished) = run.finished {
        let whole = (finished - run.started).as_seconds_f64();
        // Time between an interruption and its resumption is no part of what a run takes.
        of_run.push(format_seconds(run.active_seconds.unwrap_or(whole)));
    }
    let is_named = run.hosts.len() > 1 || run.hosts.iter().any(|host| host.id.name != LOCAL);
    let machines = run.hosts.iter().map(|host| {
        // An engine that is no part of the build is known by its trials.
        let own = &host.environment.engines;
        let others = run.trials.iter().map(|trial| &trial.engine);
        let others = others.filter(|it| !own.iter().any(|own| own.name == it.name));
        [machine(host, is_named), each_once(others.map(engine))].concat()
    });
    let kept = Some(kept(run)).filter(|kept| !kept.is_empty());
    [of_run].into_iter().chain(kept).chain(machines).map(on_one_line).collect()
}

/// Tags, note and origin, as far as there are any.
fn kept(run: &RunRecord) -> Vec<String> {
    let Annotations { tags, note, origin } = &run.annotations;
    let tags = tags.iter().map(|tag| format!("#{}", sanitize(tag)));
    let note = note.iter().map(|note| sanitize(note));
    let origin = origin
        .iter()
        .map(|origin| format!("{} in {}", sanitize(&origin.run), sanitize(&origin.source)));
    tags.chain(note).chain(origin).collect()
}

/// A machine with its engines, in one line.
#[must_use]
pub fn one_line(host: &HostRecord) -> String {
    machine(host, false).join(" · ")
}

fn machine(host: &HostRecord, is_named: bool) -> Vec<String> {
    let HostRecord { id, environment } = host;
    let mut of_machine = Vec::new();
    if is_named {
        of_machine.push(sanitize(&id.name));
    }
    of_machine.push(sanitize(&environment.cpu));
    if environment.physical_cores > 0 {
        of_machine.push(count(environment.physical_cores, "core"));
    }
    if environment.memory_bytes > 0 {
        of_machine.push(format!("{} memory", format_bytes(environment.memory_bytes)));
    }
    of_machine.extend(environment.gpus.iter().map(|gpu| sanitize(gpu)));
    of_machine.push(sanitize(&environment.operating_system));
    of_machine.extend(environment.engines.iter().map(engine));
    of_machine
}

/// An engine with its version alone; package and commit are in the other formats.
fn engine(engine: &EngineIdentity) -> String {
    let version = engine.version.split(" (").next().unwrap_or_default();
    sanitize(&format!("{} {version}", engine.name)).trim_end().to_owned()
}

fn on_one_line(mut parts: Vec<String>) -> String {
    parts.retain(|part| !part.is_empty());
    let parts: Vec<String> = parts.iter().map(|part| part.replace(' ', NO_BREAK_SPACE)).collect();
    parts.join(" · ")
}

/// A moment as people write it, in UTC: `2026-11-23 10:43 UTC`.
pub(crate) fn moment(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    at.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_else(|_| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::MadeUp;

    #[test]
    fn machines_are_named_where_there_are_several_or_it_is_another_one() {
        let mut run = MadeUp::default().run();
        let lines = header(&run);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("AMD"), "{lines:?}");
        let mut board = run.hosts[0].clone();
        board.id.name = "board".to_owned();
        let elsewhere = RunRecord { hosts: vec![board.clone()], ..run.clone() };
        assert!(header(&elsewhere)[1].starts_with("board · AMD"));
        run.hosts.push(board);
        let lines = header(&run);
        assert!(
            lines[1].starts_with("local · AMD") && lines[2].starts_with("board · AMD"),
            "{lines:?}"
        );
    }
}
