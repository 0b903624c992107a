//! What is said of a comparison: changes, verdicts and gates in words.

use super::Shown;
use crate::report::header::moment;
use crate::report::numbers::Scale;
use crate::report::text::{list, quoted, sanitize};
use crate::results::change::gate::{GateOutcome, GateResult};
use crate::results::change::{
    AnswersChange, Change, ChangeUnit, Comparison, Difference, FigureChange, Form, PairChange,
    Part, Side, Verdict,
};
use crate::statistics::estimate::Interval;
use crate::units::{count, significant};

/// A change that is nearer to what stands beside it is not worth a word.
const WORTH_A_WORD: f64 = 0.03;

/// More differences of one kind are counted, not told one by one.
const MOST_OF_A_KIND: usize = 3;

/// More figures are counted, not named in a sentence.
const MOST_NAMED: usize = 6;

/// From this change on, per cent, it is told as a factor; and from that one on the factor is not told.
const MANY_TIMES: f64 = 900.0;
const MOST_TIMES: f64 = 1e5;

/// The runs of a side: `2026-11-30-k3f9 (nightly, 2026-11-30 10:43 UTC)`.
pub(super) fn side(side: &Side) -> String {
    let members = side.0.iter().map(|member| {
        let run = &member.run;
        let part = match &member.part {
            Part::Own => String::new(),
            Part::Variant(variant) => format!(":{}", sanitize(variant)),
            Part::Repeated => {
                let mut earlier = run.trials.iter().filter_map(|trial| trial.repeats.as_ref());
                let of =
                    earlier.next().map(|it| format!("{} measured again in ", sanitize(&it.run)));
                return format!("{}{}", of.unwrap_or_default(), sanitize(&run.id));
            }
        };
        let when = match run.started.unix_timestamp() {
            0 => String::new(),
            _ => format!(", {}", moment(run.started)),
        };
        let (id, name) = (sanitize(&run.id), sanitize(&run.name));
        let state = if run.finished.is_none() { ", not finished" } else { "" };
        format!("{id}{part} ({name}{when}{state})")
    });
    members.collect::<Vec<_>>().join(", ")
}

/// What differs; of what differs in every trial, how many do.
pub(super) fn differences(comparison: &Comparison) -> Vec<Difference> {
    let mut shown: Vec<Difference> = Vec::new();
    for difference in &comparison.differences {
        let of_kind = comparison.differences.iter().filter(|it| it.what == difference.what).count();
        let is_known = shown.iter().any(|it| it.what == difference.what);
        if of_kind <= MOST_OF_A_KIND {
            let (base, new) = (sanitize(&difference.base), sanitize(&difference.new));
            let (base, new) = shortened(&base, &new);
            shown.push(Difference { base, new, ..difference.clone() });
        } else if !is_known {
            let base = format!("{of_kind} differ");
            shown.push(Difference { base, new: String::new(), ..difference.clone() });
        }
    }
    shown
}

/// `engine: llama.cpp 0.6.0 → llama.cpp 0.7.0; speed, memory and answers may all change with it`.
pub(super) fn difference(difference: &Difference) -> String {
    let Difference { what, base, new, meaning } = difference;
    let both = match (base == new, new.as_str()) {
        (true, _) => format!("{base} (both)"),
        (false, "") => base.clone(),
        (false, new) => format!("{base} → {new}"),
    };
    format!("{what}: {both}; {meaning}")
}

/// Long texts without what they begin and end with alike.
fn shortened(base: &str, new: &str) -> (String, String) {
    const LONG: usize = 40;
    if base == new || base.chars().count().max(new.chars().count()) <= LONG {
        return (base.to_owned(), new.to_owned());
    }
    let separators = [';', ','];
    let parts = |text: &str| -> Vec<String> {
        text.split(separators).map(|part| part.trim().to_owned()).collect()
    };
    let (one, other) = (parts(base), parts(new));
    let only = |own: &[String], others: &[String]| {
        let left: Vec<&str> =
            own.iter().filter(|part| !others.contains(part)).map(String::as_str).collect();
        match left.len() {
            0 => "nothing more".to_owned(),
            n if n == own.len() => left.join(", "),
            _ => format!("… {}", left.join(", ")),
        }
    };
    (only(&one, &other), only(&other, &one))
}

