//! In which way a figure is compared: by rounds, by runs, by the chunks of a text, by questions, or as it was read off.

use super::Found;
use super::between::Spreads;
use super::partners::{Measured, Pair};
use super::shift::{Scale, Shift};
use crate::hardware::usage::OTHERS_TOOK;
use crate::results::figure::{Evidence, Figure};
use crate::results::metric::Metric;
use crate::results::record::{RunRecord, TrialRecord};
use crate::results::summary::throttling;
use crate::results::{each_once, extract};
use crate::statistics::estimate::{Estimate, Interval};
use crate::statistics::interval::mean_estimate;
use crate::statistics::sample::{Sample, to_f64};
use crate::workload::Phase;
use serde_json::Value;

/// Degrees of freedom of what was averaged over very many tokens.
const MANY: usize = 10_000;

/// How the figures of a pair are compared.
pub(super) struct Ways<'a, 'b> {
    pub(super) pair: &'a Pair<'b>,
    pub(super) spreads: &'a Spreads<'b>,
}

impl Ways<'_, '_> {
    /// Every figure that either trial has, in the order of columns.
    pub(super) fn all(&self) -> Vec<Found> {
        let (base, new) = (self.pair.first(false), self.pair.first(true));
        let trials = || [base.trial, new.trial].into_iter();
        let tests = each_once(trials().flat_map(extract::speed_tests));
        let columns = each_once(trials().flat_map(extract::task_columns));
        let is_there =
            |metric: &Metric| base.figures.contains_key(metric) || new.figures.contains_key(metric);
        let found = Metric::all(&tests, &columns).into_iter().filter(is_there).map(|metric| {
            let (one, other) = (base.figures.get(&metric), new.figures.get(&metric));
            let shift = match (one, other) {
                (Some(one), Some(other)) => self.shift(metric, one, other),
                (None, _) => Err(missing(base, metric, "base")),
                (_, None) => Err(missing(new, metric, "new")),
            };
            let common_chunks = shift.is_ok().then(|| self.common_chunks(metric)).flatten();
            let (base, new) = (self.shown(metric, false), self.shown(metric, true));
            Found { metric, base, new, shift, common_chunks }
        });
        // The reference has none of what others are compared with it in.
        let is_reference = base.trial.is_reference || new.trial.is_reference;
        found.filter(|it| !(is_reference && it.metric.descriptor().is_comparison)).collect()
    }

    /// The value of a figure on one side: of what is timed in several runs the mean, by logarithms as it is compared.
    fn shown(&self, metric: Metric, is_new: bool) -> Option<f64> {
        let side = self.pair.side(is_new);
        let first = side[0].figures.get(&metric)?;
        if metric == Metric::TopTokenAgreement
            && let Some(common) = self.common_chunks(metric)
        {
            let chunks = top_tokens(self.pair.first(is_new)).get(..common)?;
            return Sample::new(chunks.iter().copied()).map(|it| it.mean());
        }
        if let Evidence::Chunks { values, exponential } = &first.evidence
            && let Evidence::Chunks { values: others, .. } =
                &self.pair.first(!is_new).figures.get(&metric)?.evidence
            && values.len() != others.len()
        {
            // Where one ended early, both are shown over the chunks that both have, as they are compared.
            let common = values.iter().take(others.len()).copied();
            let mean = Sample::new(common)?.mean();
            return Some(if *exponential { mean.exp() } else { mean });
        }
        if side.len() == 1 || !is_timed(&first.evidence) {
            return Some(first.estimate.value);
        }
        let logarithms =
            side.iter().filter_map(|it| Some(it.figures.get(&metric)?.estimate.value.ln()));
        Sample::new(logarithms).map(|it| it.mean().exp())
    }

