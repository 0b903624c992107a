//! Saving runs: every save is one transaction, and rows that did not change are not written again.

use super::database::{Store, Timestamp};
use super::load::from_json;
use crate::causes::Problem;
use crate::results::annotations::Annotations;
use crate::results::record::{DriftControl, RunRecord, TrialRecord, VisitRecord};
use rusqlite::params;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

impl Store {
    /// A name for a run that begins now: its date and a few letters, not yet in the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn fresh_id(&self, started: OffsetDateTime) -> Result<String, Problem> {
        // No 0/o, 1/l/i and no vowels: nothing to confuse and no words by accident.
        const LETTERS: &[u8] = b"bcdfghjkmnpqrstvwxz23456";
        loop {
            let letter = || char::from(LETTERS[fastrand::usize(..LETTERS.len())]);
            let letters: String = std::iter::repeat_with(letter).take(4).collect();
            let id = format!("{}-{letters}", started.date());
            if self.run_number(&id)?.is_none() {
                return Ok(id);
            }
        }
    }

    /// Stores a run that begins, with what it holds already.
    ///
    /// # Errors
    /// If a run of this name is stored already or the store cannot be written.
    pub fn begin_run(&self, run: &RunRecord) -> Result<(), Problem> {
        let transaction = self.begin()?;
        if self.run_number(&run.id)?.is_some() {
            return Err(Problem::new(format!("a run named '{}' is stored already", run.id)));
        }
        self.insert(run)?;
        transaction.commit().map_err(|source| self.sqlite(source))
    }

    /// Stores a run of a new name within a transaction that the caller began.
    pub(super) fn insert(&self, run: &RunRecord) -> Result<(), Problem> {
        self.connection()
            .execute(
                "INSERT INTO runs
                 (id, name, started, finished, active_seconds, hosts, requirements, experiment,
                  annotations)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    run.id,
                    run.name,
                    Timestamp(run.started),
                    run.finished.map(Timestamp),
                    run.active_seconds,
                    to_json(&run.id, "the hosts", &run.hosts)?,
                    to_json(&run.id, "the requirements", &run.requirements)?,
                    to_json(&run.id, "the experiment", &run.experiment)?,
                    to_json(&run.id, "the annotations", &run.annotations)?,
                ],
            )
            .map_err(|source| self.sqlite(source))?;
        let number = self.connection().last_insert_rowid();
        for (position, trial) in run.trials.iter().enumerate() {
            self.write_trial(number, &run.id, position, trial)?;
        }
        for control in &run.drift_controls {
            self.write_drift_control(number, &run.id, control)?;
        }
        Ok(())
    }

    /// Changes what people keep with a run; `change` gets what is kept now.
    ///
    /// # Errors
    /// If there is no such run, the store cannot be written, or what is to be kept is refused.
    pub fn annotate(
        &self,
        run_id: &str,
        change: impl FnOnce(&mut Annotations),
    ) -> Result<Annotations, Problem> {
        let transaction = self.begin()?;
        let number = self.existing(run_id)?;
        let json: String = self
            .prepare("SELECT annotations FROM runs WHERE number = ?1")?
            .query_row([number], |row| row.get(0))
            .map_err(|source| self.sqlite(source))?;
        let mut annotations = from_json(run_id, "the annotations", &json)?;
        change(&mut annotations);
        annotations.check()?;
        let json = to_json(run_id, "the annotations", &annotations)?;
        self.write("UPDATE runs SET annotations = ?2 WHERE number = ?1", params![number, json])?;
        transaction.commit().map_err(|source| self.sqlite(source))?;
        Ok(annotations)
    }

    /// Removes a run with all that was measured in it.
    ///
    /// # Errors
    /// If there is no such run or the store cannot be written.
    pub fn remove(&self, run_id: &str) -> Result<(), Problem> {
        let number = self.existing(run_id)?;
        self.write("DELETE FROM runs WHERE number = ?1", params![number])
    }

    /// Gives room that removed runs took back to the disk. That another process reads at this moment is no
    /// error: the room is used by the next runs.
    pub fn shrink(&self) {
        let _ = self.connection().execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
    }

    /// Stores a trial as it is now; call it after every visit. Rows that did not change are not
    /// written again.
    ///
    /// # Errors
    /// If there is no such run or the store cannot be written; nothing of the trial is changed then.
    pub fn save_trial(
        &self,
        run_id: &str,
        position: usize,
        trial: &TrialRecord,
    ) -> Result<(), Problem> {
        let transaction = self.begin()?;
        let number = self.existing(run_id)?;
        self.write_trial(number, run_id, position, trial)?;
        transaction.commit().map_err(|source| self.sqlite(source))
    }

    /// Adds one measurement of the drift control.
    ///
    /// # Errors
    /// If there is no such run or the store cannot be written.
    pub fn save_drift_control(&self, run_id: &str, control: &DriftControl) -> Result<(), Problem> {
        let transaction = self.begin()?;
        let number = self.existing(run_id)?;
        self.write_drift_control(number, run_id, control)?;
        transaction.commit().map_err(|source| self.sqlite(source))
    }

    /// Keeps what changes of a run itself while it is under way: its hosts, how long that is, and its end.
    ///
    /// # Errors
    /// If there is no such run or the store cannot be written.
    pub fn save_run(&self, run: &RunRecord) -> Result<(), Problem> {
        let number = self.existing(&run.id)?;
        let hosts = to_json(&run.id, "the hosts", &run.hosts)?;
        self.write(
            "UPDATE runs SET hosts = ?2, active_seconds = ?3, finished = ?4 WHERE number = ?1",
            params![number, hosts, run.active_seconds, run.finished.map(Timestamp)],
        )
    }

    fn write_trial(
        &self,
        run: i64,
        run_id: &str,
        position: usize,
        trial: &TrialRecord,
    ) -> Result<(), Problem> {
        let what = format!("trial {position} ({})", trial.label);
        self.write(
            "INSERT INTO trials (run, position, failed, record, model) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET failed = excluded.failed, record = excluded.record
             WHERE record <> excluded.record",
            params![
                run,
                position,
                trial.failure.is_some(),
                to_json(run_id, &what, &without_visits(trial))?,
                trial.model
            ],
        )?;
        for (number, visit) in trial.visits.iter().enumerate() {
            let what = format!("visit {number} of {what}");
            self.write(
                "INSERT INTO visits (run, position, visit, record) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET record = excluded.record
                 WHERE record <> excluded.record",
                params![run, position, number, to_json(run_id, &what, &without_responses(visit))?],
            )?;
            for (index, response) in visit.responses.iter().enumerate() {
                self.write(
                    "INSERT INTO responses (run, position, visit, response, record)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET record = excluded.record
                     WHERE record <> excluded.record",
                    params![run, position, number, index, to_json(run_id, &what, response)?],
                )?;
            }
            self.write(
                "DELETE FROM responses
                 WHERE run = ?1 AND position = ?2 AND visit = ?3 AND response >= ?4",
                params![run, position, number, visit.responses.len()],
            )?;
        }
        for table in ["visits", "responses"] {
            self.write(
                &format!("DELETE FROM {table} WHERE run = ?1 AND position = ?2 AND visit >= ?3"),
                params![run, position, trial.visits.len()],
            )?;
        }
        Ok(())
    }

    fn write_drift_control(
        &self,
        run: i64,
        run_id: &str,
        control: &DriftControl,
    ) -> Result<(), Problem> {
        self.write(
            "INSERT INTO anchors (run, anchor, record)
             VALUES (?1, (SELECT count(*) FROM anchors WHERE run = ?1), ?2)",
            params![run, to_json(run_id, "a drift control", control)?],
        )
    }

    fn write(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<(), Problem> {
        self.prepare(sql)?.execute(parameters).map(|_| ()).map_err(|source| self.sqlite(source))
    }
}

/// JSON that is known to read back: serde writes NaN as null, which then is no number, and a run
/// that cannot be read again is worse than one that says so while it is saved.
fn to_json<T: Serialize + DeserializeOwned>(
    run: &str,
    what: &str,
    value: &T,
) -> Result<String, Problem> {
    serde_json::to_string(value)
        .and_then(|json| serde_json::from_str::<T>(&json).map(|_| json))
        .map_err(|source| {
            let message = format!("{what} of run '{run}' holds a value that cannot be stored");
            Problem::because(message, source)
        })
}

/// A trial without its visits, which have rows of their own.
fn without_visits(trial: &TrialRecord) -> TrialRecord {
    TrialRecord { visits: Vec::new(), ..trial.clone() }
}

/// A visit without its responses, which have rows of their own.
fn without_responses(visit: &VisitRecord) -> VisitRecord {
    VisitRecord { responses: Vec::new(), ..visit.clone() }
}