/// What is the same, in a sentence.
pub(super) fn alike(comparison: &Comparison) -> Option<String> {
    let names = &comparison.alike;
    (!names.is_empty()).then(|| format!("The same on both sides: {}.", list(names)))
}

/// What came out, in a sentence or two.
pub(super) fn outcome(comparison: &Comparison) -> Vec<String> {
    let named = |verdict: Verdict| -> String {
        let several = comparison.pairs.len() > 1;
        let found: Vec<String> = comparison
            .figures()
            .filter(|(_, figure)| figure.verdict == verdict)
            .map(|(pair, figure)| {
                let of =
                    if several { format!(" of {}", sanitize(&pair.name())) } else { String::new() };
                let change = figure.change.as_ref().map(change).unwrap_or_default();
                format!("{}{of} ({change})", figure.metric.label())
            })
            .collect();
        match found.len() {
            0 => "nothing".to_owned(),
            1..=MOST_NAMED => list(&found),
            n => format!("{} and {} more", found[..MOST_NAMED].join(", "), n - MOST_NAMED),
        }
    };
    let mut told = vec![format!(
        "Worse: {}. Better: {}. No difference shown: {}. Cannot be compared: {}.",
        named(Verdict::Worse),
        named(Verdict::Better),
        count(comparison.count(Verdict::NoDifference), "figure"),
        count(comparison.count(Verdict::Incomparable), "figure"),
    )];
    told.extend(answers(comparison));
    told
}

/// Whether answers changed.
fn answers(comparison: &Comparison) -> Option<String> {
    let all = || comparison.pairs.iter().flat_map(|pair| &pair.answers);
    let asked: usize = all().map(|it| it.asked).sum();
    let changed: usize = all().map(|it| it.changed).sum();
    match (asked, changed) {
        (0, _) => None,
        (asked, 0) => Some(format!("All {asked} answers are the same.")),
        (asked, changed) => Some(format!(
            "{changed} of {asked} answers changed ({}).",
            percent(ratio(changed, asked))
        )),
    }
}

/// Whether the sides' own figures moved the other way than the change, or much further.
fn is_against_its_sides(figure: &FigureChange) -> bool {
    const FAR: f64 = 2.0;
    let (Some(base), Some(new), Some(change)) = (figure.base, figure.new, figure.change) else {
        return false;
    };
    let beside = new / base - 1.0;
    let told = change.value;
    !change.exact
        && change.unit == ChangeUnit::Relative
        && (beside.signum() != told.signum()
            || beside.abs() > FAR * told.abs()
            || told.abs() > FAR * beside.abs())
        && (beside - told).abs() > WORTH_A_WORD
}

#[expect(clippy::cast_precision_loss, reason = "some thousand answers")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

/// How it was compared, and how sure that is.
pub(super) fn form(comparison: &Comparison) -> Vec<String> {
    let how = match comparison.form {
        Form::Interleaved => {
            let mut told = "Both were measured in turns in one run: what is timed is compared round by round.".to_owned();
            if comparison.figures().any(|(_, figure)| is_against_its_sides(figure)) {
                told.push_str(
                    " Where a change does not fit what stands beside it, single rounds were disturbed: those move what a \
                     side comes to, and the rounds' ratios hardly.",
                );
            }
            told
        }
        Form::Runs { base: 1, new: 1, others: 0 } => {
            "One run against one run: neither says how much runs of the same differ here, so that what is timed goes by a \
             spread measured elsewhere (docs/COMPARE.md) and only large changes show."
                .to_owned()
        }
        Form::Runs { base, new, others } => {
            let further = match others {
                0 => String::new(),
                others => format!(", and {} of the same trials", count(others, "further run")),
            };
            format!(
                "{} against {}{further}: the run is the unit, and what runs of the same differ by says how sure a change is.",
                count(base, "run"),
                count(new, "run")
            )
        }
    };
    let together = match comparison.judged {
        0 => None,
        1 => Some("The interval holds with 95 % probability.".to_owned()),
        n => Some(format!("Intervals hold for all {n} figures together with 95 % probability.")),
    };
    [Some(how), together].into_iter().flatten().collect()
}

