//! Tests of the store through its public functions.

use super::Store;
use crate::causes::Problem;
use crate::results::made_up::{MadeUp, fail, started};
use crate::results::record::{DriftControl, Environment, HostRecord, RunRecord};
use crate::worker::protocol::Phase;
use std::path::PathBuf;
use tempfile::TempDir;
use time::Duration;

fn run(id: &str) -> RunRecord {
    RunRecord { id: id.to_owned(), ..MadeUp::default().run() }
}

fn empty_run(id: &str) -> RunRecord {
    let mut run = run(id);
    run.finished = None;
    run.drift_controls.clear();
    for trial in &mut run.trials {
        trial.visits.clear();
        trial.quality = None;
    }
    run
}

fn store() -> (TempDir, PathBuf, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/runs.sqlite");
    let store = Store::at(&path).unwrap();
    (folder, path, store)
}

/// The error with its sources, as a user would read it.
fn message(error: &Problem) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn a_run_reads_back_as_it_was() {
    let (_folder, path, store) = store();
    let mut run = run("2026-11-23-aaaa");
    fail(&mut run, 3, 2, Phase::Latency, "killed by signal 9");
    store.begin_run(&run).unwrap();
    assert_eq!(store.load("2026-11-23-aaaa").unwrap(), run);
    assert_eq!(Store::at(&path).unwrap().load("last").unwrap(), run, "another connection");
}

#[test]
fn a_run_grows_visit_by_visit() {
    let (_folder, _path, store) = store();
    let whole = run("r");
    let mut growing = empty_run("r");
    store.begin_run(&growing).unwrap();
    for round in 0..5 {
        for position in 0..whole.trials.len() {
            let visit = whole.trials[position].visits[round].clone();
            growing.trials[position].visits.push(visit);
            store.save_trial("r", position, &growing.trials[position]).unwrap();
        }
        store.save_drift_control("r", &whole.drift_controls[round]).unwrap();
    }
    for (position, trial) in whole.trials.iter().enumerate() {
        store.save_trial("r", position, trial).unwrap();
    }
    assert_eq!(store.load("r").unwrap().finished, None);
    store.save_run(&whole).unwrap();
    assert_eq!(store.load("r").unwrap(), whole);
}

#[test]
fn saving_a_grown_trial_writes_only_what_is_new() {
    let (_folder, _path, store) = store();
    let whole = run("r");
    store.begin_run(&empty_run("r")).unwrap();
    let changes = |visits: usize| {
        let mut trial = whole.trials[0].clone();
        trial.visits.truncate(visits);
        let before = store.connection().total_changes();
        store.save_trial("r", 0, &trial).unwrap();
        store.connection().total_changes() - before
    };
    // 20 prompts over 5 rounds: a visit and its 4 responses; the trial's own row once.
    assert_eq!(changes(1), 6);
    assert_eq!(changes(2), 5);
    assert_eq!(changes(2), 0);
    assert_eq!(changes(1), 5, "what is gone from the trial is gone from the store");
}

#[test]
fn a_transaction_that_was_not_committed_leaves_nothing() {
    let (_folder, path, store) = store();
    store.begin_run(&empty_run("r")).unwrap();
    let mut broken = run("r").trials[0].clone();
    // The last visit cannot be stored; the ones before must not stay either.
    broken.visits[4].loads[0].seconds = f64::NAN;
    let error = store.save_trial("r", 0, &broken).unwrap_err();
    assert!(message(&error).contains("visit 4 of trial 0 (F16)"), "{}", message(&error));
    assert_eq!(Store::at(&path).unwrap().load("r").unwrap(), empty_run("r"));
    store.save_trial("r", 0, &run("r").trials[0]).unwrap();
}

