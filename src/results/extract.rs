//! From a trial's record to its figures.

use super::figure::{Evidence, Figure};
use super::metric::{Metric, TaskColumn};
use super::record::{TrialRecord, VisitRecord};
use super::{each_once, task_figure};
use crate::experiment::workloads::SpeedTest;
use crate::hardware::usage::{GpuUsage, Usage};
use crate::model::architecture::ArchitectureClass;
use crate::statistics::bootstrap;
use crate::statistics::estimate::Estimate;
use crate::statistics::interval::{from_standard_error, mean_estimate, median_estimate};
use crate::statistics::sample::Sample;
use crate::units::to_f64;
use crate::workload::measured::{
    BufferMemory, COMPARED_BY_TOKENS, EmbeddingQuality, MeanWithError, Quality, SpeedSample,
};
use crate::workload::tasks::record::{ScoreRecord, TaskRecord};
use crate::workload::{Measurement, Phase};
use std::collections::{BTreeMap, BTreeSet};

/// Every figure of a trial that its record holds.
pub(super) fn figures(trial: &TrialRecord) -> BTreeMap<Metric, Figure> {
    let mut figures = BTreeMap::new();
    let mut add = |metric: Metric, figure: Option<Figure>| {
        if let Some(figure) = figure {
            figures.insert(metric, figure);
        }
    };
    if let Some(artifact) = &trial.artifact {
        add(Metric::FileBytes, Some(Figure::exact(to_f64(artifact.file_bytes))));
        add(Metric::QuantizeSeconds, artifact.quantize_seconds.and_then(single));
    }
    if let Some(facts) = trial.facts.as_ref().filter(|facts| facts.parameters > 0) {
        add(Metric::BitsPerWeight, Some(Figure::exact(facts.bits_per_weight())));
    }
    for (metric, cold) in [(Metric::ColdLoadSeconds, true), (Metric::WarmLoadSeconds, false)] {
        add(metric, rounds(trial, |visit| median_load(visit, cold)));
    }
    add_memory(trial, &mut add);
    for test in speed_tests(trial) {
        add(Metric::Speed(test), speed(trial, test));
    }
    add_latency(trial, &mut add);
    add_usage(trial, &mut add);
    let is_left_out = trial.left_out.iter().any(|it| it.what == COMPARED_BY_TOKENS);
    if let Some(quality) = trial.quality.as_ref().filter(|_| !is_left_out) {
        add_quality(quality, class_of(trial), &mut add);
    }
    if let Some(quality) = &trial.embedding_quality {
        add_embedding_quality(quality, &mut add);
    }
    add_others(trial, &mut add);
    for (column, task, score) in task_scores(trial) {
        add(Metric::Task(column), task_figure::figure(task, score));
    }
    figures
}

/// The metrics of a trial's tasks, in order.
fn task_scores(
    trial: &TrialRecord,
) -> impl Iterator<Item = (TaskColumn, &TaskRecord, &ScoreRecord)> {
    trial.tasks.iter().flat_map(|task| {
        task.scores.iter().enumerate().map(move |(position, score)| {
            let column =
                TaskColumn { task: task.task, metric: score.metric, is_main: position == 0 };
            (column, task, score)
        })
    })
}

/// The columns of a trial's tasks, in order.
pub(super) fn task_columns(trial: &TrialRecord) -> impl Iterator<Item = TaskColumn> {
    task_scores(trial).map(|(column, _, _)| column)
}

/// The class of architecture of a trial's model, as far as it was loaded.
fn class_of(trial: &TrialRecord) -> ArchitectureClass {
    trial.facts.as_ref().map_or_else(ArchitectureClass::default, |facts| facts.class)
}

/// The throughput tests of a trial, in the order in which they were measured first.
pub(super) fn speed_tests(trial: &TrialRecord) -> Vec<SpeedTest> {
    let records = trial.visits.iter().flat_map(|visit| &visit.speed);
    each_once(records.map(|record| record.test))
}

/// The test that stands for generation: the first that only generates, else the first that
/// generates at all.
pub(super) fn generation_test(tests: &[SpeedTest]) -> Option<SpeedTest> {
    let first = |wanted: fn(&SpeedTest) -> bool| tests.iter().copied().find(wanted);
    first(|test| test.is_plain_generation()).or_else(|| first(|test| test.generated_tokens > 0))
}

