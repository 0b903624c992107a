//! Figures of the domains of a text, each over the chunks that are of it.

use crate::statistics::estimate::Estimate;
use crate::statistics::interval::mean_estimate;
use crate::statistics::sample::Sample;
use crate::workload::measured::{DomainChunks, Quality};
use serde::Serialize;

/// A variant's figures on one domain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DomainFigure {
    /// The domain.
    pub name: String,
    /// exp(mean negative log-likelihood), by chunks.
    pub perplexity: Estimate,
    /// Mean divergence from the reference, nats; `None` of the reference.
    pub kld: Option<Estimate>,
}

/// The figures of each domain; none of a text that has no parts.
pub(super) fn figures(quality: &Quality) -> Vec<DomainFigure> {
    let figure = |domain: &DomainChunks| {
        let mean = |chunks: &[f64]| {
            let of = |&chunk: &u32| chunks.get(chunk as usize).copied();
            let values: Option<Vec<f64>> = domain.chunks.iter().map(of).collect();
            Some(mean_estimate(&Sample::new(values?)?))
        };
        Some(DomainFigure {
            name: domain.name.clone(),
            perplexity: mean(&quality.chunk_nll)?.map(f64::exp),
            kld: quality.divergence.as_ref().and_then(|it| mean(&it.chunk_kld)),
        })
    };
    quality.domains.iter().filter_map(figure).collect()
}
