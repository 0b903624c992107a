//! What the store says that no command tells in this form: how far a run is, and which of its variants meets needs.

use super::Answer;
use super::tools::Needs;
use crate::causes::Problem;
use crate::cli::list::state;
use crate::cli::run::lock::is_under_way;
use crate::cli::selection::store_to_read;
use crate::experiment::recommend::{Order, Recommend};
use crate::experiment::requirements::{Requirement, Requirements};
use crate::model::cache::Cache;
use crate::report::{self, RenderOptions};
use crate::results::record::RunRecord;
use crate::results::store::Store;
use crate::results::summary::Summary;
use crate::units::{count, parse_bytes, to_f64};
use clap::ValueEnum as _;
use serde_json::{Value, json};

/// Columns of tables that assistants read.
const COLUMNS: usize = 160;

/// The name of the run that was begun last, if there is one.
pub(super) fn newest() -> Result<Option<String>, Problem> {
    let Some(store) = Store::open_existing()? else { return Ok(None) };
    Ok(store.list()?.into_iter().next().map(|run| run.id))
}

/// The whole name of the run that is meant.
pub(super) fn name_of(run: &str) -> Result<String, Problem> {
    store_to_read()?.name_of(run)
}

/// How far a run is.
pub(super) fn status(run: &str) -> Result<Answer, Problem> {
    let store = store_to_read()?;
    let id = store.name_of(run)?;
    let record = store.load(&id)?;
    let header = store.list()?.into_iter().find(|run| run.id == id);
    let header = header.ok_or_else(|| Problem::new(format!("run '{id}' was removed")))?;
    let cache = Cache::open().ok();
    let is_under_way = |run: &str| cache.as_ref().is_some_and(|it| is_under_way(it.root(), run));
    let state = state(&header, is_under_way);
    let Summary { rounds_done, rounds_planned, .. } = Summary::of(&record);
    let planned = rounds_planned.map(|planned| format!(" of {planned}")).unwrap_or_default();
    let text = format!(
        "{id}: {state}; {} with {}, {rounds_done}{planned} rounds of every one of them",
        count(header.trials, "trial"),
        count(header.visits, "visit"),
    );
    let structured = json!({
        "format": "quantbench.status", "version": 1, "run": id, "state": state, "trials": header.trials,
        "failed": header.failed, "visits": header.visits, "rounds_done": rounds_done, "rounds_planned": rounds_planned,
    });
    Ok(Answer { text, structured })
}

/// Which variant of a stored run meets the needs, by what was measured.
pub(super) fn recommend(needs: &Needs) -> Result<Answer, Problem> {
    let store = store_to_read()?;
    let mut run = store.load(needs.run.as_deref().unwrap_or("last"))?;
    let order = needs.prefer.as_deref().map(order).transpose()?.unwrap_or_default();
    run.requirements = requirements(needs)?;
    ask(&mut run, order)?;
    let options = RenderOptions { columns: COLUMNS, color: false };
    let text = report::render(report::Format::Table, &run, &options)?;
    let document = report::render(report::Format::Json, &run, &options)?;
    let document: Value = serde_json::from_slice(&document)
        .map_err(|source| Problem::because("the run has no form in JSON", source))?;
    let structured = json!({
        "format": "quantbench.recommendation", "version": 1, "run": run.id,
        "recommendation": document["summary"]["recommendation"],
        "variants": run.trials.iter().map(|trial| &trial.label).collect::<Vec<_>>(),
        "findings": document["summary"]["findings"],
    });
    Ok(Answer { text: String::from_utf8_lossy(&text).into_owned(), structured })
}

fn order(word: &str) -> Result<Order, Problem> {
    Order::from_str(word, true)
        .map_err(|_| Problem::new(format!("prefer is closest, fastest or smallest, not '{word}'")))
}

fn requirements(needs: &Needs) -> Result<Requirements, Problem> {
    let memory = needs.max_memory.as_deref().map(parse_bytes).transpose().map_err(Problem::new)?;
    let limits = [
        ("max_memory", memory.map(to_f64)),
        ("min_generation_tps", needs.min_tps),
        ("max_ttft_ms", needs.max_ttft_ms),
        ("max_kld", needs.max_kld),
        ("max_joules_per_token", needs.max_joules_per_token),
    ];
    let mut requirements = Requirements::default();
    for (key, limit) in limits {
        let Some(limit) = limit else { continue };
        if !limit.is_finite() || limit <= 0.0 {
            return Err(Problem::new(format!("{key} has to be above 0")));
        }
        requirements.0.extend(Requirement::of(key, limit));
    }
    Ok(requirements)
}

/// As if the run had been made to recommend.
fn ask(run: &mut RunRecord, order: Order) -> Result<(), Problem> {
    let asked = Recommend { order, parallel: 1, ..Recommend::default() };
    let asked = serde_json::to_value(asked)
        .map_err(|source| Problem::because("the needs have no form in JSON", source))?;
    if let Some(experiment) = run.experiment.as_object_mut() {
        experiment.insert("recommend".to_owned(), asked);
    } else {
        run.experiment = json!({ "recommend": asked });
    }
    Ok(())
}
