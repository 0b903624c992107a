//! Which figures have a meaning for a model.

use super::metric::Metric;
use crate::model::architecture::ArchitectureClass;
use crate::workload::applicability;
use crate::workload::measured::ModelFacts;

/// Whether the figure has a meaning for a model. What was used while generating has none for a
/// model that does not generate, nor has a KV cache for one that keeps nothing.
pub(super) fn applies_to(metric: Metric, facts: &ModelFacts) -> bool {
    use Metric as M;
    match metric {
        M::Speed(test) => applicability::speed(test, facts).is_none(),
        M::KvBytes
        | M::TtftMedianSeconds
        | M::Ttft90Seconds
        | M::ItlMedianSeconds
        | M::Itl90Seconds
        | M::JoulesPerToken
        | M::CpuCoresUsed
        | M::GpuUtilization
        | M::GpuWatts
        | M::GpuCelsius
        | M::Kld
        | M::Kld99
        | M::TopTokenAgreement => facts.class.generates(),
        M::Perplexity | M::PerplexityIncrease => facts.class == ArchitectureClass::DecoderOnly,
        M::EmbeddingCosine | M::NearestAgreement => facts.class == ArchitectureClass::EncoderOnly,
        M::FileBytes
        | M::BitsPerWeight
        | M::QuantizeSeconds
        | M::ColdLoadSeconds
        | M::WarmLoadSeconds
        | M::PeakRssBytes
        | M::DeviceBytes
        | M::WeightsBytes
        | M::ComputeBytes
        | M::Task(_) => true,
    }
}