/// One value per round: the median, over the visits of a round, of what `value` finds in a visit.
/// What is not positive is no measurement (a clock that stood still) and is left out.
fn rounds(trial: &TrialRecord, value: impl Fn(&VisitRecord) -> Option<f64>) -> Option<Figure> {
    let mut found: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for visit in &trial.visits {
        if let Some(value) = value(visit).filter(|value| value.is_finite() && *value > 0.0) {
            found.entry(visit.round).or_default().push(value);
        }
    }
    from_rounds(
        found.into_iter().filter_map(|(round, values)| {
            Sample::new(values).map(|sample| (round, sample.median()))
        }),
    )
}

fn from_rounds(values: impl Iterator<Item = (u32, f64)>) -> Option<Figure> {
    let values: BTreeMap<u32, f64> = values.collect();
    let sample = Sample::new(values.values().copied())?;
    // All of them are positive, so their median is.
    let estimate = median_estimate(&sample).within(0.0, f64::INFINITY);
    Some(Figure { estimate, evidence: Evidence::Rounds(values) })
}

fn single(value: f64) -> Option<Figure> {
    value
        .is_finite()
        .then_some(Figure { estimate: Estimate::single(value), evidence: Evidence::IntervalOnly })
}

fn median_load(visit: &VisitRecord, cold: bool) -> Option<f64> {
    let loads = visit.loads.iter().filter(|load| load.cold == cold).map(|load| load.seconds);
    Sample::new(loads).map(|sample| sample.median())
}

/// The throughput of a test. The independent observations are the rounds, each with the median of
/// its repetitions; if there was one round only, the repetitions have to do.
fn speed(trial: &TrialRecord, test: SpeedTest) -> Option<Figure> {
    let samples = |visit: &VisitRecord| -> Vec<f64> {
        let records = visit.speed.iter().filter(|record| record.test == test);
        records
            .flat_map(|record| &record.samples)
            .filter(|sample| sample.nanoseconds > 0 && sample.tokens > 0)
            .map(|sample| sample.rate(test))
            .collect()
    };
    let by_round = rounds(trial, |visit| Sample::new(samples(visit)).map(|found| found.median()))?;
    if by_round.estimate.n > 1 {
        return Some(by_round);
    }
    from_rounds((0..).zip(trial.visits.iter().flat_map(samples)))
}

/// Peak memory is that of the visits that ran speed or latency workloads: evaluating quality holds
/// every token's probabilities besides, which no use of the model does.
fn add_memory(trial: &TrialRecord, add: &mut impl FnMut(Metric, Option<Figure>)) {
    let in_use = |visit: &&VisitRecord| !visit.speed.is_empty() || !visit.responses.is_empty();
    let mut visits: Vec<&VisitRecord> = trial.visits.iter().filter(in_use).collect();
    if visits.is_empty() {
        visits = trial.visits.iter().collect();
    }
    let peak = |value: fn(&VisitRecord) -> Option<u64>| {
        let mut peaks: BTreeMap<u32, f64> = BTreeMap::new();
        for visit in &visits {
            if let Some(value) = value(visit).filter(|&value| value > 0) {
                let peak = peaks.entry(visit.round).or_insert(0.0);
                *peak = peak.max(to_f64(value));
            }
        }
        let sample = Sample::new(peaks.values().copied())?;
        let estimate = Estimate { value: sample.maximum(), interval: None, n: sample.len() };
        Some(Figure { estimate, evidence: Evidence::Rounds(peaks) })
    };
    add(Metric::PeakRssBytes, peak(|visit| visit.peak_rss_bytes));
    add(Metric::DeviceBytes, peak(device_bytes));
    let total = |part: fn(&BufferMemory) -> u64| {
        let sums = visits.iter().map(|visit| visit.memory.iter().map(part).sum::<u64>());
        sums.max().filter(|&sum| sum > 0).map(|sum| Figure::exact(to_f64(sum)))
    };
    add(Metric::WeightsBytes, total(|buffer| buffer.weights_bytes));
    add(Metric::KvBytes, total(|buffer| buffer.kv_bytes));
    add(Metric::ComputeBytes, total(|buffer| buffer.compute_bytes));
}

/// Device memory of a visit: the highest that was seen of the worker on all GPUs together, or, if
/// the driver does not tell, what llama.cpp allocated there.
fn device_bytes(visit: &VisitRecord) -> Option<u64> {
    let seen = visit.usage.iter().filter_map(|phase| {
        let of_worker = phase.usage.gpus.iter().filter_map(|gpu| gpu.max_worker_memory_bytes);
        of_worker.reduce(u64::saturating_add)
    });
    let allocated = visit.memory.iter().filter(|buffer| buffer.on_device).map(|buffer| {
        buffer.weights_bytes.saturating_add(buffer.kv_bytes).saturating_add(buffer.compute_bytes)
    });
    seen.max().filter(|&seen| seen > 0).or_else(|| allocated.reduce(u64::saturating_add))
}

