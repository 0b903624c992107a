//! What the figures say, in two or three sentences per model.
//!
//! No sentence claims a difference that the 95 % intervals do not support: every comparison is asked
//! of the paired intervals first, and without an interval nothing is claimed.

use super::requirements::name;
use super::text::{list, sanitize};
use crate::experiment::requirements::Bound;
use crate::hardware::usage::OTHERS_TOOK;
use crate::model::architecture::ArchitectureClass;
use crate::results::metric::Metric;
use crate::results::record::RunRecord;
use crate::results::summary::{ModelSummary, Row, Summary};
use crate::results::verdict::{Check, Standing, Verdict};
use crate::results::words::InWords;
use crate::statistics::estimate::Estimate;
use crate::units::{count, significant};

/// From this ratio on people say "twice", below it per cent.
const SAID_IN_PERCENT: f64 = 1.5;

/// More variants that equal the best are counted, not named.
const MOST_EQUALS_NAMED: usize = 4;

/// Said of a choice that other speeds would change.
const MEASURED_ONCE: &str = " Speed decides this, and speeds were measured once, so that nobody knows how noisy they are: measure more rounds \
     (--rounds 3 or more, a larger --budget) before you rely on it.";

/// Divergences below this are not worth their digits.
const SMALLEST_NATS: f64 = 1e-5;

/// Sentences about a run.
pub(super) fn findings(run: &RunRecord, summary: &Summary) -> Vec<String> {
    if summary.rows.is_empty() {
        return vec!["The run holds no trial.".to_owned()];
    }
    if summary.rows.iter().all(|row| row.failure.is_some()) {
        return vec!["No trial succeeded, so there is nothing to compare.".to_owned()];
    }
    let several = summary.models.len() > 1;
    summary
        .models
        .iter()
        .map(|model| {
            let sentences = View { summary, model }.sentences(run).join(" ");
            // A sentence about the best trade-off names the model itself.
            if several && model.choice.is_none() {
                format!("{}: {sentences}", sanitize(&model.name))
            } else {
                sentences
            }
        })
        .filter(|paragraph| !paragraph.is_empty())
        .collect()
}

/// What is on the Pareto front of each model.
pub(super) fn fronts(summary: &Summary) -> Vec<String> {
    summary.models.iter().filter_map(|model| View { summary, model }.front()).collect()
}

/// One model of a summary.
struct View<'a> {
    summary: &'a Summary,
    model: &'a ModelSummary,
}

