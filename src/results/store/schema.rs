//! The tables of the store and how older ones become newer ones.

use super::error::of_sqlite;
use crate::causes::Problem;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::Path;

/// Marks the file as ours ("qbnc"), in SQLite's own header field.
const APPLICATION_ID: i64 = 0x7162_6e63;

/// Each entry takes the schema one version further; entries are never changed, only added.
const MIGRATIONS: [&str; 4] = ["
    CREATE TABLE runs (
        number       INTEGER PRIMARY KEY,          -- order of beginning
        id           TEXT NOT NULL UNIQUE,
        name         TEXT NOT NULL,
        started      TEXT NOT NULL,                -- RFC 3339
        finished     TEXT,                         -- NULL: interrupted or under way
        environment  TEXT NOT NULL,                -- JSON, as all below
        requirements TEXT NOT NULL,
        experiment   TEXT NOT NULL
    );
    CREATE TABLE trials (
        run      INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        failed   INTEGER NOT NULL,
        record   TEXT NOT NULL,                    -- without visits
        PRIMARY KEY (run, position)
    ) WITHOUT ROWID;
    CREATE TABLE visits (
        run      INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        visit    INTEGER NOT NULL,
        record   TEXT NOT NULL,                    -- without responses
        PRIMARY KEY (run, position, visit)
    );
    CREATE TABLE responses (
        run      INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        visit    INTEGER NOT NULL,
        response INTEGER NOT NULL,
        record   TEXT NOT NULL,
        PRIMARY KEY (run, position, visit, response)
    );
    CREATE TABLE anchors (
        run    INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
        anchor INTEGER NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (run, anchor)
    ) WITHOUT ROWID;
", "
    -- Seconds under way, pauses between interruption and resumption left out; NULL: of a version before.
    ALTER TABLE runs ADD COLUMN active_seconds REAL;
", "
    -- A list of machines; before, there was the environment of the one that quantbench ran on.
    ALTER TABLE runs RENAME COLUMN environment TO hosts;
    UPDATE runs SET hosts = json_array(json_object(
        'name', 'local', 'environment_id', '', 'environment', json(hosts)
    )) WHERE json_valid(hosts);
", "
    -- Tags, note and origin.
    ALTER TABLE runs ADD COLUMN annotations TEXT NOT NULL DEFAULT '{}';
    -- What lists show, without reading records.
    ALTER TABLE trials ADD COLUMN model TEXT NOT NULL DEFAULT '';
    UPDATE trials SET model = coalesce(record ->> 'model', '') WHERE json_valid(record);
"];

/// The newest schema version this program knows.
#[expect(clippy::cast_possible_wrap, reason = "there are a handful of migrations")]
pub(super) const NEWEST: i64 = MIGRATIONS.len() as i64;

/// Makes the tables, or brings older ones up to date; each step is one transaction.
pub(super) fn migrate(connection: &Connection, path: &Path) -> Result<(), Problem> {
    let sqlite = |source| of_sqlite(path, source);
    {
        // One read transaction, so that another process cannot make the tables between two reads.
        let _snapshot = connection.unchecked_transaction().map_err(sqlite)?;
        if check(connection, path)? == NEWEST {
            return Ok(());
        }
    }
    let transaction =
        Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(sqlite)?;
    // Another process may have migrated while this one waited for the lock.
    let found = check(&transaction, path)?;
    for migration in &MIGRATIONS[usize::try_from(found).unwrap_or(0)..] {
        transaction.execute_batch(migration).map_err(sqlite)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
    transaction.pragma_update(None, "user_version", NEWEST).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}

/// Refuses a file in which there is anything but the tables that a migration to its version makes: views, triggers
/// and computed columns would be run by whoever reads it.
pub(super) fn check_untouched(connection: &Connection, path: &Path) -> Result<(), Problem> {
    let sqlite = |source| of_sqlite(path, source);
    let application =
        connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
    if application.map_err(sqlite)? != APPLICATION_ID {
        return Err(Problem::new("it is a database of another program"));
    }
    let version = usize::try_from(check(connection, path)?).unwrap_or(0);
    let own = Connection::open_in_memory().map_err(sqlite)?;
    MIGRATIONS[..version].iter().try_for_each(|it| own.execute_batch(it)).map_err(sqlite)?;
    if objects(connection).map_err(sqlite)? == objects(&own).map_err(sqlite)? {
        return Ok(());
    }
    Err(Problem::new(
        "it is no store as quantbench makes it: its tables were changed, or others added",
    ))
}

/// Everything in a schema but what SQLite itself keeps, as SQL.
fn objects(connection: &Connection) -> rusqlite::Result<Vec<(String, String, String)>> {
    let all = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
               ORDER BY name";
    let mut statement = connection.prepare(all)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

/// The schema version of the file; an error if it is not ours or too new.
fn check(connection: &Connection, path: &Path) -> Result<i64, Problem> {
    let number = |pragma: &str| {
        connection
            .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(|source| of_sqlite(path, source))
    };
    let version = number("user_version")?;
    let application = number("application_id")?;
    let has_tables = || {
        connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
            .map(|count| count > 0)
            .map_err(|source| of_sqlite(path, source))
    };
    let is_new = version == 0 && application == 0 && !has_tables()?;
    if !is_new && (application != APPLICATION_ID || version < 1) {
        return Err(Problem::new(format!(
            "{} is a database of another program; set QUANTBENCH_STORE to another file",
            path.display()
        )));
    }
    if version > NEWEST {
        return Err(Problem::new(format!(
            "the store {} has schema version {version}, this quantbench knows up to {NEWEST}; \
             update quantbench or set QUANTBENCH_STORE to another file",
            path.display()
        )));
    }
    Ok(version)
}
