//! JSONL: the record and the summary of each trial on a line of its own.

use super::json::{ShownRow, push_line, shown_row};
use crate::results::exchange::VERSION;
use crate::results::record::{Environment, RunRecord, TrialRecord};
use crate::results::summary::Summary;
use serde::Serialize;
use time::OffsetDateTime;

#[derive(Serialize)]
struct Line<'a> {
    format: &'static str,
    version: u32,
    run: &'a str,
    name: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    started: OffsetDateTime,
    environment: &'a Environment,
    trial: &'a TrialRecord,
    summary: ShownRow<'a>,
}

pub(super) fn render(run: &RunRecord, summary: &Summary) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for (position, trial) in run.trials.iter().enumerate() {
        let line = Line {
            format: "quantbench.trial",
            version: VERSION,
            run: &run.id,
            name: &run.name,
            started: run.started,
            environment: run.environment_of(trial),
            trial,
            summary: shown_row(run, summary, position),
        };
        push_line(&mut lines, &line)?;
    }
    Ok(lines)
}
