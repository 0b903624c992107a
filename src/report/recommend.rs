//! A recommendation in words: what to take and why, what is proved of the others, and what was not looked at.

use super::notes::name;
use super::requirements::{in_words, quantity};
use super::text::{list, sanitize};
use crate::experiment::recommend::Order;
use crate::experiment::requirements::Bound;
use crate::results::metric::Metric;
use crate::results::proof::{Finding, Proof, Unit};
use crate::results::recommendation::{Assessment, Recommendation, Status};
use crate::results::record::RunRecord;
use crate::results::summary::Summary;
use crate::statistics::estimate::Interval;
use crate::units::{count, format_seconds, significant};

/// An interval that reaches further than by this factor from its value is not shown.
const TELLING: f64 = 100.0;

/// More observations than anybody waits for.
const TOO_MANY: u64 = 10_000;

/// What to take, and why; what could still be better; how it was found.
pub(super) fn verdict(run: &RunRecord, summary: &Summary, found: &Recommendation) -> Vec<String> {
    let label = |row: usize| name(summary, &summary.rows[row]);
    let needs = run.requirements.0.iter().map(|it| in_words(it, summary)).collect::<Vec<_>>();
    let mut sentences = Vec::new();
    let is_alone = found.candidates.len() == 1;
    match found.chosen {
        Some(row) => {
            let order =
                if is_alone { String::new() } else { why(summary, found, row, needs.is_empty()) };
            sentences.push(if needs.is_empty() {
                format!("Take {}{order}.", label(row))
            } else {
                format!("Take {}: it meets {}{order}.", label(row), list(&needs))
            });
            let open: Vec<&Assessment> = found.undecided().collect();
            if !open.is_empty() {
                let told = open.iter().map(|it| in_doubt(summary, it));
                let verb =
                    if open.len() == 1 { "might be better" } else { "might be better, each" };
                sentences.push(format!("Not decided: {} {verb}.", list(&told.collect::<Vec<_>>())));
            }
        }
        None => sentences.extend(none(run, summary, found)),
    }
    sentences.push(steps(run, summary, found));
    sentences
}

/// `, and of those that do it diverges least (0.0074 nats)`.
fn why(summary: &Summary, found: &Recommendation, row: usize, has_no_needs: bool) -> String {
    let order = found.order.in_words();
    let by = match found.order {
        Order::Closest if summary.rows[row].is_reference => {
            return ", and as the reference it diverges from nothing".to_owned();
        }
        Order::Closest => Some(found.loss()),
        Order::Fastest => found.evidences().generation(),
        Order::Smallest => Some(Metric::FileBytes),
    };
    let value =
        by.and_then(|metric| Some(quantity(Some(metric), "", summary.rows[row].value(metric)?)));
    let value = value.map(|value| format!(" ({value})")).unwrap_or_default();
    let are_open = found.undecided().next().is_some();
    if has_no_needs {
        return format!(": it {order}{value}");
    }
    let among = if are_open { "of those that are proved to" } else { "of those that do" };
    format!(", and {among} it {order}{value}")
}

/// `Q8_0 (generation 24.9 t/s of at least 25: about 7 more rounds would decide)`.
fn in_doubt(summary: &Summary, candidate: &Assessment) -> String {
    let open = candidate.findings.iter().filter(|it| it.proof != Proof::Met);
    let open = open.map(|it| finding(summary, it)).collect::<Vec<_>>();
    let open = if open.is_empty() { "as good as can be told".to_owned() } else { open.join("; ") };
    format!("{} ({open})", name(summary, &summary.rows[candidate.row]))
}

