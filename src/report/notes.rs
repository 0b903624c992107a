//! What stands under a comparison: what the marks mean, what failed and why, what to beware of.

use super::next::source;
use super::table::{Cell, Column, Content, Mark, Table};
use super::terminal::{LeftOut, name_columns};
use super::text::{NO_BREAK_SPACE, list, sanitize, shorten};
use super::{RenderOptions, requirements};
use crate::experiment::resolved::{GENERATED, LeftOutModel};
use crate::model::source::Source;
use crate::results::metric::{Metric, TIMED};
use crate::results::record::{BENCH, Failure, RunRecord, TrialRecord};
use crate::results::summary::{Row, Summary};
use crate::results::{each_once, grouped};
use crate::units::{count, significant};
use crate::workload::measured::{DomainChunks, Quality};
use serde_json::Value;

/// A change of the drift control below this is not worth a word, however certain it is.
const DRIFT_WORTH_A_NOTE: f64 = 0.02;

/// An interval of a divergence that is wider than this fraction of it on either side has too few chunks behind it.
const KLD_UNSURE: f64 = 0.5;

/// Domains without a chunk that are named, at most.
const MOST_UNREAD: usize = 6;

/// All notes, each a paragraph.
pub(super) fn notes(
    run: &RunRecord,
    summary: &Summary,
    shown: &Table,
    left_out: &LeftOut,
    options: &RenderOptions,
) -> Vec<String> {
    let mut notes: Vec<String> = legend(summary, shown).into_iter().collect();
    notes.extend(unstable_throughout(shown));
    notes.extend(failures(summary));
    notes.extend(unmeasured(run));
    notes.extend(not_measured(run));
    notes.extend(caveats(run, summary));
    notes.extend(super::domains::notes(summary));
    notes.extend(shortened(summary, options));
    if !left_out.names.is_empty() {
        notes.push(format!(
            "Left out to fit {} columns: {} (--columns {} shows all).",
            options.columns,
            list(&left_out.names),
            left_out.columns_for_all
        ));
    }
    notes
}

/// What the chosen trial is.
pub(super) fn arrow(summary: &Summary) -> &'static str {
    match summary.recommendation.as_ref().map(|found| found.chosen) {
        None => "best trade-off",
        Some(Some(_)) => "recommended",
        Some(None) => "comes nearest",
    }
}

/// What the marks mean, as far as they occur.
pub(super) fn legend(summary: &Summary, shown: &Table) -> Option<String> {
    let has_best = |cell: &Cell| cell.has(Mark::Best) && !cell.has(Mark::Unstable);
    let whose = if summary.models.len() > 1 { "best of its model" } else { "best" };
    let is_inapplicable = |cell: &Cell| cell.content == Content::Inapplicable;
    let marks = [
        (shown.has(Mark::Chosen), format!("→ {}", arrow(summary))),
        (shown.cells().any(has_best), format!("* {whose}, or level with it within the noise")),
        (shown.has_intervals(), "± 95 % interval (half width)".to_owned()),
        (shown.has(Mark::Unstable), format!("~ unstable: {}", unstable())),
        (shown.has(Mark::Open), "? noise could turn it".to_owned()),
        (shown.cells().any(is_inapplicable), "blank: does not apply to such a model".to_owned()),
    ];
    // A mark and its meaning stay on one line.
    let told = marks.into_iter().filter(|(occurs, _)| *occurs);
    let parts: Vec<String> = told.map(|(_, it)| it.replace(' ', NO_BREAK_SPACE)).collect();
    (!parts.is_empty()).then(|| parts.join("   "))
}

/// `All figures of load cold and KLD are unstable: more than …`
pub(super) fn unstable_throughout(shown: &Table) -> Option<String> {
    let columns = shown.columns.iter().filter(|column| column.is_unstable);
    let names: Vec<String> = columns.map(Column::name).collect();
    let told = |names| format!("All figures of {} are unstable: {}.", list(names), unstable());
    (!names.is_empty()).then(|| told(&names))
}

/// From which interval on a figure counts as unstable: `more than ±5 % (KLD: ±10 %)`.
pub(super) fn unstable() -> String {
    let percent = |fraction: f64| format!("±{} %", significant(fraction * 100.0, 1));
    let others = Metric::all(&[], &[]).into_iter().filter_map(|metric| {
        let limit = metric.descriptor().stable_within.filter(|&limit| limit > TIMED)?;
        Some(format!("{}: {}", metric.label(), percent(limit)))
    });
    format!("more than {} ({})", percent(TIMED), others.collect::<Vec<_>>().join(", "))
}

