//! Comparisons of trials with their baselines: the reference, under the same settings if it was
//! measured so.

use super::figure::{Evidence, Figure};
use super::metric::Metric;
use super::summary::Row;

/// A trial's baseline is the reference variant under the same settings, or else the reference.
pub(super) fn compare_with_baselines(rows: &mut [Row]) {
    for own in 0..rows.len() {
        let subject = &rows[own];
        let references: Vec<usize> = (0..rows.len())
            .filter(|&other| rows[other].model == subject.model && rows[other].is_reference)
            .collect();
        let same_settings = (0..rows.len()).find(|&other| {
            other != own
                && rows[other].model == subject.model
                && rows[other].settings == subject.settings
                && references.iter().any(|&reference| rows[reference].label == rows[other].label)
        });
        let baseline = same_settings.or_else(|| references.first().copied());
        let Some(baseline) = baseline.filter(|&baseline| baseline != own) else { continue };
        let increase = perplexity_increase(subject, &rows[baseline]);
        let pairs = subject.figures.iter().filter_map(|(&metric, figure)| {
            Some((metric, figure, rows[baseline].figures.get(&metric)?))
        });
        let ratio =
            |(metric, own, others): (Metric, &Figure, &Figure)| Some((metric, own.ratio(others)?));
        let ratios = pairs.clone().filter_map(ratio).collect();
        let tests =
            pairs.filter_map(|(metric, own, others)| match (&own.evidence, &others.evidence) {
                (Evidence::Questions(own), Evidence::Questions(others)) => {
                    Some((metric, own.against(others)?))
                }
                _ => None,
            });
        let tests = tests.collect();
        let row = &mut rows[own];
        row.baseline = Some(baseline);
        row.ratios = ratios;
        row.tests = tests;
        if let Some(increase) = increase {
            row.figures.insert(Metric::PerplexityIncrease, increase);
        }
    }
}

/// Paired by chunk; better than what the worker's own ratio with its error over tokens can say.
fn perplexity_increase(subject: &Row, reference: &Row) -> Option<Figure> {
    let own = subject.figures.get(&Metric::Perplexity)?;
    let ratio = own.ratio(reference.figures.get(&Metric::Perplexity)?)?;
    Some(Figure { estimate: ratio.map(|ratio| ratio - 1.0), evidence: Evidence::IntervalOnly })
}