/// That nothing is proved to meet everything: what no variant meets, and what comes nearest.
fn none(run: &RunRecord, summary: &Summary, found: &Recommendation) -> Vec<String> {
    let looked_at = || found.candidates.iter().filter(|it| it.status != Status::Failed);
    let mut sentences = Vec::new();
    let are_all_out =
        looked_at().all(|it| it.status != Status::Open && it.status != Status::Proved);
    sentences.push(if are_all_out {
        "No variant meets what is needed.".to_owned()
    } else {
        "No variant is proved to meet what is needed.".to_owned()
    });
    let is_unseen =
        |it: &Assessment| it.status == Status::Open && run.trials[it.row].visits.is_empty();
    let unseen = looked_at().filter(|it| is_unseen(it)).count();
    if unseen > 0 && run.finished.is_some() {
        sentences.push(format!(
            "Time ran out before {}: a larger --budget decides more.",
            if unseen == 1 {
                "one was measured".to_owned()
            } else {
                format!("{unseen} were measured")
            }
        ));
    }
    let missed = run.requirements.0.iter().enumerate().filter(|(at, _)| {
        let mut all = looked_at().map(|it| it.findings[*at].proof).peekable();
        all.peek().is_some() && all.all(|proof| proof == Proof::NotMet)
    });
    let missed: Vec<String> = missed.map(|(_, it)| in_words(it, summary)).collect();
    if !missed.is_empty() {
        sentences.push(format!("None has {}.", list(&missed)));
    }
    let unmeasured = run.requirements.0.iter().enumerate().filter(|(at, _)| {
        let mut tried = looked_at().filter(|it| !run.trials[it.row].visits.is_empty()).peekable();
        tried.peek().is_some() && tried.all(|it| it.findings[*at].proof == Proof::NotMeasured)
    });
    let unmeasured: Vec<String> = unmeasured.map(|(_, it)| in_words(it, summary)).collect();
    if !unmeasured.is_empty() {
        sentences.push(format!(
            "What {} is about was measured of none: this machine may not tell it ('quantbench devices'), or time ran out.",
            list(&unmeasured)
        ));
    }
    if let Some(nearest) = found.nearest {
        let candidate = &found.candidates[nearest];
        let lacking = candidate.findings.iter().filter(|it| it.proof != Proof::Met);
        let lacking = lacking.map(|it| finding(summary, it)).collect::<Vec<_>>().join("; ");
        let name = name(summary, &summary.rows[nearest]);
        sentences.push(format!("Nearest: {name} ({lacking})."));
    }
    sentences
}

/// The way there: memory, what was measured, what that came to.
fn steps(run: &RunRecord, summary: &Summary, found: &Recommendation) -> String {
    let number =
        |is: &dyn Fn(&Assessment) -> bool| found.candidates.iter().filter(|it| is(it)).count();
    let is_measured = |it: &Assessment| summary.rows[it.row].facts.is_some();
    let too_large = |it: &Assessment| {
        matches!(it.status, Status::DoesNotFit | Status::MemoryUnknown)
            || it.findings.iter().any(Finding::is_predicted_not_met)
    };
    let all = found.candidates.len();
    let tokens = run.trials.iter().filter_map(|it| it.predicted.as_ref()).map(|it| it.tokens).max();
    let context = tokens.map(|it| format!(" for {it} tokens of context")).unwrap_or_default();
    let large = number(&too_large);
    let memory = if large == 0 {
        format!("memory: all {all} fit{context}")
    } else {
        format!("memory: {} of {all} fit{context}", all - large)
    };
    let mut parts = vec![memory, format!("measured: {}", number(&is_measured))];
    let ruled_out = number(&|it| it.status == Status::RuledOut && !too_large(it));
    let proved = number(&|it| it.status == Status::Proved);
    let no_better = number(&|it| it.status == Status::Open && it.is_no_better);
    let open = number(&|it| it.status == Status::Open && !it.is_no_better);
    for (number, word) in [
        (ruled_out, "ruled out"),
        (proved, "proved"),
        (no_better, "shown to be no better"),
        (open, "open"),
    ] {
        if number > 0 {
            parts.push(format!("{word}: {number}"));
        }
    }
    let seconds = run.active_seconds.map(format_seconds).unwrap_or_default();
    let budget = run.stored_experiment().budget;
    let budget =
        budget.map(|it| format!(" of {}", format_seconds(it.as_secs_f64()))).unwrap_or_default();
    format!("How: {}; {seconds}{budget} used.", parts.join(" → "))
}

/// A line for every trial that was looked at, and one for those that were not.
pub(super) fn proofs(run: &RunRecord, summary: &Summary, found: &Recommendation) -> Vec<String> {
    let label = |row: usize| name(summary, &summary.rows[row]);
    let is_seen =
        |it: &&Assessment| summary.rows[it.row].facts.is_some() || it.status == Status::Failed;
    let mut lines = Vec::new();
    for candidate in found.candidates.iter().filter(is_seen) {
        let findings = candidate.findings.iter().filter(|it| {
            it.proof != Proof::NotMeasured
                || candidate.status == Status::Open && !candidate.is_no_better
        });
        let told: Vec<String> = findings.map(|it| finding(summary, it)).collect();
        let word = status(found, candidate);
        let told = if told.is_empty() { String::new() } else { format!(": {}", told.join("; ")) };
        lines.push(format!("{}: {word}{told}.", label(candidate.row)));
    }
    let unseen = found.candidates.iter().filter(|it| !is_seen(it)).map(|candidate| {
        let predicted = run.trials[candidate.row].predicted.as_ref();
        let why = predicted.and_then(|it| it.does_not_fit.clone());
        let memory = candidate.findings.iter().find(|it| it.is_predicted_not_met());
        let why = why.map(|it| sanitize(&it)).or_else(|| memory.map(|it| finding(summary, it)));
        let why = why.unwrap_or_else(|| match found.chosen {
            Some(_) if candidate.is_no_better => no_better(found).to_owned(),
            _ if run.finished.is_none() => "not yet".to_owned(),
            _ => "time ran out".to_owned(),
        });
        (why, label(candidate.row))
    });
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (why, label) in unseen {
        match groups.iter_mut().find(|(known, _)| *known == why) {
            Some((_, labels)) => labels.push(label),
            None => groups.push((why, vec![label])),
        }
    }
    lines.extend(
        groups
            .into_iter()
            .map(|(why, labels)| format!("Not looked at: {} ({why}).", list(&labels))),
    );
    lines
}