impl View<'_> {
    fn sentences(&self, run: &RunRecord) -> Vec<String> {
        let rows: Vec<&Row> = self.rows().collect();
        let sound = rows.iter().filter(|row| row.failure.is_none()).count();
        if rows.len() == 1 {
            return vec![format!(
                "{} is the only variant, so there is nothing to compare it with.",
                self.name(rows[0])
            )];
        }
        if sound < 2 {
            return vec![
                "Fewer than two trials succeeded, so there is nothing to compare.".to_owned(),
            ];
        }
        if let Some(found) = &self.summary.recommendation {
            let told = super::recommend::verdict(run, self.summary, found);
            return told.into_iter().chain(self.front()).collect();
        }
        let mut sentences: Vec<String> = Vec::new();
        if !run.requirements.is_empty() {
            sentences.extend(self.needs());
        }
        match &self.model.choice {
            Some(_) => {
                sentences.extend(self.best());
                sentences.extend(self.steps());
            }
            None => sentences.push(self.without_quality()),
        }
        sentences.extend(self.front());
        sentences
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        let rows = self.model.groups.iter().flat_map(|group| &group.rows);
        rows.map(|&row| &self.summary.rows[row])
    }

    /// The variant, with its settings if they are not those of the best trade-off.
    fn name(&self, row: &Row) -> String {
        let label = sanitize(&row.label);
        let chosen = self.model.choice.as_ref().map(|choice| &self.summary.rows[choice.row]);
        let same = chosen.is_some_and(|chosen| chosen.settings == row.settings);
        if same || self.model.groups.len() == 1 {
            label
        } else {
            format!("{label} ({})", row.settings)
        }
    }

    fn names(&self, rows: &[usize]) -> Vec<String> {
        rows.iter().map(|&row| self.name(&self.summary.rows[row])).collect()
    }

    /// How many meet the requirements, and which comes closest if none does.
    fn needs(&self) -> Option<String> {
        let judged: Vec<(&Row, &Verdict)> =
            self.rows().filter_map(|row| Some((row, row.verdict.as_ref()?))).collect();
        let meeting = judged.iter().filter(|(_, verdict)| verdict.is_met()).count();
        if meeting > 0 {
            let verb = if meeting == 1 { "meets" } else { "meet" };
            return Some(format!(
                "{meeting} of {} {verb} the needs.",
                count(self.rows().count(), "trial")
            ));
        }
        let excess =
            |verdict: &Verdict| verdict.checks.iter().map(Check::excess).fold(1.0, f64::max);
        let (row, verdict) =
            judged.into_iter().min_by(|left, right| excess(left.1).total_cmp(&excess(right.1)))?;
        let missed: Vec<String> = verdict
            .checks
            .iter()
            .filter(|check| check.outcome != Standing::Met)
            .map(|check| {
                let (name, excess) = (name(check), check.excess());
                let percent = |share: f64| significant(share * 100.0, 2);
                match check.value {
                    None => format!("{name} was not measured"),
                    Some(_) if check.requirement.bound == Bound::AtLeast => {
                        format!("{name} reaches {} % of its limit", percent(1.0 / excess))
                    }
                    Some(_) => format!("{name} exceeds its limit by {} %", percent(excess - 1.0)),
                }
            })
            .collect();
        Some(format!(
            "No trial meets all needs; {} comes closest ({}).",
            self.name(row),
            missed.join(", ")
        ))
    }

    fn best(&self) -> Option<String> {
        let choice = self.model.choice.as_ref()?;
        let row = &self.summary.rows[choice.row];
        let name = self.name(row);
        let whose = self.model_among(" for ");
        let among = match &row.verdict {
            Some(verdict) if verdict.is_met() => " among those that meet them",
            Some(_) => " regardless of them",
            None => "",
        };
        let with = (self.model.groups.len() > 1).then(|| format!(" with {}", row.settings));
        let with = with.unwrap_or_default();
        let equals = match self.names(&choice.equals).as_slice() {
            [] => None,
            few if few.len() <= MOST_EQUALS_NAMED => Some(list(few)),
            many => Some(format!("{} others", many.len())),
        };
        let equals = equals.map(|who| {
            format!(" {who} may be as good within the noise; size and divergence decide.")
        });
        let facts = self.against_reference(row);
        let why = if row.is_reference {
            ", the reference itself; no smaller one saves enough for what it loses".to_owned()
        } else if facts.is_empty() {
            String::new()
        } else {
            format!(". It is {}", list(&facts))
        };
        let equals = equals.unwrap_or_default();
        let is_shared = self.summary.throttling.iter().any(|sign| sign.starts_with(OTHERS_TOOK));
        let disturbed = if is_shared {
            " Other programs ran meanwhile: measure again before a choice that rests on speed."
        } else {
            ""
        };
        let once = if choice.rests_on_single_speeds { MEASURED_ONCE } else { "" };
        Some(format!("Best trade-off{whose}{among}: {name}{with}{why}.{equals}{once}{disturbed}"))
    }

    /// The model's name behind a word, where there are several.
    fn model_among(&self, word: &str) -> String {
        let name = (self.summary.models.len() > 1).then(|| sanitize(&self.model.name));
        name.map(|name| format!("{word}{name}")).unwrap_or_default()
    }

    /// Size, speed and divergence of a row against its baseline, as parts of "it is …".
    fn against_reference(&self, row: &Row) -> Vec<String> {
        let Some(baseline) = row.baseline.map(|baseline| &self.summary.rows[baseline]) else {
            return Self::quality(row).into_iter().collect();
        };
        let mut facts = Vec::new();
        if let Some(ratio) = row.ratios.get(&Metric::FileBytes) {
            facts.push(format!("{} than {}", size_words(ratio.value), self.name(baseline)));
        }
        let speed = self.summary.generation.map(Metric::Speed);
        if let Some(ratio) = speed.and_then(|metric| row.ratios.get(&metric)) {
            facts.extend(speed_words(ratio));
        }
        facts.extend(Self::quality(row));
        facts
    }

    /// Divergence, or perplexity where there is none.
    fn quality(row: &Row) -> Option<String> {
        if let Some(kld) = row.value(Metric::Kld) {
            let agreement = row.value(Metric::TopTokenAgreement);
            let agreement = agreement.map(|it| format!("top token agrees {:.1} %", it * 100.0));
            let kld_estimate = row.figures.get(&Metric::Kld).map(|figure| figure.estimate);
            let words = kld_estimate
                .and_then(InWords::of)
                .map(|found| format!("{}{}", found.words, if found.is_open { "?" } else { "" }));
            let more: Vec<String> = words.into_iter().chain(agreement).collect();
            let more =
                if more.is_empty() { String::new() } else { format!(" ({})", more.join("; ")) };
            return Some(format!("its answers diverge by {}{more}", nats(kld)));
        }
        let increase = row.figures.get(&Metric::PerplexityIncrease)?.estimate;
        let words = match increase.interval {
            Some(interval) if interval.low > 0.0 => "higher",
            Some(interval) if interval.high < 0.0 => "lower",
            _ => return Some("no different in perplexity that could be told".to_owned()),
        };
        let percent = significant(increase.value.abs() * 100.0, 2);
        Some(format!("{percent} % {words} in perplexity"))
    }

    /// The next steps along the front, either way.
    fn steps(&self) -> Option<String> {
        let chosen = &self.summary.rows[self.model.choice.as_ref()?.row];
        let by_kld = chosen.figures.contains_key(&Metric::Kld) || chosen.is_reference;
        let (loss, what) =
            if by_kld { (Metric::Kld, "divergence") } else { (Metric::Perplexity, "perplexity") };
        let value = |row: &Row| match row.value(loss) {
            // The reference's own divergence.
            None => format!("no {what}"),
            Some(value) if by_kld => nats(value),
            Some(perplexity) => format!("a perplexity of {}", significant(perplexity, 4)),
        };
        let size = |row: &Row| {
            Some(size_words(row.value(Metric::FileBytes)? / chosen.value(Metric::FileBytes)?))
        };
        let mut steps = Vec::new();
        if let Some(row) = self.model.closer.map(|row| &self.summary.rows[row]) {
            let (name, value) = (self.name(row), value(row));
            steps.push(format!("for less {what} take {name} ({value}, {})", size(row)?));
        }
        if let Some(row) = self.model.smaller.map(|row| &self.summary.rows[row]) {
            let (name, value) = (self.name(row), value(row));
            steps.push(format!("for less size {name} ({}, {value})", size(row)?));
        }
        (!steps.is_empty()).then(|| steps.join("; ").replacen('f', "F", 1) + ".")
    }

    /// What may be said where no loss was measured.
    fn without_quality(&self) -> String {
        let unique = |metric: Metric| {
            let mut best = self.rows().filter(|row| row.best.contains(&metric));
            best.next().filter(|_| best.next().is_none())
        };
        // One that was not made may be smaller.
        let are_made = self
            .rows()
            .all(|row| row.failure.is_some() || row.figures.contains_key(&Metric::FileBytes));
        let smallest = unique(Metric::FileBytes).filter(|_| are_made).map(|row| self.name(row));
        let fastest = self.summary.generation.map(Metric::Speed).and_then(unique);
        let fastest = fastest.map(|row| self.name(row));
        let rest = match (smallest, fastest) {
            (Some(small), Some(fast)) if small == fast => {
                format!("; {small} is the smallest and generates fastest")
            }
            (Some(small), Some(fast)) => {
                format!("; {small} is the smallest, {fast} generates fastest")
            }
            (Some(small), None) => format!("; {small} is the smallest"),
            (None, Some(fast)) => format!("; {fast} generates fastest"),
            (None, None) => String::new(),
        };
        let class = self.model.facts.as_ref().map(|facts| facts.class).unwrap_or_default();
        let has_some = self.rows().any(|row| row.value(Metric::Perplexity).is_some());
        let why = if has_some {
            "Too few variants have both quality and speed, so no trade-off can be named"
        } else if class == ArchitectureClass::DecoderOnly {
            "Quality was not measured, so no trade-off can be named"
        } else {
            // Its price is the loss that a decoder of another size has.
            "A trade-off is named for decoder-only models alone"
        };
        format!("{why}{rest}.")
    }

    fn front(&self) -> Option<String> {
        let front = &self.model.front;
        if front.members.is_empty() {
            return None;
        }
        let measured = |metric: Metric| self.rows().any(|row| row.figures.contains_key(&metric));
        let mut axes = vec!["size"];
        match self.model.speed {
            Some(metric) if metric.embedding_test().is_some() => axes.push("embedding speed"),
            Some(_) => axes.push("generation speed"),
            None => {}
        }
        if measured(Metric::EmbeddingCosine) {
            axes.push("distance from the reference's embeddings");
        } else if measured(Metric::Kld) {
            axes.push("divergence");
        } else if measured(Metric::Perplexity) {
            axes.push("perplexity");
        }
        // A front of nothing but size is its smallest, which was said.
        if axes.len() == 1 {
            return None;
        }
        let axes = list(&axes);
        if front.beaten.is_empty() {
            let all = match front.members.len() {
                2 => "Both".to_owned(),
                several => format!("All {several}"),
            };
            return Some(format!(
                "{all} are on the Pareto front of {axes}: none is beaten by another."
            ));
        }
        if front.members.len() <= front.beaten.len() {
            let members = list(&self.names(&front.members));
            return Some(format!("On the Pareto front of {axes}: {members}."));
        }
        let name = |row: usize| self.name(&self.summary.rows[row]);
        let beaten = front.beaten.iter();
        let beaten = beaten.map(|it| format!("{} (beaten by {})", name(it.row), name(it.by)));
        Some(format!("Off the Pareto front of {axes}: {}.", list(&beaten.collect::<Vec<_>>())))
    }
}

