//! Metrics: what a column of the comparison shows.

use crate::experiment::workloads::SpeedTest;

/// One figure of a trial. The order is that of columns in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Bytes of the file.
    FileBytes,
    /// Bits per weight over all tensors.
    BitsPerWeight,
    /// Seconds of a load with the file dropped from the page cache.
    ColdLoadSeconds,
    /// Seconds of a load from the page cache.
    WarmLoadSeconds,
    /// Peak resident memory of the worker, bytes.
    PeakRssBytes,
    /// Peak memory on devices of their own (discrete GPUs), bytes.
    DeviceBytes,
    /// Tokens per second of a throughput test.
    Speed(SpeedTest),
    /// Median time to first token, seconds.
    TtftMedianSeconds,
    /// 90th percentile of the time to first token, seconds.
    Ttft90Seconds,
    /// Median inter-token latency, seconds.
    ItlMedianSeconds,
    /// 90th percentile of the inter-token latency, seconds.
    Itl90Seconds,
    /// Energy per generated token, joules.
    JoulesPerToken,
    /// Perplexity.
    Perplexity,
    /// Mean Kullback–Leibler divergence from the reference, nats.
    Kld,
    /// Fraction of positions whose most probable token is the reference's.
    TopTokenAgreement,
}
