//! `quantbench merge FILE…`: takes in runs that were measured for other stores.

use super::output;
use crate::causes::Problem;
use crate::error::{Error, Outcome};
use crate::files;
use crate::report::sanitize;
use crate::results::annotations::check_name;
use crate::results::exchange;
use crate::results::store::{Fate, Merged, Source, Store};
use crate::units::{count, format_bytes};
use clap::Args;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Larger texts are no runs.
const MOST_BYTES: u64 = 2 << 30;

/// What a database of SQLite begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// Names of files that say nothing about a machine.
const ANYWHERES: [&str; 5] = ["runs", "run", "-", "stdin", "export"];

/// Flags of `quantbench merge`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Runs that `quantbench export` wrote (.json, .jsonl), or the store of another machine (.sqlite)
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// What the machine is called here that they were measured on; without it, as its file
    #[arg(long, value_name = "NAME", value_parser = host)]
    pub host: Option<String>,
}

fn host(text: &str) -> Result<String, String> {
    check_name("a host", text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// Takes in the runs of each file, all of them or, where one cannot be read, none of that file.
///
/// # Errors
/// If a file is neither a store nor runs, or the store cannot be written. What was taken from files before it stays.
pub fn run(arguments: &Arguments) -> Result<Outcome, Error> {
    let store = Store::open()?;
    for file in &arguments.files {
        let merged = merge(&store, file, arguments.host.as_deref()).map_err(|error| {
            Problem::because(format!("nothing was taken from {}", file.display()), error)
        })?;
        output::print(in_words(&file.display().to_string(), &merged).as_bytes())?;
        if arguments.host.is_none() && merged.1.iter().any(|it| it.fate == Fate::Added) {
            output::tell(&format!(
                "note: '{}' is what its file is called; --host names it otherwise",
                merged.0
            ));
        }
    }
    Ok(Outcome::Done)
}

fn merge(store: &Store, path: &Path, host: Option<&str>) -> Result<(String, Vec<Merged>), Problem> {
    let mut file =
        files::open(path).map_err(|source| Problem::because("it cannot be read", source))?;
    let mut beginning = Vec::new();
    let unreadable = |source| Problem::because("it cannot be read", source);
    (&mut file).take(SQLITE.len() as u64).read_to_end(&mut beginning).map_err(unreadable)?;
    if let Some(what) = no_runs(&beginning) {
        return Err(Problem::new(format!(
            "it is {what}, of which no run can be made again; on the machine that has the runs, 'quantbench export -o \
             runs.jsonl' writes what 'merge' reads, as is its store (runs.sqlite)"
        )));
    }
    let host = host.map_or_else(|| host_of(path), |host| Ok(host.to_owned()))?;
    let source =
        Source { name: sanitize(&path.display().to_string()), host, at: OffsetDateTime::now_utc() };
    let merged = if beginning == SQLITE {
        let other = Store::of_another_machine(path)?;
        store.merge(other.all()?, &source)?
    } else {
        let mut text = beginning;
        file.take(MOST_BYTES).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 >= MOST_BYTES {
            return Err(Problem::new(format!("it has more than {}", format_bytes(MOST_BYTES))));
        }
        store.merge(exchange::read(&text)?.into_iter().map(Ok), &source)?
    };
    Ok((source.host, merged))
}

/// What a file is that may be taken for runs by its name, by what it begins with; `None`: it may hold runs.
fn no_runs(beginning: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 6] = [
        (b"PAR1", "a table of figures (Parquet)"),
        (b"ARROW1", "a table of figures (Arrow)"),
        (b"GGUF", "a model (GGUF)"),
        (b"<!doctype", "a page (HTML)"),
        (b"<html", "a page (HTML)"),
        (b"PK\x03\x04", "an archive (zip)"),
    ];
    let begins = |(magic, _): &&(&[u8], &str)| {
        beginning.get(..magic.len()).is_some_and(|it| it.eq_ignore_ascii_case(magic))
    };
    let known = KINDS.iter().find(begins).map(|(_, what)| *what);
    // Runs are JSON objects, and no name of a column begins with a brace.
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let word = beginning.iter().position(|byte| !is_name(byte)).filter(|length| *length > 0);
    known.or_else(|| (beginning.get(word?) == Some(&b',')).then_some("a table (CSV)"))
}

/// What a machine is called whose runs are in a file: `board` for `board.sqlite`.
fn host_of(path: &Path) -> Result<String, Problem> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if check_name("a host", &stem).is_ok() && !ANYWHERES.contains(&stem.as_str()) {
        return Ok(stem);
    }
    Err(Problem::new(
        "its name does not tell whose runs they are: name the machine with --host (local: this one)",
    ))
}

/// What became of the runs of a file, a line, with one for each that is called otherwise here.
fn in_words(file: &str, (host, merged): &(String, Vec<Merged>)) -> String {
    let of = |fate| merged.iter().filter(move |it| it.fate == fate).count();
    let mut parts = vec![match of(Fate::Added) {
        0 => "nothing new".to_owned(),
        added => format!("{} taken in, measured on '{host}'", count(added, "run")),
    }];
    parts.extend(
        Some(of(Fate::Grown))
            .filter(|grown| *grown > 0)
            .map(|grown| format!("{} brought up to date", count(grown, "run"))),
    );
    parts.extend(
        Some(of(Fate::Known))
            .filter(|known| *known > 0)
            .map(|known| format!("{} here already", count(known, "run"))),
    );
    let mut text = format!("{}: {}\n", sanitize(file), parts.join(", "));
    let renamed = merged.iter().filter(|it| it.fate == Fate::Added && it.here != it.there);
    text.extend(renamed.map(|Merged { there, here, .. }| {
        format!("  {there} is called {here} here: another run has that name\n")
    }));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_each_run_is_told() {
        let merged = |there: &str, here: &str, fate| Merged {
            there: there.to_owned(),
            here: here.to_owned(),
            fate,
        };
        let all = vec![
            merged("a", "a", Fate::Added),
            merged("b", "x", Fate::Added),
            merged("c", "c", Fate::Grown),
            merged("d", "y", Fate::Known),
        ];
        assert_eq!(
            in_words("a\u{1b}b.sqlite", &("board".to_owned(), all)),
            "a\u{fffd}b.sqlite: 2 runs taken in, measured on 'board', 1 run brought up to date, 1 run here already\n  b is \
             called x here: another run has that name\n"
        );
        let known = vec![merged("a", "a", Fate::Known)];
        assert_eq!(in_words("f", &("b".to_owned(), known)), "f: nothing new, 1 run here already\n");
    }

    #[test]
    fn a_file_names_its_machine_or_is_asked_about() {
        assert_eq!(host_of(Path::new("/tmp/board.sqlite")).unwrap(), "board");
        for vague in ["runs.sqlite", "-", "run.json", "a b.json", "/", ""] {
            assert!(
                host_of(Path::new(vague)).unwrap_err().to_string().contains("--host"),
                "{vague}"
            );
        }
    }
}
