//! `quantbench list`: the runs that are stored.

use super::output::{self, Format};
use super::run::lock::is_under_way;
use super::selection::{Selection, nothing};
use crate::error::{Error, Outcome};
use crate::model::cache::Cache;
use crate::report::table::Align::{self, Left, Right};
use crate::report::table::{Column, Group, Table};
use crate::report::terminal::{self, Look};
use crate::report::{sanitize, shorten};
use crate::results::annotations::Annotations;
use crate::results::store::{RunHeader, Store};
use crate::units::format_seconds;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;

/// Columns of a name, and of a note.
const NAME_COLUMNS: usize = 24;
const NOTE_COLUMNS: usize = 60;

const HOW_TO_SHOW: &str =
    "'quantbench show RUN' shows one; the beginning or the end of its name or 'last' will do.";

/// Flags of `quantbench list`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// How to show them
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Which runs.
    #[command(flatten)]
    pub selection: Selection,
}

/// Lists the stored runs, the one begun last first.
///
/// # Errors
/// If the store cannot be read or the list not be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let runs = match Store::open_existing()? {
        Some(store) => store.list()?,
        None => Vec::new(),
    };
    let stored = runs.len();
    let runs: Vec<RunHeader> =
        runs.into_iter().filter(|run| arguments.selection.has(run)).collect();
    let is_any_open = runs.iter().any(|run| run.finished.is_none());
    let cache = is_any_open.then(Cache::open).and_then(Result::ok);
    let is_under_way = |run: &str| cache.as_ref().is_some_and(|it| is_under_way(it.root(), run));
    let text = match arguments.format {
        Format::Table if runs.is_empty() => {
            // An empty list is no error, but a person wants to know what would fill it.
            output::tell(&nothing(stored).to_string());
            return Ok(Outcome::Done);
        }
        Format::Table => {
            let (table, left_out) = shown(&runs, is_under_way);
            let left_out = if left_out.is_empty() {
                String::new()
            } else {
                format!(" Left out to fit: {} (--format json has all).", left_out.join(", "))
            };
            format!("{table}\n{HOW_TO_SHOW}{left_out}\n")
        }
        Format::Json => json(&runs, is_under_way)?,
    };
    output::print(text.as_bytes())?;
    Ok(Outcome::Done)
}

/// The runs for the terminal that there is, and what found no room in it.
pub(super) fn shown(
    runs: &[RunHeader],
    is_under_way: impl Fn(&str) -> bool,
) -> (String, Vec<String>) {
    let terminal = console::Term::stdout().size_checked();
    table(runs, is_under_way, terminal.map(|(_, columns)| columns.into()))
}

/// `is_under_way` is asked of runs that have not finished, by their names; `width` are the columns of the terminal, if it
/// is one. What found no room in it is named.
fn table(
    runs: &[RunHeader],
    is_under_way: impl Fn(&str) -> bool,
    width: Option<usize>,
) -> (String, Vec<String>) {
    type Field<'a> = &'a dyn Fn(&RunHeader) -> String;
    let columns: [(&str, Align, Field<'_>); 9] = [
        ("run", Left, &|run| sanitize(&run.id)),
        ("model", Left, &|run| several(&run.models)),
        ("experiment", Left, &|run| shorten(&sanitize(&run.name), NAME_COLUMNS)),
        ("begun (UTC)", Left, &|run| moment(run.started)),
        ("host", Left, &|run| several(&run.hosts)),
        ("took", Right, &|run| took(run).map_or_else(|| "-".to_owned(), format_seconds)),
        ("trials", Right, &|run| run.trials.to_string()),
        ("state", Left, &|run| state_in_words(run, &is_under_way)),
        ("tags and note", Left, &|run| {
            let tags = run.annotations.tags.iter().cloned();
            let note =
                run.annotations.note.iter().map(|note| shorten(&sanitize(note), NOTE_COLUMNS));
            tags.chain(note).collect::<Vec<_>>().join(" · ")
        }),
    ];
    let is_any_kept =
        runs.iter().any(|run| !run.annotations.tags.is_empty() || run.annotations.note.is_some());
    let columns = columns.into_iter().take(if is_any_kept { 9 } else { 8 });
    let columns = columns.map(|(title, align, of)| {
        Column::of_words(title, align, runs.iter().map(|run| Some(of(run))).collect())
    });
    let mut columns: Vec<Column> = columns.collect();
    for (column, importance) in columns.iter_mut().zip(IMPORTANCE) {
        column.importance = importance;
    }
    // What a person wrote is wrapped where there is a terminal.
    let kept = if is_any_kept { columns.pop() } else { None };
    let rows = Group { heading: String::new(), rows: (0..runs.len()).collect() };
    let table = Table { columns, groups: vec![rows] };
    // The line below the titles is one longer.
    let wrapped = width.filter(|_| is_any_kept).map(|width| width.saturating_sub(1));
    let look = Look { columns: wrapped, ..Look::default() };
    let room = width
        .map_or(usize::MAX, |width| width.saturating_sub(if is_any_kept { NOTE_ROOM } else { 0 }));
    let (mut table, left_out) = terminal::fit(table, &Look::default(), room);
    table.columns.extend(kept);
    (terminal::text(&table, &look), left_out.names)
}

/// Of the columns of the list in their order: the highest stay longest.
const IMPORTANCE: [u32; 9] = [100, 8, 5, 6, 2, 4, 3, 7, 1];

/// Columns that tags and notes are given at least.
const NOTE_ROOM: usize = 20;

/// Names in one cell: the first, and how many more.
fn several(names: &[String]) -> String {
    let Some((first, more)) = names.split_first() else { return "-".to_owned() };
    let first = shorten(&sanitize(first), NAME_COLUMNS);
    if more.is_empty() { first } else { format!("{first} +{}", more.len()) }
}

fn state_in_words(run: &RunHeader, is_under_way: impl Fn(&str) -> bool) -> String {
    let failed = match run.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!("{}{failed}", state(run, is_under_way))
}

/// Whether a run is done; `is_under_way` is asked if it is not.
pub(super) fn state(run: &RunHeader, is_under_way: impl Fn(&str) -> bool) -> &'static str {
    match run.finished {
        Some(_) => "done",
        None if is_under_way(&run.id) => "under way",
        None => "interrupted",
    }
}

