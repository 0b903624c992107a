//! Several runs of one model side by side, machine by machine: figures of different machines never stand in one table.

use super::table::Comparison;
use crate::report::columns::{self, DECIDES};
use crate::report::table::{Cell, Column, Content, Group, Mark, Shows, Table};
use crate::report::text::sanitize;
use crate::results::record::{Environment, RunRecord};
use crate::results::summary::Summary;
use crate::results::{each_once, grouped};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Together {
    note: &'static str,
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    title: String,
    table: Comparison,
}

const NOTE: &str = "Figures of different runs were not measured in the same rounds: what the machine did meanwhile is not \
                    cancelled out, and no difference here is proved. 'quantbench compare' says what may be said of two runs.";

/// What tells machines apart.
fn machine(environment: &Environment) -> String {
    let parts = [environment.cpu.clone(), environment.gpus.join(", ")];
    let parts = parts.into_iter().map(|part| sanitize(&part)).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" · ")
}

/// Tables by model and machine, where several runs share them; `None` where no two do.
pub(super) fn of(runs: &[(&RunRecord, &Summary)]) -> Option<Together> {
    let rows = runs.iter().enumerate().flat_map(|(at, (run, summary))| {
        let keys = run.trials.iter().map(|trial| {
            let host = sanitize(&trial.host.name);
            (sanitize(&trial.model), format!("{} ({host})", machine(run.environment_of(trial))))
        });
        keys.zip(0..summary.rows.len()).map(move |(key, row)| (key, (at, row))).collect::<Vec<_>>()
    });
    let parts = grouped(rows).into_iter().filter_map(|((model, machine), rows)| {
        let several = each_once(rows.iter().map(|(run, _)| *run)).len() > 1;
        several.then(|| Part {
            title: format!("{model} on {machine}"),
            table: Comparison::of(&table(runs, &rows)),
        })
    });
    let parts: Vec<Part> = parts.collect();
    (!parts.is_empty()).then_some(Together { note: NOTE, parts })
}

fn table(runs: &[(&RunRecord, &Summary)], rows: &[(usize, usize)]) -> Table {
    let tables: Vec<Table> = runs.iter().map(|(_, summary)| columns::comparison(summary)).collect();
    let shows = each_once(rows.iter().flat_map(|(run, _)| {
        let columns = tables[*run].columns.iter().filter(|it| it.importance >= DECIDES);
        columns
            .map(|column| column.shows)
            .filter(|it| matches!(it, Shows::Figure(_)))
            .collect::<Vec<_>>()
    }));
    let name = |&(run, row): &(usize, usize)| {
        let mut cell = tables[run].columns[0].cells[row].clone();
        cell.marks.remove(&Mark::Chosen);
        cell
    };
    let first = tables.first().and_then(|table| table.columns.first());
    let mut columns: Vec<Column> = first
        .into_iter()
        .map(|column| Column { cells: rows.iter().map(name).collect(), ..column.clone() })
        .collect();
    let run = rows.iter().map(|(run, _)| Some(sanitize(&runs[*run].0.id)));
    let settings = rows.iter().map(|(run, row)| Some(runs[*run].1.rows[*row].settings.to_string()));
    let engine = rows.iter().map(|(run, row)| {
        let (run, trial) = (runs[*run].0, &runs[*run].0.trials[*row]);
        Some(sanitize(run.engine_version(trial)))
    });
    let words = |title: &str, cells: Vec<Option<String>>| {
        Column::of_words(title, crate::report::table::Align::Left, cells)
    };
    columns.push(words("run", run.collect()));
    columns.push(words("settings", settings.collect()));
    columns.push(words("engine", engine.collect()));
    for shows in shows {
        let Shows::Figure(metric) = shows else { continue };
        let cells = rows.iter().map(|&(run, row)| {
            let own = tables[run].columns.iter().find(|column| column.shows == shows);
            let content =
                own.map_or(Content::Inapplicable, |column| column.cells[row].content.clone());
            Cell { content, ..Cell::default() }
        });
        let cells: Vec<Cell> = cells.collect();
        let values = cells.iter().filter_map(|cell| match cell.content {
            Content::Figure(estimate) => Some(estimate.value),
            _ => None,
        });
        let values: Vec<f64> = values.collect();
        let (unit, scale) = crate::report::numbers::Scale::of(metric.descriptor().shown, &values);
        let own =
            tables.iter().flat_map(|table| &table.columns).find(|column| column.shows == shows);
        columns.extend(own.map(|column| Column {
            unit,
            scale,
            cells,
            is_unstable: false,
            ..column.clone()
        }));
    }
    Table {
        columns,
        groups: vec![Group { heading: String::new(), rows: (0..rows.len()).collect() }],
    }
}
