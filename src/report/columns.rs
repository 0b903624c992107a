//! The table of the comparison: which columns there are, how important each is, and its cells.

use super::numbers::Scale;
use super::table::{Align, Cell, Column, Content, Group, Mark, Shows, Table};
use super::text::{list, sanitize};
use super::{recommend, requirements};
use crate::model::architecture::ArchitectureClass;
pub(super) use crate::results::metric::ESSENTIAL;
use crate::results::metric::Metric;
use crate::results::summary::{self, ModelSummary, Row, Summary};
use crate::results::verdict::{Standing, Verdict};
use crate::results::words::InWords;
use crate::statistics::estimate::Estimate;
use crate::units::format_count;
use crate::workload::measured::ModelFacts;
use std::collections::BTreeSet;

/// From this importance on a column stays even where it does not fit.
pub(super) const INDISPENSABLE: u32 = 93;

/// From this importance on a column is one to decide from.
pub(super) const DECIDES: u32 = 85;

/// A person who chooses a model file asks: does it fit (size, memory), is it fast enough (generation
/// before prompt processing, first token), is it good enough (divergence before perplexity). What
/// follows from other columns (bits per weight from size, latency between tokens from generation
/// speed) goes first. The figures' own importance is in their descriptors.
const NAME: u32 = 100;
const GENERATION: u32 = 94;
const VERDICT: u32 = 92;
const WORDS: u32 = 91;
const FITS: u32 = 91;
const RATIO: u32 = 40;

/// All columns in which at least one row has something, in their order, and the trials by model and settings.
pub(super) fn comparison(summary: &Summary) -> Table {
    let mut columns = vec![names(summary)];
    for &metric in &summary.metrics {
        columns.push(figures(summary, metric));
        match metric {
            Metric::PeakRssBytes => columns.extend(fits(summary)),
            Metric::Kld => columns.push(words(summary)),
            _ => {}
        }
        if matches!(metric, Metric::Speed(test) if Some(test) == summary.generation) {
            columns.extend(ratios(summary, metric));
        }
    }
    columns.extend(verdicts(summary));
    columns.retain(|column| column.cells.iter().any(|it| it.content != Content::Inapplicable));
    let groups = summary.models.iter().flat_map(|model| {
        model.groups.iter().map(|group| Group {
            heading: heading(summary, model, group),
            rows: group.rows.clone(),
        })
    });
    Table { columns, groups: groups.collect() }
}

fn column(shows: Shows, importance: u32, title: &[&str], cells: Vec<Cell>) -> Column {
    let title = title.iter().map(|&line| line.to_owned()).collect();
    let scale = Scale { factor: 1.0, decimals: 2 };
    Column { shows, title, unit: "", scale, importance, is_unstable: false, cells }
}

fn names(summary: &Summary) -> Column {
    let mut failures = 0;
    let cells = summary.rows.iter().enumerate().map(|(position, row)| {
        let mut marks = BTreeSet::new();
        if summary.is_chosen(position) {
            marks.insert(Mark::Chosen);
        }
        if row.is_reference {
            marks.insert(Mark::Reference);
        }
        if row.failure.is_some() {
            failures += 1;
            marks.insert(Mark::Failed(failures));
        }
        Cell { content: Content::Text(sanitize(&row.label)), marks }
    });
    let cells = cells.collect();
    column(Shows::Name, NAME, &["variant"], cells)
}

fn figures(summary: &Summary, metric: Metric) -> Column {
    let descriptor = metric.descriptor();
    let values: Vec<f64> = summary.rows.iter().filter_map(|row| row.value(metric)).collect();
    let (unit, scale) = Scale::of(descriptor.shown, &values);
    let cells = summary.rows.iter().map(|row| {
        let mut marks = BTreeSet::new();
        if row.best.contains(&metric) {
            marks.insert(Mark::Best);
        }
        if row.is_unstable(metric) {
            marks.insert(Mark::Unstable);
        }
        let estimate = row.figures.get(&metric).map(|figure| figure.estimate);
        let is_compared_with = descriptor.is_comparison && row.failure.is_none();
        Cell { content: content(row, metric, estimate, is_compared_with), marks }
    });
    let mut cells: Vec<Cell> = cells.collect();
    let is_unstable = told_once(&mut cells);
    let is_generation = matches!(metric, Metric::Speed(test) if Some(test) == summary.generation);
    let importance = if is_generation { GENERATION } else { descriptor.importance };
    let (shows, title) = (Shows::Figure(metric), metric.title());
    Column { shows, title, unit, scale, importance, is_unstable, cells }
}

/// Where all figures of a column are unstable no single one is marked, nor the only one where others have none.
fn told_once(cells: &mut [Cell]) -> bool {
    let figures = || cells.iter().filter(|cell| matches!(cell.content, Content::Figure(_)));
    let has_some = cells.len() > 1 && figures().next().is_some();
    let is_all = has_some && figures().all(|cell| cell.has(Mark::Unstable));
    if is_all {
        for cell in cells {
            cell.marks.remove(&Mark::Unstable);
        }
    }
    is_all
}