/// Why what was not looked at cannot be better.
fn no_better(found: &Recommendation) -> &'static str {
    match found.order {
        Order::Closest => "nothing diverges less than the reference",
        Order::Fastest => "no faster",
        Order::Smallest => "no smaller",
    }
}

/// How a trial stands, in a word or two.
pub(super) fn status(found: &Recommendation, candidate: &Assessment) -> &'static str {
    match candidate.status {
        Status::Proved if found.chosen == Some(candidate.row) => "met, taken",
        Status::Proved => "met",
        Status::RuledOut => "not met",
        Status::DoesNotFit => "does not fit",
        Status::MemoryUnknown => "memory not known",
        Status::Failed => "failed",
        Status::Open if candidate.is_no_better => "no better",
        Status::Open if candidate.findings.iter().any(|it| it.proof == Proof::Marginal) => {
            "marginal"
        }
        Status::Open => "not decided",
    }
}

/// A margin above this is not what makes a verdict marginal.
const FAR: f64 = 0.25;

/// `generation 23.1 t/s (22.8 to 23.4), 8 % short of 25 t/s`.
fn finding(summary: &Summary, finding: &Finding) -> String {
    let Finding { requirement, metric, value, interval, proof, more, unit, is_predicted, .. } =
        finding;
    let what = what(summary, finding);
    let Some(value) = value else { return format!("{what} not measured") };
    let shown = |value: f64| quantity(*metric, &requirement.metric, value);
    let range = interval.filter(|it| it.high > it.low && *proof != Proof::NotMeasured);
    let range = range.filter(|_| *unit != Unit::Once);
    // Of two rounds that differ by much nothing is known; hundreds of digits say no more.
    let is_telling = |it: &Interval| it.low >= value / TELLING && it.high <= value * TELLING;
    let range = range.filter(is_telling);
    let range = range.map(|it| format!(" ({} to {})", bare(&shown(it.low)), bare(&shown(it.high))));
    let limit = shown(requirement.limit);
    let margin = finding.margin().unwrap_or(0.0);
    let percent = match margin.abs() {
        share if share < 2.0 => format!("{} %", significant(share * 100.0, 2)),
        share if share < 100.0 => format!("{} times", significant(share, 2)),
        _ => "more than 100 times".to_owned(),
    };
    let against = match (margin >= 0.0, requirement.bound) {
        (true, _) => format!("{percent} to spare"),
        (false, Bound::AtLeast) => format!("{percent} short of {limit}"),
        (false, Bound::AtMost) => format!("{percent} over {limit}"),
    };
    let decide = match (proof, more) {
        (Proof::Marginal, Some(more)) if *more <= TOO_MANY => {
            let unit = match unit {
                Unit::Rounds => "round",
                Unit::Chunks => "chunk",
                Unit::Prompts => "prompt",
                Unit::Once => "visit",
            };
            format!(", marginal: would need about {}", count(*more, &format!("more {unit}")))
        }
        (Proof::Marginal, _) if margin.abs() > FAR => {
            ", marginal: what was measured differs too much to tell".to_owned()
        }
        (Proof::Marginal, _) => ", marginal: too near to be told".to_owned(),
        (Proof::NotMeasured, _) => ", predicted".to_owned(),
        _ if *is_predicted => ", predicted".to_owned(),
        _ => String::new(),
    };
    format!("{what} {}{}, {against}{decide}", shown(*value), range.unwrap_or_default())
}

/// What a requirement is on: `generation`.
fn what(summary: &Summary, finding: &Finding) -> String {
    let words = in_words(&finding.requirement, summary);
    let sign = words.find(['≤', '≥']).unwrap_or(words.len());
    words[..sign].trim_end().to_owned()
}

/// A quantity without its unit, beside one that has it.
fn bare(quantity: &str) -> &str {
    quantity.split_once(' ').map_or(quantity, |(number, _)| number)
}
