//! Taking in runs that were measured for other stores: each once, with where it came from.

use super::database::Store;
use super::schema;
use crate::causes::Problem;
use crate::results::annotations::{Annotations, Origin};
use crate::results::exchange;
use crate::results::record::{LOCAL, RunRecord, TrialRecord};
use std::path::Path;
use time::OffsetDateTime;

/// Where runs come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub name: String,
    /// What the machine that it was written on is called here; those that it named itself keep their names.
    pub host: String,
    /// The time at which they are taken in.
    pub at: OffsetDateTime,
}

/// What became of a run that was to be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Its name in the source.
    pub there: String,
    /// Its name here.
    pub here: String,
    /// What was done.
    pub fate: Fate,
}

/// What was done with a run that was to be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was not here, and is now; under another name if its own was taken.
    Added,
    /// It was here with less measured, and is now as it is there.
    Grown,
    /// It was here.
    Known,
}

impl Store {
    /// Takes in runs, all of them or none.
    ///
    /// # Errors
    /// If a run cannot be read, its name is none, or the store cannot be written.
    pub fn merge(
        &self,
        runs: impl IntoIterator<Item = Result<RunRecord, Problem>>,
        source: &Source,
    ) -> Result<Vec<Merged>, Problem> {
        let transaction = self.begin()?;
        let merged =
            runs.into_iter().map(|run| self.take_in(run?, source)).collect::<Result<_, _>>()?;
        transaction.commit().map_err(|source| self.sqlite(source))?;
        Ok(merged)
    }

    fn take_in(&self, mut run: RunRecord, source: &Source) -> Result<Merged, Problem> {
        exchange::check(&run)?;
        let measured = run.as_measured();
        let there = run.id.clone();
        let merged = |here: String, fate| Ok(Merged { there: there.clone(), here, fate });
        for here in self.called(&measured.id)? {
            let stored = self.load(&here)?;
            let known = stored.as_measured();
            if known == measured || goes_on_with(&known, &measured) {
                return merged(here, Fate::Known);
            }
            if stored.annotations.origin.is_some() && goes_on_with(&measured, &known) {
                self.remove(&here)?;
                originate(&mut run, source);
                self.insert(&RunRecord {
                    id: here.clone(),
                    annotations: stored.annotations,
                    ..run
                })?;
                return merged(here, Fate::Grown);
            }
        }
        originate(&mut run, source);
        if self.run_number(&run.id)?.is_some() {
            run.id = self.fresh_id(run.started)?;
        }
        self.insert(&run)?;
        merged(run.id, Fate::Added)
    }

    /// The runs here that had this name where they were measured.
    fn called(&self, name: &str) -> Result<Vec<String>, Problem> {
        self.prepare("SELECT id FROM runs WHERE coalesce(annotations ->> '$.origin.run', id) = ?1")?
            .query_map([name], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(|source| self.sqlite(source))
    }

    /// Another machine's store, to read runs from: a copy, so that nothing is written there. Whoever made it may
    /// have put anything into it; tables that are not quantbench's own are refused before anything in them is used.
    ///
    /// # Errors
    /// It cannot be copied, or is none.
    pub fn of_another_machine(path: &Path) -> Result<Self, Problem> {
        Self::copied(path, schema::check_untouched)
    }

    /// All runs, loaded one by one, those begun first first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn all(&self) -> Result<impl Iterator<Item = Result<RunRecord, Problem>> + '_, Problem> {
        Ok(self.list()?.into_iter().rev().map(|run| self.load(&run.id)))
    }
}

/// Says where a run comes from; what came from a third machine keeps what is said of it.
fn originate(run: &mut RunRecord, source: &Source) {
    let Annotations { origin, .. } = &mut run.annotations;
    if origin.is_none() {
        let Source { name, host, at } = source.clone();
        *origin =
            Some(Origin { run: run.id.clone(), host: host.clone(), source: name, merged: at });
        run.rename_host(LOCAL, &host);
    }
}

/// Whether `more` is the same run, with more measured.
fn goes_on_with(more: &RunRecord, less: &RunRecord) -> bool {
    let begins_as = |(more, less): (&TrialRecord, &TrialRecord)| {
        more.key == less.key && more.visits.starts_with(&less.visits)
    };
    let is_same =
        (&more.id, more.started, &more.experiment) == (&less.id, less.started, &less.experiment);
    is_same
        && (less.finished.is_none() || less.finished == more.finished)
        && more.trials.len() >= less.trials.len()
        && more.trials.iter().zip(&less.trials).all(begins_as)
}
