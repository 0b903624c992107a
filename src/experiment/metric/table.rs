//! The kinds of figures, a row for each in the order of columns: what is known of it before anything is measured.
//!
//! Titles, names in JSON and CSV, directions, intervals and the reference page are made from here. How a
//! figure is taken out of a trial is in `results/extract.rs`.

use super::{Better, TaskColumn};
use crate::experiment::workloads::SpeedTest;

/// One kind of figure of a trial. Units are SI or bytes; reports choose how to show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Bytes of the file.
    FileBytes,
    /// Bits per weight over all tensors.
    BitsPerWeight,
    /// Seconds it took to make the variant.
    QuantizeSeconds,
    /// Seconds of a load with the file dropped from the page cache.
    ColdLoadSeconds,
    /// Seconds of a load from the page cache.
    WarmLoadSeconds,
    /// Highest resident memory of the worker, bytes.
    PeakRssBytes,
    /// Highest memory on devices of their own (discrete GPUs), bytes.
    DeviceBytes,
    /// llama.cpp's weights in memory, bytes, over all buffers.
    WeightsBytes,
    /// llama.cpp's KV cache, bytes, over all buffers.
    KvBytes,
    /// llama.cpp's compute buffers, bytes.
    ComputeBytes,
    /// Tokens, or embedded texts, per second of a throughput test.
    Speed(SpeedTest),
    /// Median time to first token over the test prompts, seconds.
    TtftMedianSeconds,
    /// 90th percentile of the time to first token over the test prompts, seconds.
    Ttft90Seconds,
    /// Median inter-token latency over all tokens of all answers but their first, seconds.
    ItlMedianSeconds,
    /// 90th percentile of the inter-token latency, seconds.
    Itl90Seconds,
    /// Tokens per second that the tokenizer makes of a text.
    TokenizerSpeed,
    /// Energy of everything that could be read, per generated token, joules.
    JoulesPerToken,
    /// Cores' worth of processor time that the worker used while generating.
    CpuCoresUsed,
    /// Use of the busiest GPU while generating, 0 to 1.
    GpuUtilization,
    /// Power of all GPUs while generating, watts.
    GpuWatts,
    /// Highest GPU temperature while generating, °C.
    GpuCelsius,
    /// Perplexity.
    Perplexity,
    /// Perplexity over the reference's, minus 1.
    PerplexityIncrease,
    /// Mean Kullback–Leibler divergence from the reference, nats.
    Kld,
    /// 99th percentile of that divergence over tokens, nats.
    Kld99,
    /// Fraction of positions whose most probable token is the reference's.
    TopTokenAgreement,
    /// Mean cosine of embeddings with the reference's, 1 being the same direction.
    EmbeddingCosine,
    /// Fraction of texts whose nearest other text is the reference's.
    NearestAgreement,
    /// A metric of a task, as the task's metric is defined (0 to 1, or 0 to 100).
    Task(TaskColumn),
}

/// What is known of a kind of figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descriptor {
    /// Stable name with its unit, for CSV and JSON.
    pub name: &'static str,
    /// Lines of a column's title, without the unit.
    pub title: &'static [&'static str],
    /// Unit and digits in tables.
    pub shown: Shown,
    /// What it is, in one sentence.
    pub definition: &'static str,
    /// Which of two figures is the better one; `None`: neither, as for a temperature or the part of a sum.
    pub better: Option<Better>,
    /// The models that it has a meaning for.
    pub models: Models,
    /// Whether it is a comparison with the reference, which the reference itself has none of.
    pub is_comparison: bool,
    /// Whether it comes with an interval when it was measured often enough; the others are read off, or are
    /// extremes.
    pub has_interval: bool,
    /// Whether tables show it, and not only the formats for programs.
    pub shows_interval: bool,
    /// How wide the 95 % interval may be, as a fraction of the value on either side, for the figure to count
    /// as stable. `None` where the interval tells of something else than a restless machine: latency
    /// percentiles vary with the prompts, perplexity with the text, and both are compared in pairs.
    pub stable_within: Option<f64>,
    /// How much a reader of a table would miss it: the highest number is kept longest.
    pub importance: u32,
}

/// How values are shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shown {
    /// In MiB, or in GiB where they are large.
    Bytes,
    /// Multiplied by a factor, in a unit (empty: a plain number).
    In(&'static str, f64, Digits),
}

/// How many digits are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digits {
    /// So many significant ones of a typical value.
    Significant(i32),
    /// So many behind the point.
    Decimals(usize),
    /// So many significant ones of the smallest value: for values that differ by orders of magnitude.
    OfSmallest(i32),
}