fn add_latency(trial: &TrialRecord, add: &mut impl FnMut(Metric, Option<Figure>)) {
    let mut first: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut between: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for response in trial.visits.iter().flat_map(|visit| &visit.responses) {
        if let Some(seconds) = response.ttft_seconds() {
            first.entry(&response.prompt_id).or_default().push(seconds);
            between.entry(&response.prompt_id).or_default().extend(response.itl_seconds());
        }
    }
    // A prompt answered with one token has no latency between tokens.
    between.retain(|_, latencies| !latencies.is_empty());
    for (by_prompt, median, ninetieth) in [
        (first, Metric::TtftMedianSeconds, Metric::Ttft90Seconds),
        (between, Metric::ItlMedianSeconds, Metric::Itl90Seconds),
    ] {
        let ids: Vec<String> = by_prompt.keys().map(|&id| id.to_owned()).collect();
        let clusters: Vec<Vec<f64>> = by_prompt.into_values().collect();
        let Some(quantiles) = bootstrap::quantiles(&clusters, &[0.5, 0.9]) else { continue };
        for (metric, quantile) in [median, ninetieth].into_iter().zip(quantiles) {
            let estimate = quantile.estimate();
            let evidence = Evidence::Prompts { ids: ids.clone(), quantile };
            add(metric, Some(Figure { estimate, evidence }));
        }
    }
}

/// What the machine did while the generation test ran.
///
/// Energy per token is mean power during that phase times the measured time per token: the phase
/// also holds making the context and the warm-up, during which the machine draws power too but no
/// token counts.
fn add_usage(trial: &TrialRecord, add: &mut impl FnMut(Metric, Option<Figure>)) {
    let Some(test) = generation_test(&speed_tests(trial)) else { return };
    let usage = |visit: &VisitRecord| -> Option<Usage> {
        let phases = visit.usage.iter().find(|usage| usage.phase == Phase::Speed(test));
        phases.map(|phase| phase.usage.clone()).filter(|usage| usage.seconds > 0.0)
    };
    add(
        Metric::JoulesPerToken,
        rounds(trial, |visit| {
            let usage = usage(visit)?;
            let samples: Vec<SpeedSample> = visit
                .speed
                .iter()
                .filter(|record| record.test == test)
                .flat_map(|record| record.samples.iter().copied())
                .collect();
            let tokens: f64 = samples.iter().map(|sample| f64::from(sample.tokens)).sum();
            let seconds: f64 = samples.iter().map(|sample| to_f64(sample.nanoseconds) / 1e9).sum();
            Some(usage.energy_joules()? / usage.seconds * seconds / tokens)
        }),
    );
    add(Metric::CpuCoresUsed, rounds(trial, |visit| usage(visit)?.cpu_cores_used));
    // A GPU on which the worker is known to have had no memory idled for reasons of its own.
    let gpus = |visit: &VisitRecord| {
        let mut gpus = usage(visit).map(|usage| usage.gpus).unwrap_or_default();
        gpus.retain(|gpu| gpu.max_worker_memory_bytes != Some(0));
        gpus
    };
    let of_gpus = |value: fn(&GpuUsage) -> Option<f64>, together: fn(f64, f64) -> f64| {
        rounds(trial, |visit| gpus(visit).iter().filter_map(value).reduce(together))
    };
    add(Metric::GpuUtilization, of_gpus(|gpu| gpu.utilization, f64::max));
    add(Metric::GpuWatts, of_gpus(|gpu| gpu.mean_power_watts, |sum, watts| sum + watts));
    add(Metric::GpuCelsius, of_gpus(|gpu| gpu.max_celsius, f64::max));
}

