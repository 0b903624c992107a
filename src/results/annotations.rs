//! What people keep with a run besides what it measured: tags, a note, and where it came from.

use super::record::{LOCAL, RunRecord};
use crate::causes::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// Longest tag, name of a run and name of a host, letters.
const LONGEST_NAME: usize = 64;

/// Longest note, bytes.
const LONGEST_NOTE: usize = 10_000;

/// Tags, a note and the origin of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// Names that runs are found by, see [`check_name`].
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Text for people; `None`: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Where it was taken from; `None`: it was measured for this store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Where a run was measured, of one that was taken from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name there.
    pub run: String,
    /// What its local machine is called here.
    pub host: String,
    /// The file that it was taken from.
    pub source: String,
    /// When it was taken in.
    #[serde(with = "time::serde::rfc3339")]
    pub merged: OffsetDateTime,
}

impl Annotations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What keeps them from being stored, if anything does: they may come from a file that anybody wrote.
    ///
    /// # Errors
    /// A tag or a name is none, or the note is too long.
    pub fn check(&self) -> Result<(), Problem> {
        self.tags.iter().try_for_each(|tag| check_name("a tag", tag))?;
        if let Some(origin) = &self.origin {
            check_name("a run", &origin.run)?;
            check_name("a host", &origin.host)?;
        }
        self.note.as_deref().map_or(Ok(()), check_note)
    }
}

/// Tags, names of runs and of hosts stand in file names, commands and tables: letters, digits and `._:+@-`,
/// neither `-` nor `.` first, no `..`.
///
/// # Errors
/// Something else is in `name`, or it is too long.
pub fn check_name(what: &str, name: &str) -> Result<(), Problem> {
    let is_allowed = |c: char| c.is_alphanumeric() || "._:+@-".contains(c);
    let is_name = !name.is_empty() && name.chars().all(is_allowed) && !name.starts_with(['-', '.']);
    if is_name && !name.contains("..") && name.chars().count() <= LONGEST_NAME {
        return Ok(());
    }
    let shown: String = name
        .chars()
        .take(LONGEST_NAME)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    Err(Problem::new(format!(
        "'{shown}' cannot be the name of {what}: up to {LONGEST_NAME} letters, digits and . _ : + @ -, a letter or \
         digit first"
    )))
}

/// # Errors
/// The note is too long.
pub fn check_note(note: &str) -> Result<(), Problem> {
    if note.len() <= LONGEST_NOTE {
        return Ok(());
    }
    Err(Problem::new(format!(
        "the note has {} bytes; up to {LONGEST_NOTE} are kept, and a note may name a file",
        note.len()
    )))
}

impl RunRecord {
    /// What was measured, as the machine named it that measured it: without annotations, and of a run that was taken
    /// in under its own name with its own names of hosts. Two that are equal are the same run.
    #[must_use]
    pub fn as_measured(&self) -> Self {
        let mut run = Self { annotations: Annotations::default(), ..self.clone() };
        if let Some(origin) = &self.annotations.origin {
            run.id.clone_from(&origin.run);
            run.rename_host(&origin.host, LOCAL);
        }
        run
    }

    /// Calls a machine otherwise.
    pub fn rename_host(&mut self, from: &str, to: &str) {
        let hosts = self.hosts.iter_mut().map(|host| &mut host.id);
        let ids = hosts.chain(self.trials.iter_mut().map(|trial| &mut trial.host));
        ids.filter(|id| id.name == from).for_each(|id| to.clone_into(&mut id.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::MadeUp;

    #[test]
    fn names_that_would_harm_files_terminals_or_commands_are_refused() {
        for name in
            ["nightly", "2026-11-23-k3f9", "b3_1", "release-0.2", "größe", "a:b", "user@board"]
        {
            check_name("a tag", name).unwrap();
        }
        let long = "x".repeat(65);
        for name in [
            "",
            "-x",
            ".x",
            "/etc",
            "a/b",
            "a..b",
            "a b",
            "a\u{1b}[2J",
            "a\0",
            "\u{202e}x",
            "<script>",
            "a,b",
            &long,
        ] {
            let error = check_name("a tag", name).unwrap_err().to_string();
            assert!(
                error.contains("cannot be the name of a tag") && !error.contains('\u{1b}'),
                "{error}"
            );
        }
    }

    #[test]
    fn a_run_that_was_taken_in_is_still_the_run_that_was_measured() {
        let run = MadeUp::default().run();
        let mut taken = run.clone();
        taken.rename_host(LOCAL, "board");
        taken.id = "2026-11-23-zzzz".to_owned();
        taken.annotations = Annotations {
            tags: ["kept".to_owned()].into(),
            note: Some("after the update".to_owned()),
            origin: Some(Origin {
                run: run.id.clone(),
                host: "board".to_owned(),
                source: "board.json".to_owned(),
                merged: run.started,
            }),
        };
        taken.annotations.check().unwrap();
        assert!(taken.trials.iter().all(|trial| trial.host.name == "board"));
        assert_eq!(taken.as_measured(), run);
        assert_eq!(run.as_measured(), run);
    }
}