/// Models that a figure has a meaning for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Models {
    /// Every model.
    All,
    /// Models that generate text.
    Generating,
    /// Decoder-only models.
    DecoderOnly,
    /// Encoder-only models.
    EncoderOnly,
}

use Digits::{Decimals, OfSmallest, Significant};
use Models::{DecoderOnly, EncoderOnly, Generating};
use Shown::{Bytes, In};

const MS: Shown = In("ms", 1e3, Significant(3));

impl Descriptor {
    const fn new(
        name: &'static str,
        title: &'static [&'static str],
        shown: Shown,
        importance: u32,
        definition: &'static str,
    ) -> Self {
        Self {
            name,
            title,
            shown,
            definition,
            better: None,
            models: Models::All,
            is_comparison: false,
            has_interval: false,
            shows_interval: false,
            stable_within: None,
            importance,
        }
    }

    const fn lower(self) -> Self {
        Self { better: Some(Better::Lower), ..self }
    }

    const fn higher(self) -> Self {
        Self { better: Some(Better::Higher), ..self }
    }

    const fn of(self, models: Models) -> Self {
        Self { models, ..self }
    }

    const fn compared(self) -> Self {
        Self { is_comparison: true, ..self }
    }

    const fn with_interval(self) -> Self {
        Self { has_interval: true, ..self }
    }

    const fn stable_within(self, fraction: f64) -> Self {
        Self { stable_within: Some(fraction), has_interval: true, ..self }
    }

    const fn showing_interval(self) -> Self {
        Self { shows_interval: true, has_interval: true, ..self }
    }
}

/// From this importance on a figure belongs to a comparison itself and not to the details around it.
pub const ESSENTIAL: u32 = 51;

/// How wide the interval of what is timed again and again may be.
pub const TIMED: f64 = 0.05;

/// Rows that stand before throughput.
pub(super) const BEFORE_SPEED: usize = 10;

/// Throughput tests: [`Metric::descriptor`] and [`Metric::title`] fill in what comes from the test.
pub(super) const SPEED: Descriptor = Descriptor::new(
    "",
    &[],
    In("t/s", 1.0, Significant(3)),
    85,
    "tokens, or embedded texts, per second of a throughput test",
)
.higher()
.stable_within(TIMED)
.showing_interval();

/// Metrics of tasks: what comes from the task is filled in likewise.
pub(super) const TASK: Descriptor = Descriptor::new(
    "",
    &[],
    In("%", 100.0, Decimals(1)),
    38,
    "a metric of a task, 0 to 1 or 0 to 100 as the metric is defined",
)
.higher()
.showing_interval();

/// The first metric of a task, which stands for it.
pub(super) const MAIN_TASK_IMPORTANCE: u32 = 91;

type Row = (Metric, Descriptor);

