//! Figures of the domains of a text, each over the chunks that are of it.

use crate::statistics::estimate::Estimate;
use crate::statistics::interval::mean_estimate;
use crate::statistics::sample::Sample;
use crate::workload::measured::{DomainChunks, Quality, text_of};
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
    quality.domains.iter().filter_map(|domain| figure(quality, domain)).collect()
}

/// The figures of each text; none where there is one.
pub(super) fn of_texts(quality: &Quality) -> Vec<DomainFigure> {
    let mut texts: Vec<DomainChunks> = Vec::new();
    for DomainChunks { name, chunks } in &quality.domains {
        let name = text_of(name);
        match texts.iter_mut().find(|text| text.name == name) {
            Some(text) => text.chunks.extend(chunks),
            None => texts.push(DomainChunks { name: name.to_owned(), chunks: chunks.clone() }),
        }
    }
    let several = Some(texts).filter(|texts| texts.len() > 1);
    several.iter().flatten().filter_map(|text| figure(quality, text)).collect()
}

fn figure(quality: &Quality, domain: &DomainChunks) -> Option<DomainFigure> {
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
}