#[test]
fn readers_see_whole_saves_while_a_writer_writes() {
    let (_folder, path, store) = store();
    store.begin_run(&empty_run("r")).unwrap();
    let whole = run("r");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let reader = Store::at(&path).unwrap();
                    let mut seen = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let trial = reader.load("r").unwrap().trials.swap_remove(0);
                        assert!(trial.visits.len() >= seen, "a save was undone");
                        assert!(trial.visits.iter().all(|visit| visit.responses.len() == 4));
                        seen = trial.visits.len();
                    }
                })
            })
            .collect();
        for visits in 1..=5 {
            let mut trial = whole.trials[0].clone();
            trial.visits.truncate(visits);
            store.save_trial("r", 0, &trial).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let (_folder, path, _store) = store();
    std::thread::scope(|scope| {
        for id in ["a", "b"] {
            let path = &path;
            scope.spawn(move || {
                let store = Store::at(path).unwrap();
                store.begin_run(&empty_run(id)).unwrap();
                for (position, trial) in run(id).trials.iter().enumerate() {
                    store.save_trial(id, position, trial).unwrap();
                }
            });
        }
    });
    let store = Store::at(&path).unwrap();
    for id in ["a", "b"] {
        assert_eq!(store.load(id).unwrap().trials, run(id).trials);
    }
}

#[test]
fn a_store_may_be_made_by_several_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for attempt in 0..20 {
        let path = folder.path().join(format!("{attempt}.sqlite"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| Store::at(&path).unwrap().list().unwrap());
            }
        });
    }
}

#[test]
fn a_kill_in_the_middle_of_a_save_loses_only_that_save() {
    let (folder, path, store) = store();
    store.begin_run(&empty_run("r")).unwrap();
    store.save_trial("r", 0, &run("r").trials[0]).unwrap();
    let before = store.load("r").unwrap();
    let transaction = store.begin().unwrap();
    store.connection().execute("DELETE FROM visits", []).unwrap();
    // What a killed process leaves behind is what lies in its files now.
    let left = folder.path().join("left.sqlite");
    for suffix in ["", "-wal"] {
        let name = |path: &std::path::Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(&path), name(&left)).unwrap();
    }
    assert_eq!(Store::at(&left).unwrap().load("r").unwrap(), before);
    drop(transaction);
    assert_eq!(store.load("r").unwrap(), before);
}

#[test]
fn runs_are_found_by_the_beginning_or_the_letters_of_their_name() {
    let (_folder, _path, store) = store();
    assert_eq!(message(&store.load("last").unwrap_err()), super::NO_RUN);
    for id in ["2026-11-22-bcdf", "2026-11-23-bcdf", "2026-11-23-ghjk"] {
        store.begin_run(&empty_run(id)).unwrap();
    }
    assert_eq!(store.load("2026-11-22").unwrap().id, "2026-11-22-bcdf");
    assert_eq!(store.load("ghjk").unwrap().id, "2026-11-23-ghjk");
    assert_eq!(store.load("last").unwrap().id, "2026-11-23-ghjk");
    assert_eq!(
        message(&store.load("2026-11-23").unwrap_err()),
        "'2026-11-23' may be any of several runs: 2026-11-23-ghjk, 2026-11-23-bcdf; write more of the name"
    );
    assert_eq!(
        message(&store.load("2026-11-22-bdcf").unwrap_err()),
        "no stored run is named '2026-11-22-bdcf'; did you mean '2026-11-22-bcdf'?; 'quantbench list' shows all"
    );
    for hostile in ["%", "_", "' OR 1=1 --", ""] {
        assert!(store.load(hostile).is_err(), "{hostile}");
    }
}

#[test]
fn a_name_is_stored_once() {
    let (_folder, _path, store) = store();
    store.begin_run(&empty_run("r")).unwrap();
    let error = message(&store.begin_run(&empty_run("r")).unwrap_err());
    assert_eq!(error, "a run named 'r' is stored already");
    let trial = &run("r").trials[0];
    let error = message(&store.save_trial("q", 0, trial).unwrap_err());
    assert_eq!(error, "no stored run is named 'q'; 'quantbench list' shows all");
    let fresh = store.fresh_id(started()).unwrap();
    assert!(fresh.starts_with("2026-11-23-") && fresh.len() == 15, "{fresh}");
}

