//! Baselines: what a deployment is held to.

use super::Deployment;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::Row;
use serde_json::{Value, json};

/// Everything that was measured of the trial, with the file, the engine and the machine that it was measured with.
pub(super) fn of(
    run: &RunRecord,
    trial: &TrialRecord,
    row: &Row,
    deployment: &Deployment,
) -> Value {
    let environment = run.environment_of(trial);
    let figures = row.figures.iter().map(|(metric, figure)| {
        let estimate = figure.estimate;
        let interval = estimate.interval;
        let figure = json!({
            "value": estimate.value,
            "low": interval.map(|it| it.low),
            "high": interval.map(|it| it.high),
            "n": estimate.n,
            "unit": metric.base_unit(),
        });
        (metric.name(), figure)
    });
    let figures: serde_json::Map<String, Value> = figures.collect();
    let artifact = trial.artifact.as_ref();
    json!({
        "format": "quantbench.baseline",
        "version": 1,
        "name": deployment.name,
        "run": run.id,
        "model": trial.model,
        "variant": trial.label,
        "settings": trial.settings,
        "context": deployment.context,
        "parallel": deployment.parallel,
        "file_bytes": artifact.map(|it| it.file_bytes),
        "checksum": artifact.map(|it| it.checksum.clone()),
        "engine": format!("{} {}", trial.engine.name, run.engine_version(trial)),
        "quantbench": environment.quantbench,
        "cpu": environment.cpu,
        "gpus": environment.gpus,
        "figures": figures,
    })
}
