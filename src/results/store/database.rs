//! Opening the store and listing what it holds.

use super::error::of_sqlite;
use super::load::no_such_run;
use super::schema;
use crate::causes::Problem;
use crate::files::{self, Stamp};
use crate::results::annotations::Annotations;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long a save waits for another process's save.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The order of runs in time; text of times does not sort as time does where seconds have fractions.
pub(super) const LATEST_FIRST: &str = "julianday(started) DESC, number DESC";

/// All runs made by this user on this machine, and those that were taken in from others.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    /// Holds the copy that is read where the store itself may not be written.
    _copy: Option<TempDir>,
}

/// What `quantbench list` shows of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunHeader {
    /// Its unique name.
    pub id: String,
    /// The experiment's name.
    pub name: String,
    /// When it began.
    pub started: OffsetDateTime,
    /// When it ended; `None`: interrupted or under way.
    pub finished: Option<OffsetDateTime>,
    /// Seconds under way without pauses; `None` in runs stored before this was kept.
    pub active_seconds: Option<f64>,
    /// The names of the hosts that it ran on, in the order in which they joined.
    pub hosts: Vec<String>,
    /// The names of its models, in the order of the experiment.
    pub models: Vec<String>,
    /// What people keep with it.
    pub annotations: Annotations,
    /// Number of trials.
    pub trials: usize,
    /// How many of them failed.
    pub failed: usize,
    /// Visits stored so far, over all trials.
    pub visits: usize,
}

impl Store {
    /// Opens the user's store and makes it if there is none: the file (or the folder, which then
    /// gets a `runs.sqlite`) that `QUANTBENCH_STORE` names, else `runs.sqlite` in the platform's
    /// folder for data.
    ///
    /// # Errors
    /// If the file cannot be made or opened, is damaged, of another program or of a later version.
    pub fn open() -> Result<Self, Problem> {
        Self::at(&Self::default_path()?)
    }