#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    (Metric::FileBytes, Descriptor::new("file_bytes", &["file"], Bytes, 95, "size of the file").lower()),
    (Metric::BitsPerWeight, Descriptor::new("bits_per_weight", &["bits/", "weight"], In("", 1.0, Decimals(2)), 56,
        "bits per weight over all tensors")),
    (Metric::QuantizeSeconds, Descriptor::new("quantize_seconds", &["quantize"], In("s", 1.0, Significant(2)), 10,
        "time that making the variant took")),
    (Metric::ColdLoadSeconds, Descriptor::new("cold_load_seconds", &["load", "cold"], MS, 53,
        "time of a load with the file dropped from the page cache").lower().stable_within(TIMED)),
    (Metric::WarmLoadSeconds, Descriptor::new("warm_load_seconds", &["load", "warm"], MS, 54,
        "time of a load from the page cache").lower().stable_within(TIMED)),
    (Metric::PeakRssBytes, Descriptor::new("peak_rss_bytes", &["peak", "RSS"], Bytes, 90,
        "highest resident memory of the worker").lower()),
    (Metric::DeviceBytes, Descriptor::new("device_bytes", &["peak", "VRAM"], Bytes, 89,
        "highest memory on devices of their own, such as GPUs").lower()),
    (Metric::WeightsBytes, Descriptor::new("weights_bytes", &["weights"], Bytes, 22,
        "weights in memory, over all buffers of the engine")),
    (Metric::KvBytes, Descriptor::new("kv_bytes", &["KV"], Bytes, 21,
        "KV cache, over all buffers of the engine").of(Generating)),
    (Metric::ComputeBytes, Descriptor::new("compute_bytes", &["compute"], Bytes, 20,
        "buffers that the engine computes in")),
    // Throughput stands here.
    (Metric::TtftMedianSeconds, Descriptor::new("ttft_p50_seconds", &["TTFT", "p50"], MS, 88,
        "median time to first token over the test prompts").lower().of(Generating).with_interval()),
    (Metric::Ttft90Seconds, Descriptor::new("ttft_p90_seconds", &["TTFT", "p90"], MS, 66,
        "90th percentile of the time to first token").lower().of(Generating).with_interval()),
    (Metric::ItlMedianSeconds, Descriptor::new("itl_p50_seconds", &["ITL", "p50"], MS, 64,
        "median inter-token latency over all tokens of all answers but their first")
        .lower().of(Generating).with_interval()),
    (Metric::Itl90Seconds, Descriptor::new("itl_p90_seconds", &["ITL", "p90"], MS, 58,
        "90th percentile of the inter-token latency").lower().of(Generating).with_interval()),
    (Metric::TokenizerSpeed, Descriptor::new("tokenizer_tokens_per_second", &["tokenizer"],
        In("t/s", 1.0, Significant(3)), 15, "tokens per second that the tokenizer makes of a text").higher()
        .stable_within(TIMED)),
    (Metric::JoulesPerToken, Descriptor::new("joules_per_token", &["energy"], In("J/token", 1.0, Significant(3)), 72,
        "energy of everything that could be read, per generated token")
        .lower().of(Generating).stable_within(TIMED)),
    (Metric::CpuCoresUsed, Descriptor::new("cpu_cores_used", &["CPU"], In("cores", 1.0, Decimals(1)), 25,
        "processor time that the worker used while generating, in cores").of(Generating).with_interval()),
    (Metric::GpuUtilization, Descriptor::new("gpu_utilization", &["GPU", "use"], In("%", 100.0, Decimals(0)), 28,
        "use of the busiest GPU while generating, 0 to 1").of(Generating).with_interval()),
    (Metric::GpuWatts, Descriptor::new("gpu_watts", &["GPU", "power"], In("W", 1.0, Decimals(0)), 27,
        "power of all GPUs while generating").of(Generating).with_interval()),
    (Metric::GpuCelsius, Descriptor::new("gpu_celsius", &["GPU", "heat"], In("°C", 1.0, Decimals(0)), 26,
        "highest GPU temperature while generating").of(Generating)),
    (Metric::Perplexity, Descriptor::new("perplexity", &["PPL"], In("", 1.0, Significant(4)), 87,
        "perplexity of the evaluation text").lower().of(DecoderOnly).with_interval()),
    (Metric::PerplexityIncrease, Descriptor::new("perplexity_increase", &["PPL", "vs ref"], In("+%", 100.0, Decimals(2)),
        36, "perplexity over the reference's, minus 1").lower().of(DecoderOnly).compared().with_interval()),
    (Metric::Kld, Descriptor::new("kld_nats", &["KLD"], In("nats", 1.0, OfSmallest(2)), 93,
        "mean Kullback–Leibler divergence from the reference").lower().of(Generating).compared().stable_within(0.10)),
    (Metric::Kld99, Descriptor::new("kld_p99_nats", &["KLD", "p99"], In("nats", 1.0, Significant(3)), 34,
        "99th percentile of that divergence over tokens").lower().of(Generating).compared()),
    (Metric::TopTokenAgreement, Descriptor::new("top_token_agreement", &["same", "top"], In("%", 100.0, Decimals(1)), 76,
        "fraction of positions whose most probable token is the reference's")
        .higher().of(Generating).compared().with_interval()),
    (Metric::EmbeddingCosine, Descriptor::new("embedding_cosine", &["cosine", "to ref"], In("", 1.0, Decimals(5)), 93,
        "mean cosine of embeddings with the reference's, 1 being the same direction")
        .higher().of(EncoderOnly).compared().with_interval()),
    (Metric::NearestAgreement, Descriptor::new("nearest_text_agreement", &["same", "nearest"],
        In("%", 100.0, Decimals(1)), 35, "fraction of texts whose nearest other text is the reference's")
        .higher().of(EncoderOnly).compared()),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_of_figure_has_a_row_of_its_own() {
        let rows: BTreeSet<Metric> = TABLE.iter().map(|(metric, _)| *metric).collect();
        assert_eq!(rows.len(), TABLE.len());
        // The last of the fixed kinds; a new one behind it needs a row, too.
        let last = Metric::NearestAgreement;
        assert_eq!(last.descriptor().name, "nearest_text_agreement");
        for (metric, row) in TABLE {
            assert_eq!(metric.descriptor(), *row);
            assert!(!row.name.is_empty() && !row.title.is_empty() && !row.definition.is_empty());
            // Only what varies can be unstable.
            assert!(row.has_interval || row.stable_within.is_none(), "{}", row.name);
        }
    }
}