    /// How many chunks of the text both sides have, where one has more and the figure is of those alone.
    fn common_chunks(&self, metric: Metric) -> Option<usize> {
        let (one, other) = (self.pair.first(false), self.pair.first(true));
        let kept = |it: &Measured<'_>| match (metric, &it.figures.get(&metric)?.evidence) {
            (Metric::TopTokenAgreement, _) => Some(top_tokens(it).len()).filter(|count| *count > 0),
            (_, Evidence::Chunks { values, .. }) => Some(values.len()),
            _ => None,
        };
        let (one, other) = (kept(one)?, kept(other)?);
        (one != other).then_some(one.min(other))
    }

    fn shift(&self, metric: Metric, base: &Figure, new: &Figure) -> Result<Shift, String> {
        let (one, other) = (self.pair.first(false), self.pair.first(true));
        let unknown = || "its noise is not known".to_owned();
        if is_timed(&base.evidence) || is_timed(&new.evidence) {
            return self.timed(metric, base, new);
        }
        match (&base.evidence, &new.evidence) {
            (Evidence::Exact, Evidence::Exact) => {
                let ratio = new.estimate.value / base.estimate.value;
                Shift::exact(Scale::Fraction, ratio - 1.0).ok_or_else(unknown)
            }
            (Evidence::Questions(_), Evidence::Questions(_)) => self.questions(metric, base, new),
            _ => {
                let text = same_text(one, other, metric)?;
                let (tops, others) = (top_tokens(one), top_tokens(other));
                let is_by_chunk = !tops.is_empty() && !others.is_empty() && text == Texts::Same;
                if metric == Metric::TopTokenAgreement && is_by_chunk {
                    return by_points(tops, others).ok_or_else(unknown);
                }
                let chunks = |it: &Measured<'_>| it.trial.quality.as_ref().map(|it| it.chunks);
                if let (Evidence::IntervalOnly, Some(one), Some(other)) =
                    (&base.evidence, chunks(one), chunks(other))
                    && one != other
                    && metric.descriptor().is_comparison
                {
                    return Err(format!(
                        "it is over {one} chunks of the text in base and {other} in new, and was not kept by chunk"
                    ));
                }
                of_text(metric, base, new, text).ok_or_else(unknown)
            }
        }
    }

    fn timed(&self, metric: Metric, base: &Figure, new: &Figure) -> Result<Shift, String> {
        if let (Evidence::Prompts { ids, .. }, Evidence::Prompts { ids: others, .. }) =
            (&base.evidence, &new.evidence)
        {
            same_prompts(self.pair.first(false), self.pair.first(true))?;
            if ids != others {
                return Err("other prompts were answered".to_owned());
            }
        }
        if is_memory(metric) && works(self.pair.first(false)) != works(self.pair.first(true)) {
            return Err("other things were measured, and a peak is of all of them".to_owned());
        }
        // Pages of a program's own files count as its memory, and how many are there differs from copy to copy.
        let widened = |shift: Shift| {
            let (one, other) = (self.pair.first(false), self.pair.first(true));
            let is_own = one.run.id == other.run.id && one.trial.repeats.is_none();
            if metric != Metric::PeakRssBytes || is_own {
                return shift;
            }
            shift.widened(PROGRAM_PAGES / base.estimate.value.max(PROGRAM_PAGES))
        };
        if self.pair.is_interleaved() {
            return self.spreads.interleaved(self.pair, metric).map(widened);
        }
        if !is_memory(metric) {
            // A disturbed run does not tell by how much it was off, and what disturbs one may disturb all of a side.
            for (side, name) in [(&self.pair.base, "base"), (&self.pair.new, "new")] {
                let signs: Option<Vec<String>> =
                    side.iter().map(|it| disturbance(it.run, it.trial)).collect();
                if let Some(sign) = signs.and_then(|signs| signs.into_iter().next()) {
                    return Err(format!("while {name} was measured, {sign}"));
                }
            }
        }
        self.spreads.between(self.pair, metric).map(widened)
    }

    fn questions(&self, metric: Metric, base: &Figure, new: &Figure) -> Result<Shift, String> {
        let Metric::Task(column) = metric else { return Err("it is of no task".to_owned()) };
        let name = column.task.to_string();
        let of = |it: &Measured<'_>| task_plan(it, &name).cloned();
        let (one, other) = (of(self.pair.first(false)), of(self.pair.first(true)));
        let is_other = |field: &str| match (&one, &other) {
            (Some(one), Some(other)) => one.get(field) != other.get(field),
            _ => false,
        };
        if is_other("checksum") || is_other("question_count") {
            return Err("other questions were asked".to_owned());
        }
        let (Evidence::Questions(own), Evidence::Questions(others)) =
            (&new.evidence, &base.evidence)
        else {
            return Err("other questions were asked".to_owned());
        };
        let test = own.against(others).ok_or("other questions were asked")?;
        let scale = Scale::Points(column.metric.percent_factor());
        let unknown = "fewer than 5 questions were asked";
        Shift::from_estimate(scale, test.difference, test.difference.n.saturating_sub(1))
            .ok_or_else(|| unknown.to_owned())
    }
}