/// Models that the build could not measure; whatever else the stored experiment says, a run of another
/// version is still shown.
pub(super) fn not_measured(run: &RunRecord) -> Vec<String> {
    let told = |LeftOutModel { model, reason }: &LeftOutModel| {
        format!("Model '{}' is left out: {}.", sanitize(model), sanitize(reason))
    };
    let mut notes: Vec<String> = run.stored_experiment().left_out.iter().map(told).collect();
    let is_shape = |trial: &&TrialRecord| matches!(source(run, trial), Some(Source::Shape(_)));
    let shapes = run.trials.iter().filter(is_shape).map(|trial| sanitize(&trial.model));
    let shapes = each_once(shapes);
    if !shapes.is_empty() {
        notes.push(format!("Quality is not measured of {}: {GENERATED}.", list(&shapes)));
    }
    notes
}

/// `[1] Q2_K failed in latency: killed by signal 9, probably out of memory`.
pub(super) fn failures(summary: &Summary) -> Vec<String> {
    let failed = summary.rows.iter().filter_map(|row| Some((row, row.failure.as_ref()?)));
    failed
        .enumerate()
        .map(|(index, (row, failure))| {
            format!(
                "[{}] {} failed in {}: {}",
                index + 1,
                name(summary, row),
                failure.phase,
                sanitize(&failure.reason)
            )
        })
        .collect()
}

/// A trial by its label, with model and settings where there are several.
pub(super) fn name(summary: &Summary, row: &Row) -> String {
    let several = summary.models.iter().map(|model| model.groups.len()).sum::<usize>() > 1;
    let whose = several.then(|| format!(" ({}, {})", sanitize(&row.model), row.settings));
    format!("{}{}", sanitize(&row.label), whose.unwrap_or_default())
}

/// Workloads that some trials could not do, each reason once.
pub(super) fn unmeasured(run: &RunRecord) -> Vec<String> {
    let failed = run.trials.iter().flat_map(|trial| {
        let label = sanitize(&trial.label);
        trial.failed_workloads.iter().map(move |it| ((&trial.model, it), label.clone()))
    });
    let told = |((model, Failure { phase, reason }), labels): ((&String, &Failure), _)| {
        let (model, reason, labels) = (sanitize(model), sanitize(reason), list(&each_once(labels)));
        format!("Not measured of {model} ({labels}): {phase}, because {reason}")
    };
    grouped(failed).into_iter().map(told).collect()
}

/// What limits the figures, and what they rest on.
pub(super) fn caveats(run: &RunRecord, summary: &Summary) -> Vec<String> {
    [cautions(run, summary), grounds(run, summary)].concat()
}

/// What to beware of: an unfinished run, too few rounds, drift, throttling.
pub(super) fn cautions(run: &RunRecord, summary: &Summary) -> Vec<String> {
    let mut notes = Vec::new();
    if run.finished.is_none() {
        let rounds = match summary.rounds_planned {
            Some(planned) => {
                format!("{} of {} of every trial are", summary.rounds_done, count(planned, "round"))
            }
            None => format!("{} of every trial are", count(summary.rounds_done, "round")),
        };
        let resume =
            if run.name == BENCH { "" } else { "; the same command with --resume goes on" };
        notes.push(format!("The run has not finished: {rounds} stored{resume}."));
    }
    let measured_once = summary.rows.iter().any(|row| {
        row.figures.iter().any(|(metric, figure)| {
            matches!(metric, Metric::Speed(_)) && figure.estimate.interval.is_none()
        })
    });
    if measured_once && summary.recommendation.is_none() {
        notes.push(
            "Speeds measured once have no interval, so differences between them prove nothing \
             (--rounds 5)."
                .to_owned(),
        );
    }
    notes.extend(drift(summary));
    let keep = run.stored_experiment().keep;
    if !keep.is_all() && summary.rows.len() > 1 {
        notes.push(format!(
            "Variants were measured one after the other (--keep {keep}): rounds were not interleaved and there is no \
             drift control, so what slowed the machine for a while slowed some of them."
        ));
    }
    if !summary.throttling.is_empty() {
        let signs: Vec<String> = summary.throttling.iter().map(|sign| sanitize(sign)).collect();
        notes.push(format!("While measuring, {}; speeds suffer from it.", list(&signs)));
    }
    notes
}