/// `0.031 nats`, `under 0.00001 nats`.
fn nats(value: f64) -> String {
    if value.abs() < SMALLEST_NATS {
        return format!("under {SMALLEST_NATS} nats");
    }
    format!("{} nats", significant(value, 2))
}

/// `3.1x smaller`, `8 % larger`, `as large`: how many times the other's size something is.
fn size_words(ratio: f64) -> String {
    let (times, word) = if ratio < 1.0 { (1.0 / ratio, "smaller") } else { (ratio, "larger") };
    if times >= SAID_IN_PERCENT {
        return format!("{}x {word}", significant(times, 2));
    }
    let percent = (ratio - 1.0).abs() * 100.0;
    if percent < 0.05 {
        "as large".to_owned()
    } else {
        format!("{} % {word}", significant(percent, 2))
    }
}

/// `2.8x faster at generation`, or that no difference could be told; nothing without an interval.
fn speed_words(ratio: &Estimate) -> Option<String> {
    let interval = ratio.interval?;
    if interval.contains(1.0) {
        return Some("level in generation speed within the noise".to_owned());
    }
    let is_faster = interval.low > 1.0;
    let (times, word) =
        if is_faster { (ratio.value, "faster") } else { (1.0 / ratio.value, "slower") };
    Some(if times >= SAID_IN_PERCENT {
        format!("{}x {word} at generation", significant(times, 2))
    } else {
        format!("{} % {word} at generation", significant((ratio.value - 1.0).abs() * 100.0, 2))
    })
}