/// Bytes by which the resident memory of two copies of a program may differ: copies of one file were 3.4 MiB apart.
const PROGRAM_PAGES: f64 = 8.0 * 1_048_576.0;

/// What was measured of a trial, as far as its memory depends on it; `None`: not known.
fn works(measured: &Measured<'_>) -> Option<String> {
    let plan = workloads(measured.run, &measured.trial.model)?;
    let context = |it: &Value| it.get("context").map(Value::to_string);
    let quality = plan.get("quality").and_then(context);
    let parts = ["speed", "latency", "tasks"].map(|it| plan.get(it).map(Value::to_string));
    Some(parts.into_iter().chain([quality]).flatten().collect())
}

/// Whether it depends on what else the machine did.
fn is_timed(evidence: &Evidence) -> bool {
    matches!(evidence, Evidence::Rounds(_) | Evidence::Prompts { .. })
}

/// Whether what else the machine does leaves it as it is.
pub(super) fn is_memory(metric: Metric) -> bool {
    matches!(metric, Metric::PeakRssBytes | Metric::DeviceBytes)
}

/// Why a figure that the partner has is not there.
fn missing(measured: &Measured<'_>, metric: Metric, side: &str) -> String {
    let of_metric = |phase: &Phase| match metric {
        Metric::Speed(test) => *phase == Phase::Speed(test),
        Metric::Task(column) => *phase == Phase::Task(column.task),
        _ => false,
    };
    let mut failed = measured.trial.failed_workloads.iter().filter(|it| of_metric(&it.phase));
    let failure = measured.trial.failure.as_ref().or_else(|| failed.next());
    failure.map_or_else(
        || format!("it was not measured in {side}"),
        |failure| format!("it failed in {side}: {}", failure.reason),
    )
}

/// Processor time that others may take besides what a worker leaves, per cent: that much any system takes itself.
const SPARE_PERCENT: f64 = 5.0;

/// What the sign of a hypervisor begins with, and up to which per cent that is the lot of any virtual machine.
const WITHHELD: &str = "the hypervisor withheld";
const MUCH_WITHHELD_PERCENT: f64 = 10.0;

/// What disturbed a run, so that it alone says nothing of speed. Others that took no more of the processor than was left
/// disturbed nothing.
pub(in crate::results) fn disturbance(run: &RunRecord, trial: &TrialRecord) -> Option<String> {
    let environment = run.environment_of(trial);
    let cores = f64::from(environment.usable_cpus.unwrap_or(environment.logical_cpus).max(1));
    let threads = trial.facts.as_ref().map_or(cores, |facts| f64::from(facts.threads));
    let left = (1.0 - threads / cores).max(0.0) * 100.0 + SPARE_PERCENT;
    let is_harmless = |sign: &String| {
        let percent = |beginning: &str| -> Option<f64> {
            sign.strip_prefix(beginning)?.split_whitespace().next()?.parse().ok()
        };
        percent(OTHERS_TOOK).is_some_and(|it| it <= left)
            || percent(WITHHELD).is_some_and(|it| it <= MUCH_WITHHELD_PERCENT)
    };
    throttling(run).into_iter().find(|sign| !is_harmless(sign))
}

