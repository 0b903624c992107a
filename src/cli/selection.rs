//! Which stored runs a command is about: flags that `list`, `rm`, `export`, `query` and `trend` share.

use crate::causes::Problem;
use crate::results::annotations::check_name;
use crate::results::store::{NO_RUN, RunHeader, Store};
use clap::Args;
use std::path::Path;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime, UtcOffset};

/// Conditions that all have to be met.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Only runs with a model of this name, or a part of it
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Only runs on a host of this name, or a part of it
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Only runs with this tag; repeatable: with all of them
    #[arg(long = "tag", value_name = "TAG", value_parser = tag)]
    pub tags: Vec<String>,
    /// Only runs begun on this day (UTC) or later: 2026-11-30, or 7days for the last seven
    #[arg(long, value_name = "DATE", value_parser = when)]
    pub since: Option<When>,
    /// Only runs begun on this day (UTC) or before
    #[arg(long, value_name = "DATE", value_parser = when)]
    pub until: Option<When>,
}

/// A stretch of time that is written as one: a day, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    begin: OffsetDateTime,
    end: OffsetDateTime,
}

pub(super) fn tag(text: &str) -> Result<String, String> {
    check_name("a tag", text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn when(text: &str) -> Result<When, String> {
    let day = Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
    let day = day.and_then(|day| Some((day, day.next_day()?)));
    let at = |moment| When { begin: moment, end: moment };
    let ago = || {
        let ago = Duration::try_from(humantime::parse_duration(text).ok()?).ok()?;
        OffsetDateTime::now_utc().checked_sub(ago)
    };
    day.map(|(day, next)| When { begin: day.midnight().assume_utc(), end: next.midnight().assume_utc() })
        .or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok().map(|it| at(it.to_offset(UtcOffset::UTC))))
        .or_else(|| ago().map(at))
        .ok_or_else(|| {
            "it must be a day such as 2026-11-30, a moment such as 2026-11-30T10:43:00Z, or a time that has passed \
             since, such as 7days"
                .to_owned()
        })
}

/// The same to the eye: letters of a name in either case.
fn has_part(names: &[String], part: &str) -> bool {
    let part = part.to_lowercase();
    names.iter().any(|name| name.to_lowercase().contains(&part))
}

impl Selection {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        let Self { model, host, tags, since, until } = self;
        model.is_none() && host.is_none() && tags.is_empty() && since.is_none() && until.is_none()
    }

    /// Whether a run is one of those that are meant.
    pub fn has(&self, run: &RunHeader) -> bool {
        self.model.as_deref().is_none_or(|part| has_part(&run.models, part))
            && self.host.as_deref().is_none_or(|part| has_part(&run.hosts, part))
            && self.tags.iter().all(|tag| run.annotations.tags.contains(tag))
            && self.since.is_none_or(|when| run.started >= when.begin)
            && self.until.is_none_or(|when| run.started < when.end || run.started == when.begin)
    }

    /// The runs of these names, or all, that are meant; the one begun last first.
    ///
    /// # Errors
    /// A name means no run or several, or the conditions leave none.
    pub(super) fn of(&self, store: &Store, names: &[String]) -> Result<Vec<RunHeader>, Problem> {
        let names = names.iter().map(|name| store.name_of(name)).collect::<Result<Vec<_>, _>>()?;
        let all = store.list()?;
        let stored = all.len();
        let is_meant =
            |run: &RunHeader| (names.is_empty() || names.contains(&run.id)) && self.has(run);
        let runs: Vec<RunHeader> = all.into_iter().filter(is_meant).collect();
        if runs.is_empty() { Err(nothing(stored)) } else { Ok(runs) }
    }
}

/// That no stored run is meant.
pub(super) fn nothing(stored: usize) -> Problem {
    Problem::new(match stored {
        0 => NO_RUN.to_owned(),
        1 => "the run that is stored does not meet these conditions; 'quantbench list' shows it"
            .to_owned(),
        stored => {
            format!(
                "none of the {stored} stored runs meets these conditions; 'quantbench list' shows all"
            )
        }
    })
}

/// The user's store, to be changed.
pub(super) fn store_to_change() -> Result<Store, Problem> {
    if !Path::exists(&Store::default_path()?) {
        return Err(Problem::new(NO_RUN));
    }
    Store::open()
}

/// The user's store, to be read.
pub(super) fn store_to_read() -> Result<Store, Problem> {
    Store::open_existing()?.ok_or_else(|| Problem::new(NO_RUN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::annotations::Annotations;

    fn run() -> RunHeader {
        RunHeader {
            id: "2026-11-23-k3f9".to_owned(),
            name: "laptop".to_owned(),
            started: OffsetDateTime::parse("2026-11-23T23:59:59.5Z", &Rfc3339).unwrap(),
            finished: None,
            active_seconds: None,
            hosts: vec!["local".to_owned(), "Board".to_owned()],
            models: vec!["SmolLM2-135M".to_owned()],
            annotations: Annotations {
                tags: ["a".to_owned(), "b".to_owned()].into(),
                ..Annotations::default()
            },
            trials: 1,
            failed: 0,
            visits: 1,
        }
    }

    #[test]
    fn every_condition_has_to_be_met() {
        let none = Selection::default();
        assert!(none.is_empty() && none.has(&run()));
        let some = |text: &str| Some(text.to_owned());
        let day = |text: &str| Some(when(text).unwrap());
        let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
        for (selection, is_met) in [
            (Selection { model: some("smollm2"), ..none.clone() }, true),
            (Selection { model: some("qwen"), ..none.clone() }, false),
            (Selection { host: some("board"), ..none.clone() }, true),
            (Selection { host: some("other"), ..none.clone() }, false),
            (Selection { tags: tags(&["a", "b"]), ..none.clone() }, true),
            (Selection { tags: tags(&["a", "c"]), ..none.clone() }, false),
            (
                Selection { since: day("2026-11-23"), until: day("2026-11-23"), ..none.clone() },
                true,
            ),
            (Selection { since: day("2026-11-24"), ..none.clone() }, false),
            (Selection { until: day("2026-11-22"), ..none.clone() }, false),
            (Selection { until: day("2026-11-23T23:59:59Z"), ..none.clone() }, false),
            (Selection { since: day("2026-11-24T00:59:59+01:00"), ..none.clone() }, true),
            (Selection { since: day("7days"), until: day("100years"), ..none.clone() }, false),
            (Selection { model: some("smol"), host: some("other"), ..none.clone() }, false),
        ] {
            assert_eq!(selection.has(&run()), is_met, "{selection:?}");
            assert!(!selection.is_empty());
        }
        for wrong in ["yesterday", "2026-13-01", "2026-11-31", "", "-7days", "99999999999years"] {
            assert!(when(wrong).is_err(), "{wrong}");
        }
    }
}