/// Seconds that a finished run took, pauses left out.
fn took(run: &RunHeader) -> Option<f64> {
    let whole = (run.finished? - run.started).as_seconds_f64();
    Some(run.active_seconds.unwrap_or(whole))
}

fn moment(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    at.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_else(|_| at.to_string())
}

#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    name: &'a str,
    state: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    started: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    finished: Option<OffsetDateTime>,
    active_seconds: Option<f64>,
    hosts: &'a [String],
    models: &'a [String],
    #[serde(flatten)]
    kept: &'a Annotations,
    trials: usize,
    failed: usize,
    visits: usize,
}

fn json(runs: &[RunHeader], is_under_way: impl Fn(&str) -> bool) -> Result<String, Error> {
    let runs = runs.iter().map(|run| Listed {
        id: &run.id,
        name: &run.name,
        state: state(run, &is_under_way),
        started: run.started,
        finished: run.finished,
        active_seconds: run.active_seconds,
        hosts: &run.hosts,
        models: &run.models,
        kept: &run.annotations,
        trials: run.trials,
        failed: run.failed,
        visits: run.visits,
    });
    output::json("quantbench.list", json!({ "runs": runs.collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> Vec<RunHeader> {
        let started = OffsetDateTime::from_unix_timestamp(1_795_430_580).unwrap();
        let done = RunHeader {
            id: "2026-11-23-k3f9".to_owned(),
            name: "laptop\u{1b}[2J".to_owned(),
            started,
            // Of a day, of which it was under way for 21 minutes.
            finished: Some(started + time::Duration::days(1)),
            active_seconds: Some(1260.0),
            hosts: vec!["local".to_owned()],
            models: vec!["llama-3.2-1b".to_owned(), "qwen".to_owned()],
            annotations: Annotations {
                tags: ["nightly".to_owned(), "x".to_owned()].into(),
                note: Some("after the\nupdate of the driver \u{1b}[2J".to_owned()),
                origin: None,
            },
            trials: 12,
            failed: 1,
            visits: 60,
        };
        let interrupted = RunHeader {
            id: "2026-11-22-bcdf".to_owned(),
            name: "千问".to_owned(),
            finished: None,
            models: Vec::new(),
            annotations: Annotations::default(),
            failed: 0,
            ..done.clone()
        };
        let going_on = RunHeader {
            hosts: vec!["agent".to_owned()],
            id: "going-on".to_owned(),
            ..interrupted.clone()
        };
        vec![done, interrupted, going_on]
    }

    #[test]
    fn a_list_says_what_became_of_each_run() {
        let (wide, left_out) = table(&runs(), |run| run == "going-on", None);
        assert!(left_out.is_empty());
        insta::assert_snapshot!(wide, @r"
        run              model            experiment  begun (UTC)       host          took  trials  state           tags and note
        ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
        2026-11-23-k3f9  llama-3.2-1b +1  laptop�[2J  2026-11-23 10:43  local  21 min 00 s      12  done, 1 failed  nightly · x · after the update of the driver �[2J
        2026-11-22-bcdf  -                千问        2026-11-23 10:43  local            -      12  interrupted
        going-on         -                千问        2026-11-23 10:43  agent            -      12  under way
        ");
    }

    #[test]
    fn a_list_fits_its_terminal_and_says_what_found_no_room() {
        for width in [40, 60, 80, 100] {
            let (text, left_out) = table(&runs(), |_| false, Some(width));
            let widest = text.lines().map(console::measure_text_width).max().unwrap();
            assert!(widest <= width, "{width}:\n{text}");
            assert!(text.contains("2026-11-23-k3f9") && !left_out.is_empty(), "{width}:\n{text}");
        }
    }

    #[test]
    fn a_list_for_programs_is_versioned() {
        let document: serde_json::Value =
            serde_json::from_str(&json(&runs(), |_| false).unwrap()).unwrap();
        assert_eq!(document["format"], "quantbench.list");
        assert_eq!(document["version"], 1);
        assert_eq!(document["runs"][0]["started"], "2026-11-23T10:43:00Z");
        assert!(document["runs"][1]["finished"].is_null());
        assert_eq!(document["runs"][1]["state"], "interrupted");
        assert_eq!(document["runs"][0]["tags"], json!(["nightly", "x"]));
        assert_eq!(document["runs"][0]["models"][1], "qwen");
    }
}