/// What has no partner, and what only one side measured.
pub(super) fn left_out(comparison: &Comparison) -> Vec<String> {
    let mut told = Vec::new();
    for (trials, side) in [(&comparison.only_base, "base"), (&comparison.only_new, "new")] {
        if !trials.is_empty() {
            let trials: Vec<String> = trials.iter().map(|trial| sanitize(trial)).collect();
            told.push(format!("Only in {side}, so not compared: {}.", list(&trials)));
        }
    }
    for pair in &comparison.pairs {
        told.extend(
            pair.failure
                .as_ref()
                .map(|why| format!("{}: {}.", sanitize(&pair.name()), sanitize(why))),
        );
    }
    let mut missing: Vec<(String, Vec<String>)> = Vec::new();
    let incomparable = |it: &FigureChange| it.verdict == Verdict::Incomparable;
    for (_, figure) in
        comparison.figures().filter(|(pair, it)| incomparable(it) && pair.failure.is_none())
    {
        let (why, label) = (figure.why.clone().unwrap_or_default(), figure.metric.label());
        match missing.iter_mut().find(|(known, _)| *known == why) {
            Some((_, labels)) if labels.contains(&label) => {}
            Some((_, labels)) => labels.push(label),
            None => missing.push((why, vec![label])),
        }
    }
    let mut common: Vec<(usize, Vec<String>)> = Vec::new();
    for (_, figure) in comparison.figures() {
        let Some(chunks) = figure.common_chunks else { continue };
        let label = figure.metric.label();
        match common.iter_mut().find(|(known, _)| *known == chunks) {
            Some((_, labels)) if labels.contains(&label) => {}
            Some((_, labels)) => labels.push(label),
            None => common.push((chunks, vec![label])),
        }
    }
    for (chunks, labels) in common {
        told.push(format!(
            "One side went through more of the text: {} here {} over the {} that both have, not over all of a run as in \
             'quantbench show'.",
            list(&labels),
            if labels.len() == 1 { "is" } else { "are" },
            count(chunks, "chunk"),
        ));
    }
    for (why, labels) in missing {
        told.push(format!("Cannot be compared, since {}: {}.", sanitize(&why), list(&labels)));
    }
    told
}

/// Whether there is nothing to show of a figure, so that it has no row.
pub(super) fn is_missing(pair: &PairChange, figure: &FigureChange) -> bool {
    figure.base.is_none() || figure.new.is_none() || pair.failure.is_some()
}

/// What would be surer: to measure in turns, where the earlier run says where its files are; else more runs.
pub(super) fn advice(shown: &Shown<'_>) -> Option<String> {
    let Form::Runs { base, new, .. } = shown.comparison.form else { return None };
    let earlier = shown.base.0.first()?;
    let has_files = earlier.run.trials.iter().any(|trial| trial.artifact.is_some());
    let in_turns = has_files.then(|| {
        let name = quoted(&sanitize(&earlier.name));
        format!("measure both in turns, with 'quantbench run … --against {name}', while the earlier files are there")
    });
    let several =
        (base < 3 || new < 3).then(|| "give several runs of each, as A,B,C D,E,F".to_owned());
    let ways: Vec<String> = in_turns.into_iter().chain(several).collect();
    (!ways.is_empty()).then(|| format!("Surer: {}.", ways.join("; or ")))
}

/// The value of a figure on either side, and its unit.
pub(super) fn values(figure: &FigureChange) -> [String; 3] {
    let known: Vec<f64> = figure.base.into_iter().chain(figure.new).collect();
    let (unit, scale) = Scale::of(figure.metric.descriptor().shown, &known);
    let value = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |it| scale.show(it));
    [value(figure.base), value(figure.new), unit.to_owned()]
}

/// `+3.1 %`, `-0.5 points`.
pub(super) fn change(change: &Change) -> String {
    signed(change.value, change.unit, true)
}

