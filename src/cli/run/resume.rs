//! Resuming: which run `--resume` goes on with, and what to say when one was interrupted.

use crate::causes::Problem;
use crate::error::Error;
use crate::experiment::requirements::Requirements;
use crate::orchestrator::plan::Plan;
use crate::report::quoted;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::store::Store;
use serde_json::Value;
use std::io;
use std::path::PathBuf;

/// Why there is no run to go on with.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store has no unfinished run of the experiment.
    #[error(
        "there is no interrupted run of '{name}' to go on with; start one without --resume ('quantbench list' shows all runs)"
    )]
    NothingToResume {
        /// The experiment's name.
        name: String,
    },
    /// The last unfinished run measured something else.
    #[error(
        "the interrupted run {run} measured something else: {difference}; use the same file and flags, or start a new run without --resume"
    )]
    Different {
        /// The run.
        run: String,
        /// In what it differs.
        difference: String,
    },
    /// Another process measures it at this moment.
    #[error("run {run} is still under way in another process; wait for it or stop it")]
    UnderWay {
        /// The run.
        run: String,
    },
    /// The run cannot be locked.
    #[error("cannot lock the run with {}", path.display())]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] Problem),
}

/// The last run of an experiment that did not finish, if it measured the same.
pub(super) fn unfinished_run(
    store: &Store,
    name: &str,
    experiment: &Value,
    plan: &Plan,
) -> Result<RunRecord, RunError> {
    let mut run = store
        .latest_unfinished(name)?
        .ok_or_else(|| RunError::NothingToResume { name: name.to_owned() })?;
    take_budget(&mut run.experiment, experiment);
    match difference(&run, experiment, plan) {
        None => Ok(run),
        Some(difference) => Err(RunError::Different { run: run.id, difference }),
    }
}

/// An interrupted run may be given more time or less. Whether there is a budget at all decides what a run measures, except where
/// it recommends.
fn take_budget(stored: &mut Value, experiment: &Value) {
    let Some(stored) = stored.as_object_mut() else { return };
    let new = experiment.get("budget");
    if (stored.contains_key("budget") && new.is_some()) || stored.contains_key("recommend") {
        stored.remove("budget");
        stored.extend(new.map(|new| ("budget".to_owned(), new.clone())));
    }
}

/// In what an experiment differs from the one that a run measured; `None`: in nothing.
pub(in crate::cli) fn difference(
    run: &RunRecord,
    experiment: &Value,
    plan: &Plan,
) -> Option<String> {
    let [stored, experiment] =
        [brought_up_to_date(run.experiment.clone()), without_origin(experiment.clone())];
    if stored != experiment {
        let place = first_difference(&stored, &experiment, "");
        return Some(match place {
            Some(place) => format!("the experiment differs at '{place}'"),
            None => "the experiment differs".to_owned(),
        });
    }
    // A strategy may have added trials behind those that were planned.
    let stored = run.trials.iter().map(|trial| &trial.key).take(plan.trials.len());
    if !stored.eq(plan.trials.iter().map(|trial| &trial.key)) {
        let changed = run.trials.iter().zip(&plan.trials).find(|(old, new)| old.key != new.key);
        let which = changed.map_or_else(|| "trials".to_owned(), |(old, _)| trial_name(old));
        return Some(format!("the file behind {which} has changed"));
    }
    None
}

/// An experiment without where it was read from: the same texts and questions may lie elsewhere.
fn without_origin(mut experiment: Value) -> Value {
    if let Some(entries) = experiment.as_object_mut() {
        entries.remove("written");
    }
    experiment
}

/// An experiment as it would be stored today: requirements were fields before they were a list.
fn brought_up_to_date(experiment: Value) -> Value {
    let mut experiment = without_origin(experiment);
    if let Some(stored) = experiment.get_mut("requirements")
        && let Ok(read) = serde_json::from_value::<Requirements>(stored.clone())
        && let Ok(new) = serde_json::to_value(read)
    {
        *stored = new;
    }
    experiment
}

fn trial_name(trial: &TrialRecord) -> String {
    format!("{} {}", trial.model, trial.label)
}

/// Where two values first differ, as `workloads.speed[0]`.
fn first_difference(old: &Value, new: &Value, place: &str) -> Option<String> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
            let mut places = keys.filter_map(|key| {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                let (old, new) = (old.get(key), new.get(key));
                first_difference(old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), &place)
            });
            places.next()
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let pairs = old.iter().zip(new).enumerate();
            let mut places = pairs.filter_map(|(position, (old, new))| {
                first_difference(old, new, &format!("{place}[{position}]"))
            });
            places.next()
        }
        _ if old == new => None,
        _ => Some(place.to_owned()),
    }
}

/// What the user is told when a run was interrupted.
pub(in crate::cli) fn how_to_resume(run: &str, arguments: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = arguments.map(|word| quoted(&word)).collect();
    if !words.iter().any(|word| word == "--resume") {
        words.push("--resume".to_owned());
    }
    format!(
        "interrupted; to go on: {}\nto see what was measured: quantbench show {run}",
        words.join(" ")
    )
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        Self::command(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named_by_its_place() {
        let old = json!({"rounds": 5, "workloads": {"speed": ["pp512", "tg128"]}});
        let place = |new: Value| first_difference(&old, &new, "");
        assert_eq!(place(old.clone()), None);
        let new = json!({"rounds": 5, "workloads": {"speed": ["pp512", "tg64"]}});
        assert_eq!(place(new).as_deref(), Some("workloads.speed[1]"));
        let new = json!({"rounds": 5, "workloads": {"speed": ["pp512"]}});
        assert_eq!(place(new).as_deref(), Some("workloads.speed"));
        let new = json!({"rounds": 5, "workloads": {"speed": ["pp512", "tg128"]}, "more": 1});
        assert_eq!(place(new).as_deref(), Some("more"));
    }

    #[test]
    fn a_run_stored_when_requirements_were_fields_goes_on() {
        let old = json!({"rounds": 5, "requirements": {"max_memory_bytes": null, "max_kld": 0.05}});
        let limit = json!([{"metric": "kld_nats", "bound": "at_most", "limit": 0.05}]);
        let new = json!({"rounds": 5, "requirements": limit});
        assert_eq!(brought_up_to_date(old), new);
        assert_eq!(brought_up_to_date(new.clone()), new);
    }

    #[test]
    fn an_interrupted_run_may_be_given_another_budget() {
        let taken = |mut stored: Value, new: Value| {
            take_budget(&mut stored, &new);
            stored["budget"].clone()
        };
        assert_eq!(taken(json!({"budget": "10m"}), json!({"budget": "20m"})), "20m");
        assert_eq!(taken(json!({"budget": "10m"}), json!({})), "10m", "all would be measured");
        assert_eq!(taken(json!({}), json!({"budget": "10m"})), Value::Null);
        let recommends = json!({"budget": "10m", "recommend": {"order": []}});
        assert_eq!(taken(recommends, json!({})), Value::Null);
    }

    #[test]
    fn an_interrupted_run_is_told_with_the_command_that_goes_on() {
        let words = ["quantbench", "run", "my models.toml", "--rounds", "3"];
        assert_eq!(
            how_to_resume("2026-11-23-k3f9", words.into_iter().map(str::to_owned)),
            "interrupted; to go on: quantbench run 'my models.toml' --rounds 3 --resume\n\
             to see what was measured: quantbench show 2026-11-23-k3f9"
        );
        let words = ["quantbench", "run", "--resume"];
        let told = how_to_resume("x", words.into_iter().map(str::to_owned));
        assert_eq!(told.matches("--resume").count(), 1);
    }
}