/// The divergence in words.
fn words(summary: &Summary) -> Column {
    let cells = summary.rows.iter().map(|row| {
        let kld = row.figures.get(&Metric::Kld).map(|figure| figure.estimate);
        let Some(found) = kld.and_then(InWords::of) else {
            let content = content(row, Metric::Kld, None, row.failure.is_none());
            return Cell { content, ..Cell::default() };
        };
        let mut cell = Cell::text(found.words);
        cell.marks.extend(found.is_open.then_some(Mark::Open));
        cell
    });
    column(Shows::Text(Align::Left), WORDS, &["in", "words"], cells.collect())
}

/// From this share of the memory on a variant leaves little to others.
const BARELY: f64 = 0.85;

/// Whether the memory of the machine is enough, where it is short for a variant.
fn fits(summary: &Summary) -> Option<Column> {
    let fits = |share: f64| match share {
        share if share > 1.0 => "no",
        share if share > BARELY => "barely",
        _ => "yes",
    };
    let shares = || summary.rows.iter().map(|row| row.memory_share);
    let cells = shares().map(|share| share.map_or_else(absent, |it| Cell::text(fits(it))));
    let column = column(Shows::Text(Align::Left), FITS, &["fits"], cells.collect());
    shares().flatten().any(|share| share > BARELY).then_some(column)
}

fn content(row: &Row, metric: Metric, of: Option<Estimate>, is_compared_with: bool) -> Content {
    match of {
        Some(estimate) => Content::Figure(estimate),
        None if row.is_inapplicable(metric) => Content::Inapplicable,
        None if row.is_reference && is_compared_with => Content::Reference,
        None => Content::Absent,
    }
}

fn ratios(summary: &Summary, metric: Metric) -> Option<Column> {
    let ratio = |row: &Row| row.ratios.get(&metric).copied();
    let cells = summary.rows.iter().map(|row| Cell {
        content: content(row, metric, ratio(row), row.baseline.is_none()),
        marks: BTreeSet::new(),
    });
    let mut column = column(Shows::Ratio(metric), RATIO, &[], cells.collect());
    column.title = [metric.title(), vec!["vs ref".to_owned()]].concat();
    summary.rows.iter().any(|row| ratio(row).is_some()).then_some(column)
}

fn verdicts(summary: &Summary) -> Option<Column> {
    if let Some(found) = &summary.recommendation {
        let statuses = found.candidates.iter().map(|it| recommend::status(found, it));
        let cells = statuses.map(|it| Cell::text(it.to_owned())).collect();
        return Some(column(Shows::Verdict, VERDICT, &["meets", "needs"], cells));
    }
    let cells = summary.rows.iter().map(|row| row.verdict.as_ref().map_or_else(absent, verdict));
    let column = column(Shows::Verdict, VERDICT, &["meets", "needs"], cells.collect());
    summary.rows.iter().any(|row| row.verdict.is_some()).then_some(column)
}

fn absent() -> Cell {
    Cell { content: Content::Absent, ..Cell::default() }
}

/// `yes`, `no: memory, KLD`, `unknown: TTFT p90`.
fn verdict(verdict: &Verdict) -> Cell {
    let with = |standing: Standing| -> Vec<String> {
        let checks = verdict.checks.iter().filter(|check| check.outcome == standing);
        checks.map(requirements::name).collect()
    };
    let (missed, unknown) = (with(Standing::Missed), with(Standing::NotMeasured));
    let mut cell = Cell::text(if !missed.is_empty() {
        format!("no: {}", missed.join(", "))
    } else if !unknown.is_empty() {
        format!("unknown: {}", unknown.join(", "))
    } else {
        "yes".to_owned()
    });
    // A trial that misses several limits by far stays missed, however one of them falls.
    let is_close = verdict.checks.iter().any(|check| check.close);
    if is_close && missed.len() <= 1 && unknown.is_empty() {
        cell.marks.insert(Mark::Open);
    }
    cell
}

/// `llama-3.2-1b · settings: t=4 fa=on`; with what the model is where a plain decoder is not the only
/// kind.
fn heading(summary: &Summary, model: &ModelSummary, group: &summary::Group) -> String {
    let kind = kind(summary, model).map(|kind| format!(" · {kind}")).unwrap_or_default();
    let first = group.rows.first().map(|&row| &summary.rows[row]);
    let adapters = first.map(|row| row.adapters.as_slice()).unwrap_or_default();
    let adapters: Vec<String> = adapters.iter().map(|it| sanitize(it)).collect();
    let adapters =
        if adapters.is_empty() { String::new() } else { format!(" with {}", list(&adapters)) };
    format!("{}{adapters}{kind} · settings: {}", sanitize(&model.name), group.settings)
}

/// `encoder-only, 1.42 M parameters`, `mixture of experts (2 of 4), 1.35 M of 2.13 M parameters
/// active`; `None` if all models of the run are decoders that use all of their weights.
fn kind(summary: &Summary, model: &ModelSummary) -> Option<String> {
    let plain = |facts: &ModelFacts| {
        facts.class == ArchitectureClass::DecoderOnly && facts.experts.is_none()
    };
    if summary.models.iter().filter_map(|model| model.facts.as_ref()).all(plain) {
        return None;
    }
    let facts = model.facts.as_ref()?;
    let total = format_count(facts.parameters);
    Some(match (facts.experts, facts.active_parameters) {
        (Some(experts), Some(active)) => format!(
            "mixture of experts ({} of {}), {} of {total} parameters active",
            experts.used,
            experts.total,
            format_count(active)
        ),
        _ => format!("{}, {total} parameters", facts.class),
    })
}