/// Whether two texts are the same, chunk by chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Texts {
    /// They are.
    Same,
    /// They are alike, such as answers of two builds to the same prompts.
    Alike,
}

fn same_text(one: &Measured<'_>, other: &Measured<'_>, metric: Metric) -> Result<Texts, String> {
    let other_text = || Err("it is over another text".to_owned());
    if let (Some(own), Some(others)) = (&one.trial.quality, &other.trial.quality) {
        let is_cut_alike = own.context == others.context
            && own.chunks_available == others.chunks_available
            && own.domains.len() == others.domains.len();
        if !is_cut_alike {
            return Err("its text was cut into other chunks".to_owned());
        }
    }
    let plan = |it: &Measured<'_>| workloads(it.run, &it.trial.model)?.get("quality").cloned();
    if let (Some(own), Some(others)) = (plan(one), plan(other)) {
        for field in ["text", "answers", "context"] {
            if own.get(field) != others.get(field) {
                return other_text();
            }
        }
    }
    let reference = |it: &Measured<'_>| {
        let of_model = |trial: &&TrialRecord| trial.is_reference && trial.model == it.trial.model;
        let found = it.run.trials.iter().find(of_model)?;
        let version = it.run.engine_version(found).to_owned();
        let checksum = found.artifact.as_ref().map(|artifact| artifact.checksum.clone());
        Some((found.label.clone(), checksum, version))
    };
    let (own, others) = (reference(one), reference(other));
    let is_compared = metric.descriptor().is_comparison;
    if let (Some(own), Some(others)) = (&own, &others)
        && is_compared
        && own.0 != others.0
    {
        return Err(format!("it is against another reference ({} and {})", own.0, others.0));
    }
    let are_answers =
        |it: &Measured<'_>| it.trial.quality.as_ref().is_some_and(|it| it.answers > 0);
    // What a reference answers may change with its file and its engine, and the text with it.
    let is_other_reference = own != others && own.is_some() && others.is_some();
    let is_alike = is_other_reference && (are_answers(one) || are_answers(other));
    Ok(if is_alike { Texts::Alike } else { Texts::Same })
}

/// A figure over a text: chunk by chunk where the text is the same, else as of two texts.
fn of_text(metric: Metric, base: &Figure, new: &Figure, texts: Texts) -> Option<Shift> {
    let is_fraction = metric.is_fraction();
    let plain = if is_fraction { Scale::Points(100.0) } else { Scale::Plain };
    match (&base.evidence, &new.evidence) {
        (
            Evidence::Chunks { values: base, exponential: true },
            Evidence::Chunks { values: new, exponential: true },
        ) if texts == Texts::Same => {
            let differences = new.iter().zip(base).map(|(new, base)| new - base);
            let estimate = mean_estimate(&Sample::new(differences)?);
            Shift::from_estimate(Scale::Logarithm, estimate, estimate.n.saturating_sub(1))
        }
        (
            Evidence::Chunks { values: one, exponential: false },
            Evidence::Chunks { values: other, exponential: false },
        ) if texts == Texts::Same && metric != Metric::EmbeddingCosine => {
            ratio_of_means(one, other)
        }
        (
            Evidence::Chunks { exponential: true, .. },
            Evidence::Chunks { exponential: true, .. },
        ) => {
            let apart = independent(base.estimate.map(f64::ln), new.estimate.map(f64::ln))?;
            Shift::from_estimate(Scale::Logarithm, apart, apart.n.saturating_sub(1))
        }
        (Evidence::Chunks { values, .. }, Evidence::Chunks { .. }) => {
            let scale = if metric == Metric::EmbeddingCosine { plain } else { Scale::Logarithm };
            let apart = if scale == Scale::Logarithm {
                independent(base.estimate.map(f64::ln), new.estimate.map(f64::ln))?
            } else {
                new.difference(base)?
            };
            Shift::from_estimate(scale, apart, values.len().saturating_sub(1))
        }
        _ => {
            let apart = independent(base.estimate, new.estimate)?;
            // Of the same answers to the same there is no doubt.
            if apart.value == 0.0 && texts == Texts::Same {
                return Shift::exact(plain, 0.0);
            }
            Shift::from_estimate(plain, apart, MANY)
        }
    }
}