/// What the figures rest on: the budget, the memory, the types, what quality is measured on, what tasks say, needs.
pub(super) fn grounds(run: &RunRecord, summary: &Summary) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(super::budget::notes(run, summary));
    notes.extend(super::why::notes(run, summary));
    notes.extend(super::types::notes(run));
    notes.extend(super::engines::notes(run));
    notes.extend(super::limits::notes(run));
    notes.extend(stand_ins(run));
    notes.extend(rounded_reference(run));
    notes.extend(quality(run, summary));
    notes.extend(embeddings(run));
    notes.extend(super::tasks::notes(run, summary));
    if summary.generation.is_some() && !summary.metrics.contains(&Metric::JoulesPerToken) {
        notes.push(
            "Energy: n/a, no counter of this machine could be read ('quantbench devices' says why)."
                .to_owned(),
        );
    }
    if !run.requirements.is_empty() {
        let needs = run.requirements.0.iter().map(|it| requirements::in_words(it, summary));
        notes.push(format!("Needs: {}.", list(&needs.collect::<Vec<_>>())));
    }
    notes
}

fn drift(summary: &Summary) -> Option<String> {
    let drift = summary.drift?;
    let certain = drift.interval.is_some_and(|interval| !interval.contains(0.0));
    if !certain || drift.value.abs() < DRIFT_WORTH_A_NOTE {
        return None;
    }
    let percent = significant(drift.value.abs() * 100.0, 2);
    let direction = if drift.value < 0.0 { "slower" } else { "faster" };
    Some(format!(
        "The machine grew {percent} % {direction} during the run (drift control: the reference measured \
         again each round); comparisons are paired by round, absolute speeds are not."
    ))
}

/// What perplexity and divergence rest on.
fn quality(run: &RunRecord, summary: &Summary) -> Option<String> {
    let qualities = || run.trials.iter().filter_map(|trial| trial.quality.as_ref());
    let least = qualities().map(|quality| quality.scored_tokens).min()?;
    let most = qualities().map(|quality| quality.scored_tokens).max()?;
    let range = if least == most { String::new() } else { format!("{least} to ") };
    let tokens = count(most, "token");
    let early = qualities()
        .any(|quality| quality.divergence.as_ref().is_some_and(|found| found.stopped_early));
    let early = match (early, least == most) {
        (false, true) => "",
        (false, false) => "; each PPL is over the first chunks that all variants scored",
        (true, true) => ", ended once the KLD was as precise as asked",
        (true, false) => {
            ", ended once the KLD was as precise as asked; each PPL is over the first chunks that all \
             variants scored"
        }
    };
    let limit = run.experiment.pointer("/workloads/quality/chunks").and_then(Value::as_u64);
    let is_cut = |quality: &Quality| {
        let is_early = quality.divergence.as_ref().is_some_and(|it| it.stopped_early);
        !is_early
            && quality.chunks < quality.chunks_available
            && limit == Some(u64::from(quality.chunks))
    };
    let cut = limit.filter(|_| qualities().any(is_cut));
    let cut = cut.map_or_else(String::new, |limit| {
        format!(", {limit} chunks of it at most, as the experiment says (chunks)")
    });
    let bound = qualities()
        .filter_map(|quality| quality.divergence.as_ref())
        .map(|found| found.kld_error_bound)
        .fold(0.0, f64::max);
    let bound = (bound > 0.0).then(|| {
        let bound = significant(bound, 2);
        format!("; the reference was not kept whole, which may change a KLD by up to {bound}")
    });
    let bound = bound.unwrap_or_default();
    let klds = summary.rows.iter().filter_map(|row| row.figures.get(&Metric::Kld));
    let mut widths = klds.filter_map(|kld| kld.estimate.relative_half_width());
    let few = widths.any(|width| width > KLD_UNSURE);
    let few = if few { ", too few to tell all variants apart (more chunks)" } else { "" };
    let text = text_of(run);
    let unread = unread(qualities());
    Some(format!("PPL and KLD over {range}{tokens} of {text}{unread}{cut}{early}{few}{bound}."))
}