#[test]
fn the_list_counts_what_is_stored() {
    let (_folder, _path, store) = store();
    let mut second = run("second");
    fail(&mut second, 0, 1, Phase::Load, "no");
    store.begin_run(&empty_run("first")).unwrap();
    store.begin_run(&second).unwrap();
    let list = store.list().unwrap();
    assert_eq!(list.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["second", "first"]);
    assert_eq!((list[0].trials, list[0].failed, list[0].visits), (12, 1, 56));
    assert_eq!(list[0].started, started());
    assert_eq!((list[1].finished, list[1].visits), (None, 0));
}

#[test]
fn resume_finds_the_last_unfinished_run_of_the_same_experiment() {
    let (_folder, _path, store) = store();
    for id in ["first", "second", "third"] {
        store.begin_run(&empty_run(id)).unwrap();
    }
    let mut other = empty_run("other");
    other.name = "another experiment".to_owned();
    store.begin_run(&other).unwrap();
    let finished = Some(started() + Duration::HOUR);
    store.save_run(&RunRecord { finished, ..empty_run("third") }).unwrap();
    assert_eq!(store.latest_unfinished("laptop").unwrap().unwrap().id, "second");
    assert_eq!(store.latest_unfinished("nothing").unwrap(), None);
}

#[test]
fn a_newer_schema_is_left_alone_and_named() {
    let (_folder, path, store) = store();
    drop(store);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 7).unwrap();
    drop(raw);
    let text = message(&Store::at(&path).unwrap_err());
    assert!(text.contains("schema version 7, this quantbench knows up to 4"), "{text}");
}