/// By how much two estimates of separate observations differ.
fn independent(base: Estimate, new: Estimate) -> Option<Estimate> {
    let (own, others) = (new.interval?, base.interval?);
    let value = new.value - base.value;
    let interval = Interval {
        low: value - (new.value - own.low).hypot(others.high - base.value),
        high: value + (own.high - new.value).hypot(base.value - others.low),
    };
    Some(Estimate { value, interval: Some(interval), n: new.n.min(base.n) })
}

/// The part of each chunk's tokens that are the reference's; empty where that was not kept.
fn top_tokens<'r>(measured: &Measured<'r>) -> &'r [f64] {
    let divergence = measured.trial.quality.as_ref().and_then(|it| it.divergence.as_ref());
    divergence.map_or(&[], |it| &it.chunk_top_token_agreement)
}

/// By how many points a share moved, over the chunks that both have.
fn by_points(base: &[f64], new: &[f64]) -> Option<Shift> {
    let scale = Scale::Points(100.0);
    let differences: Vec<f64> = new.iter().zip(base).map(|(new, base)| new - base).collect();
    if differences.iter().all(|it| *it == 0.0) {
        return Shift::exact(scale, 0.0);
    }
    let estimate = mean_estimate(&Sample::new(differences)?);
    Shift::from_estimate(scale, estimate, estimate.n.saturating_sub(1))
}

/// By what fraction the mean over the same chunks moved. Where the chunks are hard for one they are for the other, which
/// a ratio takes out.
fn ratio_of_means(base: &[f64], new: &[f64]) -> Option<Shift> {
    let pairs: Vec<(f64, f64)> = base.iter().copied().zip(new.iter().copied()).collect();
    let n = to_f64(pairs.len());
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n;
    let (base_mean, new_mean) = (mean(&|it| it.0), mean(&|it| it.1));
    if base_mean <= 0.0 || pairs.len() < 2 {
        return None;
    }
    let ratio = new_mean / base_mean;
    let residuals = pairs.iter().map(|(base, new)| (new - ratio * base) / base_mean);
    let error = Sample::new(residuals)?.standard_deviation()? / n.sqrt();
    if error == 0.0 && base == new {
        return Shift::exact(Scale::Fraction, 0.0);
    }
    Shift::from_error(Scale::Fraction, ratio - 1.0, error, pairs.len() - 1)
}

/// What a run measured of a model, as its experiment says.
pub(super) fn workloads<'r>(run: &'r RunRecord, model: &str) -> Option<&'r Value> {
    let models = run.experiment.get("models").and_then(Value::as_array);
    let own = models
        .into_iter()
        .flatten()
        .find(|it| it.get("name").and_then(Value::as_str) == Some(model));
    let own = own.and_then(|it| it.get("workloads")).filter(|it| !it.is_null());
    own.or_else(|| run.experiment.get("workloads"))
}

fn task_plan<'r>(measured: &Measured<'r>, task: &str) -> Option<&'r Value> {
    let tasks = workloads(measured.run, &measured.trial.model)?.get("tasks")?.as_array()?;
    tasks.iter().find(|it| it.get("name").and_then(Value::as_str) == Some(task))
}

/// Why the prompts of two trials are not the same, if they are not.
pub(super) fn same_prompts(one: &Measured<'_>, other: &Measured<'_>) -> Result<(), String> {
    let plan = |it: &Measured<'_>| workloads(it.run, &it.trial.model)?.get("latency").cloned();
    let (Some(own), Some(others)) = (plan(one), plan(other)) else { return Ok(()) };
    for field in ["prompts", "format", "max_tokens", "sampling"] {
        if own.get(field) != others.get(field) {
            return Err("other prompts were answered, or in another way".to_owned());
        }
    }
    Ok(())
}