    /// Opens the user's store if there is one, for commands that only read. Of a store that may not be
    /// written a copy is read: SQLite writes beside a database even to read it.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn open_existing() -> Result<Option<Self>, Problem> {
        let path = Self::default_path()?;
        if !path.exists() {
            return Ok(None);
        }
        if may_be_written(&path) { Self::at(&path) } else { Self::copy_of(&path) }.map(Some)
    }

    /// Where the user's store is.
    ///
    /// # Errors
    /// If `QUANTBENCH_STORE` is not set and the platform names no folder.
    pub fn default_path() -> Result<PathBuf, Problem> {
        const FILE: &str = "runs.sqlite";
        if let Some(path) = std::env::var_os("QUANTBENCH_STORE").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            return Ok(if path.is_dir() { path.join(FILE) } else { path });
        }
        let folders = directories::ProjectDirs::from("", "", "quantbench").ok_or_else(|| {
            Problem::new(
                "this system names no folder for data (no home folder); set QUANTBENCH_STORE to \
                     the file where runs are to be stored",
            )
        })?;
        Ok(folders.data_dir().join(FILE))
    }

    /// A copy of a store, for reading.
    ///
    /// # Errors
    /// As for [`Store::open`]; or it cannot be copied.
    pub fn copy_of(path: &Path) -> Result<Self, Problem> {
        Self::copied(path, |_, _| Ok(()))
    }

    /// A copy that is used only if it passes `check`.
    pub(super) fn copied(
        path: &Path,
        check: fn(&Connection, &Path) -> Result<(), Problem>,
    ) -> Result<Self, Problem> {
        let failed = |source| {
            let store = path.display();
            let message = format!("the store {store} cannot be copied to be read");
            Problem::because(message, source)
        };
        let folder = tempfile::Builder::new().prefix("quantbench-store-").tempdir();
        let folder = folder.map_err(failed)?;
        let copy = folder.path().join("runs.sqlite");
        copy_whole(path, &copy).map_err(failed)?;
        Ok(Self { _copy: Some(folder), ..Self::open_as(&copy, path, check)? })
    }

    /// Opens the store in this file and makes it if there is none.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn at(path: &Path) -> Result<Self, Problem> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|source| {
                let message = format!(
                    "cannot make the folder {} for stored runs; set QUANTBENCH_STORE to a file in a \
                     folder that can be written",
                    folder.display()
                );
                Problem::because(message, source)
            })?;
        }
        if let Ok(metadata) = std::fs::metadata(path)
            && let Some(kind) = files::special_kind(&metadata)
        {
            return Err(Problem::new(format!(
                "the store {} cannot be used: it is {kind}; set QUANTBENCH_STORE to a file",
                path.display()
            )));
        }
        files::note_input(path);
        Self::open_as(path, path, |_, _| Ok(()))
    }

    /// Opens `file`, which the user knows as `path`.
    fn open_as(
        file: &Path,
        path: &Path,
        check: fn(&Connection, &Path) -> Result<(), Problem>,
    ) -> Result<Self, Problem> {
        let sqlite = |source| of_sqlite(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags).map_err(sqlite)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
        check(&connection, path)?;
        schema::migrate(&connection, path)?;
        // WAL: readers do not wait for a save. FULL: a save outlives a power cut, not only a kill;
        // there is one save per visit, so its fsync costs nothing.
        switch_to_wal(&connection).map_err(sqlite)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(sqlite)?;
        Ok(Self { connection, path: path.to_owned(), _copy: None })
    }

    /// All runs, the one begun last first; those that were taken from elsewhere among them.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn list(&self) -> Result<Vec<RunHeader>, Problem> {
        let list = |json: String| serde_json::from_str(&json).unwrap_or_default();
        let mut statement = self.prepare(&format!(
            "SELECT id, name, started, finished,
                    (SELECT count(*) FROM trials WHERE run = number),
                    (SELECT count(*) FROM trials WHERE run = number AND failed),
                    (SELECT count(*) FROM visits WHERE run = number),
                    active_seconds,
                    CASE WHEN json_valid(hosts) THEN
                        (SELECT json_group_array(DISTINCT value ->> 'name') FROM json_each(hosts))
                    ELSE '[]' END,
                    (SELECT json_group_array(DISTINCT model) FROM
                        (SELECT model FROM trials WHERE run = number ORDER BY position)),
                    annotations
             FROM runs ORDER BY {LATEST_FIRST}"
        ))?;
        let rows = statement
            .query_map([], |row| {
                Ok(RunHeader {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    started: row.get::<_, Timestamp>(2)?.0,
                    finished: row.get::<_, Option<Timestamp>>(3)?.map(|it| it.0),
                    trials: row.get(4)?,
                    failed: row.get(5)?,
                    visits: row.get(6)?,
                    active_seconds: row.get(7)?,
                    hosts: list(row.get(8)?),
                    models: list(row.get(9)?),
                    annotations: serde_json::from_str(&row.get::<_, String>(10)?)
                        .unwrap_or_default(),
                })
            })
            .map_err(|source| self.sqlite(source))?;
        rows.collect::<Result<_, _>>().map_err(|source| self.sqlite(source))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn begin(&self) -> Result<Transaction<'_>, Problem> {
        // IMMEDIATE takes the write lock now, where waiting for it works; a reader that becomes a
        // writer half-way could only fail.
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|source| self.sqlite(source))
    }

    pub(super) fn sqlite(&self, source: rusqlite::Error) -> Problem {
        of_sqlite(&self.path, source)
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, Problem> {
        self.connection.prepare_cached(sql).map_err(|source| self.sqlite(source))
    }

    pub(super) fn run_number(&self, id: &str) -> Result<Option<i64>, Problem> {
        self.prepare("SELECT number FROM runs WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()
            .map_err(|source| self.sqlite(source))
    }

    pub(super) fn existing(&self, id: &str) -> Result<i64, Problem> {
        self.run_number(id)?.ok_or_else(|| no_such_run(id, None))
    }
}

/// The file with what was saved and is not in the database yet.
fn wal_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn may_be_written(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    [path, files::folder_of(path)].iter().all(|path| access(*path, Access::WRITE_OK).is_ok())
}

/// Copies a database with its WAL, again where somebody wrote to it meanwhile.
fn copy_whole(from: &Path, to: &Path) -> std::io::Result<()> {
    const ATTEMPTS: usize = 20;
    let state =
        || [from, &wal_of(from)].map(|path| std::fs::metadata(path).map(|it| Stamp::of(&it)).ok());
    for _ in 0..ATTEMPTS {
        let before = state();
        std::io::copy(&mut files::open(from)?, &mut std::fs::File::create(to)?)?;
        match std::fs::File::open(wal_of(from)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            wal => {
                std::io::copy(&mut wal?, &mut std::fs::File::create(wal_of(to))?)?;
            }
        }
        if state() == before {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(std::io::Error::other("another process keeps writing to it"))
}

/// Makes the file a WAL database, which it then stays. `SQLite` does not wait for this by itself
/// while another process opens the same new file, so this does.
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}

/// A time as it is stored: RFC 3339 in UTC.
pub(super) struct Timestamp(pub(super) OffsetDateTime);

impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        // Every OffsetDateTime that a clock yields has four-digit years, all that RFC 3339 asks for.
        Ok(self.0.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_default().into())
    }
}

impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        OffsetDateTime::parse(value.as_str()?, &Rfc3339)
            .map(Self)
            .map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}