#[test]
fn another_program_s_database_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("browser.sqlite");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("CREATE TABLE history (url TEXT)").unwrap();
    drop(raw);
    let before = std::fs::read(&path).unwrap();
    let error = message(&Store::at(&path).unwrap_err());
    assert!(error.contains("browser.sqlite is a database of another program"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn damage_anywhere_is_an_error_and_never_a_panic() {
    let (folder, path, store) = store();
    store.begin_run(&run("r")).unwrap();
    // Everything into the main file, so that damage to it is seen.
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    store.connection().query_row(checkpoint, [], |_| Ok(())).unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let try_with = |bytes: &[u8], what: &str| {
        let path = folder.path().join("damaged.sqlite");
        let _ = std::fs::remove_file(path.with_extension("sqlite-wal"));
        let _ = std::fs::remove_file(path.with_extension("sqlite-shm"));
        std::fs::write(&path, bytes).unwrap();
        let loaded = Store::at(&path).and_then(|store| {
            store.list()?;
            store.load("r")
        });
        if let Err(error) = loaded {
            assert!(!message(&error).is_empty(), "{what}");
            return true;
        }
        false
    };
    assert!(try_with(b"this is not a database, however long it may be", "text"));
    assert!(try_with(&whole[..whole.len() / 2], "half of the file"));
    let mut noticed = 0;
    for step in 0..200 {
        let mut damaged = whole.clone();
        let at = step * whole.len() / 200;
        let end = (at + 64).min(damaged.len());
        damaged[at..end].fill(0xa5);
        noticed += u32::from(try_with(&damaged, &format!("64 bytes at {at}")));
    }
    assert!(noticed > 100, "only {noticed} of 200 damages were noticed");
}

#[test]
fn a_record_changed_by_hand_is_named() {
    let (_folder, path, store) = store();
    store.begin_run(&run("r")).unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("UPDATE visits SET record = '{\"round\": \"first\"}' WHERE position = 2", [])
        .unwrap();
    let text = message(&store.load("r").unwrap_err());
    assert!(text.contains("a visit of trial 2 (Q6_K) of stored run 'r'"), "{text}");
    assert_eq!(store.list().unwrap().len(), 1, "the other commands go on working");
}

#[test]
fn a_folder_in_the_way_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let text = message(&Store::at(folder.path()).unwrap_err());
    assert!(text.contains("QUANTBENCH_STORE"), "{text}");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let text = message(&Store::at(&file.join("runs.sqlite")).unwrap_err());
    assert!(text.contains("cannot make the folder"), "{text}");
}

#[test]
fn a_drift_control_that_cannot_be_read_back_is_refused() {
    let (_folder, _path, store) = store();
    store.begin_run(&empty_run("r")).unwrap();
    let control = DriftControl { round: 0, at_seconds: 1.0, tokens_per_second: f64::INFINITY };
    let error = message(&store.save_drift_control("r", &control).unwrap_err());
    assert!(
        error.starts_with("a drift control of run 'r' holds a value that cannot be"),
        "{error}"
    );
    assert_eq!(store.load("r").unwrap().drift_controls, []);
}

#[test]
fn a_store_of_the_version_before_is_read() {
    let (_folder, path, store) = store();
    let mut run = run("old");
    store.begin_run(&run).unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    // What did not exist then: a column, hosts, times of phases, stages and types.
    connection
        .execute_batch(
            "ALTER TABLE runs DROP COLUMN annotations;
             ALTER TABLE trials DROP COLUMN model;
             ALTER TABLE runs DROP COLUMN active_seconds;
             ALTER TABLE runs RENAME COLUMN hosts TO environment;
             UPDATE runs SET environment = json_set(json_remove(
                 json_extract(environment, '$[0].environment'), '$.engines'), '$.llama_cpp',
                 json_extract(environment, '$[0].environment.engines[0].version'));
             UPDATE visits SET record = json_remove(record, '$.usage[0].begin_seconds',
                                                    '$.usage[0].end_seconds');
             UPDATE trials SET record = json_remove(record, '$.stages', '$.facts.types', '$.host');
             PRAGMA user_version = 1;",
        )
        .unwrap();
    drop(connection);
    run.active_seconds = None;
    for phase in run.trials.iter_mut().flat_map(|it| &mut it.visits).flat_map(|it| &mut it.usage) {
        (phase.begin_seconds, phase.end_seconds) = (None, None);
    }
    let store = Store::at(&path).unwrap();
    assert_eq!(store.load("old").unwrap(), run);
    assert_eq!(store.list().unwrap()[0].models, ["llama-3.2-1b"], "filled in by the migration");
}

#[test]
fn the_host_that_a_run_goes_on_on_is_kept() {
    let (_folder, _path, store) = store();
    let mut run = run("r");
    store.begin_run(&run).unwrap();
    let environment = Environment { memory_bytes: 1, ..Environment::default() };
    run.hosts.push(HostRecord::new("board", environment.clone()));
    store.save_run(&run).unwrap();
    run.trials[0].host = run.hosts[1].id.clone();
    store.save_trial("r", 0, &run.trials[0]).unwrap();
    let names = store.list().unwrap().remove(0).hosts;
    assert_eq!(names, [run.hosts[0].id.name.as_str(), "board"]);
    let read = store.load("r").unwrap();
    assert_eq!(read, run);
    assert_eq!(read.environment_of(&read.trials[0]), &environment);
    assert_eq!(read.environment_of(&read.trials[1]), read.environment());
    assert_ne!(
        HostRecord::new("board", environment).id,
        HostRecord::new("board", Environment::default()).id
    );
}

#[test]
fn how_long_a_run_was_under_way_is_kept() {
    let (_folder, _path, store) = store();
    store.begin_run(&empty_run("r")).unwrap();
    store.save_run(&RunRecord { active_seconds: Some(12.5), ..empty_run("r") }).unwrap();
    assert_eq!(store.load("r").unwrap().active_seconds, Some(12.5));
    assert_eq!(store.list().unwrap()[0].active_seconds, Some(12.5));
}