fn add_quality(
    quality: &Quality,
    class: ArchitectureClass,
    add: &mut impl FnMut(Metric, Option<Figure>),
) {
    let tokens = usize::try_from(quality.scored_tokens).unwrap_or(usize::MAX);
    // How sure an encoder-decoder is of the reference's answers is no perplexity of a text, and
    // would be taken for one in a table.
    if class == ArchitectureClass::DecoderOnly {
        let perplexity = chunked(quality.perplexity, &quality.chunk_nll, tokens, Scale::Perplexity);
        add(Metric::Perplexity, perplexity);
    }
    let Some(divergence) = &quality.divergence else { return };
    // By how much it may be too low because the reference was not kept whole is no noise: it is alike for all
    // variants, and told in words.
    add(Metric::Kld, chunked(divergence.kld, &divergence.chunk_kld, tokens, Scale::Divergence));
    add(Metric::Kld99, single(divergence.kld_99));
    let agreement = divergence.top_token_agreement;
    add(Metric::TopTokenAgreement, chunked(agreement, &[], tokens, Scale::Share));
    if class != ArchitectureClass::DecoderOnly {
        return;
    }
    let ratio = divergence.log_perplexity_ratio;
    add(
        Metric::PerplexityIncrease,
        chunked(ratio, &[], tokens, Scale::Any).map(|figure| Figure {
            estimate: figure.estimate.map(f64::exp_m1),
            evidence: Evidence::IntervalOnly,
        }),
    );
}

/// Perplexity over chunks of as many tokens each.
pub(super) fn perplexity(chunk_nll: &[f64]) -> Option<Figure> {
    let mean = mean_estimate(&Sample::new(chunk_nll.iter().copied())?).value.exp();
    let value = MeanWithError { mean, standard_error: f64::INFINITY };
    chunked(value, chunk_nll, 0, Scale::Perplexity)
}

fn add_embedding_quality(quality: &EmbeddingQuality, add: &mut impl FnMut(Metric, Option<Figure>)) {
    let Some(similarity) = &quality.similarity else { return };
    let pieces = quality.pieces as usize;
    let cosine = chunked(similarity.cosine, &similarity.piece_cosines, pieces, Scale::Cosine);
    add(Metric::EmbeddingCosine, cosine);
    add(Metric::NearestAgreement, single(similarity.same_nearest));
}

/// What says itself which figures it comes to: the median of the rounds, or what was measured once.
fn add_others(trial: &TrialRecord, add: &mut impl FnMut(Metric, Option<Figure>)) {
    let of_visit = |visit: &VisitRecord| -> Vec<(Metric, f64)> {
        visit.measured.iter().flat_map(Measurement::figures).collect()
    };
    let metrics: BTreeSet<Metric> =
        trial.visits.iter().flat_map(of_visit).map(|(metric, _)| metric).collect();
    for metric in metrics {
        let of_metric = |visit: &VisitRecord| {
            let values = of_visit(visit).into_iter().filter(|(other, _)| *other == metric);
            Sample::new(values.map(|(_, value)| value)).map(|sample| sample.median())
        };
        add(metric, rounds(trial, of_metric));
    }
    let once = trial.stages.iter().flat_map(|stage| &stage.measured);
    once.flat_map(Measurement::figures).for_each(|(metric, value)| add(metric, single(value)));
}

/// What a figure over a text can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Any,
    Divergence,
    Share,
    Cosine,
    /// exp of what its chunks have.
    Perplexity,
}

impl Scale {
    fn limits(self) -> (f64, f64) {
        match self {
            Self::Any => (f64::NEG_INFINITY, f64::INFINITY),
            Self::Divergence => (0.0, f64::INFINITY),
            Self::Share => (0.0, 1.0),
            Self::Cosine => (-1.0, 1.0),
            Self::Perplexity => (1.0, f64::INFINITY),
        }
    }
}

/// A figure over a text. Its interval comes from the chunks, which are what is independent in a
/// text, and from the standard error over tokens only where there are no chunks.
fn chunked(value: MeanWithError, chunks: &[f64], tokens: usize, scale: Scale) -> Option<Figure> {
    if !value.mean.is_finite() {
        return None;
    }
    let exponential = scale == Scale::Perplexity;
    let (low, high) = scale.limits();
    let by_chunk = Sample::new(chunks.iter().copied()).filter(|sample| sample.len() > 1);
    let Some(sample) = by_chunk else {
        let estimate = from_standard_error(value.mean, value.standard_error, tokens);
        let estimate = estimate.within(low, high);
        return Some(Figure { estimate, evidence: Evidence::IntervalOnly });
    };
    let estimate = mean_estimate(&sample);
    let estimate = if exponential { estimate.map(f64::exp) } else { estimate };
    // The worker's own mean weighs every token; the chunks only say how sure it is.
    let shift = value.mean - estimate.value;
    let estimate = estimate.map(|shown| shown + shift).within(low, high);
    Some(Figure { estimate, evidence: Evidence::Chunks { values: chunks.to_vec(), exponential } })
}
