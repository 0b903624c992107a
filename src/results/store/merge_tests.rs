//! Tests of `merge.rs`: nothing twice, origin kept, all of a source or nothing.

use super::{Fate, Merged, Source, Store};
use crate::causes::in_words;
use crate::results::made_up::{LADDER, MadeUp, started};
use crate::results::record::{LOCAL, RunRecord};
use rusqlite::Connection;
use std::path::PathBuf;
use tempfile::TempDir;
use time::Duration;

fn run(id: &str) -> RunRecord {
    let few = MadeUp { variants: LADDER[..2].to_vec(), rounds: 2, prompts: 2, ..MadeUp::default() };
    RunRecord { id: id.to_owned(), ..few.run() }
}

struct Machine {
    _folder: TempDir,
    path: PathBuf,
    store: Store,
}

impl std::ops::Deref for Machine {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

fn machine() -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.sqlite");
    Machine { store: Store::at(&path).unwrap(), path, _folder: folder }
}

fn from(host: &str) -> Source {
    Source { name: format!("{host}.sqlite"), host: host.to_owned(), at: started() }
}

fn merge(store: &Store, runs: &[RunRecord], host: &str) -> Vec<Merged> {
    store.merge(runs.iter().cloned().map(Ok), &from(host)).unwrap()
}

fn fates(merged: &[Merged]) -> Vec<Fate> {
    merged.iter().map(|it| it.fate).collect()
}

#[test]
fn a_run_comes_in_once_with_its_origin() {
    let here = machine();
    assert_eq!(fates(&merge(&here, &[run("a"), run("b")], "board")), [Fate::Added, Fate::Added]);
    let stored = here.load("a").unwrap();
    let origin = stored.annotations.origin.clone().unwrap();
    assert_eq!(
        (origin.run.as_str(), origin.host.as_str(), origin.source.as_str()),
        ("a", "board", "board.sqlite")
    );
    assert!(stored.hosts.iter().all(|host| host.id.name == "board"));
    assert_eq!(stored.as_measured(), run("a"));
    // Again, under another name of the machine, and out of the store that it was taken into.
    assert_eq!(fates(&merge(&here, &[run("a"), run("c")], "other")), [Fate::Known, Fate::Added]);
    let there = machine();
    merge(&there, &[stored], "carrier");
    let carried = there.load("a").unwrap();
    assert_eq!(carried.annotations.origin.unwrap().host, "board", "the machine that measured it");
    assert_eq!(here.list().unwrap().len(), 3);
}

#[test]
fn one_s_own_run_that_comes_back_is_known() {
    let (here, there) = (machine(), machine());
    here.begin_run(&run("a")).unwrap();
    merge(&there, &[here.load("a").unwrap()], "laptop");
    let back = there.load("a").unwrap();
    assert_eq!(fates(&merge(&here, &[back], "board")), [Fate::Known]);
    assert_eq!(here.load("a").unwrap(), run("a"));
}

#[test]
fn another_run_of_the_same_name_is_kept_under_a_new_one_and_once() {
    let here = machine();
    here.begin_run(&run("a")).unwrap();
    let other =
        RunRecord { name: "other".to_owned(), started: started() + Duration::HOUR, ..run("a") };
    let merged = merge(&here, std::slice::from_ref(&other), "board");
    assert_eq!(fates(&merged), [Fate::Added]);
    assert_ne!(merged[0].here, "a");
    assert_eq!(here.load(&merged[0].here).unwrap().as_measured(), other);
    let again = merge(&here, std::slice::from_ref(&other), "board");
    assert_eq!((again[0].fate, &again[0].here), (Fate::Known, &merged[0].here));
    assert_eq!(here.load("a").unwrap(), run("a"));
}

#[test]
fn a_run_that_has_grown_since_takes_the_place_of_what_it_was() {
    let here = machine();
    let whole = run("a");
    let mut half = RunRecord { finished: None, ..whole.clone() };
    half.trials.iter_mut().for_each(|trial| trial.visits.truncate(1));
    merge(&here, std::slice::from_ref(&half), "board");
    here.annotate("a", |kept| kept.note = Some("mine".to_owned())).unwrap();
    assert_eq!(fates(&merge(&here, std::slice::from_ref(&whole), "board")), [Fate::Grown]);
    let stored = here.load("a").unwrap();
    assert_eq!(stored.as_measured(), whole);
    assert_eq!(stored.annotations.note.as_deref(), Some("mine"));
    assert_eq!(fates(&merge(&here, &[half], "board")), [Fate::Known], "less takes nothing away");
    assert_eq!(here.load("a").unwrap(), stored);
}