/// Texts and domains that nobody came to.
fn unread<'r>(mut qualities: impl Iterator<Item = &'r Quality>) -> String {
    let Some(first) = qualities.next() else { return String::new() };
    let furthest =
        qualities.fold(first, |one, other| if other.chunks > one.chunks { other } else { one });
    let is_unread = |domain: &&DomainChunks| domain.chunks.iter().all(|&at| at >= furthest.chunks);
    let names: Vec<String> =
        furthest.domains.iter().filter(is_unread).map(|domain| sanitize(&domain.name)).collect();
    let shown = match names.len() {
        0 => return String::new(),
        count if count > MOST_UNREAD => {
            format!("{} and {} more", names[..MOST_UNREAD].join(", "), count - MOST_UNREAD)
        }
        _ => list(&names),
    };
    format!(" (none of {shown})")
}

/// A reference in the place of one that could not be computed.
fn stand_ins(run: &RunRecord) -> Vec<String> {
    let told = run.trials.iter().filter_map(|trial| {
        let lost = sanitize(trial.stands_in_for.as_ref()?);
        let (label, model) = (sanitize(&trial.label), sanitize(&trial.model));
        Some(format!(
            "{lost} could not be computed: {label}, the next most precise, is the reference of {model} instead."
        ))
    });
    each_once(told)
}

/// A reference that lost something itself.
fn rounded_reference(run: &RunRecord) -> Vec<String> {
    let compares = |trial: &TrialRecord| {
        let others = run.trials.iter().filter(|other| other.model == trial.model);
        others.filter_map(|other| other.quality.as_ref()).any(|it| it.divergence.is_some())
    };
    let references = run.trials.iter().filter(|trial| trial.is_reference && compares(trial));
    let rounded = references.filter(|trial| !trial.quantization.is_float());
    let told = rounded.map(|trial| {
        let (label, model) = (sanitize(&trial.label), sanitize(&trial.model));
        format!(
            "{label}, the reference of {model}, is rounded itself: what it lost does not show in a KLD. Where there \
             is F16, name it among the variants."
        )
    });
    each_once(told)
}

/// What embeddings are compared on.
fn embeddings(run: &RunRecord) -> Option<String> {
    let mut measured = run.trials.iter().filter_map(|trial| trial.embedding_quality.as_ref());
    let pieces = measured.next()?.pieces;
    Some(format!("Cosines over {} of {}.", count(pieces, "piece"), text_of(run)))
}

/// The texts that quality is measured on, as the experiment names them; `text` in a run of another version.
pub(super) fn text_of(run: &RunRecord) -> String {
    let experiment = &run.experiment;
    let source = |of: &serde_json::Value, model: &str| {
        let source = of.pointer("/workloads/quality/source")?.as_str()?;
        let trials = run.trials.iter().filter(|trial| trial.model == model);
        let answers = trials.filter_map(|it| Some(it.quality.as_ref()?.answers)).max().unwrap_or(0);
        let name = |part: &str| {
            Some(match part {
                "demo" => "the demo text".to_owned(),
                "auto" | "answers" if answers > 0 => {
                    format!("the reference's answers to {}", count(answers, "prompt"))
                }
                "answers" => return None,
                "standard" | "auto" => "the standard texts".to_owned(),
                path => sanitize(path),
            })
        };
        Some(source.split(", ").filter_map(name).collect::<Vec<_>>())
    };
    let models = experiment.get("models").and_then(serde_json::Value::as_array);
    let own = models.into_iter().flatten().filter_map(|model| {
        let has_own = model.get("workloads").is_some_and(|it| !it.is_null());
        let name = model.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        source(if has_own { model } else { experiment }, name)
    });
    let names = each_once(own.flatten());
    if names.is_empty() { "text".to_owned() } else { list(&names) }
}

/// Full names of those that were cut.
fn shortened(summary: &Summary, options: &RenderOptions) -> Option<String> {
    let columns = name_columns(options);
    let names = each_once(summary.rows.iter().filter_map(|row| {
        let whole = sanitize(&row.label);
        let short = shorten(&whole, columns);
        (short != whole).then(|| format!("{short} is {whole}"))
    }));
    (!names.is_empty()).then(|| format!("Names: {}.", names.join("; ")))
}
