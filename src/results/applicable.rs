//! Which figures have a meaning for a model.

use super::metric::{Metric, Models};
use crate::model::architecture::ArchitectureClass;
use crate::workload::applicability;
use crate::workload::measured::ModelFacts;

/// Whether the figure has a meaning for a model. What was used while generating has none for a
/// model that does not generate, nor has a KV cache for one that keeps nothing.
pub(super) fn applies_to(metric: Metric, facts: &ModelFacts) -> bool {
    if let Metric::Speed(test) = metric {
        return applicability::speed(test, facts).is_none();
    }
    match metric.descriptor().models {
        Models::All => true,
        Models::Generating => facts.class.generates(),
        Models::DecoderOnly => facts.class == ArchitectureClass::DecoderOnly,
        Models::EncoderOnly => facts.class == ArchitectureClass::EncoderOnly,
    }
}