#[test]
fn of_a_source_with_a_bad_run_nothing_is_taken() {
    let here = machine();
    let bad = RunRecord { id: "../x".to_owned(), ..run("b") };
    let error = here.merge([Ok(run("a")), Ok(bad)], &from("board")).unwrap_err();
    assert!(in_words(&error).contains("cannot be the name of a run"));
    assert_eq!(here.list().unwrap(), []);
    merge(&here, &[run("a")], "board");
}

#[test]
fn runs_of_others_are_not_gone_on_with() {
    let here = machine();
    here.begin_run(&RunRecord { finished: None, ..run("own") }).unwrap();
    let unfinished = RunRecord { finished: None, ..run("theirs") };
    merge(&here, &[unfinished, run("done")], "board");
    assert_eq!(here.latest_unfinished("laptop").unwrap().unwrap().id, "own");
    assert_eq!(here.earlier("laptop").unwrap(), None);
}

#[test]
fn the_last_run_is_the_one_begun_last_and_not_the_one_taken_in_last() {
    let here = machine();
    let at = |id: &str, milliseconds| RunRecord {
        started: started() + Duration::milliseconds(milliseconds),
        ..run(id)
    };
    here.begin_run(&at("new", 500)).unwrap();
    merge(&here, &[at("newest", 501), at("old", 0)], "board");
    let ids: Vec<String> = here.list().unwrap().into_iter().map(|run| run.id).collect();
    assert_eq!(ids, ["newest", "new", "old"]);
    assert_eq!(here.name_of("last").unwrap(), "newest");
}

#[test]
fn a_whole_store_is_read_without_a_byte_written_to_it() {
    let (there, here) = (machine(), machine());
    there.store.begin_run(&run("a")).unwrap();
    there.store.begin_run(&run("b")).unwrap();
    let before = std::fs::read(&there.path).unwrap();
    let copy = Store::of_another_machine(&there.path).unwrap();
    let merged = here.merge(copy.all().unwrap(), &from(LOCAL)).unwrap();
    assert_eq!(fates(&merged), [Fate::Added, Fate::Added]);
    assert_eq!(here.load("a").unwrap().as_measured(), run("a"));
    assert_eq!(std::fs::read(&there.path).unwrap(), before);
}

#[test]
fn a_store_with_anything_but_its_own_tables_is_refused() {
    for extra in [
        "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM visits; END",
        "CREATE VIEW more AS SELECT 1",
        "CREATE TABLE more (x)",
        "ALTER TABLE runs ADD COLUMN endless TEXT GENERATED ALWAYS AS (hex(zeroblob(1000000000)))",
        "DROP TABLE trials; CREATE VIEW trials AS SELECT 1 AS run, 0 AS position, 0 AS failed, '{}' AS record, '' AS model",
        "PRAGMA application_id = 1",
    ] {
        let there = machine();
        there.store.begin_run(&run("a")).unwrap();
        drop(there.store);
        Connection::open(&there.path).unwrap().execute_batch(extra).unwrap();
        let error = in_words(&Store::of_another_machine(&there.path).unwrap_err());
        assert!(
            error.contains("another program") || error.contains("no store as quantbench makes it"),
            "{error}"
        );
    }
}

#[test]
fn what_a_person_keeps_with_a_run_is_stored_checked_and_removed() {
    let here = machine();
    here.begin_run(&run("a")).unwrap();
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
    here.annotate("a", |kept| kept.tags = tags(&["nightly", "x"])).unwrap();
    assert_eq!(here.list().unwrap()[0].annotations.tags, tags(&["nightly", "x"]));
    let error = here.annotate("a", |kept| kept.tags = tags(&["a b"])).unwrap_err();
    assert!(in_words(&error).contains("'a b' cannot be the name of a tag"));
    let error = here.annotate("a", |kept| kept.note = Some("x".repeat(20_000))).unwrap_err();
    assert!(in_words(&error).contains("20000 bytes"));
    assert_eq!(here.load("a").unwrap().annotations.tags, tags(&["nightly", "x"]), "as before");
    here.remove("a").unwrap();
    here.shrink();
    let left: u32 = here
        .connection()
        .query_row("SELECT count(*) FROM responses", [], |row| row.get(0))
        .unwrap();
    assert_eq!((left, here.list().unwrap().len()), (0, 0));
}
