//! Loading runs: by name, by the beginning of a name, the last, the last unfinished.

use super::database::{LATEST_FIRST, Store, Timestamp};
use super::error::NO_RUN;
use crate::causes::Problem;
use crate::experiment::requirements::Requirements;
use crate::results::annotations::Annotations;
use crate::results::record::{RunRecord, TrialRecord, VisitRecord};
use crate::workload::measured::Response;
use rusqlite::{OptionalExtension, params};
use serde::de::DeserializeOwned;

impl Store {
    /// Loads the run whose name is `name`, or alone begins with it or has it behind its date; `last`
    /// is the one begun last.
    ///
    /// # Errors
    /// If no run or several are meant, or the store cannot be read.
    pub fn load(&self, name: &str) -> Result<RunRecord, Problem> {
        self.load_number(self.find(name)?)
    }

    /// The last run of this experiment that did not finish: what `--resume` goes on with.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn latest_unfinished(&self, name: &str) -> Result<Option<RunRecord>, Problem> {
        self.latest("finished IS NULL", name)
    }

    /// The last run of an experiment that is finished.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn earlier(&self, name: &str) -> Result<Option<RunRecord>, Problem> {
        self.latest("finished IS NOT NULL", name)
    }

    /// Of those that were measured for this store: nothing goes on with a run of another one.
    fn latest(&self, condition: &str, name: &str) -> Result<Option<RunRecord>, Problem> {
        self.prepare(&format!(
            "SELECT number FROM runs
             WHERE name = ?1 AND {condition} AND annotations ->> '$.origin' IS NULL
             ORDER BY number DESC LIMIT 1"
        ))?
        .query_row([name], |row| row.get(0))
        .optional()
        .map_err(|source| self.sqlite(source))?
        .map(|number| self.load_number(number))
        .transpose()
    }

    /// The whole name of the run that is meant, as [`Store::load`] finds it.
    ///
    /// # Errors
    /// As there.
    pub fn name_of(&self, name: &str) -> Result<String, Problem> {
        let number = self.find(name)?;
        self.prepare("SELECT id FROM runs WHERE number = ?1")?
            .query_row([number], |row| row.get(0))
            .map_err(|source| self.sqlite(source))
    }

    fn find(&self, name: &str) -> Result<i64, Problem> {
        if let Some(number) = self.run_number(name)? {
            return Ok(number);
        }
        let runs: Vec<(i64, String)> = self
            .prepare(&format!("SELECT number, id FROM runs ORDER BY {LATEST_FIRST}"))?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(|source| self.sqlite(source))?;
        let newest = runs.first().ok_or_else(|| Problem::new(NO_RUN))?;
        if name == "last" {
            return Ok(newest.0);
        }
        let letters = |id: &str| id.rsplit('-').next() == Some(name);
        let matching: Vec<_> =
            runs.iter().filter(|(_, id)| id.starts_with(name) || letters(id)).collect();
        match matching.as_slice() {
            [(number, _)] if !name.is_empty() => Ok(*number),
            [] => Err(no_such_run(name, nearest(name, &runs))),
            several => {
                let runs: Vec<&str> = several.iter().take(8).map(|(_, id)| id.as_str()).collect();
                Err(Problem::new(format!(
                    "'{name}' may be any of several runs: {}; write more of the name",
                    runs.join(", ")
                )))
            }
        }
    }

    fn load_number(&self, number: i64) -> Result<RunRecord, Problem> {
        // One read transaction: a run that is being measured is seen as it was at one moment.
        // Within a save there is one already.
        let connection = self.connection();
        let transaction = connection.is_autocommit().then(|| connection.unchecked_transaction());
        let transaction = transaction.transpose().map_err(|source| self.sqlite(source))?;
        let (mut run, [hosts, requirements, experiment, annotations]) = self
            .prepare(
                "SELECT id, name, started, finished, active_seconds, hosts, requirements, experiment,
                        annotations
                 FROM runs WHERE number = ?1",
            )?
            .query_row([number], |row| {
                let run = RunRecord {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    started: row.get::<_, Timestamp>(2)?.0,
                    finished: row.get::<_, Option<Timestamp>>(3)?.map(|it| it.0),
                    active_seconds: row.get(4)?,
                    hosts: Vec::new(),
                    requirements: Requirements::default(),
                    experiment: serde_json::Value::Null,
                    trials: Vec::new(),
                    drift_controls: Vec::new(),
            annotations: Annotations::default(),
                };
                Ok((run, [row.get::<_, String>(5)?, row.get(6)?, row.get(7)?, row.get(8)?]))
            })
            .map_err(|source| self.sqlite(source))?;
        run.hosts = from_json(&run.id, "the hosts", &hosts)?;
        run.requirements = from_json(&run.id, "the requirements", &requirements)?;
        run.experiment = from_json(&run.id, "the experiment", &experiment)?;
        run.annotations = from_json(&run.id, "the annotations", &annotations)?;
        run.trials = self.load_trials(number, &run.id)?;
        run.drift_controls = self.records(
            &run.id,
            "a drift control",
            "SELECT record FROM anchors WHERE run = ?1 ORDER BY anchor",
            params![number],
        )?;
        drop(transaction);
        Ok(run)
    }

    fn load_trials(&self, number: i64, run_id: &str) -> Result<Vec<TrialRecord>, Problem> {
        let rows: Vec<(usize, String)> = self
            .prepare("SELECT position, record FROM trials WHERE run = ?1 ORDER BY position")?
            .query_map([number], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(|source| self.sqlite(source))?;
        let mut trials = Vec::new();
        for (position, json) in rows {
            let mut trial: TrialRecord = from_json(run_id, &format!("trial {position}"), &json)?;
            let what = format!("a visit of trial {position} ({})", trial.label);
            trial.visits = self.records::<VisitRecord>(
                run_id,
                &what,
                "SELECT record FROM visits WHERE run = ?1 AND position = ?2 ORDER BY visit",
                params![number, position],
            )?;
            for (visit_number, visit) in trial.visits.iter_mut().enumerate() {
                visit.responses = self.records::<Response>(
                    run_id,
                    &what,
                    "SELECT record FROM responses
                     WHERE run = ?1 AND position = ?2 AND visit = ?3 ORDER BY response",
                    params![number, position, visit_number],
                )?;
            }
            trials.push(trial);
        }
        Ok(trials)
    }

    fn records<T: DeserializeOwned>(
        &self,
        run_id: &str,
        what: &str,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<T>, Problem> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(parameters).map_err(|source| self.sqlite(source))?;
        let mut records = Vec::new();
        while let Some(row) = rows.next().map_err(|source| self.sqlite(source))? {
            let json: String = row.get(0).map_err(|source| self.sqlite(source))?;
            records.push(from_json(run_id, what, &json)?);
        }
        Ok(records)
    }
}

pub(super) fn from_json<T: DeserializeOwned>(
    run: &str,
    what: &str,
    json: &str,
) -> Result<T, Problem> {
    serde_json::from_str(json).map_err(|source| {
        let message = format!(
            "{what} of stored run '{run}' cannot be read: it was damaged or changed by hand"
        );
        Problem::because(message, source)
    })
}

/// No run has this name; one with the nearest may be there.
pub(super) fn no_such_run(name: &str, nearest: Option<&str>) -> Problem {
    let nearest = nearest.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
    Problem::new(format!("no stored run is named '{name}'{nearest}; 'quantbench list' shows all"))
}

/// The run whose name is nearest, if one is near.
fn nearest<'a>(name: &str, runs: &'a [(i64, String)]) -> Option<&'a str> {
    runs.iter()
        .map(|(_, id)| (strsim::damerau_levenshtein(id, name), id))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, id)| id.as_str())
}