/// `-5.0 to +1.2 %`; nothing of what is exact.
pub(super) fn interval(change: &Change) -> String {
    if change.exact {
        return if change.value == 0.0 { "the same".to_owned() } else { "exact".to_owned() };
    }
    let Interval { low, high } = change.interval;
    if change.unit == ChangeUnit::Relative && high * 100.0 >= MANY_TIMES {
        // As factors on both sides: a loss in per cent beside a multiple says nothing.
        let most = high * 100.0 >= MOST_TIMES;
        let high = if most { "more than 1000".to_owned() } else { significant(high + 1.0, 2) };
        return format!("{} to {high} times", significant((low + 1.0).max(0.0), 2));
    }
    format!("{} to {}", signed(low, change.unit, false), signed(high, change.unit, true))
}

fn signed(value: f64, unit: ChangeUnit, with_unit: bool) -> String {
    let (factor, name) = match unit {
        ChangeUnit::Relative => (100.0, " %"),
        ChangeUnit::Points => (1.0, " points"),
        ChangeUnit::Absolute => (1.0, ""),
    };
    let value = value * factor;
    let text = match (unit, value.abs()) {
        (ChangeUnit::Absolute, _) => format!("{value:+.5}"),
        (_, 0.0) => "0".to_owned(),
        (ChangeUnit::Relative, size) if size >= MOST_TIMES => {
            return "more than 1000 times".to_owned();
        }
        (ChangeUnit::Relative, size) if size >= MANY_TIMES => {
            return format!("{} times", significant(value / 100.0 + 1.0, 2));
        }
        (_, size) if size < 0.01 => "<0.01".to_owned(),
        (_, size) if size < 0.1 => format!("{value:+.2}"),
        (_, size) if size < 20.0 => format!("{value:+.1}"),
        _ => format!("{value:+.0}"),
    };
    if with_unit { format!("{text}{name}") } else { text }
}

/// A row about answers that changed.
pub(super) fn answers_row(answers: &AnswersChange) -> [String; 5] {
    let some = |value: Option<usize>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
    [
        sanitize(&answers.of),
        answers.asked.to_string(),
        format!("{} ({})", answers.changed, percent(ratio(answers.changed, answers.asked))),
        some(answers.to_right),
        some(answers.to_wrong),
    ]
}

/// What came of a gate.
pub(super) fn gate(result: &GateResult) -> String {
    let GateResult { gate, trial, figure, outcome } = result;
    let (gate, what) = (sanitize(gate), format!("{} of {}", sanitize(figure), sanitize(trial)));
    let moved = |change: f64, interval: &Interval, unit: ChangeUnit| {
        let name = if unit == ChangeUnit::Points { "points" } else { "%" };
        if interval.low == 0.0 && interval.high == 0.0 {
            return "did not change".to_owned();
        }
        let Interval { low, high } = interval;
        format!("changed by {change:+.1} {name} ({low:+.1} to {high:+.1} {name})")
    };
    match outcome {
        GateOutcome::Tripped { change, interval, unit } => {
            format!(
                "'{gate}': {what} {}, which is beyond the limit",
                moved(*change, interval, *unit)
            )
        }
        GateOutcome::Held { change, interval, unit, open } => {
            let how = if *open {
                "not shown to be beyond the limit, nor within it"
            } else {
                "within the limit"
            };
            format!("'{gate}': {what} {}, {how}", moved(*change, interval, *unit))
        }
        GateOutcome::NotJudged { why } => format!(
            "'{gate}': {what} cannot be compared, since {}; a gate that cannot be judged counts as failed",
            sanitize(why)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::change::Change;
    use crate::results::metric::Metric;

    #[test]
    fn a_change_that_does_not_fit_its_sides_is_noticed() {
        let figure = |base: f64, new: f64, value: f64| {
            let interval = Interval { low: value, high: value };
            let unit = ChangeUnit::Relative;
            FigureChange {
                metric: Metric::TtftMedianSeconds,
                base: Some(base),
                new: Some(new),
                change: Some(Change { value, interval, alone: interval, unit, exact: false }),
                verdict: Verdict::Better,
                why: None,
                common_chunks: None,
            }
        };
        assert!(is_against_its_sides(&figure(45.0, 54.7, -0.038)), "the other way");
        assert!(is_against_its_sides(&figure(0.213, 0.163, -0.99)), "much further");
        assert!(!is_against_its_sides(&figure(100.0, 110.0, 0.08)));
        assert!(!is_against_its_sides(&figure(100.0, 101.0, -0.01)), "near enough");
    }
}
